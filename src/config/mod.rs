//! The configuration file: read, checked, every problem at once.
//!
//! [`load`] gives what the program works with, or everything that only an edit
//! of the file can repair; [`host_problems`] is what the host may repair.
//! Deliberately not here: whether anything answers at the addresses that the
//! file names.

mod check;
mod chunks;
mod command_sink;
mod control;
mod file_sink;
mod host_checks;
mod key_options;
mod keys;
mod location;
mod notify;
pub mod options;
mod policy;
mod problem;
mod provider;
mod quote;
mod reader;
mod report;
mod sinks;
mod source_file;
mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use toml::de::DeTable;

use crate::core::settings::Settings;
use chunks::ConfigChunks;
use keys::UnparsedKeys;
use options::Section;
use reader::{ConfigTable, OwnedEntry};
use report::ProblemReport;

pub use host_checks::host_problems;
pub use problem::{Problem, ProblemKind};

/// Where systemd looks for what `LoadCredential=` names without a path.
const CREDENTIAL_STORES: [&str; 2] = ["/etc/credstore", "/etc/credstore.encrypted"];

/// What the configuration depends on besides its file, as plain values.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `$STATE_DIRECTORY`, the first of it: where the ledger is by default.
    pub state_directory: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`: what is in it is not checked for its rights.
    pub credentials_directory: Option<PathBuf>,
    /// Where the service manager takes credentials from that it would give to
    /// the service; none where it has given this process its own.
    pub credential_stores: Vec<PathBuf>,
    /// Whether there is an `$OPENAI_ADMIN_KEY`.
    pub has_admin_key: bool,
    /// The time, from which the gaps of schedules are looked at.
    pub now: Timestamp,
}

impl Environment {
    /// An environment that says nothing.
    #[must_use]
    pub const fn empty(now: Timestamp) -> Self {
        Self {
            state_directory: None,
            credentials_directory: None,
            credential_stores: Vec::new(),
            has_admin_key: false,
            now,
        }
    }

    /// Reads the variables that count through `variable`.
    pub fn read(now: Timestamp, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| variable(name).and_then(|value| first_directory(&value));
        let credentials_directory = folder("CREDENTIALS_DIRECTORY");
        let credential_stores = match credentials_directory {
            Some(_) => Vec::new(),
            None => CREDENTIAL_STORES.map(PathBuf::from).to_vec(),
        };
        Self {
            state_directory: folder("STATE_DIRECTORY"),
            credentials_directory,
            credential_stores,
            has_admin_key: variable("OPENAI_ADMIN_KEY").is_some_and(|value| !value.is_empty()),
            now,
        }
    }
}

/// systemd gives several directories with colons between them.
fn first_directory(value: &OsString) -> Option<PathBuf> {
    std::env::split_paths(value)
        .next()
        .filter(|path| path.is_absolute())
}

/// Reads and checks the configuration file.
///
/// # Errors
/// Every problem of the file at once, in the order of the lines.
pub fn load(path: &Path, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = source_file::read_text(&path).map_err(|problem| vec![problem])?;
    into_result(parse_lenient(&path, &text, environment))
}

/// What could be made of the file, whatever is wrong with it: to find the
/// daemon that has taken an earlier one, and for nothing else.
#[must_use]
pub fn load_lenient(path: &Path, environment: &Environment) -> Option<Settings> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = source_file::read_text(&path).ok()?;
    parse_lenient(&path, &text, environment).0
}

/// Checks the text of a configuration file that would be at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    into_result(parse_lenient(path, text, environment))
}

fn into_result(parsed: (Option<Settings>, Vec<Problem>)) -> Result<Settings, Vec<Problem>> {
    match parsed {
        (Some(settings), problems) if problems.is_empty() => Ok(settings),
        (_, problems) => Err(problems),
    }
}

fn parse_lenient(
    path: &Path,
    text: &str,
    environment: &Environment,
) -> (Option<Settings>, Vec<Problem>) {
    let (settings, problems) = if text.len() > chunks::MIN_CHUNKED_LENGTH
        && let Some(settings) = parse_in_chunks(path, text, chunks::MIN_CHUNKED_LENGTH, environment)
    {
        (Some(settings), Vec::new())
    } else {
        parse_whole(path, text, environment)
    };
    let settings = settings.map(|settings| Settings {
        digest: sha256_hex(text),
        ..settings
    });
    (settings, problems)
}

/// What a text says whose pieces are of at least `length` bytes; none if it has
/// no pieces, or if anything is wrong with it.
fn parse_in_chunks(
    path: &Path,
    text: &str,
    length: usize,
    environment: &Environment,
) -> Option<Settings> {
    let pieces = ConfigChunks::split(text, length)?;
    let (head, errors) = DeTable::parse_recoverable(pieces.head);
    let head = head.into_inner();
    if !errors.is_empty() || head.contains_key("key") {
        return None;
    }
    let mut report = ProblemReport::new(path);
    let (top, keys) = (ConfigTable::root(&head), UnparsedKeys::Chunks(pieces));
    let settings = check::check_configuration(&top, keys, path, environment, &mut report)?;
    (report.count() == 0).then_some(settings)
}

fn parse_whole(
    path: &Path,
    text: &str,
    environment: &Environment,
) -> (Option<Settings>, Vec<Problem>) {
    let mut report = ProblemReport::new(path);
    let (table, errors) = DeTable::parse_recoverable(text);
    report.add_syntax_errors(&errors, text);
    let mut table = table.into_inner();
    let keys = OwnedEntry::remove_from(&mut table, Section::Top, "key");
    let (top, keys) = (ConfigTable::root(&table), UnparsedKeys::Table(keys));
    let settings = check::check_configuration(&top, keys, path, environment, &mut report);
    (settings, report.into_problems(text))
}

fn sha256_hex(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
