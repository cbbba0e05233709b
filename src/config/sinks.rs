//! The sinks of a key.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::check::Claims;
use super::file_sink;
use super::options::Section;
use super::provider::{LONGEST_TIMEOUT, SHORTEST_TIMEOUT};
use super::quote::quoted;
use super::reader::{Place, Report, Table, Value};
use super::values;
use crate::core::names::{NameError, SinkId, is_name};
use crate::core::settings::{SinkSettings, SinkTarget, WebhookTarget};

/// How long one attempt may take by default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The sinks of a key as far as they could be read.
pub(super) struct Sinks(Vec<Sink>);

/// A sink, with where it stands and where its path does.
struct Sink {
    place: Place,
    path: Place,
    settings: SinkSettings,
}

impl Sinks {
    /// Claims the files that are only read.
    pub(super) fn reserve(&self, claims: &mut Claims) {
        for Sink {
            place, settings, ..
        } in &self.0
        {
            match &settings.target {
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
        for Sink {
            place,
            path,
            settings,
        } in &self.0
        {
            match &settings.target {
                SinkTarget::File(file) => {
                    let what = format!("written by {}", place.path());
                    claims.take(&file.path, &what, path, report);
                }
                SinkTarget::Webhook(_) => {}
            }
        }
        let mut sinks: Vec<_> = self.0.into_iter().map(|sink| sink.settings).collect();
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
        if let Some(settings) = sink(table, &mut names, report) {
            sinks.push(Sink {
                place: table.place.clone(),
                path: table.place_of(Section::File, "path"),
                settings,
            });
        }
    }
    // A sink that could not be read may have been the required one.
    let all_read = report.count() == before;
    if all_read && !sinks.iter().any(|sink| sink.settings.required) {
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
            file_sink::file(table, report).map(SinkTarget::File)
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
