//! The sinks of a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::check::{PathClaims, PathOwner};
use super::location::Location;
use super::options::Section;
use super::provider::{MAX_TIMEOUT, MIN_TIMEOUT};
use super::quote::quoted;
use super::reader::{ConfigTable, ConfigValue};
use super::report::ProblemReport;
use super::values::{self, UrlRole};
use super::{command_sink, file_sink};
use crate::core::ids::{NameError, SinkId, is_valid_name};
use crate::core::settings::{
    CommandTarget, FileFormat, FileTarget, SinkSettings, SinkTarget, WebhookTarget,
};

/// What a message says of the types.
const ALLOWED_TYPES: &str = "\"file\", \"webhook\", \"command\" or \"self\" is allowed";

/// How long one attempt may take by default.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The sinks of a key as far as they could be read.
pub(super) struct ParsedSinks(Vec<ParsedSink>);

/// A sink. Its files count also when something else about it is wrong: two
/// sinks that write one file are told beside the names that they lack.
struct ParsedSink {
    location: Location,
    files: SinkFiles,
    settings: Option<SinkSettings>,
}

/// The files that a sink names.
#[derive(Default)]
struct SinkFiles {
    /// The one that is replaced, and where that is said.
    written: Option<(PathBuf, Location)>,
    /// Those that are only read, with their options.
    read_only: Vec<(&'static str, PathBuf)>,
}

impl ParsedSinks {
    /// Claims the files that are only read.
    pub(super) fn reserve_files(&self, claims: &mut PathClaims) {
        for sink in &self.0 {
            for (option, file) in &sink.files.read_only {
                claims.reserve(file, PathOwner::of(format!("{option} of"), &sink.location));
            }
        }
    }

    /// Claims the files that are written, and gives the sinks in the order of
    /// delivery: the required ones first, rekeyd's own last, else as they were
    /// written.
    pub(super) fn claim_files(
        self,
        claims: &mut PathClaims,
        report: &mut ProblemReport,
    ) -> Vec<Arc<SinkSettings>> {
        for sink in &self.0 {
            let Some((file, place)) = &sink.files.written else {
                continue;
            };
            let owner =
                PathOwner::of("written by", &sink.location).with_temp_file("written first by");
            claims.claim(file, owner, place, report);
        }
        let settings = self.0.into_iter().filter_map(|sink| sink.settings);
        let mut sinks: Vec<_> = settings.map(Arc::new).collect();
        // They were collected in the room of what was read.
        sinks.shrink_to_fit();
        sinks.sort_by_key(|sink| (!sink.required, rotates_own_credential(sink)));
        sinks
    }
}

fn rotates_own_credential(sink: &SinkSettings) -> bool {
    match sink.target {
        SinkTarget::SelfCredential(_) => true,
        SinkTarget::File(_) | SinkTarget::Webhook(_) | SinkTarget::Command(_) => false,
    }
}

/// What a sink of type "self" stands for. There is one credential that rekeyd
/// works with, so one sink may replace it.
pub(super) struct SelfCredentialClaim<'c> {
    credential_file: Option<&'c Path>,
    claimed_by: Option<Location>,
}

impl<'c> SelfCredentialClaim<'c> {
    pub(super) fn new(credential_file: Option<&'c Path>) -> Self {
        Self {
            credential_file,
            claimed_by: None,
        }
    }

    fn claim(&mut self, table: &ConfigTable<'_>, report: &mut ProblemReport) -> Option<FileTarget> {
        table.reject_unknown(&[Section::Sink, Section::SelfCredential], report);
        let place = table.location_of(Section::Sink, "type");
        if let Some(other) = &self.claimed_by {
            let message = format!("{other} replaces rekeyd's own admin key already");
            let hint = "there may be one sink of type \"self\" in the whole file";
            report.add_problem(&place, message, hint);
            return None;
        }
        self.claimed_by = Some(table.location.clone());
        let Some(file) = self.credential_file else {
            let message = "replaces [provider] credential-file, and there is none";
            let hint = "set it to the file with the admin key that rekeyd works with";
            report.add_problem(&place, message.to_owned(), hint);
            return None;
        };
        Some(FileTarget {
            path: file.to_owned(),
            format: FileFormat::Raw,
            mode: file_sink::DEFAULT_MODE,
            owner: None,
            group: None,
            on_change: None,
        })
    }
}

/// How the name of a file ends that is written first.
const TEMP_FILE_SUFFIX: &str = ".rekeyd";

/// The file beside the target that takes the secret before it is renamed.
pub(super) fn temp_file_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(TEMP_FILE_SUFFIX);
    path.with_file_name(name)
}

/// Whether a file is called like one that is written first.
pub(super) fn is_temp_file_name(path: &Path) -> bool {
    let ends_so = path
        .as_os_str()
        .as_bytes()
        .ends_with(TEMP_FILE_SUFFIX.as_bytes());
    ends_so
        && path
            .file_name()
            .is_some_and(|name| name.as_bytes().starts_with(b"."))
}

/// Reads the sinks of the key in `key`.
pub(super) fn read_sinks(
    key: &ConfigTable<'_>,
    own: &mut SelfCredentialClaim<'_>,
    report: &mut ProblemReport,
) -> ParsedSinks {
    let hint = || format!("add one under [[{}.sink]]", key.location);
    let Some(list) = key.get(Section::Key, "sink") else {
        report.add_missing(&key.location, "has no sink", &hint());
        return ParsedSinks(Vec::new());
    };
    let before = report.count();
    let tables = list.tables(report);
    let all_are_tables = report.count() == before;
    let is_optional = |table: &ConfigTable<'_>| {
        let given = table.get(Section::Sink, "required");
        given.is_some_and(|value| value.as_flag() == Some(false))
    };
    if all_are_tables && tables.iter().all(is_optional) {
        if tables.is_empty() {
            report.add_missing(&key.location, "has no sink", &hint());
        } else {
            let hint = format!("{}, without required = false", hint());
            report.add_missing(&key.location, "has no required sink", &hint);
        }
    }
    let mut names = SinkNames::new(&tables);
    let mut sinks = Vec::with_capacity(tables.len());
    for table in &tables {
        sinks.extend(read_sink(table, &mut names, own, report));
    }
    ParsedSinks(sinks)
}

/// The names of one key's sinks.
struct SinkNames {
    /// How many sinks there are of each type, if there are several.
    type_counts: BTreeMap<String, usize>,
    /// Which sink bears a name, if there are several.
    used: BTreeMap<String, Location>,
}

impl SinkNames {
    fn new(tables: &[ConfigTable<'_>]) -> Self {
        let mut types = BTreeMap::new();
        // One alone shares neither its type nor its name.
        let several = if tables.len() > 1 { tables } else { &[] };
        for table in several {
            let kind = table.get(Section::Sink, "type");
            if let Some(kind) = kind.as_ref().and_then(ConfigValue::as_text) {
                *types.entry(kind.to_owned()).or_default() += 1;
            }
        }
        Self {
            type_counts: types,
            used: BTreeMap::new(),
        }
    }

    fn assign(
        &mut self,
        table: &ConfigTable<'_>,
        kind: &str,
        report: &mut ProblemReport,
    ) -> Option<String> {
        let given = table.get(Section::Sink, "name");
        let place = given
            .as_ref()
            .map_or(&table.location, |value| &value.location);
        let name = match &given {
            Some(value) => value.text(report)?,
            None if self.type_counts.get(kind).is_some_and(|count| *count > 1) => {
                report.add_problem(
                    place,
                    format!("has no name, and the key has another sink of type \"{kind}\""),
                    "give each of them a name = \"…\"",
                );
                return None;
            }
            None => kind,
        };
        if !is_valid_name(name) {
            let message = format!("{} is no name for a sink", quoted(name));
            report.add_problem(place, message, NameError::InvalidForm.to_string());
            return None;
        }
        if let Some(other) = self.used.get(name) {
            let message = format!("{} is the name of {other} already", quoted(name));
            report.add_problem(place, message, "give each sink of a key another name");
            return None;
        }
        if !self.type_counts.is_empty() {
            self.used.insert(name.to_owned(), table.location.clone());
        }
        Some(name.to_owned())
    }
}

fn read_sink(
    table: &ConfigTable<'_>,
    names: &mut SinkNames,
    own: &mut SelfCredentialClaim<'_>,
    report: &mut ProblemReport,
) -> Option<ParsedSink> {
    let get = |name| table.get(Section::Sink, name);
    let Some(kind) = get("type") else {
        report.add_missing(&table.location, "has no type", ALLOWED_TYPES);
        return None;
    };
    let text = kind.text(report)?;
    let required = match get("required") {
        Some(value) => value.flag(report),
        None => Some(true),
    };
    let timeout = match get("timeout") {
        Some(value) => values::read_duration(&value, MIN_TIMEOUT, MAX_TIMEOUT, report),
        None => Some(DEFAULT_TIMEOUT),
    };
    let name = names.assign(table, text, report);
    let mut files = SinkFiles::default();
    let target = match text {
        "file" => read_file_sink(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::File),
        "webhook" => read_webhook_sink(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::Webhook),
        "command" => read_command_sink(table, &mut files, report)
            .map(Arc::new)
            .map(SinkTarget::Command),
        "self" => own
            .claim(table, report)
            .map(Arc::new)
            .map(SinkTarget::SelfCredential),
        other => {
            let message = format!("there is no sink type {}", quoted(other));
            report.add_problem(&kind.location, message, ALLOWED_TYPES);
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
    Some(ParsedSink {
        location: table.location.clone(),
        files,
        settings,
    })
}

/// What the ledger remembers a sink by. Without a query: that may hold a token.
fn target_text(target: &SinkTarget) -> String {
    match target {
        SinkTarget::File(file) => "file:".to_owned() + &file.path.to_string_lossy(),
        SinkTarget::SelfCredential(file) => "self:".to_owned() + &file.path.to_string_lossy(),
        SinkTarget::Webhook(webhook) => {
            let mut url: Url = webhook.url.clone();
            url.set_query(None);
            url.set_fragment(None);
            format!("webhook:{url}")
        }
        SinkTarget::Command(command) => format!("command:{}", command.argv),
    }
}

fn read_file_sink(
    table: &ConfigTable<'_>,
    files: &mut SinkFiles,
    report: &mut ProblemReport,
) -> Option<FileTarget> {
    table.reject_unknown(&[Section::Sink, Section::File], report);
    let path = file_sink::read_path(table, report);
    if let Some(path) = &path {
        let place = table.location_of(Section::File, "path");
        files.written = Some((path.clone(), place));
    }
    let target = file_sink::read_target(table, path, report)?;
    if let Some(after) = &target.on_change {
        files
            .read_only
            .push(("on-change", after.argv.path().to_owned()));
    }
    Some(target)
}

fn read_webhook_sink(
    table: &ConfigTable<'_>,
    files: &mut SinkFiles,
    report: &mut ProblemReport,
) -> Option<WebhookTarget> {
    table.reject_unknown(&[Section::Sink, Section::Webhook], report);
    let get = |name| table.get(Section::Webhook, name);
    let url = match get("url") {
        Some(value) => values::read_url(&value, UrlRole::Receiver, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.add_missing(&table.location, "has no url", hint);
            None
        }
    };
    if get("signing-secret-file").is_none() {
        let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
        report.add_missing(&table.location, "has no signing-secret-file", hint);
    }
    let mut file = |name| {
        let path = get(name).and_then(|value| values::read_path(&value, report))?;
        files.read_only.push((name, path.clone()));
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

fn read_command_sink(
    table: &ConfigTable<'_>,
    files: &mut SinkFiles,
    report: &mut ProblemReport,
) -> Option<CommandTarget> {
    table.reject_unknown(&[Section::Sink, Section::Command], report);
    let target = command_sink::read_target(table, report)?;
    // A program that a file sink replaced would be a secret that is run.
    files
        .read_only
        .push(("argv", target.argv.path().to_owned()));
    Some(target)
}
