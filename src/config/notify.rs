//! `[[notify]]`: who is told what is wrong.

use std::collections::BTreeSet;

use super::check::{PathClaims, PathOwner};
use super::command_sink::read_command_line;
use super::keys::UnparsedKeys;
use super::options::{Section, closest_match};
use super::quote::quoted;
use super::reader::{ConfigTable, ConfigValue};
use super::report::ProblemReport;
use super::values::{self, UrlRole};
use crate::core::ids::KeyName;
use crate::core::notification::{ChannelId, EventKind};
use crate::core::settings::{
    CommandTarget, NotifySettings, NotifyTarget, NotifyWebhook, SendmailTarget,
};
use crate::core::subscriptions::Subscription;

/// What a message says of the types.
const ALLOWED_TYPES: &str = "\"webhook\", \"command\" or \"sendmail\" is allowed";

/// Reads everybody who is told, in the order of the file; of `keys` only the
/// names count.
pub(super) fn read_channels(
    top: &ConfigTable<'_>,
    keys: &UnparsedKeys<'_>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Vec<NotifySettings> {
    let Some(list) = top.get(Section::Top, "notify") else {
        return Vec::new();
    };
    let keys = keys.names();
    let mut known: BTreeSet<ChannelId> = BTreeSet::new();
    let mut all = Vec::new();
    for table in list.tables(report) {
        let Some(settings) = read_channel(&table, &keys, claims, report) else {
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
    let get = |name| table.get(Section::Notify, name);
    let Some(kind) = get("type") else {
        report.add_missing(&table.location, "has no type", ALLOWED_TYPES);
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
    let target = match text {
        "webhook" => read_webhook(table, claims, report).map(NotifyTarget::Webhook),
        "command" => read_command(table, claims, report).map(NotifyTarget::Command),
        "sendmail" => read_sendmail(table, report).map(NotifyTarget::Sendmail),
        other => {
            let message = format!("there is no notify type {}", quoted(other));
            report.add_problem(&kind.location, message, ALLOWED_TYPES);
            None
        }
    };
    let target = target?;
    let listener = Subscription {
        channel: channel_id(&target),
        on: on?,
        keys: keys?,
    };
    Some(NotifySettings {
        subscription: listener,
        target,
    })
}

/// What the ledger remembers it by. Without a query: that may hold a token.
fn channel_id(target: &NotifyTarget) -> ChannelId {
    ChannelId::new(match target {
        NotifyTarget::Webhook(webhook) => {
            let mut url = webhook.url.clone();
            url.set_query(None);
            format!("webhook:{url}")
        }
        NotifyTarget::Command(command) => format!("command:{}", command.argv),
        NotifyTarget::Sendmail(mail) => format!("sendmail:{}", mail.to.join(",")),
        NotifyTarget::File(path) => format!("record:{}", path.display()),
    })
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

fn read_webhook(
    table: &ConfigTable<'_>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<NotifyWebhook> {
    table.reject_unknown(&[Section::Notify, Section::NotifyWebhook], report);
    let get = |name| table.get(Section::NotifyWebhook, name);
    let url = match get("url") {
        Some(value) => values::read_url(&value, UrlRole::Receiver, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.add_missing(&table.location, "has no url", hint);
            None
        }
    };
    let file = match get("signing-secret-file") {
        Some(value) => values::read_path(&value, report),
        None => {
            let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
            report.add_missing(&table.location, "has no signing-secret-file", hint);
            None
        }
    };
    if let Some(file) = &file {
        claims.reserve(
            file,
            PathOwner::of("signing-secret-file of", &table.location),
        );
    }
    Some(NotifyWebhook {
        url: url?,
        signing_secret_file: file?,
    })
}

fn read_command(
    table: &ConfigTable<'_>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<CommandTarget> {
    table.reject_unknown(&[Section::Notify, Section::NotifyCommand], report);
    let Some(value) = table.get(Section::NotifyCommand, "argv") else {
        let hint = "add argv = [\"/…\"], the program that reads what is wrong from its standard \
                    input";
        report.add_missing(&table.location, "has no argv", hint);
        return None;
    };
    let argv = read_command_line(&value, report)?;
    // A program that a file sink replaced would be a secret that is run.
    claims.reserve(argv.path(), PathOwner::of("argv of", &table.location));
    Some(CommandTarget { argv })
}

fn read_sendmail(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<SendmailTarget> {
    table.reject_unknown(&[Section::Notify, Section::NotifySendmail], report);
    let Some(value) = table.get(Section::NotifySendmail, "to") else {
        let hint = "add to = \"…\", the address that it goes to, or a list of them";
        report.add_missing(&table.location, "has no to", hint);
        return None;
    };
    let items = match value.as_text() {
        Some(_) => vec![value],
        None => value.text_items(report)?,
    };
    if items.is_empty() {
        let hint = "name an address, such as \"root\" or \"ops@example.com\"";
        report.add_problem(&table.location, "goes to nobody", hint);
        return None;
    }
    let to: Vec<_> = items
        .iter()
        .map(|item| read_recipient(item, report))
        .collect();
    let to = to.into_iter().collect::<Option<Vec<_>>>()?;
    Some(SendmailTarget { to })
}

/// An address that is one word of a command line and of a header, and no
/// option.
fn read_recipient(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    let plain = |letter: char| letter.is_ascii_graphic() && !",;:<>()[]\\\"|`$".contains(letter);
    let is_plain = !text.is_empty() && text.chars().all(plain) && !text.starts_with('-');
    let is_whole = text.split('@').all(|part| !part.is_empty());
    if is_plain && is_whole && text.matches('@').count() <= 1 {
        return Some(text.to_owned());
    }
    let message = format!("{} is no address for mail", quoted(text));
    let hint = "a user of this host or NAME@HOST is allowed, each in quotes of its own";
    report.add_problem(&value.location, message, hint);
    None
}
