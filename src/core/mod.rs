//! The decisions of rekeyd, as pure functions.
//!
//! This module has no input or output, no clock, no randomness and no `async`:
//! every function takes its facts as arguments and returns a decision. The tests
//! are therefore tables, and the daemon and the simulation decide alike.

pub mod active_credential;
pub mod alert;
pub mod apply;
pub mod authority;
pub mod backoff;
pub mod change;
pub mod channel_state;
pub mod command;
pub mod condition;
pub mod crash;
pub mod creation_time;
pub mod decide;
pub mod duration;
pub mod expected_secret;
pub mod first_few;
pub mod forecast;
pub mod gate;
pub mod health;
pub mod hex;
pub mod ids;
pub mod in_flight;
pub mod json;
pub mod key_shape;
pub mod label_match;
pub mod ledger_event;
pub mod lifecycle;
pub mod loopback;
pub mod notification;
pub mod os_error;
pub mod overdue;
pub mod path;
pub mod plural;
pub mod policy;
pub mod redact;
pub mod refusals;
pub mod reported_time;
pub mod revocation_delay;
pub mod schedule;
pub mod scope;
pub mod secret;
pub mod secret_digests;
pub mod secret_text;
pub mod shell;
pub mod state;
pub mod subscriptions;
pub mod time;
pub mod unmanaged;
pub mod variable_name;
