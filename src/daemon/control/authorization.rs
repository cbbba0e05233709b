//! What each user at the control socket may do, by the user that the kernel reports and, for
//! the daemon's own, by the proof that the sender knows the cookie of the ledger's owner.
//!
//! A request is decided before its body is read, and once more by what the body asks for.

use std::path::PathBuf;

use crate::core::authority::Authority;
use crate::platform::users::describe_user;

/// The groups of `[control]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ControlGroups {
    pub(crate) admins: Vec<String>,
    pub(crate) super_admins: Vec<String>,
}

/// The kinds of groups to which a user belongs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct BelongsTo {
    pub(super) admins: bool,
    pub(super) super_admins: bool,
}

/// The user and group of the peer, if the system knows them.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerCredentials(pub(super) Option<(u32, u32)>);

/// The author of a request, and what this user may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// The name for the event log.
    pub name: String,
    /// What the caller may do.
    pub authority: Authority,
}

/// The place of the cookie, and whether the sender of a request has proven to know it.
pub(super) struct CookieProof {
    pub(super) path: Option<PathBuf>,
    pub(super) is_given: bool,
}

impl PeerCredentials {
    pub(super) fn user(self) -> Option<u32> {
        self.0.map(|(user, _)| user)
    }

    /// Returns the user and group of a peer whose rights depend on its groups.
    pub(super) fn member(self) -> Option<(u32, u32)> {
        self.0.filter(|(user, _)| *user != 0 && *user != own_user())
    }
}

pub(super) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Returns the peer as the author of a request that needs at least `needed`, or why it may
/// not do that. `command` is the command of the request, without `rekeyd`.
pub(super) fn authorize(
    peer: PeerCredentials,
    groups: &ControlGroups,
    belongs: BelongsTo,
    cookie: &CookieProof,
    needed: Authority,
    command: &str,
) -> Result<VerifiedPeer, String> {
    let Some((user, _)) = peer.0 else {
        return Err("the kernel does not identify the calling user".to_owned());
    };
    match authority_of(user, own_user(), cookie.is_given, belongs) {
        Some(authority) if authority >= needed => Ok(VerifiedPeer {
            name: format!("uid {user}"),
            authority,
        }),
        Some(authority) => Err(refusal(user, authority, needed, command, groups)),
        None => Err(unproven(user, command, cookie)),
    }
}

/// Returns what a user may do, in one or both kinds of groups; none if that is nothing. A
/// process of the daemon's own user may be a program that the daemon runs, and only the cookie
/// tells it from a person.
fn authority_of(user: u32, own: u32, knows_cookie: bool, belongs: BelongsTo) -> Option<Authority> {
    if user == own {
        return knows_cookie.then_some(Authority::Full);
    }
    if user == 0 {
        return Some(Authority::Full);
    }
    Some(match belongs {
        BelongsTo {
            super_admins: true, ..
        } => Authority::Destroy,
        BelongsTo { admins: true, .. } => Authority::Operate,
        BelongsTo { .. } => Authority::Observe,
    })
}

/// Says what the daemon's own user needs.
fn unproven(user: u32, command: &str, cookie: &CookieProof) -> String {
    let place = cookie.path.as_ref().map_or_else(
        || "cookie of this rekeyd, which it could not write".to_owned(),
        |path| format!("cookie in {}", path.display()),
    );
    format!(
        "{}, the user of rekeyd, may do nothing here without a proof that it knows the {place}; \
         hint: use `sudo rekeyd {command}`",
        describe_user(user)
    )
}

/// Says what the user may do instead, who may do this, and how.
fn refusal(
    user: u32,
    authority: Authority,
    needed: Authority,
    command: &str,
    groups: &ControlGroups,
) -> String {
    let others = match needed {
        Authority::Observe | Authority::Operate => other_way("admins", &groups.admins),
        Authority::Destroy => other_way("super-admins", &groups.super_admins),
        Authority::Full => String::new(),
    };
    format!(
        "{} {}; hint: use `sudo rekeyd {command}`{others}",
        describe_user(user),
        authority.permits()
    )
}

/// Describes how a group may do what root may.
fn other_way(option: &str, configured: &[String]) -> String {
    match configured {
        [] => format!(", or add {option} = [\"GROUP\"] to [control]"),
        _ => format!(", or have one of your groups added to {option} in [control]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Authority::{Destroy, Full, Observe, Operate};

    const OWN: u32 = 998;

    /// Who may do what: each kind of caller, also of a daemon that runs as root.
    #[test]
    fn authority_follows_the_user_the_groups_and_the_cookie() {
        for (user, own, knows_cookie, groups, expected) in [
            // Root, whatever it proves, beside a daemon of another user.
            (0, OWN, false, (false, false), Some(Full)),
            (0, OWN, true, (true, true), Some(Full)),
            // The owner of the ledger, and a program that rekeyd runs.
            (OWN, OWN, true, (false, false), Some(Full)),
            (OWN, OWN, false, (false, false), None),
            (OWN, OWN, false, (true, true), None),
            (0, 0, true, (false, false), Some(Full)),
            (0, 0, false, (false, false), None),
            // Members of groups. Only the owner can read the cookie, so it gives others nothing.
            (1000, OWN, false, (false, false), Some(Observe)),
            (1000, OWN, true, (false, false), Some(Observe)),
            (1000, OWN, false, (true, false), Some(Operate)),
            (1000, OWN, true, (true, false), Some(Operate)),
            (1000, OWN, false, (false, true), Some(Destroy)),
            (1000, OWN, false, (true, true), Some(Destroy)),
            (u32::MAX, OWN, true, (false, false), Some(Observe)),
        ] {
            let belongs = BelongsTo {
                admins: groups.0,
                super_admins: groups.1,
            };
            assert_eq!(
                authority_of(user, own, knows_cookie, belongs),
                expected,
                "{user} {own} {knows_cookie} {groups:?}"
            );
        }
        assert!(Observe < Operate && Operate < Destroy && Destroy < Full);
    }

    /// A refusal names what the caller may do, who may do this, and how.
    #[test]
    fn refusal_says_who_may_and_how() {
        let groups = |admins: &[&str], super_admins: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            ControlGroups {
                admins: owned(admins),
                super_admins: owned(super_admins),
            }
        };
        let cookie = CookieProof {
            path: Some("/var/lib/rekeyd/ledger.db.cookie".into()),
            is_given: false,
        };
        let (other, own) = (4_000_000_011, own_user());
        for (user, needed, command, groups, expected) in [
            (
                other,
                Operate,
                "rotate",
                groups(&[], &[]),
                "uid 4000000011 may only look; hint: use `sudo rekeyd rotate`, or add admins = \
                 [\"GROUP\"] to [control]"
                    .to_owned(),
            ),
            (
                other,
                Operate,
                "rotate",
                groups(&["4000000012"], &[]),
                "uid 4000000011 may only look; hint: use `sudo rekeyd rotate`, or have one of your \
                 groups added to admins in [control]"
                    .to_owned(),
            ),
            (
                other,
                Destroy,
                "adopt",
                groups(&["4000000011"], &[]),
                "uid 4000000011 may rotate, pause, hold and reload; hint: use `sudo rekeyd adopt`, \
                 or add super-admins = [\"GROUP\"] to [control]"
                    .to_owned(),
            ),
            (
                other,
                Full,
                "use-credential",
                groups(&[], &["4000000011"]),
                "uid 4000000011 may only look; hint: use `sudo rekeyd use-credential`".to_owned(),
            ),
            (
                own,
                Operate,
                "reload",
                groups(&[], &[]),
                format!(
                    "{}, the user of rekeyd, may do nothing here without a proof that it knows the \
                     cookie in /var/lib/rekeyd/ledger.db.cookie; hint: use `sudo rekeyd reload`",
                    describe_user(own)
                ),
            ),
        ] {
            let peer = PeerCredentials(Some((user, user)));
            // A member of `admins` may operate.
            let belongs = BelongsTo {
                admins: needed == Destroy,
                super_admins: false,
            };
            let refused = authorize(peer, &groups, belongs, &cookie, needed, command);
            assert_eq!(refused, Err(expected));
        }
        let unknown = authorize(
            PeerCredentials(None),
            &groups(&[], &[]),
            BelongsTo::default(),
            &cookie,
            Observe,
            "x",
        );
        assert!(unknown.is_err());
    }
}
