//! The metrics and their values.

use std::time::Duration;

use prometheus::core::{Atomic, Collector, GenericGaugeVec};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::core::change::{Change, DeliveryChange, OnChangeState, RotationChange, Transition};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::state::KeyState;
use crate::engine::Engine;
use crate::engine::observer::ChangeObserver;
use crate::platform::log::queue;

/// The upper bounds of the buckets of provider requests, in seconds: from a
/// sandbox on loopback to the longest timeout.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// All metrics of a process.
pub(crate) struct Metrics {
    registry: Registry,
    rotations: IntCounterVec,
    deliveries: IntCounterVec,
    requests: IntCounterVec,
    control_refusals: IntCounter,
    dropped_log_lines: IntCounter,
    request_seconds: HistogramVec,
    keys: KeyGauges,
    clock_offset: Gauge,
    last_reconciliation: Gauge,
}

/// The gauges with a value for each key.
struct KeyGauges {
    credential_age: GaugeVec,
    credential_expiry: GaugeVec,
    next_rotation: GaugeVec,
    overdue: IntGaugeVec,
    live_credentials: IntGaugeVec,
}

impl Metrics {
    /// Returns metrics without any value.
    ///
    /// # Errors
    /// If two metrics have one name: a bug in this file.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build_info = IntGaugeVec::new(
            options("build_info", "The version of rekeyd as a label; always 1."),
            &["version"],
        )?;
        register(&registry, build_info)?
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let rotations = IntCounterVec::new(
            options("rotations_total", "Finished rotations by outcome."),
            &["key", "outcome"],
        )?;
        let deliveries = IntCounterVec::new(
            options("deliveries_total", "Deliveries by outcome."),
            &["key", "sink", "outcome"],
        )?;
        let requests = IntCounterVec::new(
            options(
                "provider_requests_total",
                "Requests to the provider by operation and outcome.",
            ),
            &["operation", "outcome"],
        )?;
        let control_refusals = IntCounter::with_opts(options(
            "control_refusals_total",
            "Requests and connections that the control socket refused.",
        ))?;
        let dropped_log_lines = IntCounter::with_opts(options(
            "log_lines_dropped_total",
            "Log lines that were dropped because nothing read the log.",
        ))?;
        Ok(Self {
            rotations: register(&registry, rotations)?,
            deliveries: register(&registry, deliveries)?,
            requests: register(&registry, requests)?,
            control_refusals: register(&registry, control_refusals)?,
            dropped_log_lines: register(&registry, dropped_log_lines)?,
            request_seconds: register(&registry, request_histogram()?)?,
            keys: KeyGauges::new(&registry)?,
            clock_offset: register(&registry, clock_offset_gauge()?)?,
            last_reconciliation: register(&registry, last_reconciliation_gauge()?)?,
            registry,
        })
    }

    /// Returns the counter of what the control socket refuses.
    pub(crate) fn control_refusals(&self) -> IntCounter {
        self.control_refusals.clone()
    }

    /// Counts and times one request to the provider.
    pub(crate) fn observe_request(&self, operation: &str, outcome: &str, duration: Duration) {
        self.requests.with_label_values(&[operation, outcome]).inc();
        self.request_seconds
            .with_label_values(&[operation])
            .observe(duration.as_secs_f64());
    }

    /// Renders the page with the present values. A key that a worker holds
    /// keeps the values of the last page.
    pub(crate) fn render(&self, engine: &Engine) -> String {
        for view in engine.key_views() {
            let key = view.key.as_str();
            if let Some(at) = view.rotates_at {
                set_seconds(&self.keys.next_rotation, key, at.as_second());
            } else {
                remove_series(&self.keys.next_rotation, key);
            }
            if let Some(overdue) = view.is_overdue {
                self.keys
                    .overdue
                    .with_label_values(&[key])
                    .set(i64::from(overdue));
            }
            if let Some(state) = view.state {
                self.keys.update(state, engine.now().as_second());
            }
            if !view.is_configured {
                // An alert on these would never clear for a key that is not configured.
                remove_series(&self.keys.overdue, key);
                remove_series(&self.keys.credential_expiry, key);
            }
        }
        self.clock_offset.set(engine.clock_offset().unwrap_or(0.0));
        let reconciled_at = engine.last_reconciliation().map_or(0, |at| at.as_second());
        self.last_reconciliation.set(to_float(reconciled_at));
        let dropped = queue::dropped_lines();
        let counted = self.dropped_log_lines.get();
        self.dropped_log_lines
            .inc_by(dropped.saturating_sub(counted));
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!("cannot render the metrics: {error}");
        }
        String::from_utf8(page).unwrap_or_default()
    }
}

impl KeyGauges {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let of_key = |name, help| {
            let gauge = GaugeVec::new(options(name, help), &["key"])?;
            register(registry, gauge)
        };
        let overdue = IntGaugeVec::new(
            options(
                "overdue",
                "Whether the key has been due for longer than its jitter and delivery-deadline.",
            ),
            &["key"],
        )?;
        let live_credentials = IntGaugeVec::new(
            options("live_credentials", "Live credentials by phase."),
            &["key", "phase"],
        )?;
        Ok(Self {
            credential_age: of_key("credential_age_seconds", "Age of the current credential.")?,
            credential_expiry: of_key(
                "credential_expires_timestamp_seconds",
                "Expiry of the current credential; absent if it never expires.",
            )?,
            next_rotation: of_key(
                "next_rotation_timestamp_seconds",
                "Time of the next scheduled rotation.",
            )?,
            overdue: register(registry, overdue)?,
            live_credentials: register(registry, live_credentials)?,
        })
    }

    fn update(&self, state: &KeyState, now: i64) {
        let key = state.key.as_str();
        let current = state.current().and_then(|now| now.credential.as_ref());
        match current.and_then(|credential| credential.created_at) {
            Some(created_at) => set_seconds(
                &self.credential_age,
                key,
                (now - created_at.as_second()).max(0),
            ),
            None => remove_series(&self.credential_age, key),
        }
        match current.and_then(|credential| credential.expires_at) {
            Some(expires_at) => set_seconds(&self.credential_expiry, key, expires_at.as_second()),
            None => remove_series(&self.credential_expiry, key),
        }
        for phase in Phase::ALL {
            if phase == Phase::Revoked || phase == Phase::Failed {
                continue;
            }
            let is_in_phase = |rotation: &&crate::core::state::Rotation| {
                rotation.phase == phase && rotation.credential.is_some()
            };
            let count = state.live.iter().filter(is_in_phase).count();
            self.live_credentials
                .with_label_values(&[key, phase.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl ChangeObserver for Metrics {
    fn observe(&self, state: &KeyState, changes: &[Change]) {
        let key = state.key.as_str();
        for change in changes {
            if let Change::Rotation(RotationChange::Transitioned(transition)) = change
                && let Some(outcome) = rotation_outcome(transition)
            {
                self.rotations.with_label_values(&[key, outcome]).inc();
            }
            // A delivery that is written but whose program has not succeeded
            // yet has no outcome.
            if let Change::Delivery(DeliveryChange::Finished(finished)) = change
                && finished.on_change != OnChangeState::Pending
            {
                let labels = [key, &finished.sink.name, finished.state.as_str()];
                self.deliveries.with_label_values(&labels).inc();
            }
        }
    }
}

/// Returns the outcome of a rotation, if `transition` ends it.
fn rotation_outcome(transition: &Transition) -> Option<&'static str> {
    match transition.event {
        LifecycleEvent::Delivered => Some("current"),
        LifecycleEvent::NotCreated | LifecycleEvent::LabelNotFound => Some("failed"),
        LifecycleEvent::SecretLost
        | LifecycleEvent::LabelFound
        | LifecycleEvent::VerificationFailed
        | LifecycleEvent::Abandoned => Some("orphaned"),
        LifecycleEvent::LabelFoundAfterRestart
        | LifecycleEvent::AbandonedDuringDelivery
        | LifecycleEvent::Interrupted => Some("stranded"),
        LifecycleEvent::Started
        | LifecycleEvent::Created
        | LifecycleEvent::Verified
        | LifecycleEvent::Superseded
        | LifecycleEvent::Replaced
        | LifecycleEvent::RetiredWithKey
        | LifecycleEvent::Deleted
        | LifecycleEvent::FoundDeleted
        | LifecycleEvent::RevokedManually
        | LifecycleEvent::FoundAlive
        | LifecycleEvent::Adopted
        | LifecycleEvent::AdoptedAlongside => None,
    }
}

fn request_histogram() -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(
        "rekeyd_provider_request_duration_seconds",
        "Duration of requests to the provider.",
    );
    HistogramVec::new(options.buckets(DURATION_BUCKETS.to_vec()), &["operation"])
}

fn clock_offset_gauge() -> prometheus::Result<Gauge> {
    Gauge::with_opts(options(
        "clock_offset_seconds",
        "Lead of the provider's clock at its last response.",
    ))
}

fn last_reconciliation_gauge() -> prometheus::Result<Gauge> {
    Gauge::with_opts(options(
        "last_sweep_timestamp_seconds",
        "Time of the last complete reconciliation with the provider; 0 if there was none.",
    ))
}

/// Returns the options of a metric whose name begins with the program's.
fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("rekeyd_{name}"), help)
}

/// Registers a metric, and returns it.
fn register<M>(registry: &Registry, metric: M) -> prometheus::Result<M>
where
    M: Collector + Clone + 'static,
{
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn set_seconds(gauge: &GaugeVec, key: &str, seconds: i64) {
    gauge.with_label_values(&[key]).set(to_float(seconds));
}

fn remove_series<P: Atomic>(gauge: &GenericGaugeVec<P>, key: &str) {
    // An error means that there was no such series.
    let _ = gauge.remove_label_values(&[key]);
}

/// Converts seconds for Prometheus, which has no integers.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn to_float(seconds: i64) -> f64 {
    seconds as f64
}
