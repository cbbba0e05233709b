//! The sinks of a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::check::{Claims, Owner};
use super::options::Section;
use super::place::Place;
use super::provider::{LONGEST_TIMEOUT, SHORTEST_TIMEOUT};
use super::quote::quoted;
use super::reader::{Table, Value};
use super::report::Report;
use super::values::{self, Whose};
use super::{command_sink, file_sink};
use crate::core::names::{NameError, SinkId, is_name};
use crate::core::settings::{
    CommandTarget, FileFormat, FileTarget, SinkSettings, SinkTarget, WebhookTarget,
};

/// What a message says of the types.
const TYPES: &str = "\"file\", \"webhook\", \"command\" or \"self\" is allowed";

/// How long one attempt may take by default.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The sinks of a key as far as they could be read.
pub(super) struct Sinks(Vec<Sink>);

/// A sink. Its files count also when something else about it is wrong: two
/// sinks that write one file are told beside the names that they lack.
struct Sink {
    place: Place,
    files: Files,
    settings: Option<SinkSettings>,
}

/// The files that a sink names.
#[derive(Default)]
struct Files {
    /// The one that is replaced, and where that is said.
    written: Option<(PathBuf, Place)>,
    /// Those that are only read, with their options.
    read: Vec<(&'static str, PathBuf)>,
}

impl Sinks {
    /// Claims the files that are only read.
    pub(super) fn reserve(&self, claims: &mut Claims) {
        for sink in &self.0 {
            for (option, file) in &sink.files.read {
                claims.reserve(file, Owner::of(format!("{option} of"), &sink.place));
            }
        }
    }

    /// Claims the files that are written, and gives the sinks in the order of
    /// delivery: the required ones first, rekeyd's own last, else as they were
    /// written.
    pub(super) fn claim(self, claims: &mut Claims, report: &mut Report) -> Vec<Arc<SinkSettings>> {
        for sink in &self.0 {
            let Some((file, place)) = &sink.files.written else {
                continue;
            };
            let owner = Owner::of("written by", &sink.place).writing_first("written first by");
            claims.take(file, owner, place, report);
        }
        let settings = self.0.into_iter().filter_map(|sink| sink.settings);
        let mut sinks: Vec<_> = settings.map(Arc::new).collect();
        // They were collected in the room of what was read.
        sinks.shrink_to_fit();
        sinks.sort_by_key(|sink| (!sink.required, is_own(sink)));
        sinks
    }
}

fn is_own(sink: &SinkSettings) -> bool {
    match sink.target {
        SinkTarget::Own(_) => true,
        SinkTarget::File(_) | SinkTarget::Webhook(_) | SinkTarget::Command(_) => false,
    }
}

/// What a sink of type "self" stands for. There is one credential that rekeyd
/// works with, so one sink may replace it.
pub(super) struct Own<'c> {
    credential_file: Option<&'c Path>,
    taken: Option<Place>,
}

impl<'c> Own<'c> {
    pub(super) fn new(credential_file: Option<&'c Path>) -> Self {
        Self {
            credential_file,
            taken: None,
        }
    }

    fn take(&mut self, table: &Table<'_>, report: &mut Report) -> Option<FileTarget> {
        table.refuse_unknown(&[Section::Sink, Section::Own], report);
        let place = table.place_of(Section::Sink, "type");
        if let Some(other) = &self.taken {
            let message = format!("{other} replaces rekeyd's own admin key already");
            let hint = "there may be one sink of type \"self\" in the whole file";
            report.wrong(&place, message, hint);
            return None;
        }
        self.taken = Some(table.place.clone());
        let Some(file) = self.credential_file else {
            let message = "replaces [provider] credential-file, and there is none";
            let hint = "set it to the file with the admin key that rekeyd works with";
            report.wrong(&place, message.to_owned(), hint);
            return None;
        };
        Some(FileTarget {
            path: file.to_owned(),
            format: FileFormat::Raw,
            mode: file_sink::MODE,
            owner: None,
            group: None,
            after: None,
        })
    }
}

/// How the name of a file ends that is written first.
const WRITTEN_FIRST: &str = ".rekeyd";

/// The file beside the target that takes the secret before it is renamed.
pub(super) fn written_first(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(WRITTEN_FIRST);
    path.with_file_name(name)
}

/// Whether a file is called like one that is written first.
pub(super) fn is_written_first(path: &Path) -> bool {
    let ends_so = path
        .as_os_str()
        .as_bytes()
        .ends_with(WRITTEN_FIRST.as_bytes());
    ends_so
        && path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b"."))
}

/// Reads the sinks of the key in `key`.
pub(super) fn sinks(key: &Table<'_>, own: &mut Own<'_>, report: &mut Report) -> Sinks {
    let hint = || format!("add one under [[{}.sink]]", key.place);
    let Some(list) = key.get(Section::Key, "sink") else {
        report.missing(&key.place, "has no sink", &hint());
        return Sinks(Vec::new());
    };
    let before = report.count();
    let tables = list.tables(report);
    let all_are_tables = report.count() == before;
    let is_optional = |table: &Table<'_>| {
        let given = table.get(Section::Sink, "required");
        given.is_some_and(|value| value.as_flag() == Some(false))
    };
    if all_are_tables && tables.iter().all(is_optional) {
        if tables.is_empty() {
            report.missing(&key.place, "has no sink", &hint());
        } else {
            let hint = format!("{}, without required = false", hint());
            report.missing(&key.place, "has no required sink", &hint);
        }
    }
    let mut names = Names::of(&tables);
    let mut sinks = Vec::with_capacity(tables.len());
    for table in &tables {
        sinks.extend(sink(table, &mut names, own, report));
    }
    Sinks(sinks)
}

/// The names of one key's sinks.
struct Names {
    /// How many sinks there are of each type, if there are several.
    types: BTreeMap<String, usize>,
    /// Which sink bears a name, if there are several.
    taken: BTreeMap<String, Place>,
}

impl Names {
    fn of(tables: &[Table<'_>]) -> Self {
        let mut types = BTreeMap::new();
        // One alone shares neither its type nor its name.
        let several = if tables.len() > 1 { tables } else { &[] };
        for table in several {
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
        if !self.types.is_empty() {
            self.taken.insert(name.to_owned(), table.place.clone());
        }
        Some(name.to_owned())
    }
}

fn sink(
    table: &Table<'_>,
    names: &mut Names,
    own: &mut Own<'_>,
    report: &mut Report,
) -> Option<Sink> {
    let get = |name| table.get(Section::Sink, name);
    let Some(kind) = get("type") else {
        report.missing(&table.place, "has no type", TYPES);
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
    let mut files = Files::default();
    let target = match text {
        "file" => file(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::File),
        "webhook" => webhook(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::Webhook),
        "command" => command(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::Command),
        "self" => own.take(table, report).map(Arc::new).map(SinkTarget::Own),
        other => {
            let message = format!("there is no sink type {}", quoted(other));
            report.wrong(&kind.place, message, TYPES);
            None
        }
    };
    let settings = (|| {
        let target = target?;
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
    })();
    Some(Sink {
        place: table.place.clone(),
        files,
        settings,
    })
}

/// What the ledger remembers a sink by. Without a query: that may hold a token.
fn target_text(target: &SinkTarget) -> String {
    match target {
        SinkTarget::File(file) => "file:".to_owned() + &file.path.to_string_lossy(),
        SinkTarget::Own(file) => "self:".to_owned() + &file.path.to_string_lossy(),
        SinkTarget::Webhook(webhook) => {
            let mut url: Url = webhook.url.clone();
            url.set_query(None);
            url.set_fragment(None);
            format!("webhook:{url}")
        }
        SinkTarget::Command(command) => format!("command:{}", command.argv),
    }
}

fn file(table: &Table<'_>, files: &mut Files, report: &mut Report) -> Option<FileTarget> {
    table.refuse_unknown(&[Section::Sink, Section::File], report);
    let path = file_sink::path(table, report);
    if let Some(path) = &path {
        let place = table.place_of(Section::File, "path");
        files.written = Some((path.clone(), place));
    }
    let target = file_sink::target(table, path, report)?;
    if let Some(after) = &target.after {
        files.read.push(("after", after.argv.path().to_owned()));
    }
    Some(target)
}

fn webhook(table: &Table<'_>, files: &mut Files, report: &mut Report) -> Option<WebhookTarget> {
    table.refuse_unknown(&[Section::Sink, Section::Webhook], report);
    let get = |name| table.get(Section::Webhook, name);
    let url = match get("url") {
        Some(value) => values::address(&value, Whose::Receiver, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.missing(&table.place, "has no url", hint);
            None
        }
    };
    if get("signing-secret-file").is_none() {
        let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
        report.missing(&table.place, "has no signing-secret-file", hint);
    }
    let mut file = |name| {
        let path = get(name).and_then(|value| values::path(&value, report))?;
        files.read.push((name, path.clone()));
        Some(path)
    };
    let signing_secret_file = file("signing-secret-file");
    let bearer_token_file = file("bearer-token-file");
    let ca_file = file("ca-file");
    Some(WebhookTarget {
        url: url?,
        signing_secret_file: signing_secret_file?,
        bearer_token_file,
        ca_file,
    })
}

fn command(table: &Table<'_>, files: &mut Files, report: &mut Report) -> Option<CommandTarget> {
    table.refuse_unknown(&[Section::Sink, Section::Command], report);
    let target = command_sink::target(table, report)?;
    // A program that a file sink replaced would be a secret that is run.
    files.read.push(("argv", target.argv.path().to_owned()));
    Some(target)
}
