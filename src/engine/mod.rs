//! Drives rotations: which keys have something to do now, side by side as far
//! as there are places, each by the decisions of [`crate::core`].
//!
//! The engine neither sleeps nor keeps time: whoever runs it asks
//! [`Engine::next_at`] when to call [`Engine::start_due`] again. Start, wake
//! and recovery are the same code: a key is looked at, and what the ledger
//! says decides.

mod alerts;
pub mod conditions;
mod drift;
mod effects;
mod key_entry;
mod log;
mod maintenance;
mod managed_key;
pub mod observer;
pub mod operator_command;
mod places;
mod presence;
mod probe;
mod reconciliation;
mod reload;
mod rotation_request;
mod run_queue;
mod scheduler;
mod services;
mod shutdown;
mod view;
mod work;
mod worker;

pub use managed_key::ManagedKey;
pub use rotation_request::RotationRequest;
pub use scheduler::Engine;
pub use services::{RunMode, Services};
pub use view::KeyView;

#[cfg(test)]
mod tests;
