//! The metrics and their values.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::alerting::channel_states::ChannelStates;
use crate::core::change::{Change, DeliveryChange, OnChangeState, RotationChange, Transition};
use crate::core::ids::KeyName;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::{DeliveryState, KeyState};
use crate::daemon::metrics::key_series::KeySeries;
use crate::daemon::metrics::process_series::ProcessSeries;
use crate::daemon::metrics::series::{options, register};
use crate::engine::observer::ChangeObserver;
use crate::engine::{Engine, KeyView};
use crate::provider::ErrorKind;

/// The upper bounds of the buckets of provider requests, in seconds: from a
/// sandbox on loopback to the longest timeout.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The operations of requests to the provider.
const OPERATIONS: [&str; 6] = ["create", "check", "list", "retrieve", "verify", "delete"];

/// The outcomes of rotations.
const ROTATION_OUTCOMES: [&str; 4] = ["current", "failed", "orphaned", "stranded"];

/// The outcomes of deliveries.
const DELIVERY_OUTCOMES: [DeliveryState; 3] = [
    DeliveryState::Accepted,
    DeliveryState::Refused,
    DeliveryState::Uncertain,
];

/// All metrics of a process.
pub(crate) struct Metrics {
    registry: Registry,
    rotations: IntCounterVec,
    deliveries: IntCounterVec,
    requests: IntCounterVec,
    control_refusals: IntCounter,
    request_seconds: HistogramVec,
    keys: KeySeries,
    process: ProcessSeries,
}

impl Metrics {
    /// Returns metrics without any value.
    ///
    /// # Errors
    /// If two metrics have one name: a bug in this file.
    pub(crate) fn new(
        channel_states: Arc<ChannelStates>,
        now: Timestamp,
    ) -> prometheus::Result<Self> {
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
        Ok(Self {
            rotations: register(&registry, rotations)?,
            deliveries: register(&registry, deliveries)?,
            requests: register(&registry, requests)?,
            control_refusals: register(&registry, control_refusals)?,
            request_seconds: register(&registry, request_histogram()?)?,
            keys: KeySeries::new(&registry)?,
            process: ProcessSeries::new(&registry, channel_states, now)?,
            registry,
        }
        .with_requests())
    }

    /// Returns the metrics with 0 for each operation and outcome of requests.
    fn with_requests(self) -> Self {
        for operation in OPERATIONS {
            self.request_seconds.with_label_values(&[operation]);
            let outcomes = ErrorKind::ALL.iter().map(|kind| kind.as_str());
            for outcome in std::iter::once("ok").chain(outcomes) {
                self.requests.with_label_values(&[operation, outcome]);
            }
        }
        self
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

    /// Records whether a configuration that was read was accepted: at the start, and at each
    /// reload.
    pub(crate) fn observe_reload(&self, is_accepted: bool, at: Timestamp) {
        self.process.observe_reload(is_accepted, at);
    }

    /// Renders the page with the present values. A key that a worker holds
    /// keeps the values of the last page.
    pub(crate) fn render(&self, engine: &Engine) -> String {
        let mut present = BTreeSet::new();
        for view in engine.key_views() {
            let is_alive = view.state.map(has_live_credential);
            if view.is_configured || is_alive.unwrap_or_else(|| self.keys.knows(view.key)) {
                present.insert(view.key.clone());
                self.update_key(engine, &view);
            }
        }
        for key in self.keys.retain(&present) {
            self.remove_counters(&key);
        }
        self.process.update(engine);
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!("cannot render the metrics: {error}");
        }
        String::from_utf8(page).unwrap_or_default()
    }

    /// Updates the values of one key. Its counters exist with 0 from the start, so that their
    /// first increase is seen.
    fn update_key(&self, engine: &Engine, view: &KeyView<'_>) {
        let key = view.key.as_str();
        if self.keys.add_key(view.key) {
            for outcome in ROTATION_OUTCOMES {
                self.rotations.with_label_values(&[key, outcome]);
            }
        }
        for sink in self.keys.add_sinks(view.key, engine.sink_names(view.key)) {
            for outcome in DELIVERY_OUTCOMES {
                self.deliveries
                    .with_label_values(&[key, sink, outcome.as_str()]);
            }
        }
        self.keys.update(view, engine.now());
    }

    /// Removes the counters of a key that has no live credential any more.
    fn remove_counters(&self, (key, sinks): &(KeyName, BTreeSet<String>)) {
        // An error means that there is no such series.
        for outcome in ROTATION_OUTCOMES {
            let _ = self.rotations.remove_label_values(&[key.as_str(), outcome]);
        }
        for sink in sinks {
            for outcome in DELIVERY_OUTCOMES {
                let labels = [key.as_str(), sink, outcome.as_str()];
                let _ = self.deliveries.remove_label_values(&labels);
            }
        }
    }
}

/// Returns whether a key has a live credential.
fn has_live_credential(state: &KeyState) -> bool {
    state.live.iter().any(|row| row.credential.is_some())
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
