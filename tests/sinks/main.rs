//! Deliveries, each by its sink alone.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/canned.rs"]
mod canned;
#[path = "../support/hook.rs"]
mod hook;
#[path = "../support/lines.rs"]
mod lines;
#[path = "../support/mod.rs"]
mod support;

mod command;
mod file;
mod receiver;
mod webhook;
mod webhook_errors;
