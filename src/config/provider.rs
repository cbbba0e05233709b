//! `[provider]` and `[ledger]`.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::environment::Environment;
use super::options;
use crate::config_reader::location::Location;
use crate::config_reader::quote::quoted;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::values::{self, MAX_TIMEOUT, MIN_TIMEOUT, UrlRole};
use crate::provider::settings::ProviderSettings;

/// The base URL of OpenAI's API.
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

/// The default path of the ledger.
const DEFAULT_LEDGER: &str = "/var/lib/rekeyd/ledger.db";

/// The default time limit of one request.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The interval of reconciliations: the default, the shortest and the longest.
const DEFAULT_RECONCILE_EVERY: Duration = Duration::from_secs(6 * 3_600);
const MIN_RECONCILE_EVERY: Duration = Duration::from_secs(60);
const MAX_RECONCILE_EVERY: Duration = Duration::from_secs(7 * 86_400);

/// The number of keys that may use the provider concurrently: the default and
/// the largest.
const DEFAULT_MAX_IN_FLIGHT: usize = 8;
const LARGEST_MAX_IN_FLIGHT: usize = 256;

/// The parsed `[provider]`. Its files are claimed even when its address is
/// wrong and there are no settings, since no sink may write them.
pub(super) struct ProviderSection {
    pub(super) settings: Option<ProviderSettings>,
    pub(super) credential_file: Option<(PathBuf, Location)>,
    pub(super) ca_file: Option<PathBuf>,
}

/// Reads `[provider]`.
pub(super) fn read_provider(top: &ConfigTable<'_>, report: &mut ProblemReport) -> ProviderSection {
    let table = top.subtable(options::TOP, "provider", report);
    table.reject_unknown(&[options::PROVIDER], report);
    let get = |name| table.get(options::PROVIDER, name);

    let base_url = match get("base-url") {
        Some(value) => read_base_url(&value, report),
        None => Url::parse(DEFAULT_BASE_URL).ok(),
    };
    let read_file =
        |name, report: &mut ProblemReport| get(name).and_then(|v| values::read_path(&v, report));
    let credential_file = read_file("credential-file", report);
    let ca_file = read_file("ca-file", report);
    let organization = get("organization").and_then(|value| read_organization(&value, report));
    let request_timeout = get("request-timeout")
        .and_then(|value| values::read_duration(&value, MIN_TIMEOUT, MAX_TIMEOUT, report));
    let reconcile_every = get("reconcile-every").and_then(|value| {
        values::read_duration(&value, MIN_RECONCILE_EVERY, MAX_RECONCILE_EVERY, report)
    });
    let max_in_flight =
        get("max-in-flight").and_then(|value| value.number(1, LARGEST_MAX_IN_FLIGHT, report));
    let settings = base_url.map(|base_url| ProviderSettings {
        base_url,
        credential_file: credential_file.clone(),
        organization,
        ca_file: ca_file.clone(),
        request_timeout: request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
        max_in_flight: max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
        reconcile_every: reconcile_every.unwrap_or(DEFAULT_RECONCILE_EVERY),
    });
    let location = table.location_of(options::PROVIDER, "credential-file");
    ProviderSection {
        settings,
        credential_file: credential_file.map(|file| (file, location)),
        ca_file,
    }
}

/// Reads `[ledger] path`. Returns its location as well, and whether the file names it.
pub(super) fn read_ledger_path(
    top: &ConfigTable<'_>,
    environment: &Environment,
    report: &mut ProblemReport,
) -> (PathBuf, Location, bool) {
    let table = top.subtable(options::TOP, "ledger", report);
    table.reject_unknown(&[options::LEDGER], report);
    let path = table.get(options::LEDGER, "path");
    let is_named = path.is_some();
    let path = path
        .and_then(|value| values::read_path(&value, report))
        .unwrap_or_else(|| match &environment.state_directory {
            Some(folder) => folder.join("ledger.db"),
            None => PathBuf::from(DEFAULT_LEDGER),
        });
    (path, table.location_of(options::LEDGER, "path"), is_named)
}

fn read_base_url(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<Url> {
    let mut url = values::read_url(value, UrlRole::Provider, report)?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// Reads an organization's id. It becomes a header, so that a text that a
/// header cannot carry is refused here instead of at the first request.
fn read_organization(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a valid organization id", quoted(text));
    let hint = value.expected("the id of an organization");
    report.add_problem(&value.location, message, hint);
    None
}
