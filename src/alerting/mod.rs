//! Notifications of people: which alerts are active ([`tracker`]), which
//! notifications are pending for which channel ([`outbox`], a transactional
//! outbox in the ledger), and how they are sent ([`dispatcher`], [`channel`]).

pub mod channel;
pub(crate) mod channel_states;
pub mod dispatcher;
pub mod outbox;
pub mod tracker;
