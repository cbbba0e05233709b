//! Metrics for Prometheus and checks for load balancers: `/metrics`, `/healthz`
//! and `/readyz`.
//!
//! Counters count recorded changes and requests to the provider since the start
//! of the process. All other values come from the engine's shared view. No page
//! passes through the event loop; its heartbeat shows whether it is alive.

pub(crate) mod access;
pub(crate) mod instrumented_provider;
mod key_counters;
mod key_families;
mod page;
mod process_series;
pub(crate) mod public_problem;
pub(crate) mod registry;
mod series;
pub(crate) mod server;
mod shared_page;
