//! rekeyd rotates OpenAI organization admin keys on a schedule.
//!
//! No consumer is ever left with a dead key, no live key is ever unknown, no
//! secret is ever anywhere but in memory and at its sinks. ARCHITECTURE.md has
//! the invariants that guarantee this, and the modules below.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

// The fixtures that the engine's tests share name the crate like an external one.
#[cfg(test)]
extern crate self as rekeyd;

pub mod core;

pub mod alerting;

pub mod net;
pub mod platform;

pub mod provider;
#[cfg(feature = "demo")]
pub mod sandbox;
pub mod sink;

pub mod config;
pub mod config_reader;
pub mod ledger;

pub mod engine;

pub mod cli;
pub mod daemon;
#[cfg(test)]
#[path = "../tests/support/host.rs"]
mod test_host;
