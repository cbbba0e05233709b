//! rekeyd rotates OpenAI organization admin keys on a schedule.
//!
//! No consumer is ever left with a dead key, no live key is ever unknown, no
//! secret is ever anywhere but in memory and at its sinks. ARCHITECTURE.md has
//! the invariants behind that sentence and the rooms below.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

// What the engine's tests share is written as if it stood outside.
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
