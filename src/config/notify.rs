//! `[[notify]]`: the notification channels and their subscriptions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::claims::{PathClaims, PathOwner};
use super::options;
use crate::alerting::channel::CHANNEL_TYPES;
use crate::alerting::channel::target::{COMMON_OPTIONS, ChannelTarget, NotifySettings, channel_id};
use crate::config_reader::files::NamedFiles;
use crate::config_reader::quote::{one_of, quoted};
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::suggestion::closest_match;
use crate::core::ids::KeyName;
use crate::core::notification::{ChannelId, EventKind};
use crate::core::subscriptions::Subscription;

/// Reads every channel, in the order of the file. `keys` are the names of the
/// keys that a channel may be limited to.
pub(super) fn read_channels(
    top: &ConfigTable<'_>,
    keys: &[&str],
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Vec<NotifySettings> {
    let Some(list) = top.get(options::TOP, "notify") else {
        return Vec::new();
    };
    let mut known: BTreeSet<ChannelId> = BTreeSet::new();
    let mut all = Vec::new();
    for table in list.tables(report) {
        let Some(settings) = read_channel(&table, keys, claims, report) else {
            continue;
        };
        if known.insert(settings.subscription.channel.clone()) {
            all.push(settings);
        } else {
            let message = format!(
                "there is a [[notify]] for {} already",
                settings.subscription.channel
            );
            let hint = "say everything that it is to be told of in one";
            report.add_problem(&table.location, message, hint);
        }
    }
    all
}

fn read_channel(
    table: &ConfigTable<'_>,
    known: &[&str],
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<NotifySettings> {
    let get = |name| table.get(COMMON_OPTIONS, name);
    let Some(kind) = get("type") else {
        report.add_missing(&table.location, "has no type", &allowed_types());
        return None;
    };
    let text = kind.text(report)?;
    let on = match get("on") {
        Some(value) => read_event_kinds(&value, report),
        None => Some(BTreeSet::from(EventKind::DEFAULT)),
    };
    let keys = match get("keys") {
        Some(value) => read_key_filter(&value, known, report).map(Some),
        None => Some(None),
    };
    let target = read_target(table, text, &kind, claims, report);
    let target = target?;
    let subscription = Subscription {
        channel: channel_id(&*target),
        on: on?,
        keys: keys?,
    };
    Some(NotifySettings {
        subscription,
        target,
    })
}

fn read_target(
    table: &ConfigTable<'_>,
    type_name: &str,
    type_value: &ConfigValue<'_>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<Arc<dyn ChannelTarget>> {
    let Some(kind) = CHANNEL_TYPES.iter().find(|one| one.name == type_name) else {
        let message = format!("there is no notify type {}", quoted(type_name));
        report.add_problem(&type_value.location, message, allowed_types());
        return None;
    };
    table.reject_unknown(&[COMMON_OPTIONS, kind.options], report);
    let mut files = NamedFiles::default();
    let target = (kind.read)(table, &mut files, report);
    for (option, file) in &files.read_only {
        let owner = PathOwner::of(format!("{option} of"), &table.location);
        claims.reserve(file, owner);
    }
    target
}

/// What a message says about the types.
fn allowed_types() -> String {
    one_of(CHANNEL_TYPES.iter().map(|one| one.name))
}

fn read_event_kinds(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<BTreeSet<EventKind>> {
    let all: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::as_str).collect();
    let before = report.count();
    let mut on = BTreeSet::new();
    for item in value.text_items(report)? {
        let text = item.as_text().unwrap_or_default();
        if let Some(occasion) = EventKind::from_text(text) {
            on.insert(occasion);
            continue;
        }
        let hint = match closest_match(text, &all) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here: {}", all.join(", ")),
        };
        let message = format!("there is no occasion {}", quoted(text));
        report.add_problem(&item.location, message, hint);
    }
    if report.count() > before {
        return None;
    }
    let tells_nothing = on.iter().all(|one| *one == EventKind::Recovered);
    if tells_nothing {
        let message = "nobody would ever be told of anything";
        let hint = "recovered tells the end of what is named beside it: name something, such as \
                    failure";
        report.add_problem(&value.location, message, hint);
        return None;
    }
    Some(on)
}

fn read_key_filter(
    value: &ConfigValue<'_>,
    known: &[&str],
    report: &mut ProblemReport,
) -> Option<BTreeSet<KeyName>> {
    let items = value.text_items(report)?;
    if items.is_empty() {
        let hint = "name some, or leave it out for all";
        report.add_problem(&value.location, "names no key", hint);
        return None;
    }
    let mut keys = BTreeSet::new();
    for item in &items {
        let text = item.as_text().unwrap_or_default();
        match KeyName::new(text).ok().filter(|_| known.contains(&text)) {
            Some(key) => {
                keys.insert(key);
            }
            None => {
                let hint = match closest_match(text, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "name a [key.NAME] of this file, or leave it out".to_owned(),
                };
                report.add_problem(
                    &item.location,
                    format!("there is no key {}", quoted(text)),
                    hint,
                );
            }
        }
    }
    (keys.len() == items.len()).then_some(keys)
}
