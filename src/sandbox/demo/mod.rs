//! What `rekeyd demo` works with: a sandbox and a receiver with the real daemon
//! between them, a folder that it keeps to, and what stands for the sinks of a
//! configuration that is rehearsed.
//!
//! Arguments and texts are in `cli/demo`.

pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod folder;
pub(crate) mod recording;
pub(crate) mod replacements;
