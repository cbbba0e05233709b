//! The SQLite file that records every intent, credential, delivery and revocation.
//!
//! [`Ledger`] is the handle of the one writer: it records the changes of a key
//! ([`crate::core::change::Change`]) in one transaction, and returns once they are on
//! disk. [`LedgerReader`] is the read side of the commands, with a connection of its
//! own. Both use domain types: no file outside this folder names the database library.
//!
//! Deliberately not here: decisions. [`crate::core`] derives them from what is
//! recorded.

mod absence;
mod archive;
mod archive_file;
mod archive_stamp;
mod backup;
mod changed_names;
mod channel_state;
mod checkpoint;
mod checkpoint_note;
mod copy_in_memory;
mod crash;
mod damage;
mod difference;
mod error;
mod fault_injector;
mod first_release;
mod foreign_object;
mod foreign_schema;
mod free_space;
mod group_commit;
mod identity;
mod idle_writer;
mod kept_file;
mod kept_writer;
mod key_names;
mod last_run;
mod ledger_file;
mod lock;
mod lock_record;
mod main_file;
mod missing_object;
mod open;
mod outbox;
mod own_content;
mod page_check;
mod paths;
mod preflight;
mod prune;
mod read;
mod read_only;
mod reader;
mod reconciliation;
mod restore;
mod rotation_request;
mod rows;
mod shared_credential;
mod snapshot_file;
mod store;
mod version;
mod watch;
mod write;
mod writer;
mod writer_message;

pub use archive::{Archive, MAX_ARCHIVED_ROTATIONS, NewArchive};
pub use archive_stamp::ArchiveStamp;
pub use backup::{NewCopy, back_up, write_copy};
pub use changed_names::ChangedNames;
pub use copy_in_memory::LedgerCopy;
pub use crash::RecordedCrashes;
pub use damage::LedgerDamage;
pub use error::{DatabaseError, LedgerError};
pub use fault_injector::FaultInjector;
pub use foreign_object::ForeignObject;
pub use free_space::disk_advice;
pub use identity::{ConfigurationIdentity, HostIdentity, LedgerIdentity};
pub use idle_writer::IdleWriter;
pub use last_run::{LastRun, SchedulingCommand};
pub use lock::WriterLock;
pub use lock_record::EndedWriter;
pub use missing_object::MissingObject;
pub use open::{LedgerOptions, SHORT_WAL_PAGES, prepare, prepare_unlocked};
pub use outbox::{
    Abandonment, FailedAttempt, NextNotification, OutboxEntry, PendingNotification, RaisedAlerts,
};
pub use paths::{lock_path, lockable_files, log_path};
pub use preflight::{LedgerNotes, PendingMigration, check_usable};
pub use prune::{ArchivedRotation, MIN_PRUNABLE_AGE, PruneBatch, PrunedRows};
pub use reader::history::{HistoryEntry, HistoryFilter, HistoryQuery};
pub use reader::operator_note::OperatorRecord;
pub use reader::{LedgerReader, LedgerSnapshot, SnapshotReason};
pub use reconciliation::{
    Discrepancy, Reconciliation, RemoteCredential, RemoteState, UnknownCredential,
};
pub use restore::operator_orders::{ChangedOrders, MissingOrder, OperatorOrder, OrderKind};
pub use restore::{KeptLedger, RestoreSource, RestoredLedger, restore};
pub use rotation_request::RecordedRequest;
pub use snapshot_file::SnapshotTarget;
pub use store::{Ledger, WriterDriver};
pub use version::SCHEMA_VERSION;
