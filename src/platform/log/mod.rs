//! The log of a process: which lines it has ([`filter`]), their form in the journal
//! ([`journal`]), and the queue before a reader that may have stopped ([`queue`]).

pub mod filter;
pub mod format;
pub(crate) mod journal;
pub mod queue;
