//! What is wrong with the daemon as a whole: one cause, one alarm.
//!
//! While a condition holds nothing is begun, no key's attempt counts up and
//! one probe runs ([`crate::engine::probe`]); the first success wakes all.
//! Each is told once when it begins and once when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::step::Allowed;
use crate::core::time;
use crate::provider::{Cause, ProviderError};

/// A provider whose clock differs from ours by more is not believed, and
/// neither are we.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// The provider's clock has whole seconds and its words take a moment: it is
/// ahead if it is so by more.
const CLOCK_STEP: Duration = Duration::from_secs(2);

/// How long a word of the provider counts as a sign that it is there.
const HEARD_FOR: Duration = Duration::from_secs(5 * 60);

/// Something that is wrong with the daemon as a whole, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The ledger cannot be written.
    Ledger,
    /// The provider refuses the credential that rekeyd works with.
    Credential,
    /// Most keys' credentials are gone at once: a wrong organization.
    Organization,
    /// This host's clock and the provider's disagree.
    Clock,
    /// The provider cannot be reached, or fails.
    Provider,
}

impl Condition {
    /// Every condition, worst first.
    pub const ALL: [Self; 5] = [
        Self::Ledger,
        Self::Credential,
        Self::Organization,
        Self::Clock,
        Self::Provider,
    ];

    /// Its word in the ledger, the log and the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Credential => "credential",
            Self::Organization => "organization",
            Self::Clock => "clock",
            Self::Provider => "provider",
        }
    }

    /// How long to wait before the `attempt`th probe, counted from 1. The
    /// last pace is kept for ever.
    #[must_use]
    pub fn pause(self, attempt: u32) -> Duration {
        let table: &[u64] = match self {
            Self::Ledger => &[1, 2, 5],
            Self::Provider => &[1, 2, 5, 15, 30, 60],
            // A person has to act, and every probe is a refused request.
            Self::Credential => &[5, 15, 30, 60, 300],
            Self::Clock => &[30, 60],
            Self::Organization => &[300],
        };
        let at = usize::try_from(attempt.max(1) - 1)
            .unwrap_or(usize::MAX)
            .min(table.len() - 1);
        Duration::from_secs(table[at])
    }
}

/// The conditions that hold, shared by everything that works.
#[derive(Debug, Default)]
pub struct Conditions {
    inner: Mutex<Inner>,
    /// Taken by whoever finds out whether a failure is the provider's or a
    /// key's, so that many failures at once ask one question.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<Condition, String>,
    heard_at: Option<Timestamp>,
    /// How far the provider's clock was ahead then, in seconds.
    offset: Option<f64>,
    /// What time it was by the provider, and by the monotonic clock then.
    told_time: Option<(Timestamp, Duration)>,
    /// What is told once in a process.
    told: BTreeSet<&'static str>,
    /// How often any has begun or ended.
    changes: u64,
    /// Changed and not yet written to the ledger.
    unwritten: BTreeMap<Condition, Option<String>>,
}

impl Conditions {
    /// Says that a condition holds; told once.
    pub fn raise(&self, condition: Condition, problem: &str) {
        let mut inner = self.inner();
        if inner.held.contains_key(&condition) {
            return;
        }
        inner.changes += 1;
        inner.held.insert(condition, problem.to_owned());
        inner.unwritten.insert(condition, Some(problem.to_owned()));
        tracing::error!(
            condition = condition.as_str(),
            "{problem}; no rotation is begun until this has passed"
        );
    }

    /// Says that a condition has passed. True if it held.
    pub fn clear(&self, condition: Condition) -> bool {
        let mut inner = self.inner();
        let held = inner.held.remove(&condition);
        if held.is_none() {
            return false;
        }
        inner.changes += 1;
        inner.unwritten.insert(condition, None);
        tracing::info!(
            condition = condition.as_str(),
            "the condition \"{}\" has passed; going on",
            condition.as_str()
        );
        true
    }

    /// How often any has begun or ended.
    pub(crate) fn changes(&self) -> u64 {
        self.inner().changes
    }

    /// Those that hold, worst first.
    #[must_use]
    pub fn held(&self) -> Vec<(Condition, String)> {
        let inner = self.inner();
        let held = inner.held.iter();
        held.map(|(condition, problem)| (*condition, problem.clone()))
            .collect()
    }

    /// Whether this one holds.
    #[must_use]
    pub fn holds(&self, condition: Condition) -> bool {
        self.inner().held.contains_key(&condition)
    }

    /// Whether a rotation may be begun.
    #[must_use]
    pub fn may_begin(&self) -> bool {
        self.inner().held.is_empty()
    }

    /// What steps may be taken.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        let inner = self.inner();
        Allowed {
            provider: !inner.held.contains_key(&Condition::Provider)
                && !inner.held.contains_key(&Condition::Credential),
            clock: !inner.held.contains_key(&Condition::Clock),
        }
    }

    /// Notes the provider's `Date`, and whether our clock can be believed.
    /// `monotonic` is the time by a clock that never jumps.
    pub fn hear(&self, date: Option<Timestamp>, now: Timestamp, monotonic: Duration) {
        self.inner().heard_at = Some(now);
        let Some(date) = date else { return };
        {
            let mut inner = self.inner();
            inner.offset = Some(date.duration_since(now).as_secs_f64());
            inner.told_time = Some((date, monotonic));
        }
        if agree(date, now) {
            return;
        }
        self.raise(Condition::Clock, &disagreement(Some(date), now));
    }

    /// From when an overlap counts that begins now: this host's time, or the
    /// provider's if that is ahead. Were a clock believed that is behind, the
    /// overlap would be over as soon as the clock is set right. None before
    /// the provider has told its time.
    #[must_use]
    pub fn held_from(&self, now: Timestamp, monotonic: Duration) -> Option<Timestamp> {
        let (date, then) = self.inner().told_time?;
        let theirs = time::after(date, monotonic.saturating_sub(then));
        let ahead = time::until(now, theirs) > CLOCK_STEP;
        // Its clock has whole seconds, and may be that much further.
        let theirs = time::after(theirs, Duration::from_secs(1));
        Some(if ahead { theirs } else { now })
    }

    /// How far the provider's clock was ahead when it was last heard, in
    /// seconds; its clock has whole ones.
    #[must_use]
    pub fn offset(&self) -> Option<f64> {
        self.inner().offset
    }

    /// Whether the provider has said something lately.
    #[must_use]
    pub fn heard_lately(&self, now: Timestamp) -> bool {
        self.inner()
            .heard_at
            .is_some_and(|at| time::until(at, now).max(time::until(now, at)) <= HEARD_FOR)
    }

    /// What the ledger is still to be told.
    pub fn take_unwritten(&self) -> Vec<(Condition, Option<String>)> {
        std::mem::take(&mut self.inner().unwritten)
            .into_iter()
            .collect()
    }

    /// True the first time it is asked with this word.
    pub(crate) fn once(&self, word: &'static str) -> bool {
        self.inner().told.insert(word)
    }

    /// Waits for the right to find out what a failure means.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the two clocks agree.
pub(crate) fn agree(theirs: Timestamp, ours: Timestamp) -> bool {
    time::until(theirs, ours).max(time::until(ours, theirs)) <= CLOCK_TOLERANCE
}

/// In words, what is wrong when the two clocks do not agree.
pub(crate) fn disagreement(theirs: Option<Timestamp>, ours: Timestamp) -> String {
    let theirs = theirs.map_or("nothing".to_owned(), time::to_text);
    format!(
        "this host's clock says {} and the provider's says {theirs}; set the clock of this host",
        time::to_text(ours)
    )
}

/// Which condition an error of a harmless request tells of, made with the
/// credential in use; none if the provider is there and the credential works.
#[must_use]
pub fn of_error(error: &ProviderError) -> Option<Condition> {
    match error.cause {
        Cause::NoCredential | Cause::CredentialRefused | Cause::Forbidden => {
            Some(Condition::Credential)
        }
        Cause::Unreachable | Cause::NoAnswer | Cause::ServerError | Cause::BadAnswer => {
            Some(Condition::Provider)
        }
        Cause::NotFound | Cause::Refused | Cause::RateLimited | Cause::QuotaExhausted => None,
    }
}

#[cfg(test)]
mod tests;
