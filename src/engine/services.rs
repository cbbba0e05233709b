//! What all workers of a process share.

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

/// The services that all keys share.
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
    /// How many keys send requests to the provider at once.
    pub max_in_flight: usize,
    /// How often the ledger is reconciled with the provider.
    pub reconcile_every: Duration,
    /// The conditions of the daemon as a whole.
    pub conditions: Arc<Conditions>,
    /// The observer of recorded changes.
    pub observer: Arc<dyn ChangeObserver>,
    /// Who is notified of what.
    pub subscriptions: Arc<Subscriptions>,
    /// Finds a time zone by its name, for timetables in the ledger.
    pub find_zone: fn(&str) -> Option<TimeZone>,
}

/// How a process runs its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// The daemon: the schedule starts rotations, and the ledger is reconciled at
    /// start.
    Daemon,
    /// `once`: as the daemon, but a reconciliation less than `reconcile-every`
    /// ago is not repeated.
    Once,
    /// Only requests start rotations.
    Command,
}
