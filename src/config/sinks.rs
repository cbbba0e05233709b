//! The sinks of a key.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::check::Claims;
use super::options::Section;
use super::provider::{LONGEST_TIMEOUT, SHORTEST_TIMEOUT};
use super::reader::{Place, Report, Table, Value, quoted};
use super::values;
use crate::core::names::{NameError, SinkId, is_name};
use crate::core::settings::{FileFormat, FileTarget, SinkSettings, SinkTarget, WebhookTarget};

/// How long one attempt may take by default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a file may be used for by default: only by its owner.
const MODE: u32 = 0o600;

/// The variable of `format = "env"` by default.
const VARIABLE: &str = "OPENAI_ADMIN_KEY";

/// The sinks of a key as far as they could be read, each with its place.
pub(super) struct Sinks(Vec<(Place, SinkSettings)>);

impl Sinks {
    /// Claims the files that are only read.
    pub(super) fn reserve(&self, claims: &mut Claims) {
        for (place, sink) in &self.0 {
            match &sink.target {
                SinkTarget::File(_) => {}
                SinkTarget::Webhook(webhook) => {
                    let what = |option| format!("{} of {}", option, place.path());
                    claims.reserve(&webhook.signing_secret_file, &what("signing-secret-file"));
                    if let Some(file) = &webhook.bearer_token_file {
                        claims.reserve(file, &what("bearer-token-file"));
                    }
                    if let Some(file) = &webhook.ca_file {
                        claims.reserve(file, &what("ca-file"));
                    }
                }
            }
        }
    }

    /// Claims the files that are written, and gives the sinks in the order of
    /// delivery: the required ones first, else as they were written.
    pub(super) fn claim(self, claims: &mut Claims, report: &mut Report) -> Vec<SinkSettings> {
        for (place, sink) in &self.0 {
            match &sink.target {
                SinkTarget::File(file) => {
                    let what = format!("written by {}", place.path());
                    claims.take(&file.path, &what, &place.option("path"), report);
                }
                SinkTarget::Webhook(_) => {}
            }
        }
        let mut sinks: Vec<_> = self.0.into_iter().map(|(_, sink)| sink).collect();
        sinks.sort_by_key(|sink| !sink.required);
        sinks
    }
}

/// Reads the sinks of the key in `key`.
pub(super) fn sinks(key: &Table<'_>, report: &mut Report) -> Sinks {
    let hint = format!("add one under [[{}.sink]]", key.place.path());
    let Some(list) = key.get(Section::Key, "sink") else {
        report.missing(&key.place, "has no sink", &hint);
        return Sinks(Vec::new());
    };
    let before = report.count();
    let tables = list.tables(report);
    let mut sinks = Vec::new();
    let mut names = Names::of(&tables);
    for table in &tables {
        if let Some(sink) = sink(table, &mut names, report) {
            sinks.push((table.place.clone(), sink));
        }
    }
    // A sink that could not be read may have been the required one.
    let all_read = report.count() == before;
    if all_read && !sinks.iter().any(|(_, sink)| sink.required) {
        let message = if sinks.is_empty() {
            "has no sink"
        } else {
            "has no required sink"
        };
        let hint = format!("{hint}, without required = false");
        report.missing(&key.place, message, &hint);
    }
    Sinks(sinks)
}

/// The names of one key's sinks.
struct Names {
    /// How many sinks there are of each type.
    types: BTreeMap<String, usize>,
    /// Which sink bears a name.
    taken: BTreeMap<String, String>,
}

impl Names {
    fn of(tables: &[Table<'_>]) -> Self {
        let mut types = BTreeMap::new();
        for table in tables {
            let kind = table.get(Section::Sink, "type");
            if let Some(kind) = kind.as_ref().and_then(Value::as_text) {
                *types.entry(kind.to_owned()).or_default() += 1;
            }
        }
        Self {
            types,
            taken: BTreeMap::new(),
        }
    }

    fn take(&mut self, table: &Table<'_>, kind: &str, report: &mut Report) -> Option<String> {
        let given = table.get(Section::Sink, "name");
        let place = given.as_ref().map_or(&table.place, |value| &value.place);
        let name = match &given {
            Some(value) => value.text(report)?,
            None if self.types.get(kind).is_some_and(|count| *count > 1) => {
                report.wrong(
                    place,
                    format!("has no name, and the key has another sink of type \"{kind}\""),
                    "give each of them a name = \"…\"",
                );
                return None;
            }
            None => kind,
        };
        if !is_name(name) {
            let message = format!("{} is no name for a sink", quoted(name));
            report.wrong(place, message, NameError::Form.to_string());
            return None;
        }
        if let Some(other) = self.taken.get(name) {
            let message = format!("{} is the name of {other} already", quoted(name));
            report.wrong(place, message, "give each sink of a key another name");
            return None;
        }
        let at = table.place.path().to_owned();
        self.taken.insert(name.to_owned(), at);
        Some(name.to_owned())
    }
}

fn sink(table: &Table<'_>, names: &mut Names, report: &mut Report) -> Option<SinkSettings> {
    let get = |name| table.get(Section::Sink, name);
    let allowed = "\"file\" or \"webhook\" is allowed";
    let Some(kind) = get("type") else {
        report.missing(&table.place, "has no type", allowed);
        return None;
    };
    let text = kind.text(report)?;
    let required = match get("required") {
        Some(value) => value.flag(report),
        None => Some(true),
    };
    let timeout = match get("timeout") {
        Some(value) => values::span(&value, SHORTEST_TIMEOUT, LONGEST_TIMEOUT, report),
        None => Some(TIMEOUT),
    };
    let name = names.take(table, text, report);
    let target = match text {
        "file" => {
            table.refuse_unknown(&[Section::Sink, Section::File], report);
            file(table, report).map(SinkTarget::File)
        }
        "webhook" => {
            table.refuse_unknown(&[Section::Sink, Section::Webhook], report);
            webhook(table, report).map(SinkTarget::Webhook)
        }
        other => {
            let message = format!("there is no sink type {}", quoted(other));
            report.wrong(&kind.place, message, allowed);
            None
        }
    }?;
    let id = SinkId {
        name: name?,
        target: target_text(&target),
    };
    Some(SinkSettings {
        id,
        required: required?,
        timeout: timeout?,
        target,
    })
}

/// What the ledger remembers a sink by. Without a query: that may hold a token.
fn target_text(target: &SinkTarget) -> String {
    match target {
        SinkTarget::File(file) => format!("file:{}", file.path.display()),
        SinkTarget::Webhook(webhook) => {
            let mut url: Url = webhook.url.clone();
            url.set_query(None);
            url.set_fragment(None);
            format!("webhook:{url}")
        }
    }
}

fn file(table: &Table<'_>, report: &mut Report) -> Option<FileTarget> {
    let get = |name| table.get(Section::File, name);
    let path = match get("path") {
        Some(value) => values::path(&value, report),
        None => {
            let hint = "add path = \"/…\", the file to be written";
            report.missing(&table.place, "has no path", hint);
            None
        }
    };
    let format = format(table, report);
    let mode = match get("mode") {
        Some(value) => mode(&value, report),
        None => Some(MODE),
    };
    let owner = get("owner").and_then(|value| account(&value, report));
    let group = get("group").and_then(|value| account(&value, report));
    Some(FileTarget {
        path: path?,
        format: format?,
        mode: mode?,
        owner,
        group,
    })
}

fn format(table: &Table<'_>, report: &mut Report) -> Option<FileFormat> {
    let given = table.get(Section::File, "format");
    let format = match &given {
        Some(value) => value.text(report)?,
        None => "raw",
    };
    let variable = table.get(Section::File, "variable");
    match format {
        "env" => {
            let variable = match variable {
                Some(value) => environment_name(&value, report)?,
                None => VARIABLE.to_owned(),
            };
            return Some(FileFormat::Env { variable });
        }
        "raw" | "json" => {}
        other => {
            let place = given.as_ref().map_or(&table.place, |value| &value.place);
            let message = format!("there is no format {}", quoted(other));
            report.wrong(place, message, "\"raw\", \"env\" or \"json\" is allowed");
            return None;
        }
    }
    if let Some(value) = variable {
        let message = format!("means nothing with format = \"{format}\"");
        report.wrong(
            &value.place,
            message,
            "leave it out, or write format = \"env\"",
        );
    }
    Some(if format == "json" {
        FileFormat::Json
    } else {
        FileFormat::Raw
    })
}

fn environment_name(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = value.text(report)?;
    let form = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts = text
        .bytes()
        .next()
        .is_some_and(|byte| !byte.is_ascii_digit());
    if starts && text.bytes().all(form) {
        return Some(text.to_owned());
    }
    let message = format!("{} is no name of a variable", quoted(text));
    let hint = "letters, digits and _ are allowed, and no digit first";
    report.wrong(&value.place, message, hint);
    None
}

fn mode(value: &Value<'_>, report: &mut Report) -> Option<u32> {
    let text = value.text(report)?;
    let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let bits = u32::from_str_radix(text, 8).ok().filter(|_| octal);
    let wrong = match bits {
        None => "is no mode",
        Some(bits) if bits & 0o7000 != 0 => "has a setuid, setgid or sticky bit",
        Some(bits) if bits & 0o002 != 0 => "lets everybody write the file",
        Some(bits) => return Some(bits),
    };
    let hint = "octal digits in quotes, such as \"0600\" or \"0640\", are allowed";
    report.wrong(&value.place, format!("{} {wrong}", quoted(text)), hint);
    None
}

/// A user or group by name or number; whether there is one is the host's
/// affair.
fn account(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = value.text(report)?;
    let form = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/');
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(form) {
        return Some(text.to_owned());
    }
    let message = format!("{} is no name or number of an account", quoted(text));
    report.wrong(&value.place, message, "such as \"billing\" or \"1000\"");
    None
}

fn webhook(table: &Table<'_>, report: &mut Report) -> Option<WebhookTarget> {
    let get = |name| table.get(Section::Webhook, name);
    let url = match get("url") {
        Some(value) => values::address(&value, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.missing(&table.place, "has no url", hint);
            None
        }
    };
    let signing_secret_file = match get("signing-secret-file") {
        Some(value) => values::path(&value, report),
        None => {
            let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
            report.missing(&table.place, "has no signing-secret-file", hint);
            None
        }
    };
    let file = |name, report: &mut Report| get(name).and_then(|v| values::path(&v, report));
    let bearer_token_file = file("bearer-token-file", report);
    let ca_file = file("ca-file", report);
    Some(WebhookTarget {
        url: url?,
        signing_secret_file: signing_secret_file?,
        bearer_token_file,
        ca_file,
    })
}
