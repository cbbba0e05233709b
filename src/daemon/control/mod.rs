//! Requests of operators to a running daemon, and the socket that carries them.

pub(crate) mod authorization;
pub(crate) mod channel_test;
mod command_outcome;
pub(crate) mod cookie;
mod known_operators;
mod leak_wait;
mod ledger_readers;
pub(crate) mod log_level;
mod memberships;
mod pending_item;
mod pending_request;
pub(crate) mod proof;
pub mod protocol;
mod proven_request;
pub(crate) mod pruning;
mod refusals;
mod request_text;
pub(crate) mod server;
pub mod tracker;
