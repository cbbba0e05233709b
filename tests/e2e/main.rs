//! The program as its users have it: its commands, its daemon, what they print.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs
)]

#[path = "../support/adapter.rs"]
mod adapter;
#[path = "../support/function_server.rs"]
mod function_server;
#[path = "../support/mod.rs"]
mod support;

mod after;
mod by_hand;
mod check;
mod control;
mod daemon;
mod end_to_end;
mod ledger_unwritable;
mod log;
mod metrics;
mod notify;
mod once;
mod own_credential;
mod rehearse;
mod repair;
mod sandbox_command;
mod schedule_command;
mod secrets;
mod status;
