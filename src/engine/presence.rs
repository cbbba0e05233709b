//! Whether the keys' current credentials exist at the provider, counted over the
//! keys of a scope.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::state::KeyState;
use crate::core::time;
use crate::ledger::{Discrepancy, RemoteState};

/// How long a new credential may be absent from lists that lag.
const LIST_LAG: Duration = Duration::from_secs(15 * 60);

/// Whether a key's current credential exists at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialPresence {
    /// The key has none.
    None,
    /// It exists, as far as is known.
    Present,
    /// The last list did not show it, and the provider was not asked for it since.
    Unlisted,
    /// The provider answered that it has no such credential.
    Missing,
}

/// The number of keys of one scope by presence.
#[derive(Debug, Default)]
pub(super) struct PresenceTally {
    pub(super) present: usize,
    pub(super) unlisted: usize,
    pub(super) missing: usize,
    /// Whether an operator confirmed that the missing credentials are really gone.
    pub(super) is_confirmed: bool,
    /// Whether the last list has none of the credentials of the one before.
    pub(super) has_foreign_list: bool,
    /// Whether an operator confirmed the organization, so that the next list counts
    /// whatever it has.
    pub(super) accepts_any_list: bool,
}

impl CredentialPresence {
    pub(super) fn from_state(state: &KeyState) -> Self {
        match state.current() {
            None => Self::None,
            Some(current) if current.missing.is_some() => Self::Missing,
            Some(_) => Self::Present,
        }
    }

    /// Returns the presence of a key for which a reconciliation found these discrepancies,
    /// which were not examined yet.
    pub(super) fn with_discrepancies<'d>(
        state: &KeyState,
        mut discrepancies: impl Iterator<Item = &'d Discrepancy>,
        now: Timestamp,
    ) -> Self {
        let known = Self::from_state(state);
        let Some(current) = state.current().filter(|_| known == Self::Present) else {
            return known;
        };
        let since = current.current_at.unwrap_or(current.started_at);
        let is_settled = time::after(since, LIST_LAG) <= now;
        let is_unlisted = discrepancies.any(|discrepancy| {
            discrepancy.rotation == current.id
                && matches!(discrepancy.remote_state, RemoteState::Absent)
        });
        if is_settled && is_unlisted {
            Self::Unlisted
        } else {
            known
        }
    }
}

impl PresenceTally {
    /// Returns whether the organization may be the wrong one: the list has nothing in common
    /// with the one before, or more than half of several keys' credentials are missing or not
    /// listed, and no operator confirmed that.
    pub(super) fn is_suspicious(&self) -> bool {
        let absent = self.missing + self.unlisted;
        let are_most_missing = absent >= 2 && absent > self.present;
        self.has_foreign_list || are_most_missing && !self.is_confirmed
    }

    /// Records that an operator confirmed the organization.
    pub(super) fn confirm(&mut self) {
        self.is_confirmed = true;
        self.accepts_any_list |= self.has_foreign_list;
        self.has_foreign_list = false;
    }

    pub(super) fn update(&mut self, before: CredentialPresence, after: CredentialPresence) {
        match before {
            CredentialPresence::None => {}
            CredentialPresence::Present => self.present -= 1,
            CredentialPresence::Unlisted => self.unlisted -= 1,
            CredentialPresence::Missing => self.missing -= 1,
        }
        match after {
            CredentialPresence::None => {}
            CredentialPresence::Present => self.present += 1,
            CredentialPresence::Unlisted => self.unlisted += 1,
            CredentialPresence::Missing => self.missing += 1,
        }
        if self.missing + self.unlisted == 0 {
            self.is_confirmed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_follows_presence_changes() {
        let mut tally = PresenceTally::default();
        for (before, after, present, missing) in [
            (CredentialPresence::None, CredentialPresence::Present, 1, 0),
            (CredentialPresence::None, CredentialPresence::Present, 2, 0),
            (
                CredentialPresence::Present,
                CredentialPresence::Missing,
                1,
                1,
            ),
            (
                CredentialPresence::Present,
                CredentialPresence::Present,
                1,
                1,
            ),
            (CredentialPresence::None, CredentialPresence::Missing, 1, 2),
            (
                CredentialPresence::Missing,
                CredentialPresence::Present,
                2,
                1,
            ),
            (CredentialPresence::Present, CredentialPresence::None, 1, 1),
            (CredentialPresence::Missing, CredentialPresence::None, 1, 0),
            (CredentialPresence::None, CredentialPresence::None, 1, 0),
        ] {
            tally.update(before, after);
            assert_eq!((tally.present, tally.missing), (present, missing));
        }
    }

    #[test]
    fn a_majority_needs_two_missing_credentials() {
        for (present, missing, is_suspicious) in [
            (0, 1, false),
            (0, 2, true),
            (1, 2, true),
            (2, 2, false),
            (2, 3, true),
            (5, 1, false),
            (0, 0, false),
        ] {
            let mut tally = PresenceTally {
                present,
                missing,
                ..PresenceTally::default()
            };
            assert_eq!(tally.is_suspicious(), is_suspicious, "{present} {missing}");
            tally.is_confirmed = true;
            assert!(!tally.is_suspicious(), "{present} {missing}");
        }
    }
}
