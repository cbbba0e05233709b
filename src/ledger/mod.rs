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

mod error;
mod group_commit;
mod lock;
mod open;
mod operator;
mod outbox;
mod preflight;
pub mod read;
pub mod reconciliation;
mod rows;
mod schedule;
mod store;
mod transition;
mod write;

pub use error::LedgerError;
pub use lock::WriterLock;
pub use open::{
    HostIdentity, LedgerIdentity, SCHEMA_VERSION, check_identity, limit_wal_size, open,
    open_for_host, open_memory,
};
pub use outbox::{OutboxEntry, PendingNotification};
pub use preflight::check_usable;
pub use reconciliation::{
    Discrepancy, Reconciliation, RemoteCredential, RemoteState, UnknownCredential,
};
pub use store::{FaultInjector, Ledger, WriterDriver};
