//! The services that all workers of a process share.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

use crate::core::subscriptions::Subscriptions;
use crate::engine::conditions::Conditions;
use crate::engine::observer::ChangeObserver;
use crate::ledger::Ledger;
use crate::platform::clock::Clock;
use crate::platform::entropy::Entropy;
use crate::provider::Provider;

/// The services that all workers share.
#[derive(Clone)]
pub struct Services {
    /// The provider of credentials.
    pub provider: Arc<dyn Provider>,
    /// The ledger.
    pub ledger: Ledger,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and labels.
    pub entropy: Arc<dyn Entropy>,
    /// The number of keys that may send requests to the provider at once.
    pub max_in_flight: usize,
    /// The interval between regular reconciliations.
    pub reconcile_every: Duration,
    /// The conditions of the daemon.
    pub conditions: Arc<Conditions>,
    /// The observer of recorded changes.
    pub observer: Arc<dyn ChangeObserver>,
    /// The subscriptions of the notification channels.
    pub subscriptions: Arc<Subscriptions>,
    /// The lookup of a time zone by its name, for timetables in the ledger.
    pub find_zone: fn(&str) -> Option<TimeZone>,
}

/// How a process runs its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// The daemon: the schedule starts rotations, and the ledger is reconciled at
    /// start.
    Daemon,
    /// The command `once`: as the daemon, but without a reconciliation if the last one
    /// is less than `reconcile-every` ago.
    Once,
    /// An operator's command: only requests start rotations.
    Command,
    /// An operator's command that only shows what it would do: nothing else is done.
    Proposal,
}

impl RunMode {
    /// Returns whether the process executes one command of an operator.
    #[must_use]
    pub const fn is_command(self) -> bool {
        match self {
            Self::Daemon | Self::Once => false,
            Self::Command | Self::Proposal => true,
        }
    }
}
