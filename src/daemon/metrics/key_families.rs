//! The metrics with samples for each key, rendered from the engine's shared view and from the
//! counters of keys. A registry would hold several hundred bytes for each sample, and copy them
//! all for each page.

use std::io::{self, Write as _};

use jiff::Timestamp;

use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::daemon::metrics::key_counters::{DELIVERY_OUTCOMES, KeyCounters, ROTATION_OUTCOMES};
use crate::daemon::metrics::page::PageWriter;
use crate::engine::{KeyFigures, ViewSnapshot};

/// The phases that have a sample with 0, too: that of a healthy key, and those about which
/// there is an alert. A page with the others for ten thousand keys would have a sixth more.
const IDLE_PHASES: [Phase; 3] = [Phase::Current, Phase::Orphaned, Phase::Stranded];

/// The metrics of keys, in the order of their names.
pub(super) const KEY_FAMILIES: [KeyFamily; 17] = [
    KeyFamily {
        name: "rekeyd_credential_age_seconds",
        help: "Age of the current credential.",
        samples: KeySamples::Gauge(|figures, now| {
            let created_at = figures.created_at?;
            Some((now.as_second() - created_at.as_second()).max(0))
        }),
    },
    KeyFamily {
        name: "rekeyd_credential_created_timestamp_seconds",
        help: "Time at which the current credential was created.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.created_at?.as_second())),
    },
    KeyFamily {
        name: "rekeyd_credential_expires_timestamp_seconds",
        help: "Expiry of the current credential; absent if it never expires.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.expires_at?.as_second())),
    },
    KeyFamily {
        name: "rekeyd_deliveries_total",
        help: "Deliveries by outcome.",
        samples: KeySamples::Deliveries,
    },
    KeyFamily {
        name: "rekeyd_failing",
        help: "Whether a step of the key fails.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.is_failing.into())),
    },
    KeyFamily {
        name: "rekeyd_file_access_differs",
        help: "Files that do not have the owner, group or mode of their deliveries.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.differing_files.into())),
    },
    KeyFamily {
        name: "rekeyd_files_exposed_total",
        help: "Files that were open to other users and were narrowed.",
        samples: KeySamples::ExposedFiles,
    },
    KeyFamily {
        name: "rekeyd_held_credentials",
        help: "Credentials that an operator holds.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.held.into())),
    },
    KeyFamily {
        name: "rekeyd_live_credentials",
        help: "Live credentials by phase.",
        samples: KeySamples::Phases,
    },
    KeyFamily {
        name: "rekeyd_lookalike_credentials",
        help: "Credentials that look like those of the key and are not in the ledger.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.lookalikes.into())),
    },
    KeyFamily {
        name: "rekeyd_next_rotation_timestamp_seconds",
        help: "Time of the next scheduled rotation.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.rotates_at?.as_second())),
    },
    KeyFamily {
        name: "rekeyd_overdue",
        help: "Whether the key has been due for longer than its jitter and delivery-deadline.",
        samples: KeySamples::Gauge(|figures, now| Some(figures.is_overdue(now).into())),
    },
    KeyFamily {
        name: "rekeyd_paused",
        help: "Whether the schedule starts no rotation of the key.",
        samples: KeySamples::Gauge(|figures, now| Some(figures.is_paused(now).into())),
    },
    KeyFamily {
        name: "rekeyd_revocations_failing",
        help: "Credentials whose revocation failed at the last attempt.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.failing_revocations.into())),
    },
    KeyFamily {
        name: "rekeyd_revocations_overdue",
        help: "Credentials whose revocation has been due for more than an hour.",
        samples: KeySamples::Gauge(|figures, now| Some(figures.overdue_revocations(now).into())),
    },
    KeyFamily {
        name: "rekeyd_rotations_total",
        help: "Finished rotations by outcome.",
        samples: KeySamples::Rotations,
    },
    KeyFamily {
        name: "rekeyd_unmanaged_credentials",
        help: "Live credentials that nothing ends, because their key is not configured.",
        samples: KeySamples::Gauge(|figures, _| Some(figures.unmanaged().into())),
    },
];

/// A metric with samples for each key.
pub(super) struct KeyFamily {
    pub(super) name: &'static str,
    help: &'static str,
    samples: KeySamples,
}

/// The samples of a key.
enum KeySamples {
    /// One value, or none.
    Gauge(fn(&KeyFigures, Timestamp) -> Option<i64>),
    /// The number of its live credentials in each phase.
    Phases,
    /// The counters of its rotations.
    Rotations,
    /// The counters of its deliveries.
    Deliveries,
    /// The counter of its files that were open to other users.
    ExposedFiles,
}

/// What the samples show.
pub(super) struct KeyValues<'a> {
    pub(super) view: &'a ViewSnapshot,
    pub(super) counters: &'a KeyCounters,
    pub(super) now: Timestamp,
}

impl KeyFamily {
    /// Writes the samples of all keys, by name. Without a sample, nothing is written. A key
    /// has samples while it is configured or has a live credential.
    pub(super) fn write(&self, page: &mut PageWriter, values: &KeyValues<'_>) -> io::Result<()> {
        let mut has_head = false;
        for (key, figures) in &values.view.keys {
            if !figures.is_shown() || !self.has_samples(key, figures, values) {
                continue;
            }
            if !std::mem::replace(&mut has_head, true) {
                self.write_head(page)?;
            }
            self.write_samples(page, key, figures, values)?;
        }
        Ok(())
    }

    fn write_head(&self, page: &mut PageWriter) -> io::Result<()> {
        let (name, help) = (self.name, self.help);
        let kind = match self.samples {
            KeySamples::Gauge(_) | KeySamples::Phases => "gauge",
            KeySamples::Rotations | KeySamples::Deliveries | KeySamples::ExposedFiles => "counter",
        };
        writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")
    }

    fn has_samples(&self, key: &KeyName, figures: &KeyFigures, values: &KeyValues<'_>) -> bool {
        match self.samples {
            KeySamples::Gauge(value) => value(figures, values.now).is_some(),
            KeySamples::Phases | KeySamples::Rotations | KeySamples::ExposedFiles => true,
            KeySamples::Deliveries => !values.counters.deliveries_of(key).is_empty(),
        }
    }

    /// Writes the samples of a key. The names of keys and sinks need no escapes.
    fn write_samples(
        &self,
        page: &mut PageWriter,
        key: &KeyName,
        figures: &KeyFigures,
        values: &KeyValues<'_>,
    ) -> io::Result<()> {
        let name = self.name;
        match self.samples {
            KeySamples::Gauge(value) => {
                if let Some(value) = value(figures, values.now) {
                    writeln!(page, "{name}{{key=\"{key}\"}} {value}")?;
                }
            }
            KeySamples::Phases => {
                let shown =
                    |(phase, count): &(Phase, u16)| *count > 0 || IDLE_PHASES.contains(phase);
                for (phase, count) in figures.live().filter(shown) {
                    writeln!(page, "{name}{{key=\"{key}\",phase=\"{phase}\"}} {count}")?;
                }
            }
            KeySamples::Rotations => {
                let counts = values.counters.rotations_of(key);
                for (outcome, count) in ROTATION_OUTCOMES.into_iter().zip(counts) {
                    writeln!(
                        page,
                        "{name}{{key=\"{key}\",outcome=\"{outcome}\"}} {count}"
                    )?;
                }
            }
            KeySamples::ExposedFiles => {
                let count = values.counters.exposed_files_of(key);
                writeln!(page, "{name}{{key=\"{key}\"}} {count}")?;
            }
            KeySamples::Deliveries => {
                for (sink, counts) in values.counters.deliveries_of(key) {
                    for (outcome, count) in DELIVERY_OUTCOMES.into_iter().zip(counts) {
                        let outcome = outcome.as_str();
                        writeln!(
                            page,
                            "{name}{{key=\"{key}\",outcome=\"{outcome}\",sink=\"{sink}\"}} {count}"
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_in_the_order_of_their_names() {
        assert!(KEY_FAMILIES.is_sorted_by_key(|family| family.name));
    }
}
