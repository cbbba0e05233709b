//! What all metrics have in common.

use prometheus::core::Collector;
use prometheus::{Opts, Registry};

/// Returns the options of a metric whose name begins with the program's.
pub(super) fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("rekeyd_{name}"), help)
}

/// Registers a metric, and returns it.
pub(super) fn register<M>(registry: &Registry, metric: M) -> prometheus::Result<M>
where
    M: Collector + Clone + 'static,
{
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Converts seconds for Prometheus, which has no integers.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn to_float(seconds: i64) -> f64 {
    seconds as f64
}
