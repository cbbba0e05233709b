//! From the file's tables to what the program needs.

use std::path::Path;
use std::time::Duration;

use toml::de::DeTable;
use url::Url;

use crate::config::problem::Problem;
use crate::config::reader::{Found, Report, Section};
use crate::config::{Environment, keys, paths};
use crate::core::loopback::is_loopback;
use crate::core::settings::{ProviderSettings, Settings};

/// Where the Admin API is.
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

pub(crate) fn check(
    file: &Path,
    text: &str,
    environment: &Environment,
) -> Result<Settings, Vec<Problem>> {
    let report = Report::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map(|span| span.start);
        report.note(at, "", format!("not TOML: {}", error.message()));
    }
    if !errors.is_empty() {
        // What follows from a broken table is not the user's mistake.
        return Err(report.into_problems());
    }
    let settings = {
        let root = Section::new(&report, "", 0, document.get_ref());
        let provider = provider(&root);
        let ledger = ledger(&root, environment);
        let keys = keys::keys(&root);
        root.finish();
        provider.map(|provider| Settings {
            file: file.to_owned(),
            provider,
            ledger,
            keys,
        })
    };
    if let Some(settings) = &settings {
        paths::check(settings, &report);
    }
    let problems = report.into_problems();
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        Some(_) | None => Err(problems),
    }
}

fn provider(root: &Section<'_>) -> Option<ProviderSettings> {
    let seconds = Duration::from_secs;
    let empty = DeTable::default();
    let section = root
        .table("provider")
        .unwrap_or_else(|| Section::new(root.report, "provider", 0, &empty));
    let base_url = section.text("base-url").unwrap_or_else(|| Found {
        value: DEFAULT_BASE_URL,
        at: section.begins,
        path: section.path_of("base-url"),
    });
    let base_url = target_url(&section, &base_url);
    let credential_file = section.file("credential-file").map(|found| found.value);
    let organization = section
        .text("organization")
        .and_then(|found| header(&section, &found));
    let ca_file = section.file("ca-file").map(|found| found.value);
    let request_timeout = section.bounded("request-timeout", seconds(30), seconds(1), seconds(300));
    let sweep_every = section.bounded(
        "sweep-every",
        seconds(6 * 3_600),
        seconds(60),
        seconds(7 * 86_400),
    );
    let max_in_flight = section.whole_number("max-in-flight", 8, 1, 256);
    section.finish();
    Some(ProviderSettings {
        base_url: base_url?,
        credential_file,
        organization,
        ca_file,
        request_timeout,
        max_in_flight,
        sweep_every,
    })
}

fn header(section: &Section<'_>, found: &Found<&str>) -> Option<String> {
    let fine = !found.value.is_empty() && found.value.bytes().all(|byte| byte.is_ascii_graphic());
    if !fine {
        section.bad(
            found,
            "it must be the organization's id, such as \"org-abc123\"",
        );
        return None;
    }
    Some(found.value.to_owned())
}

fn ledger(root: &Section<'_>, environment: &Environment) -> std::path::PathBuf {
    let Some(section) = root.table("ledger") else {
        return environment.ledger();
    };
    let path = section.file("path").map(|found| found.value);
    section.finish();
    path.unwrap_or_else(|| environment.ledger())
}

/// A URL that secrets may be sent to.
pub(crate) fn target_url(section: &Section<'_>, found: &Found<&str>) -> Option<Url> {
    let url = match Url::parse(found.value) {
        Ok(url) => url,
        Err(error) => {
            section.bad(found, format!("it is no URL: {error}"));
            return None;
        }
    };
    let wrong = if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        "it must be an https URL"
    } else if url.scheme() == "http" && !is_loopback(&url) {
        "http goes to this host alone (localhost, 127.0.0.1, [::1]); it must be https"
    } else if !url.username().is_empty() || url.password().is_some() {
        "a user or password in the URL is refused; no secret stands in this file"
    } else if url.fragment().is_some() {
        "it must not have a fragment (#...)"
    } else {
        return Some(url);
    };
    section.bad(found, wrong);
    None
}
