//! The decisions about a key: pure functions of the ledger's state, of what this
//! process holds in memory, and of the time.

pub mod create_answer;
pub mod created_times;
pub mod due;
pub mod explanation;
pub mod key_names;
pub mod next_step;
pub mod outcome;
pub mod revocation;
pub mod secret_source;
pub mod shown_end;
pub mod sightings;
pub mod sink_sync;
