//! Notifications of what is wrong: which alerts are active ([`tracker`]), what
//! is queued for whom ([`outbox`], a transactional outbox in the ledger), and
//! how it is sent ([`dispatcher`], [`channel`]).

pub mod channel;
pub mod dispatcher;
pub mod outbox;
pub mod tracker;
