//! The gauges with a value for each key. They exist while the key is configured or has a
//! live credential.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use prometheus::core::{Atomic, GenericGaugeVec};
use prometheus::{GaugeVec, IntGaugeVec, Registry};

use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::revocation_delay::count_failing_revocations;
use crate::core::state::KeyState;
use crate::core::unmanaged::unmanaged;
use crate::daemon::metrics::series::{options, register, to_float};
use crate::engine::KeyView;

/// The gauges of all keys.
pub(super) struct KeySeries {
    credential_age: GaugeVec,
    credential_creation: GaugeVec,
    credential_expiry: GaugeVec,
    next_rotation: GaugeVec,
    overdue: IntGaugeVec,
    failing: IntGaugeVec,
    paused: IntGaugeVec,
    live_credentials: IntGaugeVec,
    held_credentials: IntGaugeVec,
    unmanaged_credentials: IntGaugeVec,
    revocations_overdue: IntGaugeVec,
    revocations_failing: IntGaugeVec,
    /// The keys that have series, each with its sinks.
    known: Mutex<BTreeMap<KeyName, BTreeSet<String>>>,
}

impl KeySeries {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let times = |name, help| register(registry, GaugeVec::new(options(name, help), &["key"])?);
        let counts = |name, help| {
            let gauge = IntGaugeVec::new(options(name, help), &["key"])?;
            register(registry, gauge)
        };
        let live_credentials = IntGaugeVec::new(
            options("live_credentials", "Live credentials by phase."),
            &["key", "phase"],
        )?;
        Ok(Self {
            credential_age: times("credential_age_seconds", "Age of the current credential.")?,
            credential_creation: times(
                "credential_created_timestamp_seconds",
                "Time at which the current credential was created.",
            )?,
            credential_expiry: times(
                "credential_expires_timestamp_seconds",
                "Expiry of the current credential; absent if it never expires.",
            )?,
            next_rotation: times(
                "next_rotation_timestamp_seconds",
                "Time of the next scheduled rotation.",
            )?,
            overdue: counts(
                "overdue",
                "Whether the key has been due for longer than its jitter and delivery-deadline.",
            )?,
            failing: counts("failing", "Whether a step of the key fails.")?,
            paused: counts(
                "paused",
                "Whether the schedule starts no rotation of the key.",
            )?,
            live_credentials: register(registry, live_credentials)?,
            held_credentials: counts("held_credentials", "Credentials that an operator holds.")?,
            unmanaged_credentials: counts(
                "unmanaged_credentials",
                "Live credentials that nothing ends, because their key is not configured.",
            )?,
            revocations_overdue: counts(
                "revocations_overdue",
                "Credentials whose revocation has been due for more than an hour.",
            )?,
            revocations_failing: counts(
                "revocations_failing",
                "Credentials whose revocation failed at the last attempt.",
            )?,
            known: Mutex::default(),
        })
    }

    /// Returns whether a key has series.
    pub(super) fn knows(&self, key: &KeyName) -> bool {
        self.lock().contains_key(key)
    }

    /// Notes a key. Returns whether it is new.
    pub(super) fn add_key(&self, key: &KeyName) -> bool {
        let mut known = self.lock();
        let is_new = !known.contains_key(key);
        if is_new {
            known.insert(key.clone(), BTreeSet::new());
        }
        is_new
    }

    /// Notes the sinks of a key, whose counters leave with the key. Returns the new ones.
    pub(super) fn add_sinks<'s>(
        &self,
        key: &KeyName,
        sinks: impl Iterator<Item = &'s str>,
    ) -> Vec<&'s str> {
        let mut known = self.lock();
        let Some(known) = known.get_mut(key) else {
            return Vec::new();
        };
        let new: Vec<_> = sinks.filter(|sink| !known.contains(*sink)).collect();
        known.extend(new.iter().map(|sink| (*sink).to_owned()));
        new
    }

    /// Removes the gauges of every key that is not `present`. Returns those keys with their
    /// sinks.
    pub(super) fn retain(&self, present: &BTreeSet<KeyName>) -> Vec<(KeyName, BTreeSet<String>)> {
        let mut known = self.lock();
        let gone: Vec<_> = known
            .keys()
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        let gone = gone.into_iter().map(|key| {
            self.remove(key.as_str());
            let sinks = known.remove(&key).unwrap_or_default();
            (key, sinks)
        });
        gone.collect()
    }

    fn remove(&self, key: &str) {
        for gauge in [
            &self.credential_age,
            &self.credential_creation,
            &self.credential_expiry,
            &self.next_rotation,
        ] {
            remove_series(gauge, key);
        }
        for gauge in [
            &self.overdue,
            &self.failing,
            &self.paused,
            &self.held_credentials,
            &self.unmanaged_credentials,
            &self.revocations_overdue,
            &self.revocations_failing,
        ] {
            remove_series(gauge, key);
        }
        for phase in live_phases() {
            // An error means that there is no such series.
            let labels = [key, phase.as_str()];
            let _ = self.live_credentials.remove_label_values(&labels);
        }
    }

    /// Sets the values of a key. One that a worker holds keeps those of its state.
    pub(super) fn update(&self, view: &KeyView<'_>, now: Timestamp) {
        let key = view.key.as_str();
        set_time(&self.next_rotation, key, view.rotates_at);
        if let Some(is_overdue) = view.is_overdue {
            set_count(&self.overdue, key, usize::from(is_overdue));
        }
        set_count(&self.failing, key, usize::from(view.is_failing));
        if let Some(count) = view.overdue_revocations {
            set_count(&self.revocations_overdue, key, count);
        }
        if let Some(state) = view.state {
            self.update_state(state, view.is_configured, now);
        }
    }

    fn update_state(&self, state: &KeyState, is_configured: bool, now: Timestamp) {
        let key = state.key.as_str();
        let current = state.current().and_then(|now| now.credential.as_ref());
        let created_at = current.and_then(|credential| credential.created_at);
        set_time(&self.credential_creation, key, created_at);
        match created_at {
            Some(created_at) => self
                .credential_age
                .with_label_values(&[key])
                .set(to_float((now.as_second() - created_at.as_second()).max(0))),
            None => remove_series(&self.credential_age, key),
        }
        let expires_at = current.and_then(|credential| credential.expires_at);
        set_time(&self.credential_expiry, key, expires_at);
        set_count(&self.paused, key, usize::from(state.is_paused(now)));
        let live = || state.live.iter().filter(|row| row.credential.is_some());
        let held = live().filter(|row| row.hold(now).is_some()).count();
        set_count(&self.held_credentials, key, held);
        let unmanaged = unmanaged(state).filter(|_| !is_configured);
        let unmanaged = unmanaged.map_or(0, |unmanaged| unmanaged.credentials.len());
        set_count(&self.unmanaged_credentials, key, unmanaged);
        set_count(
            &self.revocations_failing,
            key,
            count_failing_revocations(state),
        );
        for phase in live_phases() {
            let count = live().filter(|row| row.phase == phase).count();
            self.live_credentials
                .with_label_values(&[key, phase.as_str()])
                .set(to_count(count));
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<KeyName, BTreeSet<String>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the phases in which a rotation may have a live credential.
fn live_phases() -> impl Iterator<Item = Phase> {
    let phases = Phase::ALL.into_iter();
    phases.filter(|phase| *phase != Phase::Revoked && *phase != Phase::Failed)
}

fn set_time(gauge: &GaugeVec, key: &str, at: Option<Timestamp>) {
    match at {
        Some(at) => gauge
            .with_label_values(&[key])
            .set(to_float(at.as_second())),
        None => remove_series(gauge, key),
    }
}

fn set_count(gauge: &IntGaugeVec, key: &str, count: usize) {
    gauge.with_label_values(&[key]).set(to_count(count));
}

fn to_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Removes the series of a key, if there is one.
fn remove_series<P: Atomic>(gauge: &GenericGaugeVec<P>, key: &str) {
    // An error means that there is none.
    let _ = gauge.remove_label_values(&[key]);
}
