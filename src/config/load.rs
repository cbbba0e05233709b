//! From the file to the settings, or to all of its problems.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::claims::PathClaims;
use super::environment::Environment;
use super::keys::UnreadKeys;
use super::provider::LedgerSection;
use super::settings::{ConfigText, MetricsAddress, Settings};
use super::{control, keys, log, notify, options, provider, security, source_file};
use crate::config_reader::problem::Problem;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::hex;
use crate::core::path::LEDGER_FILE_ENDINGS;
use crate::platform::crash::CRASH_FILE_NAMES;
use crate::platform::file_stamp::FileStamp;
use crate::platform::path_walk::TrustedPaths;

/// Reads and checks the configuration file.
///
/// # Errors
/// Every problem of the file at once, in the order of the lines.
pub fn load(path: &Path, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // A file that is replaced while it is read has another stamp.
    let stamp = FileStamp::of(&path);
    let text = source_file::read_text(&path).map_err(|problem| vec![*problem])?;
    let settings = into_result(parse_lenient(&path, &text, environment))?;
    Ok(Settings { stamp, ..settings })
}

/// Reads the settings of a file that may have problems. They serve to find the
/// daemon that has loaded an earlier version, and nothing else.
#[must_use]
pub fn load_lenient(path: &Path, environment: &Environment) -> Option<Settings> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = source_file::read_text(&path).ok()?;
    parse_lenient(&path, &text, environment).0
}

/// Checks the text of a configuration file at `path`, which is not read.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Settings, Vec<Problem>> {
    into_result(parse_lenient(path, text, environment))
}

/// Reads the text of a configuration that a running daemon has loaded. It was valid then,
/// so every problem shows that this host has changed, such as a time zone that is gone; the
/// settings are complete nevertheless.
#[must_use]
pub fn parse_loaded(
    path: &Path,
    text: &str,
    environment: &Environment,
) -> (Option<Settings>, Vec<Problem>) {
    parse_lenient(path, text, environment)
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
    let mut report = ProblemReport::new(path);
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        report.add_syntax_errors(&errors, text, &options::all_sections());
    }
    let mut table = table.into_inner();
    let keys = UnreadKeys::take(&mut table);
    let top = ConfigTable::root(&table);
    let settings = check_configuration(&top, keys, path, environment, &mut report);
    let settings = settings.map(|settings| Settings {
        digest: digest(text),
        text: ConfigText(Arc::from(text)),
        ..settings
    });
    (settings, report.into_problems(text))
}

/// Checks the whole file, whose `keys` were taken out of it, and reports every
/// problem. Returns settings if enough of the file is valid.
fn check_configuration(
    top: &ConfigTable<'_>,
    keys: UnreadKeys<'_>,
    path: &Path,
    environment: &Environment,
    report: &mut ProblemReport,
) -> Option<Settings> {
    top.reject_unknown(&[options::TOP], report);
    let trusted_paths: TrustedPaths = security::read_trusted_paths(top, report).into();
    let provider = provider::read_provider(top, &trusted_paths, report);
    let LedgerSection {
        path: ledger,
        location: ledger_location,
        is_named: is_ledger_named,
        snapshot,
    } = provider::read_ledger(top, environment, report);
    let mut control = control::read_control(top, report);
    control.is_named |= is_ledger_named;
    let (metrics, metrics_access) = control::read_metrics(top, report);
    let log = log::read_log(top, report);

    let mut claims = PathClaims::new();
    claims.reserve(path, "this configuration file");
    if let Some(socket) = &control.socket {
        claims.reserve(socket, "the control socket");
    }
    if let Some(MetricsAddress::Socket(socket)) = &metrics {
        claims.reserve(socket, "the socket of the metrics");
    }
    if let Some(file) = &metrics_access.password_file {
        claims.reserve(file, "metrics.password-file");
        claims.add_secrets(std::slice::from_ref(file));
    }
    for name in CRASH_FILE_NAMES {
        claims.reserve(&ledger.with_file_name(name), "the record of the last crash");
    }
    if let Some(snapshot) = &snapshot {
        claims.reserve(&snapshot.path, "the snapshot of the ledger");
    }
    for ending in [""].into_iter().chain(LEDGER_FILE_ENDINGS) {
        let owner = if ending.is_empty() {
            "the ledger".to_owned()
        } else {
            format!("the ledger's {ending} file")
        };
        claims.claim(&ledger, ending, owner, &ledger_location);
    }
    if let Some((file, location)) = &provider.credential_file {
        let owners = [
            "the credential file",
            "the temporary file of the credential file",
        ];
        claims.claim_replaced(file, owners[0], owners[1], location);
        claims.add_secrets(std::slice::from_ref(file));
    }
    for file in environment.stored_admin_keys(path) {
        claims.reserve(&file, "the admin key that the service manager passes");
    }
    if let Some(file) = &provider.ca_file {
        claims.reserve(file, "provider.ca-file");
    }
    for (option, file) in &provider.client_files.read_only {
        claims.reserve(file, format!("provider.{option}"));
    }
    claims.add_secrets(&provider.client_files.secrets);
    let notify = notify::read_channels(top, &keys.names(), &trusted_paths, &mut claims, report);
    let credential_file = provider.credential_file.as_ref();
    let credential_file = credential_file.map(|(file, _)| file.as_path());
    claims.begin_sinks();
    let keys = keys::read_keys(top, keys, environment, credential_file, &mut claims, report);
    let protected_files = claims.report_conflicts(report);
    Some(Settings {
        file: path.to_owned(),
        provider: provider.settings?,
        digest: String::new(),
        stamp: None,
        text: ConfigText::default(),
        is_ledger_named: is_ledger_named || environment.state_directory.is_some(),
        ledger,
        snapshot,
        control,
        metrics,
        metrics_access,
        log,
        notify,
        keys,
        protected_files: Arc::new(protected_files.with_trusted_paths(trusted_paths)),
    })
}

/// Returns the digest of a configuration's text, as [`Settings::digest`] has it.
pub fn digest(text: &str) -> String {
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hex::encode(hash.as_ref())
}
