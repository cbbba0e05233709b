//! What the project says of itself, held against what it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/usage.rs"]
mod usage;

mod package;
mod readme;
mod rooms;
mod transitions;
