//! The metrics of the process as a whole: its conditions, its ledger, its configuration, its
//! notification channels and its log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::{Gauge, IntCounter, IntGauge, IntGaugeVec, Opts, Registry};

use crate::alerting::channel_states::ChannelStates;
use crate::core::condition::{BlockedWork, Condition, ListenerProblem};
use crate::core::scope::Scope;
use crate::daemon::metrics::series::{options, register, to_float};
use crate::engine::ProcessFigures;
use crate::engine::conditions::Conditions;
use crate::platform::log::queue;

/// The label of a condition that belongs to the daemon and to no scope.
const DAEMON: &str = "daemon";

/// The label of a configuration in the file that was not taken.
const CONFIGURATION: &str = "configuration";

/// What a condition blocks that has no consequences for keys.
const NOTHING: &str = "nothing";

/// The labels of a condition: its name, its scope, and what it blocks.
type ConditionLabels = (String, String, &'static str);

/// The metrics of the process.
pub(super) struct ProcessSeries {
    clock_offset: Gauge,
    last_reconciliation: Gauge,
    conditions: IntGaugeVec,
    ledger_size: IntGauge,
    last_reload: Gauge,
    is_reload_accepted: IntGauge,
    has_changed_file: IntGauge,
    dropped_log_lines: IntCounter,
    undelivered: IntGaugeVec,
    channels_failing: IntGaugeVec,
    channel_states: Arc<ChannelStates>,
    known: Mutex<KnownLabels>,
}

/// The labels that have series.
#[derive(Default)]
struct KnownLabels {
    conditions: BTreeSet<ConditionLabels>,
    channels: BTreeSet<String>,
}

impl ProcessSeries {
    pub(super) fn new(
        registry: &Registry,
        channel_states: Arc<ChannelStates>,
        now: Timestamp,
    ) -> prometheus::Result<Self> {
        let gauge = |name, help| register(registry, Gauge::with_opts(options(name, help))?);
        let count = |name, help| register(registry, IntGauge::with_opts(options(name, help))?);
        let labelled = |name, help, labels: &[&str]| {
            register(registry, IntGaugeVec::new(options(name, help), labels)?)
        };
        let start = Opts::new(
            "process_start_time_seconds",
            "Start time of the process, as a Unix time.",
        );
        register(registry, Gauge::with_opts(start)?)?.set(to_float(now.as_second()));
        let dropped = IntCounter::with_opts(options(
            "log_lines_dropped_total",
            "Log lines that were dropped because nothing read the log.",
        ))?;
        let series = Self {
            clock_offset: gauge(
                "clock_offset_seconds",
                "Lead of the provider's clock at its last response.",
            )?,
            last_reconciliation: gauge(
                "last_sweep_timestamp_seconds",
                "Time of the last complete reconciliation with the provider; 0 if there was none.",
            )?,
            conditions: labelled(
                "condition",
                "Whether a condition is active, and what it blocks.",
                &["condition", "scope", "blocks"],
            )?,
            ledger_size: count("ledger_size_bytes", "Size of the ledger and its log.")?,
            last_reload: gauge(
                "config_last_reload_timestamp_seconds",
                "Time at which the configuration was last read, at the start or by a reload.",
            )?,
            is_reload_accepted: count(
                "config_last_reload_successful",
                "Whether the configuration that was last read was accepted.",
            )?,
            has_changed_file: count(
                "config_file_changed",
                "Whether the configuration file is another one than the one in use.",
            )?,
            dropped_log_lines: register(registry, dropped)?,
            undelivered: labelled(
                "notifications_undelivered",
                "Notifications that the receiver of a channel has not accepted.",
                &["channel"],
            )?,
            channels_failing: labelled(
                "notification_channel_failing",
                "Whether the last attempt of a notification channel failed.",
                &["channel"],
            )?,
            channel_states,
            known: Mutex::default(),
        };
        series.observe_reload(true, now);
        Ok(series)
    }

    pub(super) fn observe_reload(&self, is_accepted: bool, at: Timestamp) {
        self.last_reload.set(to_float(at.as_second()));
        self.is_reload_accepted.set(i64::from(is_accepted));
        if is_accepted {
            self.observe_config_file(false);
        }
    }

    pub(super) fn observe_config_file(&self, is_changed: bool) {
        self.has_changed_file.set(i64::from(is_changed));
    }

    /// Sets the present values.
    pub(super) fn update(&self, figures: &ProcessFigures, conditions: &Conditions) {
        self.clock_offset
            .set(conditions.clock_offset().unwrap_or(0.0));
        let reconciled_at = figures.last_reconciliation.map_or(0, |at| at.as_second());
        self.last_reconciliation.set(to_float(reconciled_at));
        if let Some(size) = figures.ledger_size {
            self.ledger_size
                .set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        let dropped = queue::dropped_lines();
        let counted = self.dropped_log_lines.get();
        self.dropped_log_lines
            .inc_by(dropped.saturating_sub(counted));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let active = active_conditions(figures, conditions);
        self.update_conditions(&active, &mut known.conditions);
        self.update_channels(&mut known.channels);
    }

    /// Sets each condition that every process may have, and each of a scope that was ever active.
    fn update_conditions(
        &self,
        active: &BTreeSet<ConditionLabels>,
        known: &mut BTreeSet<ConditionLabels>,
    ) {
        known.extend(usual_conditions());
        known.extend(active.iter().cloned());
        for labels in &*known {
            let (name, scope, blocks) = labels;
            self.conditions
                .with_label_values(&[name.as_str(), scope.as_str(), *blocks])
                .set(i64::from(active.contains(labels)));
        }
    }

    fn update_channels(&self, known: &mut BTreeSet<String>) {
        let states = self.channel_states.by_name();
        known.retain(|name| {
            let is_configured = states.contains_key(name);
            if !is_configured {
                // An error means that there is no such series.
                let _ = self.undelivered.remove_label_values(&[name]);
                let _ = self.channels_failing.remove_label_values(&[name]);
            }
            is_configured
        });
        for (name, state) in states {
            self.undelivered
                .with_label_values(&[&name])
                .set(i64::try_from(state.undelivered).unwrap_or(i64::MAX));
            self.channels_failing
                .with_label_values(&[&name])
                .set(i64::from(state.failure.is_some()));
            known.insert(name);
        }
    }
}

/// Returns the conditions that every process may have: those of the daemon, and those of the
/// scope that every configuration has.
fn usual_conditions() -> impl Iterator<Item = ConditionLabels> {
    let conditions = Condition::ALL.into_iter().map(|condition| {
        let work = condition.blocked_work();
        // What blocks a part of the work is a gate, which belongs to a scope.
        let scope = (work != BlockedWork::Rotations).then_some(Scope::AdminKeys);
        labels(condition.as_str(), scope.as_ref(), work.as_str())
    });
    let listeners = ListenerProblem::ALL.into_iter();
    let listeners = listeners.map(|listener| labels(listener.as_str(), None, NOTHING));
    conditions
        .chain(listeners)
        .chain([labels(CONFIGURATION, None, NOTHING)])
}

fn active_conditions(
    figures: &ProcessFigures,
    conditions: &Conditions,
) -> BTreeSet<ConditionLabels> {
    let conditions = conditions.active().into_iter().map(|active| {
        let blocks = active.condition.blocked_work().as_str();
        labels(active.condition.as_str(), active.scope.as_ref(), blocks)
    });
    let listeners = figures.listener_problems.iter();
    let listeners = listeners.map(|listener| labels(listener.as_str(), None, NOTHING));
    let is_rejected = figures.is_configuration_rejected;
    let rejected = is_rejected.then(|| labels(CONFIGURATION, None, NOTHING));
    conditions.chain(listeners).chain(rejected).collect()
}

fn labels(name: &str, scope: Option<&Scope>, blocks: &'static str) -> ConditionLabels {
    let scope = scope.map_or_else(|| DAEMON.to_owned(), Scope::to_string);
    (name.to_owned(), scope, blocks)
}
