//! What is wrong with the daemon as a whole: one cause, one alarm.
//!
//! While a condition holds nothing is begun, no key's attempt counts up and
//! one probe runs (`engine/probe.rs`); the first success wakes all.
//! Each is told once when it begins and once when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::decide::next_step::Permits;
use crate::core::time;
use crate::provider::{ErrorKind, ProviderError};

/// The provider's clock has whole seconds and its words take a moment: it is
/// ahead if it is so by more.
const CLOCK_RESOLUTION: Duration = Duration::from_secs(2);

/// How long a word of the provider counts as a sign that it is there.
const RESPONSE_FRESHNESS: Duration = Duration::from_secs(5 * 60);

/// The conditions that hold, shared by everything that works.
#[derive(Debug, Default)]
pub struct Conditions {
    inner: Mutex<ConditionState>,
    /// Taken by whoever finds out whether a failure is the provider's or a
    /// key's, so that many failures at once ask one question.
    diagnosis_lock: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct ConditionState {
    active: BTreeMap<Condition, String>,
    last_response_at: Option<Timestamp>,
    /// How far the provider's clock was ahead then, in seconds.
    clock_offset: Option<f64>,
    /// What time it was by the provider, and by the monotonic clock then.
    provider_time: Option<(Timestamp, Duration)>,
    /// What is told once in a process.
    logged_once: BTreeSet<&'static str>,
    /// How often any has begun or ended.
    change_count: u64,
    /// Changed and not yet written to the ledger.
    unrecorded: BTreeMap<Condition, Option<String>>,
}

impl Conditions {
    /// Says that a condition holds; told once.
    pub fn raise(&self, condition: Condition, problem: &str) {
        let mut inner = self.inner();
        if inner.active.contains_key(&condition) {
            return;
        }
        inner.change_count += 1;
        inner.active.insert(condition, problem.to_owned());
        inner.unrecorded.insert(condition, Some(problem.to_owned()));
        tracing::error!(
            condition = condition.as_str(),
            "{problem}; no rotation is begun until this has passed"
        );
    }

    /// Says that a condition has passed. True if it held.
    pub fn clear(&self, condition: Condition) -> bool {
        let mut inner = self.inner();
        let held = inner.active.remove(&condition);
        if held.is_none() {
            return false;
        }
        inner.change_count += 1;
        inner.unrecorded.insert(condition, None);
        tracing::info!(
            condition = condition.as_str(),
            "the condition \"{}\" has passed; going on",
            condition.as_str()
        );
        true
    }

    /// How often any has begun or ended.
    pub(crate) fn change_count(&self) -> u64 {
        self.inner().change_count
    }

    /// Those that hold, worst first.
    #[must_use]
    pub fn active(&self) -> Vec<(Condition, String)> {
        let inner = self.inner();
        let held = inner.active.iter();
        held.map(|(condition, problem)| (*condition, problem.clone()))
            .collect()
    }

    /// Whether this one holds.
    #[must_use]
    pub fn is_active(&self, condition: Condition) -> bool {
        self.inner().active.contains_key(&condition)
    }

    /// Whether a rotation may be begun.
    #[must_use]
    pub fn can_start_rotation(&self) -> bool {
        self.inner().active.is_empty()
    }

    /// What steps may be taken.
    #[must_use]
    pub fn permits(&self) -> Permits {
        let inner = self.inner();
        Permits {
            can_use_provider: !inner.active.contains_key(&Condition::Provider)
                && !inner.active.contains_key(&Condition::Credential),
            can_trust_clock: !inner.active.contains_key(&Condition::Clock),
        }
    }

    /// Notes the provider's `Date`, and whether our clock can be believed.
    /// `monotonic` is the time by a clock that never jumps.
    pub fn observe_response(&self, date: Option<Timestamp>, now: Timestamp, monotonic: Duration) {
        self.inner().last_response_at = Some(now);
        let Some(date) = date else { return };
        {
            let mut inner = self.inner();
            inner.clock_offset = Some(date.duration_since(now).as_secs_f64());
            inner.provider_time = Some((date, monotonic));
        }
        if time::clocks_agree(date, now) {
            return;
        }
        self.raise(Condition::Clock, &clock_mismatch_message(Some(date), now));
    }

    /// From when an overlap counts that begins now: this host's time, or the
    /// provider's if that is ahead. Were a clock believed that is behind, the
    /// overlap would be over as soon as the clock is set right. None before
    /// the provider has told its time.
    #[must_use]
    pub fn overlap_start(&self, now: Timestamp, monotonic: Duration) -> Option<Timestamp> {
        let (date, then) = self.inner().provider_time?;
        let theirs = time::after(date, monotonic.saturating_sub(then));
        let ahead = time::until(now, theirs) > CLOCK_RESOLUTION;
        // Its clock has whole seconds, and may be that much further.
        let theirs = time::after(theirs, Duration::from_secs(1));
        Some(if ahead { theirs } else { now })
    }

    /// How far the provider's clock was ahead when it was last heard, in
    /// seconds; its clock has whole ones.
    #[must_use]
    pub fn clock_offset(&self) -> Option<f64> {
        self.inner().clock_offset
    }

    /// Whether the provider has said something lately.
    #[must_use]
    pub fn has_recent_response(&self, now: Timestamp) -> bool {
        self.inner()
            .last_response_at
            .is_some_and(|at| time::until(at, now).max(time::until(now, at)) <= RESPONSE_FRESHNESS)
    }

    /// What the ledger is still to be told.
    pub fn take_unrecorded(&self) -> Vec<(Condition, Option<String>)> {
        std::mem::take(&mut self.inner().unrecorded)
            .into_iter()
            .collect()
    }

    /// True the first time it is asked with this word.
    pub(crate) fn is_first_occurrence(&self, word: &'static str) -> bool {
        self.inner().logged_once.insert(word)
    }

    /// Waits for the right to find out what a failure means.
    pub(crate) async fn lock_diagnosis(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.diagnosis_lock.lock().await
    }

    fn inner(&self) -> MutexGuard<'_, ConditionState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In words, what is wrong when the two clocks do not agree.
pub(crate) fn clock_mismatch_message(theirs: Option<Timestamp>, ours: Timestamp) -> String {
    let theirs = theirs.map_or("nothing".to_owned(), time::to_text);
    format!(
        "this host's clock says {} and the provider's says {theirs}; set the clock of this host",
        time::to_text(ours)
    )
}

/// Which condition an error of a harmless request tells of, made with the
/// credential in use; none if the provider is there and the credential works.
#[must_use]
pub fn condition_of_error(error: &ProviderError) -> Option<Condition> {
    match error.kind {
        ErrorKind::NoCredential | ErrorKind::CredentialRefused | ErrorKind::Forbidden => {
            Some(Condition::Credential)
        }
        ErrorKind::Unreachable
        | ErrorKind::NoAnswer
        | ErrorKind::ServerError
        | ErrorKind::BadAnswer => Some(Condition::Provider),
        ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::RateLimited
        | ErrorKind::QuotaExhausted => None,
    }
}

#[cfg(test)]
mod tests;
