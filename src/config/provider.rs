//! `[provider]` and `[ledger]`.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::Environment;
use super::options::Section;
use super::place::Place;
use super::quote::quoted;
use super::reader::{Table, Value};
use super::report::Report;
use super::values::{self, Whose};
use crate::core::settings::ProviderSettings;

/// Where OpenAI answers.
const BASE_URL: &str = "https://api.openai.com/v1";

/// Where the ledger is when nobody says anything.
const LEDGER: &str = "/var/lib/rekeyd/ledger.db";

/// How long one request may take by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest that one request or one delivery may be waited for.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Below this every request would time out.
pub(super) const SHORTEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How often the provider's list is compared with the ledger: by default, at
/// most, and at least.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3_600);
const MOST_OFTEN: Duration = Duration::from_secs(60);
const MOST_RARELY: Duration = Duration::from_secs(7 * 86_400);

/// How many keys are worked on at once, by default and at most.
const IN_FLIGHT: usize = 8;
const MOST_IN_FLIGHT: usize = 256;

/// What was read of `[provider]`. Its files are told apart from the settings,
/// which are none if its address is wrong: nobody may write these files all
/// the same.
pub(super) struct Provider {
    pub(super) settings: Option<ProviderSettings>,
    pub(super) credential_file: Option<(PathBuf, Place)>,
    pub(super) ca_file: Option<PathBuf>,
}

/// Reads `[provider]`.
pub(super) fn provider(top: &Table<'_>, report: &mut Report) -> Provider {
    let table = top.table(Section::Top, "provider", report);
    table.refuse_unknown(&[Section::Provider], report);
    let get = |name| table.get(Section::Provider, name);

    let base_url = match get("base-url") {
        Some(value) => base_url(&value, report),
        None => Url::parse(BASE_URL).ok(),
    };
    let file = |name, report: &mut Report| get(name).and_then(|v| values::path(&v, report));
    let credential_file = file("credential-file", report);
    let ca_file = file("ca-file", report);
    let organization = get("organization").and_then(|value| organization(&value, report));
    let request_timeout = get("request-timeout")
        .and_then(|value| values::span(&value, SHORTEST_TIMEOUT, LONGEST_TIMEOUT, report));
    let sweep_every =
        get("sweep-every").and_then(|value| values::span(&value, MOST_OFTEN, MOST_RARELY, report));
    let max_in_flight =
        get("max-in-flight").and_then(|value| value.number(1, MOST_IN_FLIGHT, report));
    let settings = base_url.map(|base_url| ProviderSettings {
        base_url,
        credential_file: credential_file.clone(),
        organization,
        ca_file: ca_file.clone(),
        request_timeout: request_timeout.unwrap_or(REQUEST_TIMEOUT),
        max_in_flight: max_in_flight.unwrap_or(IN_FLIGHT),
        sweep_every: sweep_every.unwrap_or(SWEEP_EVERY),
    });
    let place = table.place_of(Section::Provider, "credential-file");
    Provider {
        settings,
        credential_file: credential_file.map(|file| (file, place)),
        ca_file,
    }
}

/// Reads `[ledger] path`, with its place.
pub(super) fn ledger(
    top: &Table<'_>,
    environment: &Environment,
    report: &mut Report,
) -> (PathBuf, Place) {
    let table = top.table(Section::Top, "ledger", report);
    table.refuse_unknown(&[Section::Ledger], report);
    let path = table
        .get(Section::Ledger, "path")
        .and_then(|value| values::path(&value, report))
        .unwrap_or_else(|| match &environment.state_directory {
            Some(folder) => folder.join("ledger.db"),
            None => PathBuf::from(LEDGER),
        });
    (path, table.place_of(Section::Ledger, "path"))
}

fn base_url(value: &Value<'_>, report: &mut Report) -> Option<Url> {
    let mut url = values::address(value, Whose::Provider, report)?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// It goes into a header: what a header cannot carry is refused here and not
/// at the first request.
fn organization(value: &Value<'_>, report: &mut Report) -> Option<String> {
    let text = value.text(report)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    let message = format!("{} is no organization id", quoted(text));
    let hint = "an id such as \"org-abc123\" is allowed";
    report.wrong(&value.place, message, hint);
    None
}
