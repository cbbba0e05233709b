//! What Prometheus reads, and whether rekeyd is well: `/metrics`, `/healthz`
//! and `/readyz`.
//!
//! Counters count what was recorded and what the provider was asked since the
//! process began. Everything else is asked of the engine when somebody reads,
//! by the daemon's loop: an answer is also a sign that the loop turns.

pub(crate) mod instrumented_provider;
pub(crate) mod registry;
pub(crate) mod server;
