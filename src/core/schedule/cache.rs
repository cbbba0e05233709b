//! The firings next to the time that was asked about last: ten thousand keys
//! with one schedule ask about the same moment, and a search costs more than
//! all else that is looked at to know whether a key is due.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// What was found last, for a schedule in its zone and all clones of it.
#[derive(Default)]
pub(super) struct FiringCache(Mutex<CachedFirings>);

#[derive(Default)]
struct CachedFirings {
    /// A time, and the first firing after it.
    next: Option<(Timestamp, Timestamp)>,
    /// The last firing until a time, and that time.
    last: Option<(Timestamp, Timestamp)>,
}

impl FiringCache {
    /// The first firing after `at`, which `search` finds.
    pub(super) fn next_or_search(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.lock().next {
            Some((asked, next)) if asked <= at && at < next => return Some(next),
            Some(_) | None => {}
        }
        let next = search()?;
        self.lock().next = Some((at, next));
        Some(next)
    }

    /// The last firing until `at`, which `search` finds.
    pub(super) fn last_or_search(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.lock().last {
            Some((last, asked)) if last <= at && at <= asked => return Some(last),
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
