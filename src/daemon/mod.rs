//! The long-running service: start order, event loop, signals, shutdown.

mod admin_key;
pub(crate) mod config_changes;
pub(crate) mod config_effects;
mod config_watch;
pub mod control;
mod crash_report;
pub mod error;
pub mod event_loop;
pub mod exposure;
pub mod hardening;
mod heartbeat;
mod inbox;
pub mod key_names;
pub(crate) mod ledger_access;
mod ledger_credentials;
pub(crate) mod listeners;
pub(crate) mod metrics;
pub(crate) mod own_files;
pub mod ownership;
pub(crate) mod probes;
pub mod reload;
pub mod runtime;
mod service_manager;
pub(crate) mod socket_file;
mod temp_cleanup;
pub mod ticker;
