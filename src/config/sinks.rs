//! `[[key.NAME.sink]]`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::check::target_url;
use crate::config::reader::Section;
use crate::core::names::{self, SinkId};
use crate::core::settings::{FileFormat, FileTarget, SinkSettings, SinkTarget, WebhookTarget};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A key's sinks in the order of delivery: the required ones first.
pub(crate) fn sinks(key: &Section<'_>) -> Vec<SinkSettings> {
    let sections = key.tables("sink");
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut sound = true;
    for section in &sections {
        let read = sink(section);
        sound &= read.is_some();
        let Some(read) = read else { continue };
        if !seen.insert(read.id.name.clone()) {
            section.wrong(format!(
                "a second sink named {:?}; give each sink of one type a name of its own",
                read.id.name
            ));
        }
        found.push(read);
    }
    if sound && !found.iter().any(|sink| sink.required) {
        key.wrong("no required sink; it needs one, such as [[key.NAME.sink]] with type = \"file\"");
    }
    found.sort_by_key(|sink| !sink.required);
    found
}

fn sink(section: &Section<'_>) -> Option<SinkSettings> {
    let kind = section.text("type");
    let Some(kind) = kind else {
        section.wrong("no type; it is \"file\" or \"webhook\"");
        return None;
    };
    let name = name(section, kind.value);
    let required = section.boolean("required", true);
    let second = Duration::from_secs(1);
    let timeout = section.bounded("timeout", DEFAULT_TIMEOUT, second, LONGEST_TIMEOUT);
    let target = match kind.value {
        "file" => file(section).map(SinkTarget::File),
        "webhook" => webhook(section).map(SinkTarget::Webhook),
        other => {
            section.bad(
                &kind,
                format!("found {other:?}; it is \"file\" or \"webhook\""),
            );
            return None;
        }
    };
    section.finish();
    let (name, target) = (name?, target?);
    let id = SinkId {
        name,
        target: text_of(&target),
    };
    section.is_sound().then_some(SinkSettings {
        id,
        required,
        timeout,
        target,
    })
}

fn name(section: &Section<'_>, kind: &str) -> Option<String> {
    let Some(found) = section.text("name") else {
        return Some(kind.to_owned());
    };
    if !names::is_name(found.value) {
        section.bad(
            &found,
            "a sink's name is 1 to 48 characters of a-z, 0-9 and -, not beginning with -",
        );
        return None;
    }
    Some(found.value.to_owned())
}

/// The target as the ledger knows it: a path, or a URL without its query.
fn text_of(target: &SinkTarget) -> String {
    match target {
        SinkTarget::File(file) => format!("file:{}", file.path.display()),
        SinkTarget::Webhook(webhook) => {
            let mut url = webhook.url.clone();
            url.set_query(None);
            format!("webhook:{url}")
        }
    }
}

fn file(section: &Section<'_>) -> Option<FileTarget> {
    let path = section.file("path");
    if path.is_none() && section.is_sound() {
        section.wrong("no path; it is the file that is replaced");
    }
    let format = format(section);
    let mode = mode(section);
    let owner = section.text("owner").map(|found| found.value.to_owned());
    let group = section.text("group").map(|found| found.value.to_owned());
    let path = path?;
    if path.value.file_name().is_none() || path.value.components().any(is_upwards) {
        section.bad(&path, "it must name a file, without ..");
        return None;
    }
    Some(FileTarget {
        path: path.value,
        format: format?,
        mode: mode?,
        owner,
        group,
    })
}

fn is_upwards(part: std::path::Component<'_>) -> bool {
    matches!(part, std::path::Component::ParentDir)
}

fn format(section: &Section<'_>) -> Option<FileFormat> {
    let variable = section.text("variable");
    let format = section.text("format");
    let format_text = format.as_ref().map_or("raw", |found| found.value);
    if format_text != "env"
        && let Some(variable) = &variable
    {
        section.bad(variable, "it goes with format = \"env\"");
        return None;
    }
    match (format_text, format) {
        ("raw", _) => Some(FileFormat::Raw),
        ("json", _) => Some(FileFormat::Json),
        ("env", _) => match variable {
            Some(found) if !is_variable(found.value) => {
                section.bad(
                    &found,
                    "it must be a name of A-Z, a-z, 0-9 and _, not beginning with a digit",
                );
                None
            }
            Some(found) => Some(FileFormat::Env {
                variable: found.value.to_owned(),
            }),
            None => Some(FileFormat::Env {
                variable: "OPENAI_ADMIN_KEY".to_owned(),
            }),
        },
        (other, Some(found)) => {
            section.bad(
                &found,
                format!("found {other:?}; it is \"raw\", \"env\" or \"json\""),
            );
            None
        }
        (_, None) => Some(FileFormat::Raw),
    }
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn mode(section: &Section<'_>) -> Option<u32> {
    let Some(found) = section.text("mode") else {
        return Some(0o600);
    };
    let octal = found.value.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    let read = if octal && matches!(found.value.len(), 3 | 4) {
        u32::from_str_radix(found.value, 8).ok()
    } else {
        None
    };
    match read {
        // A secret that everybody reads is none; what runs is no secret.
        Some(mode) if mode & 0o7117 == 0 && mode & 0o400 != 0 => Some(mode),
        Some(_) | None => {
            section.bad(
                &found,
                format!(
                    "found {:?}; it must be octal digits that let nobody but owner and group in, \
                     such as \"0600\" or \"0640\"",
                    found.value
                ),
            );
            None
        }
    }
}

fn webhook(section: &Section<'_>) -> Option<WebhookTarget> {
    let url = section.text("url");
    let signing_secret_file = section.file("signing-secret-file");
    if section.is_sound() {
        if url.is_none() {
            section.wrong("no url; it is where the secret is posted to");
        }
        if signing_secret_file.is_none() {
            section.wrong("no signing-secret-file; it holds the whsec_... that signs each post");
        }
    }
    let url = url.and_then(|found| target_url(section, &found));
    let bearer_token_file = section.file("bearer-token-file").map(|found| found.value);
    let ca_file = section.file("ca-file").map(|found| found.value);
    Some(WebhookTarget {
        url: url?,
        signing_secret_file: signing_secret_file?.value,
        bearer_token_file,
        ca_file,
    })
}
