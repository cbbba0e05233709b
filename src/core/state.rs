//! The state of a key in the ledger, as the decisions need it.

mod delivery;
mod file_access;
mod file_note;
mod rotation;
mod sighting;

use jiff::Timestamp;

pub use self::delivery::{Delivery, DeliveryState};
pub use self::file_access::{FileAccess, LeftFile, ModeNarrowing, WideningCause};
pub use self::file_note::FileNote;
pub(crate) use self::rotation::phase_as_newest;
pub use self::rotation::{
    CredentialMetadata, DeferralKind, HELD_UNTIL_RELEASED, MissingSince, RevocationDeadline,
    Rotation, Trigger, visible_hold_end,
};
pub use self::sighting::Sighting;
use crate::core::ids::{CredentialId, KeyName, RotationId};
use crate::core::lifecycle::Phase;

/// The state of one key in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// Its name.
    pub key: KeyName,
    /// The names that it had before: its older rotations, events and labels have them.
    pub former_names: Vec<KeyName>,
    /// The sequence of its newest rotation, 0 before the first.
    pub sequence: u64,
    /// The phase of its newest rotation, by [`Rotation::phase_as_newest`]; none before the
    /// first.
    pub newest_phase: Option<Phase>,
    /// The newest rotation that is or was current.
    pub last_current: Option<LastCurrent>,
    /// The number of consecutive rotations that failed to become current or could not
    /// start.
    pub attempt: u32,
    /// The earliest time of the next scheduled rotation.
    pub retry_at: Option<Timestamp>,
    /// Why the last rotation failed or could not start.
    pub last_error: Option<String>,
    /// Whether that happened before a create was sent.
    pub failed_before_create: bool,
    /// Whether an operator requested the revocation of every older credential as soon
    /// as a new one is current.
    pub revoke_previous: bool,
    /// The targets whose keys an operator allowed a rotation to replace, although this
    /// ledger did not write them: the newest one, and the next ones until one is current.
    pub replace_targets: Vec<String>,
    /// The timetable that its firings were last counted by, as text.
    pub timetable: Option<String>,
    /// The time up to which firings are settled: recorded as events, or before the
    /// present timetable.
    pub counts_from: Option<Timestamp>,
    /// A run that the timetable does not have: a missed one of the previous timetable, for
    /// which a rotation has yet to run, or the first of a credential that was past its age
    /// when its age began to count, which may be in the future.
    pub pending_run: Option<Timestamp>,
    /// The latest scheduled run that fell due while a process ran, and that no rotation has
    /// followed. It is not missed, whatever happens to that process.
    pub due_run: Option<Timestamp>,
    /// The latest scheduled run that was dropped since a credential became current.
    pub dropped_run: Option<Timestamp>,
    /// The number of those.
    pub dropped_runs: u32,
    /// An operator's pause: the schedule starts no rotation during it.
    pub pause: Option<Pause>,
    /// An operator's retirement of the key: it is never rotated, and its credentials end.
    pub retirement: Option<Retirement>,
    /// Its live rotations, oldest first.
    pub live: Vec<Rotation>,
}

impl KeyState {
    /// Returns the state of a key without rows in the ledger.
    #[must_use]
    pub fn unknown(key: KeyName) -> Self {
        Self {
            key,
            former_names: Vec::new(),
            sequence: 0,
            newest_phase: None,
            last_current: None,
            attempt: 0,
            retry_at: None,
            last_error: None,
            failed_before_create: false,
            revoke_previous: false,
            replace_targets: Vec::new(),
            timetable: None,
            counts_from: None,
            pending_run: None,
            due_run: None,
            dropped_run: None,
            dropped_runs: 0,
            pause: None,
            retirement: None,
            live: Vec::new(),
        }
    }

    /// Returns who could get the file that the newest recorded delivery to `target` left,
    /// among those of live credentials.
    #[must_use]
    pub fn recorded_access(&self, target: &str) -> Option<FileAccess> {
        let newest_first = self.live.iter().rev();
        let mut deliveries = newest_first.flat_map(|rotation| &rotation.deliveries);
        deliveries.find_map(|delivery| {
            let access = delivery.file_access;
            access.filter(|_| delivery.sink.target == target)
        })
    }

    /// Returns the key's current rotation.
    #[must_use]
    pub fn current(&self) -> Option<&Rotation> {
        self.live
            .iter()
            .find(|rotation| rotation.phase == Phase::Current)
    }

    /// Returns the key's open rotation.
    #[must_use]
    pub fn open_rotation(&self) -> Option<&Rotation> {
        self.live.iter().find(|rotation| rotation.phase.is_open())
    }

    /// Returns whether the last current credential is revoked and no other is current:
    /// the consumers have no working credential.
    #[must_use]
    pub fn has_lost_credential(&self) -> bool {
        self.current().is_none() && self.last_current.is_some_and(|last| last.is_revoked)
    }

    /// Returns the sequence of a rotation that starts at `now`. It is at least the time
    /// in seconds, so that a restored ledger, a renamed key or a database that lost
    /// commits counts beyond the sequences that sinks have applied.
    #[must_use]
    pub fn next_sequence(&self, now: Timestamp) -> u64 {
        let seconds = u64::try_from(now.as_second()).unwrap_or_default();
        seconds.max(self.sequence.saturating_add(1))
    }

    /// Returns whether an operator's pause of the key is not over.
    #[must_use]
    pub fn is_paused(&self, now: Timestamp) -> bool {
        self.pause.is_some_and(|pause| pause.is_active(now))
    }

    /// Returns every name of the key, the present one first.
    pub fn names(&self) -> impl Iterator<Item = &KeyName> {
        std::iter::once(&self.key).chain(&self.former_names)
    }

    /// Returns whether an operator retired the key.
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.retirement.is_some()
    }

    /// Returns the live rotation with this id.
    #[must_use]
    pub fn rotation(&self, id: &RotationId) -> Option<&Rotation> {
        self.live.iter().find(|rotation| rotation.id == *id)
    }
}

/// The newest rotation of a key that is or ever was current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCurrent {
    /// Its sequence.
    pub sequence: u64,
    /// Whether its credential is revoked.
    pub is_revoked: bool,
}

/// An operator's pause of a key, which may be over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Its start.
    pub from: Timestamp,
    /// Its end; none until an operator resumes the key.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Returns whether the pause is not over.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An operator's retirement of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retirement {
    /// When it began. Every sink of the key counts as removed at that time.
    pub at: Timestamp,
    /// Whether the credentials end without waiting for an overlap or a hold.
    pub is_immediate: bool,
}

/// A credential at the provider whose name has the form of a key's label, and that has
/// no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookalike {
    /// The key whose labels have that form.
    pub key: KeyName,
    /// Its id at the provider.
    pub id: CredentialId,
    /// Its name there.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_ledger_round_trip() {
        for trigger in Trigger::ALL {
            assert_eq!(Trigger::from_text(trigger.as_str()), Some(trigger));
        }
        for state in DeliveryState::ALL {
            assert_eq!(DeliveryState::from_text(state.as_str()), Some(state));
        }
        for kind in DeferralKind::ALL {
            assert_eq!(DeferralKind::from_text(kind.as_str()), Some(kind));
        }
        assert_eq!(DeferralKind::from_text("nonsense"), None);
        assert_eq!(Trigger::from_text("nonsense"), None);
        assert_eq!(DeliveryState::from_text(""), None);
    }
}
