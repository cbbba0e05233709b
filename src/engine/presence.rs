//! Whether the keys' current credentials exist at the provider, counted over all
//! keys.

use crate::core::state::KeyState;

/// How a key's current credential stands at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CredentialPresence {
    /// There is none.
    None,
    /// As far as is known it is there.
    Present,
    /// The provider said that it is not.
    Missing,
}

/// How many keys' current credentials stand how.
#[derive(Debug, Default)]
pub(super) struct PresenceTally {
    pub(super) present: usize,
    pub(super) missing: usize,
}

impl CredentialPresence {
    pub(super) fn of(state: &KeyState) -> Self {
        match state.current() {
            None => Self::None,
            Some(current) if current.missing.is_some() => Self::Missing,
            Some(_) => Self::Present,
        }
    }
}

impl PresenceTally {
    /// Whether more than half of several keys' credentials are missing.
    pub(super) fn is_majority_missing(&self) -> bool {
        self.missing >= 2 && self.missing > self.present
    }

    pub(super) fn update(&mut self, before: CredentialPresence, after: CredentialPresence) {
        match before {
            CredentialPresence::None => {}
            CredentialPresence::Present => self.present -= 1,
            CredentialPresence::Missing => self.missing -= 1,
        }
        match after {
            CredentialPresence::None => {}
            CredentialPresence::Present => self.present += 1,
            CredentialPresence::Missing => self.missing += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_follows_presence_changes() {
        let mut standings = PresenceTally::default();
        for (before, after, there, missing) in [
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
            standings.update(before, after);
            assert_eq!((standings.present, standings.missing), (there, missing));
        }
    }

    #[test]
    fn a_majority_needs_two_missing_credentials() {
        for (there, missing, suspect) in [
            (0, 1, false),
            (0, 2, true),
            (1, 2, true),
            (2, 2, false),
            (2, 3, true),
            (5, 1, false),
            (0, 0, false),
        ] {
            let standings = PresenceTally {
                present: there,
                missing,
            };
            assert_eq!(
                standings.is_majority_missing(),
                suspect,
                "{there} {missing}"
            );
        }
    }
}
