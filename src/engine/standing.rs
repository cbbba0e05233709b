//! How the keys' current credentials stand at the provider, and what that says
//! of the organization.

use crate::core::record::KeyState;
use crate::engine::Engine;
use crate::engine::condition::Condition;

/// How a key's current credential stands at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is none.
    None,
    /// As far as is known it is there.
    There,
    /// The provider said that it is not.
    Missing,
}

/// How many keys' current credentials stand how.
#[derive(Debug, Default)]
pub(super) struct Standings {
    there: usize,
    missing: usize,
}

impl Standing {
    pub(super) fn of(state: &KeyState) -> Self {
        match state.current() {
            None => Self::None,
            Some(current) if current.missing.is_some() => Self::Missing,
            Some(_) => Self::There,
        }
    }
}

impl Standings {
    /// Whether more than half of several keys' credentials are missing.
    fn are_suspect(&self) -> bool {
        self.missing >= 2 && self.missing > self.there
    }

    pub(super) fn count(&mut self, before: Standing, after: Standing) {
        match before {
            Standing::None => {}
            Standing::There => self.there -= 1,
            Standing::Missing => self.missing -= 1,
        }
        match after {
            Standing::None => {}
            Standing::There => self.there += 1,
            Standing::Missing => self.missing += 1,
        }
    }
}

impl Engine {
    /// When more than half of several keys' credentials are gone at once, it is
    /// the organization that is wrong.
    pub(super) fn judge_organization(&mut self) {
        let Standings { there, missing } = self.standings;
        let wrong = self.standings.are_suspect() && !self.errands.organization_is_right;
        let conditions = &self.parts.conditions;
        if wrong {
            let problem = format!(
                "the current credentials of {missing} of {} keys are gone at the provider; see \
                 whether the admin credential belongs to another organization, or rotate all \
                 keys if they were really revoked (`rekeyd rotate --all`)",
                there + missing
            );
            conditions.raise(Condition::Organization, &problem);
        } else {
            conditions.clear(Condition::Organization);
        }
        if missing == 0 {
            self.errands.organization_is_right = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_counted_by_how_they_stand() {
        let mut standings = Standings::default();
        for (before, after, there, missing) in [
            (Standing::None, Standing::There, 1, 0),
            (Standing::None, Standing::There, 2, 0),
            (Standing::There, Standing::Missing, 1, 1),
            (Standing::There, Standing::There, 1, 1),
            (Standing::None, Standing::Missing, 1, 2),
            (Standing::Missing, Standing::There, 2, 1),
            (Standing::There, Standing::None, 1, 1),
            (Standing::Missing, Standing::None, 1, 0),
            (Standing::None, Standing::None, 1, 0),
        ] {
            standings.count(before, after);
            assert_eq!((standings.there, standings.missing), (there, missing));
        }
    }

    #[test]
    fn more_than_half_of_several_are_suspect() {
        for (there, missing, suspect) in [
            (0, 1, false),
            (0, 2, true),
            (1, 2, true),
            (2, 2, false),
            (2, 3, true),
            (5, 1, false),
            (0, 0, false),
        ] {
            let standings = Standings { there, missing };
            assert_eq!(standings.are_suspect(), suspect, "{there} {missing}");
        }
    }
}
