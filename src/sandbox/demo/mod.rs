//! The parts of `rekeyd demo`: a sandbox and a receiver with the real daemon
//! between them, the folder that it is confined to, and the substitutes for the
//! sinks of a rehearsed configuration.
//!
//! Its arguments and texts are in `cli/demo`.

pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod folder;
pub(crate) mod recording;
pub(crate) mod replacements;
