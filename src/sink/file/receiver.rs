//! Who gets the secret with the file: its owner, if somebody said so.
//!
//! The new file keeps the owner of the present one. Whoever can put a file there would get
//! each new secret, so the owner of a file that rekeyd did not leave to him counts only where
//! nobody but root and rekeyd's user could have put it there.

use rustix::fs::Stat;

use super::target::TargetLocation;
use crate::platform::path_walk::{self, Weakness, WeaknessKind};
use crate::platform::users;

impl TargetLocation {
    /// Returns why the owner of the present file must not get a new secret: the last recorded
    /// delivery left the file to somebody else.
    pub(super) fn receiver_problem(&self, present: &Stat) -> Option<String> {
        let owner = present.st_uid;
        let recorded = self.recorded_access()?;
        let is_settled = self.target.owner.is_some()
            || !path_walk::is_foreign(owner)
            || path_walk::is_unmapped(owner)
            || recorded.owner == owner;
        (!is_settled).then(|| {
            format!(
                "{path} belongs to {owner}, who would get each new secret, but the last delivery \
                 left it to {recorded_owner}; hint: {advice}run `chown {own} {path}`",
                path = self.path().display(),
                owner = users::describe_user(owner),
                recorded_owner = users::describe_user(recorded.owner),
                advice = self.advice_for(owner),
                own = account_text(rustix::process::geteuid().as_raw()),
            )
        })
    }

    /// Returns the line of the configuration that settles a weakness, with a trailing word:
    /// who is to get the secret may own the folders that lead to it.
    pub(super) fn owner_advice(&self, weakness: &Weakness) -> String {
        let WeaknessKind::Owner(owner) = weakness.kind else {
            return String::new();
        };
        self.advice_for(owner)
    }

    fn advice_for(&self, owner: u32) -> String {
        if self.target.owner.is_some() || !self.has_owner_option() {
            return String::new();
        }
        let name = account_text(owner);
        format!("if {name} is to get the secret, set owner = \"{name}\" in this sink; otherwise ")
    }
}

/// Returns the name of a user, or his number without one.
fn account_text(user: u32) -> String {
    users::user_name(user).unwrap_or_else(|| user.to_string())
}
