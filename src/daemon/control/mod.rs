//! What a person asks of a running daemon, and how it gets there.

pub mod desk;
pub(crate) mod serve;
pub mod wire;
