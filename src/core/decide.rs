//! The decisions about a key: pure functions of what the ledger says, what this
//! process holds in memory, and the time.

pub mod due;
pub mod next_step;
pub mod outcome;
pub mod revocation;
pub mod sink_sync;
