//! What rekeyd decides, without touching anything.
//!
//! No input or output, no clock, no randomness and no `async` in here: every
//! function takes what it needs to know and says what should be. That makes
//! the decisions testable by table, and the same in the daemon, in a
//! simulation and when the ledger is read back.

pub mod alert;
pub mod apply;
pub mod backoff;
pub mod change;
pub mod command;
pub mod condition;
pub mod decide;
pub mod duration;
pub mod health;
pub mod hex;
pub mod ids;
pub mod in_flight;
pub mod lifecycle;
pub mod loopback;
pub mod notification;
pub mod overdue;
pub mod policy;
pub mod redact;
pub mod schedule;
pub mod scope;
pub mod secret;
pub mod state;
pub mod subscriptions;
pub mod time;
