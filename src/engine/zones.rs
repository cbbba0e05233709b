//! The time zones of schedules, whose rules may change on this host while the engine runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::tz::TimeZone;

use crate::engine::scheduler::Engine;

impl Engine {
    /// Returns the names of the zones of all schedules.
    #[must_use]
    pub fn zone_names(&self) -> BTreeSet<String> {
        let zones = self.configured.values();
        let zones = zones.map(|key| key.policy.timetable.zone());
        let names = zones.filter_map(TimeZone::iana_name);
        names.map(str::to_owned).collect()
    }

    /// Replaces the zones of schedules by these, as this host has them now. A zone that is
    /// not among them stays as it is. Returns the names of those whose rules have changed.
    pub fn replace_zones(&mut self, zones: &[TimeZone]) -> BTreeSet<String> {
        let now = self.services.clock.now();
        let changed: Vec<_> = self
            .configured
            .iter()
            .filter_map(|(name, key)| {
                let known = key.policy.timetable.zone();
                let mut zones = zones.iter();
                let read = zones.find(|read| read.iana_name() == known.iana_name())?;
                (read != known).then(|| (name.clone(), Arc::new(key.in_zone(read.clone()))))
            })
            .collect();
        if changed.is_empty() {
            return BTreeSet::new();
        }
        let mut configured = (*self.configured).clone();
        let mut names = BTreeSet::new();
        for (name, key) in changed {
            let zone = key.policy.timetable.zone();
            names.extend(zone.iana_name().map(str::to_owned));
            configured.insert(name.clone(), Arc::clone(&key));
            if let Some(entry) = self.keys.get_mut(&name) {
                entry.managed = Some(key);
                // A worker goes on with its schedule once its step has ended.
                entry
                    .interrupted
                    .store(entry.parked.is_none(), Ordering::Relaxed);
            }
            self.wake(&name, now);
        }
        self.configured = Arc::new(configured);
        names
    }
}
