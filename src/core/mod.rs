//! What rekeyd decides, without touching anything.
//!
//! No input or output, no clock, no randomness and no `async` in here: every
//! function takes what it needs to know and says what should be. That makes
//! the decisions testable by table, and the same in the daemon, in a
//! simulation and when the ledger is read back.

pub mod audience;
pub mod cause;
pub mod change;
pub mod command;
pub mod conclude;
pub mod due;
pub mod duration;
pub mod loopback;
pub mod names;
pub mod notice;
pub mod outside;
pub mod overdue;
pub mod policy;
pub mod problem;
pub mod record;
pub mod rotation;
pub mod schedule;
pub mod secret;
pub mod settings;
pub mod step;
pub mod time;
pub mod timetable;
