//! A cache of the firings next to the latest query: ten thousand keys with one
//! schedule query the same time, and a search costs more than the rest of the check
//! whether a key is due.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// The latest results for a schedule in its zone, shared by its clones.
#[derive(Default)]
pub(super) struct FiringCache(Mutex<CachedFirings>);

#[derive(Default)]
struct CachedFirings {
    /// A time, and the first firing after it.
    next: Option<(Timestamp, Timestamp)>,
    /// The last firing at or before a time, and that time.
    last: Option<(Timestamp, Timestamp)>,
}

impl FiringCache {
    /// Returns the first firing after `at` from the cache, or by `search`.
    pub(super) fn next_or_search(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.lock().next {
            Some((queried, next)) if queried <= at && at < next => return Some(next),
            Some(_) | None => {}
        }
        let next = search()?;
        self.lock().next = Some((at, next));
        Some(next)
    }

    /// Returns the last firing at or before `at` from the cache, or by `search`.
    pub(super) fn last_or_search(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.lock().last {
            Some((last, queried)) if last <= at && at <= queried => return Some(last),
            Some(_) | None => {}
        }
        let last = search()?;
        self.lock().last = Some((last, at));
        Some(last)
    }

    fn lock(&self) -> MutexGuard<'_, CachedFirings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
