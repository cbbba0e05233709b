//! The metrics, and how they are filled.

use std::time::Duration;

use prometheus::core::{Atomic, GenericGaugeVec};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::core::change::{Change, Moved};
use crate::core::record::KeyState;
use crate::core::rotation::{Event, Phase};
use crate::engine::Engine;
use crate::engine::observe::Observer;

/// The upper ends of the buckets for the provider's answers, in seconds: from
/// a sandbox on loopback to the longest timeout.
const SECONDS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Everything that is counted and shown.
pub(crate) struct Metrics {
    registry: Registry,
    rotations: IntCounterVec,
    deliveries: IntCounterVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    age: GaugeVec,
    expires: GaugeVec,
    next: GaugeVec,
    overdue: IntGaugeVec,
    live: IntGaugeVec,
    clock_offset: Gauge,
    last_sweep: Gauge,
}

impl Metrics {
    /// Nothing has been counted.
    ///
    /// # Errors
    /// Two metrics have one name: a mistake in this file.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(format!("rekeyd_{name}"), help);
        let build = IntGaugeVec::new(
            opts("build_info", "The version that runs; always 1."),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            registry: Registry::new(),
            rotations: IntCounterVec::new(
                opts(
                    "rotations_total",
                    "Rotations that ended, by what became of their credential.",
                ),
                &["key", "outcome"],
            )?,
            deliveries: IntCounterVec::new(
                opts("deliveries_total", "Deliveries that were answered, or not."),
                &["key", "sink", "outcome"],
            )?,
            requests: IntCounterVec::new(
                opts("provider_requests_total", "What the provider was asked."),
                &["operation", "outcome"],
            )?,
            request_seconds: HistogramVec::new(
                HistogramOpts::new(
                    "rekeyd_provider_request_duration_seconds",
                    "How long the provider took.",
                )
                .buckets(SECONDS.to_vec()),
                &["operation"],
            )?,
            age: GaugeVec::new(
                opts(
                    "credential_age_seconds",
                    "How old the current credential is.",
                ),
                &["key"],
            )?,
            expires: GaugeVec::new(
                opts(
                    "credential_expires_timestamp_seconds",
                    "When the current credential ends by itself; none if it does not.",
                ),
                &["key"],
            )?,
            next: GaugeVec::new(
                opts(
                    "next_rotation_timestamp_seconds",
                    "When the key is rotated next by schedule.",
                ),
                &["key"],
            )?,
            overdue: IntGaugeVec::new(
                opts(
                    "overdue",
                    "Whether the key has been due for longer than its jitter and deliver-for.",
                ),
                &["key"],
            )?,
            live: IntGaugeVec::new(
                opts("live_credentials", "Credentials that are alive, by phase."),
                &["key", "phase"],
            )?,
            clock_offset: Gauge::with_opts(opts(
                "clock_offset_seconds",
                "How far the provider's clock was ahead when it was last heard.",
            ))?,
            last_sweep: Gauge::with_opts(opts(
                "last_sweep_timestamp_seconds",
                "When every row was last compared with the provider; 0 if never.",
            ))?,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(build))?;
        registry.register(Box::new(metrics.rotations.clone()))?;
        registry.register(Box::new(metrics.deliveries.clone()))?;
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.request_seconds.clone()))?;
        registry.register(Box::new(metrics.age.clone()))?;
        registry.register(Box::new(metrics.expires.clone()))?;
        registry.register(Box::new(metrics.next.clone()))?;
        registry.register(Box::new(metrics.overdue.clone()))?;
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.clock_offset.clone()))?;
        registry.register(Box::new(metrics.last_sweep.clone()))?;
        Ok(metrics)
    }

    /// Notes one request to the provider.
    pub(crate) fn asked(&self, operation: &str, outcome: &str, took: Duration) {
        self.requests.with_label_values(&[operation, outcome]).inc();
        self.request_seconds
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
    }

    /// The page, with how everything stands now. Of a key that is being worked
    /// on, what was shown before is shown again.
    pub(crate) fn page(&self, engine: &Engine) -> String {
        for view in engine.views() {
            let key = view.key.as_str();
            if let Some(at) = view.rotates_at {
                set(&self.next, key, at.as_second());
            } else {
                forget(&self.next, key);
            }
            if let Some(overdue) = view.overdue {
                self.overdue
                    .with_label_values(&[key])
                    .set(i64::from(overdue));
            }
            if let Some(state) = view.state {
                self.show(state, engine.now().as_second());
            }
            if !view.is_configured {
                // Nobody is paged for what nobody is to put right.
                forget(&self.overdue, key);
                forget(&self.expires, key);
            }
        }
        self.clock_offset.set(engine.clock_offset().unwrap_or(0.0));
        let swept = engine.last_sweep().map_or(0, |at| at.as_second());
        self.last_sweep.set(to_float(swept));
        let mut page = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut page) {
            tracing::error!("the metrics cannot be written: {error}");
        }
        String::from_utf8(page).unwrap_or_default()
    }

    fn show(&self, state: &KeyState, now: i64) {
        let key = state.key.as_str();
        let current = state.current().and_then(|now| now.credential.as_ref());
        match current.and_then(|credential| credential.created_at) {
            Some(born) => set(&self.age, key, (now - born.as_second()).max(0)),
            None => forget(&self.age, key),
        }
        match current.and_then(|credential| credential.expires_at) {
            Some(end) => set(&self.expires, key, end.as_second()),
            None => forget(&self.expires, key),
        }
        for phase in Phase::ALL {
            if phase == Phase::Revoked || phase == Phase::Failed {
                continue;
            }
            let of_phase = |rotation: &&crate::core::record::Rotation| {
                rotation.phase == phase && rotation.credential.is_some()
            };
            let count = state.live.iter().filter(of_phase).count();
            self.live
                .with_label_values(&[key, phase.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl Observer for Metrics {
    fn recorded(&self, state: &KeyState, changes: &[Change]) {
        let key = state.key.as_str();
        for change in changes {
            if let Change::Moved(moved) = change
                && let Some(outcome) = outcome_of(moved)
            {
                self.rotations.with_label_values(&[key, outcome]).inc();
            }
            // What has been written and is only followed by a program yet has
            // not been answered.
            if let Change::Answered(answered) = change
                && !(answered.written && answered.error.is_none())
            {
                let labels = [key, &answered.sink.name, answered.state.as_str()];
                self.deliveries.with_label_values(&labels).inc();
            }
        }
    }
}

/// What became of a rotation, if this is where it ended.
fn outcome_of(moved: &Moved) -> Option<&'static str> {
    match moved.event {
        Event::Delivered => Some("current"),
        Event::NotDone | Event::LabelNotFound => Some("failed"),
        Event::SecretLost | Event::LabelFound | Event::Refused | Event::GivenUp => Some("orphaned"),
        Event::LabelFoundAfterRestart | Event::GivenUpDelivering | Event::FoundOpen => {
            Some("stranded")
        }
        Event::Due
        | Event::Created
        | Event::Worked
        | Event::Superseded
        | Event::Replaced
        | Event::Deleted
        | Event::Gone
        | Event::RevokedByHand
        | Event::SeenAlive
        | Event::Adopted
        | Event::AdoptedBesides => None,
    }
}

fn set(gauge: &GaugeVec, key: &str, seconds: i64) {
    gauge.with_label_values(&[key]).set(to_float(seconds));
}

fn forget<P: Atomic>(gauge: &GenericGaugeVec<P>, key: &str) {
    // There may have been none.
    let _ = gauge.remove_label_values(&[key]);
}

/// Prometheus knows only floats; seconds of this age of the world fit.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn to_float(seconds: i64) -> f64 {
    seconds as f64
}
