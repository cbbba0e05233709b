//! `[[notify]]`: the notification channels and their subscriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::claims::{PathClaims, PathOwner};
use super::top_table::TOP;
use crate::alerting::channel::CHANNEL_TYPES;
use crate::alerting::channel::target::{COMMON_OPTIONS, ChannelTarget, NotifySettings, channel_id};
use crate::config_reader::files::NamedFiles;
use crate::config_reader::location::Location;
use crate::config_reader::quote::{expected_one_of, may_be_secret};
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::suggestion::closest_match;
use crate::config_reader::values::read_duration;
use crate::core::ids::{KeyName, NameError, is_valid_name};
use crate::core::notification::{ChannelId, EventKind};
use crate::core::subscriptions::Subscription;
use crate::platform::path_walk::TrustedPaths;

/// Reads every channel, in the order of the file. A channel may be limited to
/// some of `keys`.
pub(super) fn read_channels(
    top: &ConfigTable<'_>,
    keys: &[&str],
    trusted_paths: &TrustedPaths,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Vec<NotifySettings> {
    let Some(list) = top.get(TOP, "notify") else {
        return Vec::new();
    };
    let mut ids: BTreeSet<ChannelId> = BTreeSet::new();
    let mut channels = Vec::new();
    let tables = list.tables(report);
    let mut names = ChannelNames::new(&tables);
    for table in tables {
        let name = names.assign(&table, report);
        let settings = read_channel(&table, keys, trusted_paths, claims, report);
        let Some((name, settings)) = name.zip(settings) else {
            continue;
        };
        let settings = NotifySettings { name, ..settings };
        if ids.insert(settings.subscription.channel.clone()) {
            channels.push(settings);
        } else {
            let message = format!(
                "another [[notify]] already sends to {}",
                settings.subscription.channel
            );
            let hint = "combine them into one [[notify]]";
            report.add_problem(&table.location, message, hint);
        }
    }
    channels
}

/// The names of the channels.
struct ChannelNames {
    /// The names in the file, which no channel without one gets.
    given: BTreeSet<String>,
    used: BTreeMap<String, Location>,
}

impl ChannelNames {
    fn new(tables: &[ConfigTable<'_>]) -> Self {
        let names = tables.iter().filter_map(|table| {
            let name = table.get(COMMON_OPTIONS, "name")?;
            name.as_text().map(str::to_owned)
        });
        Self {
            given: names.collect(),
            used: BTreeMap::new(),
        }
    }

    /// Returns the name of a channel: that in the file, or its type, with a number if another
    /// channel has it.
    fn assign(&mut self, table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<String> {
        let Some(value) = table.get(COMMON_OPTIONS, "name") else {
            return self.assign_by_type(table);
        };
        let name = value.text(report)?;
        if !is_valid_name(name) {
            let message = "not a valid name for a notification channel";
            report.add_problem(&value.location, message, NameError::InvalidForm.to_string());
            return None;
        }
        if let Some(other) = self.used.get(name) {
            let message = format!("already the name of {other}");
            let hint = "use a different name for each [[notify]]";
            report.add_problem(&value.location, message, hint);
            return None;
        }
        self.used.insert(name.to_owned(), table.location.clone());
        Some(name.to_owned())
    }

    fn assign_by_type(&mut self, table: &ConfigTable<'_>) -> Option<String> {
        let type_value = table.get(COMMON_OPTIONS, "type")?;
        let type_name = type_value.as_text()?;
        let numbered = (2..).map(|number| format!("{type_name}-{number}"));
        let mut names = std::iter::once(type_name.to_owned()).chain(numbered);
        let is_free = |name: &String| !self.used.contains_key(name) && !self.given.contains(name);
        let name = names.find(is_free)?;
        self.used.insert(name.clone(), table.location.clone());
        Some(name)
    }
}

fn read_channel(
    table: &ConfigTable<'_>,
    key_names: &[&str],
    trusted_paths: &TrustedPaths,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<NotifySettings> {
    let get = |name| table.get(COMMON_OPTIONS, name);
    let Some(type_value) = get("type") else {
        report.add_missing(&table.location, "missing option `type`", &expected_types());
        return None;
    };
    let type_name = type_value.text(report)?;
    let events = match get("on") {
        Some(value) => read_event_kinds(&value, report),
        None => Some(BTreeSet::from(EventKind::DEFAULT)),
    };
    let keys = match get("keys") {
        Some(value) => read_key_filter(&value, key_names, report).map(Some),
        None => Some(None),
    };
    let remind_every = match get("remind-every") {
        Some(value) => read_duration(&value, report).map(Some),
        None => Some(None),
    };
    let target = read_target(table, type_name, &type_value, claims, report);
    let target = target?;
    let subscription = Subscription {
        channel: channel_id(&*target),
        on: events?,
        keys: keys?,
        remind_every: remind_every?,
    };
    Some(NotifySettings {
        // The caller names it: that depends on the other channels.
        name: String::new(),
        subscription,
        target,
        trusted_paths: trusted_paths.clone(),
    })
}

fn read_target(
    table: &ConfigTable<'_>,
    type_name: &str,
    type_value: &ConfigValue<'_>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<Arc<dyn ChannelTarget>> {
    let Some(channel_type) = CHANNEL_TYPES
        .iter()
        .find(|channel_type| channel_type.name == type_name)
    else {
        report.add_problem(
            &type_value.location,
            "unknown type of notification channel",
            expected_types(),
        );
        return None;
    };
    table.reject_unknown(&[COMMON_OPTIONS, channel_type.options], report);
    let mut files = NamedFiles::default();
    let target = (channel_type.read)(table, &mut files, report);
    claims.add_secrets(&files.secrets);
    claims.add_programs(&table.location, &files.programs);
    for (option, file) in &files.read_only {
        let owner = PathOwner::new(format!("the {option} of"), &table.location);
        claims.reserve(file, owner);
    }
    target
}

/// Describes the known types for a message.
fn expected_types() -> String {
    expected_one_of(CHANNEL_TYPES.iter().map(|channel_type| channel_type.name))
}

fn read_event_kinds(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<BTreeSet<EventKind>> {
    let problem_count = report.count();
    let mut events = BTreeSet::new();
    for item in value.text_items(report)? {
        let Some(text) = item.text(report) else {
            continue;
        };
        let event = EventKind::from_text(text).filter(|event| *event != EventKind::Test);
        if let Some(event) = event {
            events.insert(event);
            continue;
        }
        let hint = match closest_match(text, &EventKind::NAMES) {
            Some(suggestion) => format!("did you mean \"{suggestion}\"?"),
            None => expected_one_of(EventKind::NAMES.into_iter()),
        };
        report.add_problem(&item.location, "unknown event", hint);
    }
    if report.count() > problem_count {
        return None;
    }
    let is_without_effect = events.iter().all(|event| *event == EventKind::Recovered);
    if is_without_effect {
        let message = "the channel would never send anything";
        let hint = value.expected("an event other than \"recovered\"");
        report.add_problem(&value.location, message, hint);
        return None;
    }
    Some(events)
}

fn read_key_filter(
    value: &ConfigValue<'_>,
    configured: &[&str],
    report: &mut ProblemReport,
) -> Option<BTreeSet<KeyName>> {
    let items = value.text_items(report)?;
    if items.is_empty() {
        let hint = "list the names of keys, or remove `keys` to select all of them";
        report.add_problem(&value.location, "the list of keys is empty", hint);
        return None;
    }
    let mut keys = BTreeSet::new();
    for item in &items {
        let Some(text) = item.text(report) else {
            continue;
        };
        match KeyName::new(text)
            .ok()
            .filter(|_| configured.contains(&text))
        {
            Some(key) => {
                keys.insert(key);
            }
            None => {
                // The name of a table may be a secret as well.
                let suggestion = closest_match(text, configured);
                let hint = match suggestion.filter(|name| !may_be_secret(name)) {
                    Some(suggestion) => format!("did you mean \"{suggestion}\"?"),
                    None => "use the name of a [key.NAME] in this file".to_owned(),
                };
                report.add_problem(&item.location, "unknown key", hint);
            }
        }
    }
    (keys.len() == items.len()).then_some(keys)
}
