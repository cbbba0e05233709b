//! The changes of a configuration that end something, and so wait for a person.

use std::collections::BTreeMap;

use crate::config::settings::{KeySettings, Settings};
use crate::core::ids::{KeyName, SinkId};
use crate::daemon::config_effects::ConfigEffect;

/// What happens to a key that the new configuration lacks.
const DROPPED: &str = "dropped";

/// Returns each key that the new configuration drops or renames, and each sink that it drops
/// or retargets.
pub(crate) fn ending_changes(old: &Settings, new: &Settings) -> Vec<ConfigEffect> {
    let kept: BTreeMap<&KeyName, &KeySettings> =
        new.keys.iter().map(|key| (&key.name, key)).collect();
    let mut changes = Vec::new();
    for key in &old.keys {
        match kept.get(&key.name) {
            Some(kept) => changes.extend(sink_changes(key, kept)),
            None => changes.push(key_change(&key.name, new)),
        }
    }
    changes
}

fn key_change(name: &KeyName, new: &Settings) -> ConfigEffect {
    let mut keys = new.keys.iter();
    match keys.find(|key| key.was.as_ref() == Some(name)) {
        Some(renamed) => ConfigEffect {
            key: renamed.name.clone(),
            text: format!("renamed from {name}"),
        },
        None => ConfigEffect {
            key: name.clone(),
            text: DROPPED.to_owned(),
        },
    }
}

fn sink_changes(old: &KeySettings, new: &KeySettings) -> Vec<ConfigEffect> {
    let is_kept = |id: &SinkId| new.sinks.iter().any(|sink| sink.id == *id);
    let sinks = old.sinks.iter().map(|sink| &sink.id);
    let ended = sinks.filter(|id| !is_kept(id));
    let changes = ended.map(|id| {
        let mut sinks = new.sinks.iter();
        let text = match sinks.find(|sink| sink.id.name == id.name) {
            Some(sink) => format!(
                "retargets the sink {} from {} to {}",
                id.name, id.target, sink.id.target
            ),
            None => format!("drops the sink {} ({})", id.name, id.target),
        };
        ConfigEffect {
            key: old.name.clone(),
            text,
        }
    });
    changes.collect()
}

/// Describes what a change ends, which `ending` names: by what follows for those keys, where
/// the `effects` on the ledger show it.
pub(super) fn describe_ending(ending: &[ConfigEffect], effects: &[ConfigEffect]) -> Vec<String> {
    let ends = |effect: &&ConfigEffect| ending.iter().any(|change| change.key == effect.key);
    let shown = effects.iter().filter(ends);
    let unknown = unknown_to_ledger(ending, effects);
    shown.chain(unknown).map(ToString::to_string).collect()
}

/// Returns what ends by the two configurations, and not by the `effects` on the ledger: a key
/// that never had a credential is in no ledger.
pub(crate) fn unknown_to_ledger<'a>(
    ending: &'a [ConfigEffect],
    effects: &[ConfigEffect],
) -> impl Iterator<Item = &'a ConfigEffect> {
    ending.iter().filter(|change| {
        let mut of_key = effects.iter().filter(|effect| effect.key == change.key);
        !of_key.any(|effect| change.text == DROPPED || effect.text.starts_with(&change.text))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment};
    use crate::platform::clock::{Clock as _, SystemClock};

    fn settings(keys: &str) -> Settings {
        let text = format!("[provider]\ncredential-file = \"/srv/admin-key\"\n{keys}");
        let environment = Environment::read(SystemClock.now(), |_| None);
        let parsed = config::parse(Path::new("/srv/config.toml"), &text, &environment);
        parsed.unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn key(name: &str, lines: &str, files: &[&str]) -> String {
        let sinks = files.iter().map(|file| {
            format!(
                "[[key.{name}.sink]]\nname = \"{file}\"\ntype = \"file\"\npath = \"/srv/{file}\"\n"
            )
        });
        let sinks: String = sinks.collect();
        format!("[key.{name}]\nschedule = \"@daily\"\n{lines}{sinks}")
    }

    #[test]
    fn what_ends_something_is_named() {
        let old = settings(&[key("a", "", &["one", "two"]), key("b", "", &["three"])].concat());
        for (new, expected) in [
            (
                // Another schedule, another key and another sink end nothing.
                [
                    key("a", "overlap = \"2h\"\n", &["one", "two", "four"]),
                    key("b", "", &["three"]),
                    key("c", "", &["five"]),
                ]
                .concat(),
                vec![],
            ),
            (
                [key("a", "", &["one"]), key("b", "", &["three"])].concat(),
                vec!["a: drops the sink two (file:/srv/two)"],
            ),
            (key("a", "", &["one", "two"]), vec!["b: dropped"]),
            (
                [
                    key("a", "", &["one", "two"]),
                    key("c", "was = \"b\"\n", &["three"]),
                ]
                .concat(),
                vec!["c: renamed from b"],
            ),
            (
                [
                    key("a", "", &["one", "two"]),
                    key("b", "", &["three"]).replace("/srv/three", "/srv/other"),
                ]
                .concat(),
                vec!["b: retargets the sink three from file:/srv/three to file:/srv/other"],
            ),
        ] {
            let changes = ending_changes(&old, &settings(&new));
            let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
            assert_eq!(changes, expected);
        }
    }

    /// A key that never had a credential is in no ledger, and its end is a change nevertheless.
    #[test]
    fn what_ends_is_described_as_the_ledger_knows_it() {
        let effect = |key: &str, text: &str| ConfigEffect {
            key: KeyName::new(key).unwrap(),
            text: text.to_owned(),
        };
        let ending = [
            effect("b", "dropped"),
            effect("c", "dropped"),
            effect("d", "drops the sink one (file:/srv/one)"),
            effect("e", "drops the sink two (file:/srv/two)"),
        ];
        let effects = [
            effect("a", "new"),
            effect("b", "key_1 stays alive"),
            effect("d", "new"),
            effect("e", "drops the sink two (file:/srv/two), which counts"),
        ];
        assert_eq!(
            describe_ending(&ending, &effects),
            [
                "b: key_1 stays alive",
                "d: new",
                "e: drops the sink two (file:/srv/two), which counts",
                "c: dropped",
                "d: drops the sink one (file:/srv/one)",
            ]
        );
    }
}
