//! The metrics and their values.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use jiff::Timestamp;
use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Registry,
    TextEncoder,
};

use crate::alerting::channel_states::ChannelStates;
use crate::config::settings::KeySettings;
use crate::core::change::{Change, DeliveryChange, OnChangeState, RotationChange, Transition};
use crate::core::lifecycle::LifecycleEvent;
use crate::core::state::KeyState;
use crate::daemon::metrics::key_counters::KeyCounters;
use crate::daemon::metrics::key_families::{KEY_FAMILIES, KeyValues};
use crate::daemon::metrics::page::PageWriter;
use crate::daemon::metrics::process_series::ProcessSeries;
use crate::daemon::metrics::series::{options, register};
use crate::engine::ViewSnapshot;
use crate::engine::conditions::Conditions;
use crate::engine::observer::ChangeObserver;
use crate::provider::ErrorKind;

/// The upper bounds of the buckets of provider requests, in seconds: from a
/// sandbox on loopback to the longest timeout.
const DURATION_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The operations of requests to the provider.
const OPERATIONS: [&str; 6] = ["create", "check", "list", "retrieve", "verify", "delete"];

/// All metrics of a process, except those of a key's state, which are in the engine's shared
/// view.
pub(crate) struct Metrics {
    registry: Registry,
    keys: KeyCounters,
    requests: IntCounterVec,
    control_refusals: IntCounter,
    request_seconds: HistogramVec,
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
            keys: KeyCounters::default(),
            requests: register(&registry, requests)?,
            control_refusals: register(&registry, control_refusals)?,
            request_seconds: register(&registry, request_histogram()?)?,
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

    /// Has the counters of these keys and their sinks exist with 0, so that their first
    /// increase is seen.
    pub(crate) fn add_keys(&self, keys: &[KeySettings]) {
        for key in keys {
            let sinks = key.sinks.iter().map(|sink| sink.id.name.as_str());
            self.keys.add_sinks(&key.name, sinks);
        }
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

    /// Records whether the configuration file is another one than the loaded one.
    pub(crate) fn observe_config_file(&self, is_changed: bool) {
        self.process.observe_config_file(is_changed);
    }

    /// Renders a page with the values of `view`, as those at the time `now`.
    pub(crate) fn render(
        &self,
        view: &ViewSnapshot,
        conditions: &Conditions,
        now: Timestamp,
    ) -> Vec<Bytes> {
        self.process.update(&view.process, conditions);
        let values = KeyValues {
            view,
            counters: &self.keys,
            now,
        };
        let mut page = PageWriter::default();
        if let Err(error) = self.write(&mut page, &values) {
            tracing::error!("cannot render the metrics: {error}");
        }
        page.finish()
    }

    /// Writes all families in the order of their names.
    fn write(&self, page: &mut PageWriter, values: &KeyValues<'_>) -> prometheus::Result<()> {
        let encoder = TextEncoder::new();
        let mut families = self.registry.gather().into_iter().peekable();
        for of_keys in &KEY_FAMILIES {
            while let Some(family) = families.next_if(|family| family.name() < of_keys.name) {
                encoder.encode(&[family], page)?;
            }
            of_keys.write(page, values)?;
        }
        let rest: Vec<_> = families.collect();
        encoder.encode(&rest, page)
    }
}

impl ChangeObserver for Metrics {
    fn observe(&self, state: &KeyState, changes: &[Change]) {
        let key = &state.key;
        for change in changes {
            if let Change::Rotation(RotationChange::Transitioned(transition)) = change
                && let Some(outcome) = rotation_outcome(transition)
            {
                self.keys.count_rotation(key, outcome);
            }
            if let Change::Delivery(DeliveryChange::FileNarrowed(narrowed)) = change
                && narrowed.mode.exposes_secret()
            {
                self.keys.count_exposed_file(key);
            }
            // A delivery that is written but whose program has not succeeded
            // yet has no outcome.
            if let Change::Delivery(DeliveryChange::Finished(finished)) = change
                && finished.on_change != OnChangeState::Pending
            {
                self.keys
                    .count_delivery(key, &finished.sink.name, finished.state);
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
