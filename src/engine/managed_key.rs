//! A key of the configuration.

use std::sync::Arc;

use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::KeyPolicy;
use crate::sink::Sink;

/// A configured key with its sinks ready to take secrets.
pub struct ManagedKey {
    /// Its name.
    pub name: KeyName,
    /// When and how patiently it rotates.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery, and whether each is required.
    pub sinks: Vec<(Arc<dyn Sink>, bool)>,
}

impl ManagedKey {
    /// The sink with this name and target.
    #[must_use]
    pub fn sink(&self, id: &SinkId) -> Option<&Arc<dyn Sink>> {
        self.sinks
            .iter()
            .map(|(sink, _)| sink)
            .find(|sink| sink.id() == id)
    }

    /// The sinks that a rotation waits for.
    #[must_use]
    pub fn required_sinks(&self) -> Vec<SinkId> {
        let required = self.sinks.iter().filter(|(_, required)| *required);
        required.map(|(sink, _)| sink.id().clone()).collect()
    }

    /// Every sink, and whether a rotation waits for it.
    #[must_use]
    pub fn all_sinks(&self) -> Vec<(SinkId, bool)> {
        let sinks = self.sinks.iter();
        sinks
            .map(|(sink, required)| (sink.id().clone(), *required))
            .collect()
    }
}
