//! Deliveries by each type of sink alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/canned_server.rs"]
mod canned_server;
#[path = "../support/captured_log.rs"]
mod captured_log;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/webhook_fixture.rs"]
mod webhook_fixture;

mod command;
mod exchanged_folder;
mod file;
mod irreplaceable;
mod known_receiver;
mod receiver;
mod webhook;
mod webhook_errors;
