//! The SQLite file in which every intent, credential, delivery and revocation
//! stands, and from which all of it can be told again.
//!
//! [`Ledger`] is the one writer's handle: whatever belongs together is
//! recorded together
//! ([`crate::core::change::Change`]), and nobody hears Ok before it is on disk.
//! Readers open the file on their own ([`read`]).
//!
//! Deliberately not here: any decision. What follows from what stands here is
//! in [`crate::core`].

mod ahead;
mod by_hand;
mod commit;
pub mod compare;
mod error;
mod firing;
mod handle;
mod inspect;
mod lock;
mod moves;
mod notice;
mod open;
pub mod read;
mod row;
mod write;

pub use ahead::Ahead;
pub use compare::{Compared, Finding, Listed, Seen, Stranger};
pub use error::LedgerError;
pub use handle::{Disk, Driver, Ledger};
pub use inspect::inspect;
pub use lock::WriterLock;
pub use notice::{Owed, Telling};
pub use open::{
    Identity, Machine, NEWEST_VERSION, expect, keep_log_short, open, open_memory, open_on,
};
