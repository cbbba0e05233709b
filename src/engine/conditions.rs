//! The conditions of the daemon and of its scopes: one cause, one alert.
//!
//! A condition belongs to the daemon or to one scope, as its cause does. While it is
//! active, no rotation of its keys starts, no attempt of theirs is counted and one probe
//! runs (`engine/probe.rs`); the first success wakes all keys. Each condition is logged
//! once when it starts and once when it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::core::condition::{ActiveCondition, BlockedWork, Condition};
use crate::core::creation_time::is_precise;
use crate::core::decide::next_step::Permits;
use crate::core::gate::{GateCause, RequestClass};
use crate::core::policy::plausible_retry;
use crate::core::scope::Scope;
use crate::core::{duration, time};
use crate::engine::gates::Gates;
use crate::provider::{ErrorKind, ProviderError};

/// The precision of the provider's clock, which has whole seconds and whose responses
/// take a moment: it counts as ahead only by more than this.
const CLOCK_RESOLUTION: Duration = Duration::from_secs(2);

/// The time for which a response of the provider proves that it is reachable.
const RESPONSE_FRESHNESS: Duration = Duration::from_secs(5 * 60);

/// The active conditions, shared by all workers.
#[derive(Debug, Default)]
pub struct Conditions {
    inner: Mutex<ConditionState>,
    /// Held by the worker that diagnoses whether a failure is global or concerns only its
    /// key, so that many failures at once cause one request.
    diagnosis_lock: tokio::sync::Mutex<()>,
    /// The gates of the scopes, which decide when their conditions end.
    gates: Gates,
}

/// A condition, and the scope whose keys it stops; none for the daemon.
pub(crate) type ConditionKey = (Condition, Option<Scope>);

#[derive(Debug, Default)]
struct ConditionState {
    /// The problem of each active condition, worst first.
    active: BTreeMap<ConditionKey, String>,
    /// The conditions of them that last until the process ends.
    lasting: BTreeSet<ConditionKey>,
    /// Since when each condition that may pass by itself is active, until it has lasted so
    /// long that people are notified.
    passing_since: BTreeMap<ConditionKey, Option<Timestamp>>,
    last_response_at: Option<Timestamp>,
    /// How far the provider's clock was ahead in that response, in seconds.
    clock_offset: Option<f64>,
    /// The provider's time, and the monotonic time at which it was observed.
    provider_time: Option<(Timestamp, Duration)>,
    /// The messages that are logged once in a process and were logged.
    logged_once: BTreeSet<&'static str>,
    /// Whether a list showed a time of creation that is no whole quarter of an hour.
    shows_precise_times: bool,
    /// The generation of the admin key with which a list was read for the ends that
    /// the provider shows.
    ends_listed_with: Option<u64>,
    /// Whether the provider ends credentials earlier than its answer to their create said.
    shows_other_ends: bool,
    /// The number of times that a condition started or ended.
    change_count: u64,
    /// The time until which the provider asked not to be sent requests.
    requests_paused_until: Option<Timestamp>,
    /// The changes that are not recorded in the ledger yet.
    unrecorded: BTreeMap<ConditionKey, Option<String>>,
}

impl Conditions {
    /// Activates a condition of the daemon, and logs it unless it is active. If it is,
    /// replaces its problem by this one.
    pub fn raise(&self, condition: Condition, problem: &str) {
        self.activate((condition, None), problem);
    }

    /// Activates a condition of the daemon that lasts until the process ends, and logs it.
    /// Its problem replaces that of a passing one.
    pub fn raise_for_good(&self, condition: Condition, problem: &str) {
        let key = (condition, None);
        if self.inner().lasting.contains(&key) {
            return;
        }
        self.inner().active.remove(&key);
        self.activate(key.clone(), problem);
        self.inner().lasting.insert(key);
    }

    /// Returns whether a condition of the daemon lasts until the process ends.
    #[must_use]
    pub fn lasts(&self, condition: Condition) -> bool {
        self.inner().lasting.contains(&(condition, None))
    }

    /// Activates a condition of one scope, as [`Conditions::raise`] does.
    pub fn raise_in(&self, scope: &Scope, condition: Condition, problem: &str) {
        self.activate((condition, Some(scope.clone())), problem);
    }

    fn activate(&self, key: ConditionKey, problem: &str) {
        let mut inner = self.inner();
        if inner.lasting.contains(&key) {
            return;
        }
        if let Some(active) = inner.active.get_mut(&key) {
            if *active != problem {
                problem.clone_into(active);
                inner.unrecorded.insert(key, Some(problem.to_owned()));
            }
            return;
        }
        let condition = key.0;
        inner.change_count += 1;
        inner.active.insert(key.clone(), problem.to_owned());
        inner
            .unrecorded
            .insert(key.clone(), Some(problem.to_owned()));
        let blocked = condition.blocked_work().blocked_text();
        if condition.may_pass() {
            inner.passing_since.insert(key, None);
            tracing::warn!(condition = condition.as_str(), "{blocked}: {problem}");
        } else {
            tracing::error!(condition = condition.as_str(), "{blocked}: {problem}");
        }
    }

    /// Logs the conditions that did not pass by themselves.
    pub(crate) fn log_lasting(&self, now: Timestamp) {
        let mut inner = self.inner();
        let ConditionState {
            active,
            passing_since,
            ..
        } = &mut *inner;
        passing_since.retain(|key, since| {
            let began_at = *since.get_or_insert(now);
            let has_lasted = time::until(began_at, now) >= key.0.grace_period();
            if has_lasted && let Some(problem) = active.get(key) {
                tracing::error!(
                    condition = key.0.as_str(),
                    "{} for {}: {problem}",
                    key.0.blocked_work().blocked_past_text(),
                    duration::to_human_text(time::until(began_at, now))
                );
            }
            !has_lasted
        });
    }

    /// Ends a condition of the daemon. Returns whether it was active.
    pub fn clear(&self, condition: Condition) -> bool {
        self.deactivate((condition, None))
    }

    /// Ends a condition of one scope. Returns whether it was active.
    pub fn clear_in(&self, scope: &Scope, condition: Condition) -> bool {
        self.deactivate((condition, Some(scope.clone())))
    }

    fn deactivate(&self, key: ConditionKey) -> bool {
        let condition = key.0;
        if !self.deactivate_silently(key) {
            return false;
        }
        tracing::info!(
            condition = condition.as_str(),
            "{}; {}",
            condition.resolved_text(),
            condition.blocked_work().resumed_text()
        );
        true
    }

    fn deactivate_silently(&self, key: ConditionKey) -> bool {
        let mut inner = self.inner();
        if inner.lasting.contains(&key) || inner.active.remove(&key).is_none() {
            return false;
        }
        inner.change_count += 1;
        inner.passing_since.remove(&key);
        inner.unrecorded.insert(key, None);
        true
    }

    /// Returns the number of times that a condition started or ended.
    pub(crate) fn change_count(&self) -> u64 {
        self.inner().change_count
    }

    /// Returns the active conditions, worst first.
    #[must_use]
    pub fn active(&self) -> Vec<ActiveCondition> {
        let inner = self.inner();
        let active = inner.active.iter();
        active
            .map(|((condition, scope), problem)| ActiveCondition {
                condition: *condition,
                scope: scope.clone(),
                problem: problem.clone(),
            })
            .collect()
    }

    /// Returns the active conditions without their problems, worst first.
    pub(crate) fn active_keys(&self) -> BTreeSet<ConditionKey> {
        self.inner().active.keys().cloned().collect()
    }

    /// Returns whether no condition of the daemon forbids requests to the provider.
    #[must_use]
    pub fn is_provider_usable(&self) -> bool {
        !self.is_active(Condition::Provider) && !self.is_active(Condition::Credential)
    }

    /// Returns whether no condition is active at all.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.inner().active.is_empty()
    }

    /// Returns whether `condition` is active for the daemon.
    #[must_use]
    pub fn is_active(&self, condition: Condition) -> bool {
        self.inner().active.contains_key(&(condition, None))
    }

    /// Returns whether `condition` stops the keys of a scope.
    #[must_use]
    pub fn is_active_in(&self, scope: &Scope, condition: Condition) -> bool {
        self.inner().stops(scope, condition)
    }

    /// Returns whether a rotation of a key of this scope may start, unless a gate holds it
    /// back.
    #[must_use]
    pub fn can_start_rotation(&self, scope: &Scope) -> bool {
        let inner = self.inner();
        let mut active = inner.active.keys().filter(|key| concerns(key, scope));
        active.all(|(condition, _)| condition.blocked_work() != BlockedWork::Rotations)
    }

    /// Returns whether a rotation may start that replaces leaked credentials of a key of
    /// this scope: neither a clock that disagrees nor a list that fails delays it.
    #[must_use]
    pub fn can_replace_leaked(&self, scope: &Scope) -> bool {
        let inner = self.inner();
        let mut active = inner.active.keys().filter(|key| concerns(key, scope));
        active.all(|(condition, _)| match condition {
            Condition::Clock
            | Condition::Reconciliation
            | Condition::Quota
            | Condition::CreateRefusal
            | Condition::CreateLimit
            | Condition::ReadLimit
            | Condition::DeleteLimit => true,
            Condition::Ledger
            | Condition::Credential
            | Condition::Organization
            | Condition::Provider => false,
        })
    }

    /// Replaces the conditions that a scope has because its gate for requests of `class` is
    /// closed by the one of `cause`, and logs it unless it is active.
    pub(crate) fn raise_gate(
        &self,
        scope: &Scope,
        class: RequestClass,
        cause: GateCause,
        problem: &str,
    ) {
        let condition = cause.condition(class);
        let others = gate_conditions(class).filter(|other| *other != condition);
        for other in others {
            self.deactivate_silently((other, Some(scope.clone())));
        }
        self.raise_in(scope, condition, problem);
    }

    /// Ends the condition that a scope has because its gate for requests of `class` was
    /// closed.
    pub(crate) fn clear_gate(&self, scope: &Scope, class: RequestClass) {
        for condition in gate_conditions(class) {
            self.clear_in(scope, condition);
        }
    }

    /// Returns the gates of the scopes.
    pub(crate) const fn gates(&self) -> &Gates {
        &self.gates
    }

    /// Returns which steps are permitted for the keys of a scope.
    #[must_use]
    pub fn permits(&self, scope: &Scope) -> Permits {
        let inner = self.inner();
        Permits {
            can_use_provider: !inner.stops(scope, Condition::Provider)
                && !inner.stops(scope, Condition::Credential),
            can_trust_clock: !inner.stops(scope, Condition::Clock),
            ..Permits::ALL
        }
    }

    /// Records a response of the provider at `now`, and raises the condition of the clock
    /// if its `Date` disagrees. `monotonic` is the time by a clock that never jumps.
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

    /// Returns the provider's time: its last `Date`, and the monotonic time since. A suspend
    /// may not count.
    #[must_use]
    pub fn provider_time(&self, monotonic: Duration) -> Option<Timestamp> {
        let (date, then) = self.inner().provider_time?;
        Some(time::after(date, monotonic.saturating_sub(then)))
    }

    /// Returns the time from which an overlap that starts now counts: this host's time,
    /// or the provider's if that is ahead, because an overlap by a slow clock would end
    /// as soon as the clock is corrected. Returns none before the provider's time was
    /// observed.
    #[must_use]
    pub fn overlap_start(&self, now: Timestamp, monotonic: Duration) -> Option<Timestamp> {
        let provider_time = self.provider_time(monotonic)?;
        let is_ahead = time::until(now, provider_time) > CLOCK_RESOLUTION;
        // The provider's clock has whole seconds, and may be further ahead by one.
        let provider_time = time::after(provider_time, Duration::from_secs(1));
        Some(if is_ahead { provider_time } else { now })
    }

    /// Returns how far the provider's clock was ahead at its last response, in seconds,
    /// by a clock with whole seconds.
    #[must_use]
    pub fn clock_offset(&self) -> Option<f64> {
        self.inner().clock_offset
    }

    /// Returns whether the provider responded recently.
    #[must_use]
    pub fn has_recent_response(&self, now: Timestamp) -> bool {
        self.inner()
            .last_response_at
            .is_some_and(|at| time::until(at, now).max(time::until(now, at)) <= RESPONSE_FRESHNESS)
    }

    /// Sends the provider no probe before `at`, because it asked for that.
    pub fn pause_requests(&self, at: Timestamp) {
        let mut inner = self.inner();
        inner.requests_paused_until = inner.requests_paused_until.max(Some(at));
    }

    /// Returns until when the provider asked not to be sent requests, if that is not
    /// over.
    #[must_use]
    pub fn requests_paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.inner().requests_paused_until;
        plausible_retry(until, now).filter(|until| *until > now)
    }

    /// Forgets that the provider asked for a pause: the requests may go elsewhere now.
    pub(crate) fn resume_requests(&self) {
        self.inner().requests_paused_until = None;
    }

    /// Removes and returns the changes that must be recorded in the ledger.
    pub(crate) fn take_unrecorded(&self) -> BTreeMap<ConditionKey, Option<String>> {
        std::mem::take(&mut self.inner().unrecorded)
    }

    /// Returns whether this is the first call with `name`.
    pub(crate) fn is_first_occurrence(&self, name: &'static str) -> bool {
        self.inner().logged_once.insert(name)
    }

    /// Logs the fields of an answer whose times cannot be read, each once.
    pub(crate) fn report_unreadable_times(&self, fields: &[&'static str]) {
        for field in fields {
            if self.is_first_occurrence(field) {
                tracing::warn!(
                    "the provider's response has a credential whose {field} is unreadable or \
                     impossible; such credentials count as in use; hint: compare base-url, and \
                     any proxy in front of it, with the provider's documentation"
                );
            }
        }
    }

    /// Observes the times of creation in a list of the provider.
    pub(crate) fn observe_creation_times(&self, mut times: impl Iterator<Item = Timestamp>) {
        if times.any(is_precise) {
            self.inner().shows_precise_times = true;
        }
    }

    /// Returns whether the provider shows when credentials were created to the second.
    pub(crate) fn shows_precise_times(&self) -> bool {
        self.inner().shows_precise_times
    }

    /// Returns whether no list was read yet, with this generation of the admin key,
    /// for the ends that the provider shows. The caller reads it.
    pub(crate) fn wants_list_of_ends(&self, generation: u64) -> bool {
        self.inner().ends_listed_with.replace(generation) != Some(generation)
    }

    /// Records that this list failed, so that another one is read.
    pub(crate) fn forget_list_of_ends(&self) {
        self.inner().ends_listed_with = None;
    }

    /// Records that the provider ends credentials earlier than its answer to their create said.
    pub(crate) fn observe_other_end(&self) {
        self.inner().shows_other_ends = true;
    }

    /// Returns whether the provider ended a credential earlier than its answer to the create
    /// said.
    pub(crate) fn shows_other_ends(&self) -> bool {
        self.inner().shows_other_ends
    }

    /// Waits until no other worker diagnoses a failure.
    pub(crate) async fn lock_diagnosis(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.diagnosis_lock.lock().await
    }

    fn inner(&self) -> MutexGuard<'_, ConditionState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the conditions of a scope whose gate for `class` is closed, without repetition.
fn gate_conditions(class: RequestClass) -> impl Iterator<Item = Condition> {
    let causes = [GateCause::RateLimit, GateCause::Quota, GateCause::Refused];
    let conditions: BTreeSet<_> = causes.iter().map(|cause| cause.condition(class)).collect();
    conditions.into_iter()
}

impl ConditionState {
    fn stops(&self, scope: &Scope, condition: Condition) -> bool {
        let mut active = self.active.keys();
        active.any(|key| key.0 == condition && concerns(key, scope))
    }
}

/// Returns whether a condition stops the keys of `scope`: it belongs to the daemon or to
/// this scope.
pub(crate) fn concerns(key: &ConditionKey, scope: &Scope) -> bool {
    key.1.as_ref().is_none_or(|of_scope| of_scope == scope)
}

/// What a list shows of another organization.
pub(crate) const FOREIGN_LIST: &str = "the provider's list has none of the credentials that it had at the last \
    comparison; hint: check whether the admin key belongs to another organization; if all \
    of them were really replaced, run `rekeyd rotate --all` while the daemon runs";

/// The problem that the provider's time is unknown. The clock of this host may be right.
pub(crate) const MISSING_DATE: &str = "the provider's responses have no readable Date header, so \
    rekeyd cannot compare the clocks and revokes nothing; hint: let any proxy in front of \
    base-url keep the header";

/// Describes the difference between two clocks that disagree, or that the provider's is
/// unknown.
pub(crate) fn clock_mismatch_message(
    provider_time: Option<Timestamp>,
    host_time: Timestamp,
) -> String {
    match provider_time {
        Some(provider_time) => format!(
            "this host's clock says {}, but the provider's says {}; hint: set the clock of this \
             host",
            time::to_text(host_time),
            time::to_text(provider_time)
        ),
        None => MISSING_DATE.to_owned(),
    }
}

/// Returns the condition that the error of a harmless request with the admin key
/// means. Whatever the error, no rotation can start: even a refusal that concerns the
/// request alone shows that the provider is not used as it expects.
#[must_use]
pub const fn condition_of_error(error: &ProviderError) -> Condition {
    match error.kind {
        ErrorKind::NoCredential | ErrorKind::CredentialRefused | ErrorKind::Forbidden => {
            Condition::Credential
        }
        ErrorKind::Unreachable
        | ErrorKind::NoAnswer
        | ErrorKind::ServerError
        | ErrorKind::BadAnswer
        | ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::ScopeRefused
        | ErrorKind::RateLimited
        | ErrorKind::QuotaExhausted => Condition::Provider,
    }
}

#[cfg(test)]
mod tests;
