//! The engine, which rotates keys: it starts work on every due key, as far as places
//! are free, by the decisions of [`crate::core`].
//!
//! The engine neither sleeps nor keeps time: its caller calls [`Engine::start_due`]
//! again at [`Engine::next_at`]. Start, wake-up and recovery are one code path: the
//! engine evaluates a key, and the ledger's state decides.

mod activity;
mod alerts;
mod completions;
pub mod conditions;
mod credential_locks;
mod decision_log;
mod drift;
mod effects;
mod file_search;
mod gate_passage;
mod gates;
mod key_entry;
mod ledger_condition;
mod ledger_watch;
mod log;
mod maintenance;
mod managed_key;
mod next_work;
pub mod observer;
mod open;
pub mod operator_command;
mod operator_notice;
mod pace;
mod pending_rechecks;
mod places;
mod presence;
pub(crate) mod probe;
mod rechecks;
mod reconciliation;
mod reload;
pub mod rename;
mod requests;
mod rotation_request;
mod run_queue;
mod scheduler;
mod services;
mod shared_view;
mod sharing_keys;
mod shutdown;
mod task_set;
mod view;
mod work;
mod worker;
mod zones;

pub use managed_key::ManagedKey;
pub use rotation_request::{ReplaceApproval, RotationRequest};
pub use scheduler::Engine;
pub use services::{RunMode, Services};
pub use shared_view::{KeyFigures, ProcessFigures, SharedView, ViewSnapshot};
pub use sharing_keys::SharingKey;
pub use view::{KeyView, PendingRotation};

#[cfg(test)]
mod tests;
