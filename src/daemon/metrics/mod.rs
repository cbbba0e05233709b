//! Metrics for Prometheus and checks for load balancers: `/metrics`, `/healthz`
//! and `/readyz`.
//!
//! Counters count recorded changes and requests to the provider since the start
//! of the process. All other values are read from the engine by the event loop
//! when a page is requested: a response proves that the loop is alive.

pub(crate) mod instrumented_provider;
pub(crate) mod registry;
pub(crate) mod server;
