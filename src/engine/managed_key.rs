//! A key of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::KeyPolicy;
use crate::core::scope::Scope;
use crate::sink::Sink;

/// All configured keys, which every worker can read.
pub(crate) type ConfiguredKeys = Arc<BTreeMap<KeyName, Arc<ManagedKey>>>;

/// A configured key, with sinks that are ready to receive secrets.
pub struct ManagedKey {
    /// Its name.
    pub name: KeyName,
    /// The scope that its credentials belong to.
    pub scope: Scope,
    /// Its schedule, overlap and limits.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery, and whether each is required.
    pub sinks: Vec<(Arc<dyn Sink>, bool)>,
}

impl ManagedKey {
    /// Returns the sink with this name and target.
    #[must_use]
    pub fn sink(&self, id: &SinkId) -> Option<&Arc<dyn Sink>> {
        self.sinks
            .iter()
            .map(|(sink, _)| sink)
            .find(|sink| sink.id() == id)
    }

    /// Returns the same key with its schedule in another zone.
    #[must_use]
    pub(super) fn in_zone(&self, zone: TimeZone) -> Self {
        let policy = KeyPolicy {
            timetable: self.policy.timetable.in_zone(zone),
            ..(*self.policy).clone()
        };
        Self {
            name: self.name.clone(),
            scope: self.scope.clone(),
            policy: Arc::new(policy),
            sinks: self.sinks.clone(),
        }
    }

    /// Returns the sinks that a rotation waits for.
    #[must_use]
    pub fn required_sinks(&self) -> Vec<SinkId> {
        let required = self.sinks.iter().filter(|(_, required)| *required);
        required.map(|(sink, _)| sink.id().clone()).collect()
    }

    /// Returns every sink, and whether a rotation waits for it.
    #[must_use]
    pub fn all_sinks(&self) -> Vec<(SinkId, bool)> {
        let sinks = self.sinks.iter();
        sinks
            .map(|(sink, required)| (sink.id().clone(), *required))
            .collect()
    }
}
