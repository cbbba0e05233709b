//! What a person asks of a running daemon, and how it gets there.

pub mod protocol;
pub(crate) mod server;
pub mod tracker;
