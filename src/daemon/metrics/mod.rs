//! Metrics for Prometheus and checks for load balancers: `/metrics`, `/healthz`
//! and `/readyz`.
//!
//! Counters count recorded changes and requests to the provider since the start
//! of the process. The event loop reads all other values from the engine when a
//! page is requested, so a response proves that the loop is alive.

pub(crate) mod instrumented_provider;
mod key_series;
mod process_series;
pub(crate) mod registry;
mod series;
pub(crate) mod server;
