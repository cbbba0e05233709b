//! What may have ended the reason of deferred revocations, until the engine has followed it
//! up (`rechecks.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::decide::revocation::RecheckCause;
use crate::core::time;

/// The interval at which deferrals are decided again because of sinks: each needs a request
/// to the provider, and many keys may be delivered at once.
const RECHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What may have ended the reason of deferrals, and was not followed up yet.
pub(super) struct PendingRechecks {
    causes: BTreeSet<RecheckCause>,
    /// How often causes were followed up.
    count: u64,
    /// That number when each cause was last followed up. A worker may have decided before.
    followed_up: BTreeMap<RecheckCause, u64>,
    /// When deferrals were last decided again because of sinks.
    pub(super) by_targets_at: Option<Timestamp>,
    /// The version of rekeyd's own credential that the deferrals were decided with.
    pub(super) credential_version: u64,
}

impl PendingRechecks {
    /// Returns what follows from the start of a process.
    pub(super) fn at_start() -> Self {
        Self {
            causes: BTreeSet::from([RecheckCause::Start]),
            count: 0,
            followed_up: BTreeMap::new(),
            by_targets_at: None,
            credential_version: 0,
        }
    }

    /// Adds a cause.
    pub(super) fn add(&mut self, cause: RecheckCause) {
        self.causes.insert(cause);
    }

    /// Returns when the causes are followed up; none without any.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        let by_targets = || {
            self.by_targets_at
                .map_or(Timestamp::MIN, |at| time::after(at, RECHECK_INTERVAL))
        };
        let times = self.causes.iter().map(|cause| match cause {
            RecheckCause::Start | RecheckCause::OwnCredential => Timestamp::MIN,
            RecheckCause::Targets => by_targets(),
        });
        times.min()
    }

    /// Removes and returns the causes that are followed up now.
    pub(super) fn take_due(&mut self, now: Timestamp) -> BTreeSet<RecheckCause> {
        // The clock may have been set back.
        let is_too_soon = |at| (at..time::after(at, RECHECK_INTERVAL)).contains(&now);
        let must_wait = self.by_targets_at.is_some_and(is_too_soon);
        let due = std::mem::take(&mut self.causes);
        let (later, due): (_, BTreeSet<_>) = due
            .into_iter()
            .partition(|cause| must_wait && *cause == RecheckCause::Targets);
        self.causes = later;
        if !due.is_empty() {
            self.count += 1;
            self.followed_up
                .extend(due.iter().map(|cause| (*cause, self.count)));
        }
        due
    }

    /// Returns how often causes were followed up, for [`PendingRechecks::causes_since`].
    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the causes that were followed up since [`PendingRechecks::count`] returned
    /// `count`.
    pub(super) fn causes_since(&self, count: u64) -> BTreeSet<RecheckCause> {
        let causes = self.followed_up.iter();
        let causes = causes.filter(|(_, followed_up)| **followed_up > count);
        causes.map(|(cause, _)| *cause).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_400_000 + seconds).unwrap()
    }

    /// A worker that began before a cause was followed up may have decided without it.
    #[test]
    fn causes_are_known_to_who_began_before() {
        let mut pending = PendingRechecks::at_start();
        let first = pending.count();
        assert!(pending.causes_since(first).is_empty());
        pending.take_due(at(0));
        let second = pending.count();
        pending.by_targets_at = Some(at(0));
        for cause in [RecheckCause::Targets, RecheckCause::OwnCredential] {
            pending.add(cause);
        }
        pending.take_due(at(1));
        let third = pending.count();
        pending.take_due(at(10));
        let none = pending.count();
        pending.take_due(at(11));
        assert_eq!(pending.count(), none, "nothing was followed up");
        for (count, expected) in [
            (
                first,
                &[
                    RecheckCause::Start,
                    RecheckCause::OwnCredential,
                    RecheckCause::Targets,
                ][..],
            ),
            (
                second,
                &[RecheckCause::OwnCredential, RecheckCause::Targets],
            ),
            (third, &[RecheckCause::Targets]),
            (none, &[]),
        ] {
            let found = pending.causes_since(count);
            assert_eq!(found, expected.iter().copied().collect(), "{count}");
        }
    }

    /// Many deliveries cause few requests, and the clock may be set back meanwhile.
    #[test]
    fn causes_by_sinks_are_followed_up_every_ten_seconds() {
        let mut pending = PendingRechecks::at_start();
        assert_eq!(pending.take_due(at(0)), [RecheckCause::Start].into());
        assert_eq!(pending.next_at(), None);
        pending.add(RecheckCause::Targets);
        assert!(pending.next_at().is_some_and(|next| next <= at(0)));
        assert_eq!(pending.take_due(at(0)), [RecheckCause::Targets].into());
        pending.by_targets_at = Some(at(0));
        for (now, is_due) in [(1, false), (9, false), (10, true), (-1, true)] {
            let mut pending = PendingRechecks {
                causes: [RecheckCause::Targets, RecheckCause::OwnCredential].into(),
                ..PendingRechecks::at_start()
            };
            pending.by_targets_at = Some(at(0));
            let due = pending.take_due(at(now));
            assert!(due.contains(&RecheckCause::OwnCredential), "{now}");
            assert_eq!(due.contains(&RecheckCause::Targets), is_due, "{now}");
            assert_eq!(pending.next_at(), (!is_due).then(|| at(10)), "{now}");
        }
    }
}
