//! `[provider]` and `[ledger]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::environment::Environment;
use super::settings::SnapshotSettings;
use super::top_table::TOP;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::location::Location;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use crate::config_reader::values::{self, MAX_TIMEOUT, MIN_TIMEOUT, UrlRole};
use crate::core::time::MINUTE;
use crate::platform::path_walk::TrustedPaths;
use crate::provider::settings::{ClientIdentityFiles, ProviderSettings};

/// `[provider]`.
pub const PROVIDER: Section = Section {
    name: "provider",
    about: "The provider that issues the credentials.",
    options: &[
        ConfigOption::new(
            "base-url",
            ValueType::Url,
            r#""https://api.openai.com/v1""#,
            "The Admin API: https, or http on this host (to rehearse).",
        )
        .or(r#""https://api.openai.com/v1""#)
        .with_details(
            "This host is 127.0.0.0/8, [::1], localhost, and names that end in .localhost, which \
             rekeyd does not look up. The ledger records the API: once the ledger has a rotation, \
             rekeyd refuses another API.",
        ),
        ConfigOption::new(
            "credential-file",
            ValueType::Path,
            r#""/var/lib/rekeyd/admin-key""#,
            "The file with rekeyd's own admin key. Without it, or while the provider refuses \
             that key, rekeyd uses systemd's `LoadCredential=openai-admin-key`, and then \
             `$OPENAI_ADMIN_KEY`.",
        )
        .with_details(
            "rekeyd reads all three at start, at reload, and while the provider refuses the key in \
             use; a running daemon takes another key in the file within a second. systemd \
             provides its credential as `$CREDENTIALS_DIRECTORY/openai-admin-key`, a copy that it \
             makes when the service starts; `$OPENAI_ADMIN_KEY` is for rehearsals.",
        ),
        ConfigOption::new(
            "organization",
            ValueType::Text("^[!-~]+$"),
            r#""org-abc123""#,
            "Sent as the `OpenAI-Organization` header. Set it only if the admin key works in \
             several organizations.",
        )
        .with_details("The ledger records it, as it does `base-url`."),
        ConfigOption::new(
            "ca-file",
            ValueType::Path,
            r#""/etc/rekeyd/ca.pem""#,
            "Certificates (PEM) to trust in addition to the system's, for a proxy that inspects \
             TLS.",
        )
        .with_details(
            "rekeyd reads both at start, and again when they change or when it does not trust the \
             provider's certificate.",
        ),
        values::client_certificate_option(),
        values::client_key_option(),
        ConfigOption::new(
            "request-timeout",
            ValueType::Duration(MIN_TIMEOUT, MAX_TIMEOUT),
            r#""30s""#,
            "The time limit of one request, from connecting to the last byte.",
        )
        .or(r#""30s""#),
        ConfigOption::new(
            "max-in-flight",
            ValueType::Number(1, 256),
            "8",
            "The number of keys that send requests to the provider at the same time. Deliveries \
             have limits of their own: at most 4 run at once to the same scheme, host and port, \
             at most 16 programs, and at most 256 in total; files have no limit.",
        )
        .or("8"),
        ConfigOption::new(
            "reconcile-every",
            ValueType::Duration(MINUTE, Duration::from_secs(7 * 86_400)),
            r#""6h""#,
            "The interval between reconciliations of the ledger with the provider's list.",
        )
        .or(r#""6h""#),
    ],
};

/// `[ledger]`.
pub const LEDGER: Section = Section {
    name: "ledger",
    about: "The ledger: one SQLite file, which any SQLite tool can read.",
    options: &[
        ConfigOption::new(
        "path",
        ValueType::Path,
        r#""/var/lib/rekeyd/ledger.db""#,
        "The SQLite file of the ledger.",
    )
    .with_default(DefaultValue::Described(
        "`ledger.db` in `$STATE_DIRECTORY`, which systemd sets, or else \
         `/var/lib/rekeyd/ledger.db`",
    ))
    .with_details(
        "rekeyd creates it, and the files beside it, with mode 0600. Members of the group of the \
         control socket see its content through the running daemon. Copy it with `rekeyd backup`, \
         and restore a copy with `rekeyd restore`.",
    ),
        ConfigOption::new(
            "snapshot",
            ValueType::Text("^(/.*[^/])?$"),
            r#""/var/cache/rekeyd/ledger.db""#,
            "A copy of the ledger for members of the group of its folder, who read it while no \
             rekeyd runs; `\"\"` for none. rekeyd writes it at most once a minute, and when it ends.",
        )
        .with_default(DefaultValue::Described(
            "`/var/cache/rekeyd/ledger.db` for the default ledger, if the service manager made its \
             folder; otherwise none",
        ))
        .with_details(
            "Nothing else may be in its folder, which rekeyd makes with mode 0750 if it is missing. \
             The file has mode 0640 and the group of the folder.",
        ),
    ],
};

/// The base URL of OpenAI's API.
const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";

/// The snapshot of the default ledger, in the folder that the service manager makes.
pub(crate) const DEFAULT_SNAPSHOT: &str = "/var/cache/rekeyd/ledger.db";

/// The default path of the ledger.
pub(crate) const DEFAULT_LEDGER: &str = "/var/lib/rekeyd/ledger.db";

/// The default time limit of one request.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The default interval of reconciliations.
const DEFAULT_RECONCILE_EVERY: Duration = Duration::from_secs(6 * 3_600);

/// The default number of keys that may use the provider concurrently.
const DEFAULT_MAX_IN_FLIGHT: usize = 8;

/// The parsed `[provider]`. Its files are claimed even when its address is
/// wrong and there are no settings, since no sink may write them.
pub(super) struct ProviderSection {
    pub(super) settings: Option<ProviderSettings>,
    pub(super) credential_file: Option<(PathBuf, Location)>,
    pub(super) ca_file: Option<PathBuf>,
    /// The files of the certificate that the provider may ask for.
    pub(super) client_files: NamedFiles,
}

/// Reads `[provider]`.
pub(super) fn read_provider(
    top: &ConfigTable<'_>,
    trusted_paths: &TrustedPaths,
    report: &mut ProblemReport,
) -> ProviderSection {
    let table = top.subtable(TOP, "provider", report);
    table.reject_unknown(&[PROVIDER], report);
    let get = |name| table.get(PROVIDER, name);

    let base_url = match get("base-url") {
        Some(value) => read_base_url(&value, report),
        None => Url::parse(DEFAULT_BASE_URL).ok(),
    };
    let read_file =
        |name, report: &mut ProblemReport| get(name).and_then(|v| values::read_path(&v, report));
    let credential_file = read_file("credential-file", report);
    let ca_file = read_file("ca-file", report);
    let mut client_files = NamedFiles::default();
    let identity = values::read_client_files(&table, PROVIDER, &mut client_files, report);
    let organization = get("organization").and_then(|value| read_organization(&value, report));
    let request_timeout =
        get("request-timeout").and_then(|value| values::read_duration(&value, report));
    let reconcile_every =
        get("reconcile-every").and_then(|value| values::read_duration(&value, report));
    let max_in_flight = get("max-in-flight").and_then(|value| value.number(report));
    let settings = base_url.map(|base_url| ProviderSettings {
        base_url,
        credential_file: credential_file.clone(),
        organization,
        ca_file: ca_file.clone(),
        identity: identity.map(|(certificate, key)| ClientIdentityFiles { certificate, key }),
        request_timeout: request_timeout.unwrap_or(DEFAULT_REQUEST_TIMEOUT),
        max_in_flight: max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
        reconcile_every: reconcile_every.unwrap_or(DEFAULT_RECONCILE_EVERY),
        trusted_paths: trusted_paths.clone(),
    });
    let location = table.location_of(PROVIDER, "credential-file");
    ProviderSection {
        settings,
        credential_file: credential_file.map(|file| (file, location)),
        ca_file,
        client_files,
    }
}

/// The parsed `[ledger]`.
pub(super) struct LedgerSection {
    pub(super) path: PathBuf,
    pub(super) location: Location,
    /// Whether the file names the path.
    pub(super) is_named: bool,
    pub(super) snapshot: Option<SnapshotSettings>,
}

/// Reads `[ledger]`.
pub(super) fn read_ledger(
    top: &ConfigTable<'_>,
    environment: &Environment,
    report: &mut ProblemReport,
) -> LedgerSection {
    let table = top.subtable(TOP, "ledger", report);
    table.reject_unknown(&[LEDGER], report);
    let path = table.get(LEDGER, "path");
    let is_named = path.is_some();
    let path = path
        .and_then(|value| values::read_path(&value, report))
        .unwrap_or_else(|| match &environment.state_directory {
            Some(folder) => folder.join("ledger.db"),
            None => PathBuf::from(DEFAULT_LEDGER),
        });
    let snapshot = match table.get(LEDGER, "snapshot") {
        None => (path == Path::new(DEFAULT_LEDGER)).then(|| SnapshotSettings {
            path: DEFAULT_SNAPSHOT.into(),
            is_named: false,
        }),
        Some(value) if value.as_text() == Some("") => None,
        Some(value) => values::read_path(&value, report).map(|path| SnapshotSettings {
            path,
            is_named: true,
        }),
    };
    LedgerSection {
        path,
        location: table.location_of(LEDGER, "path"),
        is_named,
        snapshot,
    }
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
    let hint = value.expected("the id of an organization");
    report.add_problem(&value.location, "not a valid organization id", hint);
    None
}
