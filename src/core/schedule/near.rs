//! The firings next to the time that was asked about last: ten thousand keys
//! with one schedule ask about the same moment, and a search costs more than
//! all else that is looked at to know whether a key is due.

use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// What was found last, for a schedule in its zone and all clones of it.
#[derive(Default)]
pub(super) struct Near(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// A time, and the first firing after it.
    next: Option<(Timestamp, Timestamp)>,
    /// The last firing until a time, and that time.
    last: Option<(Timestamp, Timestamp)>,
}

impl Near {
    /// The first firing after `at`, which `search` finds.
    pub(super) fn next(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.found().next {
            Some((asked, next)) if asked <= at && at < next => return Some(next),
            Some(_) | None => {}
        }
        let next = search()?;
        self.found().next = Some((at, next));
        Some(next)
    }

    /// The last firing until `at`, which `search` finds.
    pub(super) fn last(
        &self,
        at: Timestamp,
        search: impl FnOnce() -> Option<Timestamp>,
    ) -> Option<Timestamp> {
        match self.found().last {
            Some((last, asked)) if last <= at && at <= asked => return Some(last),
            Some(_) | None => {}
        }
        let last = search()?;
        self.found().last = Some((last, at));
        Some(last)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
