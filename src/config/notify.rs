//! `[[notify]]`: who is told what is wrong.

use std::collections::BTreeSet;

use super::check::{Claims, Owner};
use super::command_sink::command_line;
use super::keys::Keys;
use super::options::{Section, nearest};
use super::quote::quoted;
use super::reader::{Table, Value};
use super::report::Report;
use super::values::{self, Whose};
use crate::core::audience::Listener;
use crate::core::names::KeyName;
use crate::core::notice::{NotifierId, Occasion};
use crate::core::settings::{CommandTarget, Mail, NotifySettings, NotifyTarget, NotifyWebhook};

/// What a message says of the types.
const TYPES: &str = "\"webhook\", \"command\" or \"sendmail\" is allowed";

/// Reads everybody who is told, in the order of the file; of `keys` only the
/// names count.
pub(super) fn notify(
    top: &Table<'_>,
    keys: &Keys<'_>,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<NotifySettings> {
    let Some(list) = top.get(Section::Top, "notify") else {
        return Vec::new();
    };
    let keys = keys.names();
    let mut known: BTreeSet<NotifierId> = BTreeSet::new();
    let mut all = Vec::new();
    for table in list.tables(report) {
        let Some(settings) = one(&table, &keys, claims, report) else {
            continue;
        };
        if known.insert(settings.listener.id.clone()) {
            all.push(settings);
        } else {
            let message = format!("there is a [[notify]] for {} already", settings.listener.id);
            let hint = "say everything that it is to be told of in one";
            report.wrong(&table.place, message, hint);
        }
    }
    all
}

fn one(
    table: &Table<'_>,
    known: &[&str],
    claims: &mut Claims,
    report: &mut Report,
) -> Option<NotifySettings> {
    let get = |name| table.get(Section::Notify, name);
    let Some(kind) = get("type") else {
        report.missing(&table.place, "has no type", TYPES);
        return None;
    };
    let text = kind.text(report)?;
    let on = match get("on") {
        Some(value) => occasions(&value, report),
        None => Some(BTreeSet::from(Occasion::DEFAULT)),
    };
    let keys = match get("keys") {
        Some(value) => keys(&value, known, report).map(Some),
        None => Some(None),
    };
    let target = match text {
        "webhook" => webhook(table, claims, report).map(NotifyTarget::Webhook),
        "command" => command(table, claims, report).map(NotifyTarget::Command),
        "sendmail" => mail(table, report).map(NotifyTarget::Sendmail),
        other => {
            let message = format!("there is no notify type {}", quoted(other));
            report.wrong(&kind.place, message, TYPES);
            None
        }
    };
    let target = target?;
    let listener = Listener {
        id: id_of(&target),
        on: on?,
        keys: keys?,
    };
    Some(NotifySettings { listener, target })
}

/// What the ledger remembers it by. Without a query: that may hold a token.
fn id_of(target: &NotifyTarget) -> NotifierId {
    NotifierId::new(match target {
        NotifyTarget::Webhook(webhook) => {
            let mut url = webhook.url.clone();
            url.set_query(None);
            format!("webhook:{url}")
        }
        NotifyTarget::Command(command) => format!("command:{}", command.argv),
        NotifyTarget::Sendmail(mail) => format!("sendmail:{}", mail.to.join(",")),
        NotifyTarget::Record(path) => format!("record:{}", path.display()),
    })
}

fn occasions(value: &Value<'_>, report: &mut Report) -> Option<BTreeSet<Occasion>> {
    let all: Vec<&str> = Occasion::ALL.into_iter().map(Occasion::as_str).collect();
    let before = report.count();
    let mut on = BTreeSet::new();
    for item in value.list_of_text(report)? {
        let text = item.as_text().unwrap_or_default();
        if let Some(occasion) = Occasion::from_text(text) {
            on.insert(occasion);
            continue;
        }
        let hint = match nearest(text, &all) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("known here: {}", all.join(", ")),
        };
        let message = format!("there is no occasion {}", quoted(text));
        report.wrong(&item.place, message, hint);
    }
    if report.count() > before {
        return None;
    }
    let tells_nothing = on.iter().all(|one| *one == Occasion::Recovered);
    if tells_nothing {
        let message = "nobody would ever be told of anything";
        let hint = "recovered tells the end of what is named beside it: name something, such as \
                    failure";
        report.wrong(&value.place, message, hint);
        return None;
    }
    Some(on)
}

fn keys(value: &Value<'_>, known: &[&str], report: &mut Report) -> Option<BTreeSet<KeyName>> {
    let items = value.list_of_text(report)?;
    if items.is_empty() {
        let hint = "name some, or leave it out for all";
        report.wrong(&value.place, "names no key", hint);
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
                let hint = match nearest(text, known) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "name a [key.NAME] of this file, or leave it out".to_owned(),
                };
                report.wrong(
                    &item.place,
                    format!("there is no key {}", quoted(text)),
                    hint,
                );
            }
        }
    }
    (keys.len() == items.len()).then_some(keys)
}

fn webhook(table: &Table<'_>, claims: &mut Claims, report: &mut Report) -> Option<NotifyWebhook> {
    table.refuse_unknown(&[Section::Notify, Section::NotifyWebhook], report);
    let get = |name| table.get(Section::NotifyWebhook, name);
    let url = match get("url") {
        Some(value) => values::address(&value, Whose::Receiver, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.missing(&table.place, "has no url", hint);
            None
        }
    };
    let file = match get("signing-secret-file") {
        Some(value) => values::path(&value, report),
        None => {
            let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
            report.missing(&table.place, "has no signing-secret-file", hint);
            None
        }
    };
    if let Some(file) = &file {
        claims.reserve(file, Owner::of("signing-secret-file of", &table.place));
    }
    Some(NotifyWebhook {
        url: url?,
        signing_secret_file: file?,
    })
}

fn command(table: &Table<'_>, claims: &mut Claims, report: &mut Report) -> Option<CommandTarget> {
    table.refuse_unknown(&[Section::Notify, Section::NotifyCommand], report);
    let Some(value) = table.get(Section::NotifyCommand, "argv") else {
        let hint = "add argv = [\"/…\"], the program that reads what is wrong from its standard \
                    input";
        report.missing(&table.place, "has no argv", hint);
        return None;
    };
    let argv = command_line(&value, report)?;
    // A program that a file sink replaced would be a secret that is run.
    claims.reserve(argv.path(), Owner::of("argv of", &table.place));
    Some(CommandTarget { argv })
}

fn mail(table: &Table<'_>, report: &mut Report) -> Option<Mail> {
    table.refuse_unknown(&[Section::Notify, Section::NotifySendmail], report);
    let Some(value) = table.get(Section::NotifySendmail, "to") else {
        let hint = "add to = \"…\", the address that it goes to, or a list of them";
        report.missing(&table.place, "has no to", hint);
        return None;
    };
    let items = match value.as_text() {
        Some(_) => vec![value],
        None => value.list_of_text(report)?,
    };
    if items.is_empty() {
        let hint = "name an address, such as \"root\" or \"ops@example.com\"";
        report.wrong(&table.place, "goes to nobody", hint);
        return None;
    }
    let to: Vec<_> = items.iter().map(|item| recipient(item, report)).collect();
    let to = to.into_iter().collect::<Option<Vec<_>>>()?;
    Some(Mail { to })
}

/// An address that is one word of a command line and of a header, and no
/// option.
fn recipient(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = value.text(report)?;
    let plain = |letter: char| letter.is_ascii_graphic() && !",;:<>()[]\\\"|`$".contains(letter);
    let is_plain = !text.is_empty() && text.chars().all(plain) && !text.starts_with('-');
    let is_whole = text.split('@').all(|part| !part.is_empty());
    if is_plain && is_whole && text.matches('@').count() <= 1 {
        return Some(text.to_owned());
    }
    let message = format!("{} is no address for mail", quoted(text));
    let hint = "a user of this host or NAME@HOST is allowed, each in quotes of its own";
    report.wrong(&value.place, message, hint);
    None
}
