//! What every key of a process works with.

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

/// What all keys share.
#[derive(Clone)]
pub struct Services {
    /// Who issues credentials.
    pub provider: Arc<dyn Provider>,
    /// Where everything is recorded.
    pub ledger: Ledger,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids and labels.
    pub entropy: Arc<dyn Entropy>,
    /// How many keys are worked on at once.
    pub max_in_flight: usize,
    /// How often every row is compared with the provider.
    pub reconcile_every: Duration,
    /// What is wrong with the daemon as a whole.
    pub conditions: Arc<Conditions>,
    /// Who counts what is recorded.
    pub observer: Arc<dyn ChangeObserver>,
    /// Who is told of what.
    pub subscriptions: Arc<Subscriptions>,
    /// Looks a time zone up by its name, for timetables that stand in the
    /// ledger.
    pub find_zone: fn(&str) -> Option<TimeZone>,
}

/// How a process goes about its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// The daemon: rotations are begun by schedule, and everything is compared
    /// with the provider at start.
    Daemon,
    /// `once`: as the daemon, but a comparison of less than `reconcile-every` ago
    /// will do.
    Once,
    /// Rotations are begun by [`Engine::request_rotation`] alone.
    Command,
}
