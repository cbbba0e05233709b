//! The units of rekeyd on one host, and those of them that have the same user.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ServiceUnit, UNIT_FOLDERS};

/// The folder in which the service manager records what it has started.
const STARTED_UNITS: &str = "run/systemd/units";

impl ServiceUnit {
    /// Returns the other units of rekeyd that are in use and have the user of this one, and
    /// another configuration.
    #[must_use]
    pub fn units_of_same_user(&self, default_file: &Path) -> Vec<Self> {
        let own_file = self.configuration_file(default_file);
        let others = Self::all_in_use(&self.root).into_iter().filter(|other| {
            other.user() == self.user() && other.configuration_file(default_file) != own_file
        });
        others.collect()
    }

    /// Returns the units of rekeyd below `root` that are enabled, active or failed, by name.
    fn all_in_use(root: &Path) -> Vec<Self> {
        let mut folders = vec![root.join(STARTED_UNITS)];
        let wants = std::fs::read_dir(root.join(UNIT_FOLDERS[0]));
        let wants = wants.into_iter().flatten().flatten();
        folders.extend(
            wants
                .filter(|entry| entry.file_name().to_string_lossy().ends_with(".wants"))
                .map(|entry| entry.path()),
        );
        let entries = folders
            .iter()
            .flat_map(std::fs::read_dir)
            .flatten()
            .flatten();
        let names: BTreeSet<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                unit_of_entry(&name)
            })
            .collect();
        names
            .iter()
            .filter_map(|name| Self::load(root, name))
            .collect()
    }

    /// Returns the name of the instance: `acme` of `rekeyd@acme.service`.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        let (_, instance) = self.name.strip_suffix(".service")?.split_once('@')?;
        Some(instance)
    }
}

/// Returns the service of rekeyd that an entry of these folders stands for: the unit, its
/// timer, or `invocation:` and the unit.
fn unit_of_entry(entry: &str) -> Option<String> {
    let name = entry.strip_prefix("invocation:").unwrap_or(entry);
    let name = name.replace(".timer", ".service");
    let is_of_rekeyd = matches!(name.as_str(), "rekeyd.service" | "rekeyd-once.service")
        || (["rekeyd@", "rekeyd-once@"]
            .iter()
            .any(|start| name.starts_with(start))
            && name.ends_with(".service"));
    is_of_rekeyd.then_some(name)
}
