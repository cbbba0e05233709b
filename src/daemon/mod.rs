//! The long-running service: start order, wake, signals, stop.

mod as_user;
mod asking;
mod carriers;
pub mod control;
pub mod credential;
mod leftovers;
mod manager;
pub(crate) mod metrics;
pub mod process;
pub mod reload;
pub mod service;
pub mod signals;
pub mod start;
pub mod wake;
