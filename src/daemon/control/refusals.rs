//! The requests and connections that the control socket refuses: counted, and logged once a
//! minute, because their number is up to who sends them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::IntCounter;

use crate::core::first_few::join_few;
use crate::core::plural::counted;
use crate::platform::users::describe_user;

/// The time between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The number of users that are counted by themselves. The others count together.
const MAX_USERS: usize = 64;

/// The refusals of one server.
pub(super) struct Refusals {
    /// None in tests.
    total: Option<IntCounter>,
    pending: Mutex<PendingRefusals>,
}

/// The refusals that are not logged yet.
#[derive(Default)]
struct PendingRefusals {
    /// Whether a line was logged less than [`LOG_INTERVAL`] ago.
    is_recent: bool,
    by_user: BTreeMap<Option<u32>, u64>,
}

impl Refusals {
    pub(super) fn new(total: Option<IntCounter>) -> Arc<Self> {
        Arc::new(Self {
            total,
            pending: Mutex::default(),
        })
    }

    /// Counts a refusal of `user`, whom the kernel may not identify, and logs the result of
    /// `describe`, or else the number at the end of the minute.
    pub(super) fn note(self: &Arc<Self>, user: Option<u32>, describe: impl FnOnce() -> String) {
        if let Some(total) = &self.total {
            total.inc();
        }
        let mut pending = self.lock();
        if pending.is_recent {
            return pending.count(user);
        }
        pending.is_recent = true;
        drop(pending);
        let line = describe();
        tracing::warn!("{line}");
        tokio::spawn(log_each_minute(Arc::downgrade(self)));
    }

    fn lock(&self) -> MutexGuard<'_, PendingRefusals> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the counts of a minute. After one without refusals, the next is logged at once.
    fn take_counts(&self) -> BTreeMap<Option<u32>, u64> {
        let mut pending = self.lock();
        pending.is_recent = !pending.by_user.is_empty();
        std::mem::take(&mut pending.by_user)
    }
}

impl PendingRefusals {
    fn count(&mut self, user: Option<u32>) {
        let is_known = self.by_user.len() < MAX_USERS || self.by_user.contains_key(&user);
        let user = user.filter(|_| is_known);
        *self.by_user.entry(user).or_default() += 1;
    }
}

async fn log_each_minute(refusals: Weak<Refusals>) {
    loop {
        tokio::time::sleep(LOG_INTERVAL).await;
        let Some(refusals) = refusals.upgrade() else {
            return;
        };
        let counts = refusals.take_counts();
        if counts.is_empty() {
            return;
        }
        tracing::warn!("{}", summary(&counts));
    }
}

/// Describes the refusals of a minute, those of the most active users first.
fn summary(counts: &BTreeMap<Option<u32>, u64>) -> String {
    let total = counts.values().sum::<u64>();
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let by_user = counts.into_iter().map(|(user, count)| {
        let user = user.map_or_else(|| "other users".to_owned(), describe_user);
        format!("{count} by {user}")
    });
    let by_user: Vec<_> = by_user.collect();
    format!(
        "refused {} more on the control socket within 1m: {}",
        counted(total, "request"),
        join_few(&by_user)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_million_refusals_are_one_line_a_minute() {
        let total = IntCounter::new("refusals", "refusals").unwrap();
        let refusals = Refusals::new(Some(total.clone()));
        let mut described = 0;
        for number in 0..1_000_000_u32 {
            refusals.note(Some(number % 1000), || {
                described += 1;
                String::new()
            });
        }
        assert_eq!((described, total.get()), (1, 1_000_000));
        assert_eq!(refusals.lock().by_user.len(), MAX_USERS + 1);
        let counted: u64 = refusals.lock().by_user.values().sum();
        assert_eq!(counted, 999_999);
        tokio::time::sleep(LOG_INTERVAL * 3 / 2).await;
        assert!(refusals.lock().by_user.is_empty());
        refusals.note(Some(0), || {
            unreachable!("a line was logged half a minute ago")
        });
        // After a quiet minute, the next one is described again.
        tokio::time::sleep(LOG_INTERVAL * 3).await;
        refusals.note(Some(0), || {
            described += 1;
            String::new()
        });
        assert_eq!(described, 2);
    }

    #[test]
    fn summary_names_users_by_their_refusals() {
        let counts = BTreeMap::from([(Some(0), 2), (Some(4_000_000_001), 810), (None, 3)]);
        assert_eq!(
            summary(&counts),
            "refused 815 requests more on the control socket within 1m: 810 by uid 4000000001, 3 by \
             other users, 2 by root (uid 0)"
        );
    }
}
