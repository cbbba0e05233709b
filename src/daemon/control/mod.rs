//! Requests of operators to a running daemon, and the socket that carries them.

mod command_outcome;
mod leak_wait;
mod pending_item;
mod pending_request;
pub mod protocol;
mod refusals;
pub(crate) mod server;
pub mod tracker;
