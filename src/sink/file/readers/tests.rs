//! Who loses a file, by its present access and that of the new file.

use super::*;

/// The user and group of the process, a consumer's, and a second group of the consumer.
const OWN: u32 = 995;
const APP: u32 = 33;
const WEB: u32 = 50;
/// A user whom `/etc/passwd` does not have.
const UNKNOWN: u32 = 4713;

fn loss(present: (u32, u32, u32), new: (u32, u32, u32), configured: &str) -> Option<ReaderLoss> {
    loss_of_process(OWN, present, new, configured)
}

fn loss_of_process(
    own: u32,
    (owner, group, mode): (u32, u32, u32),
    (new_owner, new_group, new_mode): (u32, u32, u32),
    configured: &str,
) -> Option<ReaderLoss> {
    let present = PresentReaders {
        owner: Uid::from_raw(owner),
        group: Gid::from_raw(group),
        owner_reads: mode & 0o400 != 0,
        group_reads: mode & 0o040 != 0,
    };
    let new = NewAccess {
        owner: Uid::from_raw(new_owner),
        group: Gid::from_raw(new_group),
        mode: Mode::from_raw_mode(new_mode),
        owner_configured: configured.contains("owner"),
        group_configured: configured.contains("group"),
    };
    let own = (Uid::from_raw(own), Gid::from_raw(own));
    find_loss(present, new, own, |user, group| {
        (user.as_raw() != UNKNOWN)
            .then(|| user.as_raw() == APP && [APP, WEB].contains(&group.as_raw()))
    })
}

#[test]
fn owner_that_cannot_be_kept_is_a_loss_unless_its_group_reads() {
    let lost = Some(ReaderLoss::Owner(Uid::from_raw(APP)));
    let unknown = Some(ReaderLoss::Owner(Uid::from_raw(UNKNOWN)));
    for (present, new, configured, expected) in [
        ((APP, OWN, 0o640), (OWN, OWN, 0o600), "", lost),
        ((APP, APP, 0o644), (OWN, OWN, 0o640), "", lost),
        ((APP, APP, 0o600), (OWN, APP, 0o600), "", lost),
        ((APP, APP, 0o600), (OWN, WEB, 0o600), "group", lost),
        ((APP, APP, 0o600), (OWN, 60, 0o640), "group", lost),
        // A setgid folder, or `group`, with a mode that lets it read.
        ((APP, APP, 0o600), (OWN, APP, 0o640), "", None),
        ((APP, OWN, 0o600), (OWN, WEB, 0o640), "", None),
        ((APP, OWN, 0o600), (OWN, WEB, 0o640), "group", None),
        // The owner is kept, or decided, or no consumer.
        ((APP, APP, 0o600), (APP, APP, 0o600), "", None),
        ((APP, APP, 0o600), (OWN, OWN, 0o600), "owner", None),
        ((APP, APP, 0o200), (OWN, OWN, 0o600), "", None),
        ((OWN, OWN, 0o600), (OWN, OWN, 0o600), "", None),
        ((0, 0, 0o600), (OWN, OWN, 0o600), "", None),
        // Nobody knows the groups of this one.
        ((UNKNOWN, WEB, 0o640), (OWN, OWN, 0o640), "", unknown),
        ((UNKNOWN, OWN, 0o640), (OWN, OWN, 0o640), "", unknown),
        ((UNKNOWN, WEB, 0o640), (OWN, WEB, 0o640), "", None),
        ((UNKNOWN, 60, 0o640), (OWN, WEB, 0o640), "group", None),
    ] {
        assert_eq!(
            loss(present, new, configured),
            expected,
            "{present:?} {new:?} {configured}"
        );
    }
}

#[test]
fn group_that_cannot_be_kept_or_cannot_read_any_more_is_a_loss() {
    let lost = Some(ReaderLoss::Group(Gid::from_raw(APP)));
    let narrowed = Some(ReaderLoss::GroupRead(Gid::from_raw(APP)));
    for (present, new, configured, expected) in [
        ((0, APP, 0o644), (OWN, OWN, 0o640), "", lost),
        ((OWN, APP, 0o640), (OWN, OWN, 0o640), "", lost),
        ((APP, APP, 0o640), (OWN, OWN, 0o640), "owner", lost),
        ((0, APP, 0o640), (OWN, OWN, 0o600), "", narrowed),
        ((0, APP, 0o640), (OWN, APP, 0o600), "", narrowed),
        // Kept, or decided.
        ((0, APP, 0o640), (OWN, APP, 0o640), "", None),
        ((0, APP, 0o640), (OWN, OWN, 0o640), "group", None),
        ((0, APP, 0o640), (OWN, OWN, 0o400), "", None),
        // rekeyd wrote it, with another mode.
        ((OWN, APP, 0o640), (OWN, APP, 0o600), "", None),
        // No consumers: no read for the group, root's, and the process's own.
        ((0, APP, 0o600), (OWN, OWN, 0o640), "", None),
        ((0, 0, 0o644), (OWN, OWN, 0o640), "", None),
        ((0, OWN, 0o640), (OWN, OWN, 0o600), "", None),
    ] {
        assert_eq!(
            loss(present, new, configured),
            expected,
            "{present:?} {new:?} {configured}"
        );
    }
    // Root keeps owner and group; only the mode is reported.
    for (mode, expected) in [(0o600, narrowed), (0o640, None), (0o400, None)] {
        let found = loss_of_process(0, (0, APP, 0o640), (0, APP, mode), "");
        assert_eq!(found, expected, "{mode:o}");
    }
}
