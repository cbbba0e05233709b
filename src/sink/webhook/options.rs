//! Reads the options of a sink with `type = "webhook"`.

use std::path::PathBuf;

use url::Url;

use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values::{self, UrlRole};
use crate::net::client_identity::ClientIdentityFiles;

/// The options that only a webhook sink has.
pub(super) const OPTIONS: Section = Section {
    name: "sink.webhook",
    about: "An HTTP receiver that understands Standard Webhooks.",
    options: &[
        ConfigOption::new(
            "url",
            ValueType::Text("^(https?://[^/]|unix:/+[^/])"),
            r#""https://billing.example.com/openai-key""#,
            "The receiver: https, http on this host, or `unix:/PATH` for a Unix socket, with a \
             colon and the path of the request behind it: `unix:/run/app.sock:/hook`.",
        )
        .required(),
        ConfigOption::new(
            "owner",
            values::ACCOUNT,
            r#""billing""#,
            "The user that the receiver on this host runs as, by name or number. rekeyd sends \
             nothing to a process of another user. Http on this host needs this option; the \
             process on a Unix socket may otherwise be root's or belong to rekeyd's user.",
        ),
        ConfigOption::new(
            "unauthenticated-receiver",
            ValueType::Flag,
            "true",
            "`true`: rekeyd posts to whoever accepts a connection over http on this host, for a \
             receiver in a container.",
        )
        .or("false"),
        values::signing_secret_option(),
        ConfigOption::new(
            "ca-file",
            ValueType::Path,
            r#""/etc/rekeyd/ca.pem""#,
            "Certificates (PEM) to trust in addition to the system's.",
        ),
        values::client_certificate_option(),
        values::client_key_option(),
        ConfigOption::new(
            "bearer-token-file",
            ValueType::Path,
            r#""/etc/rekeyd/webhook-token""#,
            "A file with a token for the header `Authorization: Bearer`.",
        ),
    ],
};

/// The checked options of a sink with `type = "webhook"`.
#[derive(Debug, Clone)]
pub struct WebhookTarget {
    /// The URL to post to; https, or http on loopback, without userinfo. With a socket, only
    /// its path and its query count.
    pub url: Url,
    /// The Unix socket to connect to.
    pub socket: Option<PathBuf>,
    /// The user that the receiver on this host runs as, by name or number.
    pub owner: Option<String>,
    /// Whether http on loopback goes to whoever accepts it.
    pub unauthenticated_receiver: bool,
    /// The file with one or two lines `whsec_<base64>`; read for each delivery.
    pub signing_secret_file: PathBuf,
    /// The file with a token for the `Authorization: Bearer` header; read for
    /// each delivery.
    pub bearer_token_file: Option<PathBuf>,
    /// The file with roots (PEM) to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show a receiver with https.
    pub identity: Option<ClientIdentityFiles>,
}

/// Reads the receiver of the sink in `table`.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<WebhookTarget> {
    let get = |name| table.get(OPTIONS, name);
    let url = match get("url") {
        Some(value) => read_receiver_url(&value, report),
        None => {
            report.add_missing_option(
                &table.location,
                OPTIONS,
                "url",
                "where rekeyd sends the secret",
            );
            None
        }
    };
    if get("signing-secret-file").is_none() {
        report.add_missing_option(
            &table.location,
            OPTIONS,
            "signing-secret-file",
            "a file with whsec_<base64>",
        );
    }
    let identity = read_identity(table, url.as_ref(), report);
    if let Some((_, Some(socket))) = &url {
        files.read_only.push(("url", socket.clone()));
    }
    let mut read_file = |name| get(name).and_then(|value| values::read_path(&value, report));
    let mut read_secret = |name| {
        let path = read_file(name)?;
        files.add_secret(name, path.clone());
        Some(path)
    };
    let signing_secret_file = read_secret("signing-secret-file");
    let bearer_token_file = read_secret("bearer-token-file");
    let ca_file = read_file("ca-file");
    files
        .read_only
        .extend(ca_file.clone().map(|file| ("ca-file", file)));
    let client_files = values::read_client_files(table, OPTIONS, files, report);
    let ((url, socket), (owner, unauthenticated_receiver)) = (url?, identity?);
    Some(WebhookTarget {
        url,
        socket,
        owner,
        unauthenticated_receiver,
        signing_secret_file: signing_secret_file?,
        bearer_token_file,
        ca_file,
        identity: client_files.map(|(certificate, key)| ClientIdentityFiles { certificate, key }),
    })
}

/// Reads the URL to post to, and the socket if it names one.
fn read_receiver_url(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<(Url, Option<PathBuf>)> {
    if value.as_text().is_some_and(values::is_socket_url) {
        let (socket, url) = values::read_socket_url(value, report)?;
        return Some((url, Some(socket)));
    }
    Some((
        values::read_url(value, UrlRole::SinkReceiver, report)?,
        None,
    ))
}

/// Reads how the receiver is known: the user that it runs as, and whether that does not
/// matter.
fn read_identity(
    table: &ConfigTable<'_>,
    receiver: Option<&(Url, Option<PathBuf>)>,
    report: &mut ProblemReport,
) -> Option<(Option<String>, bool)> {
    let count = report.count();
    let owner_value = table.get(OPTIONS, "owner");
    let flag_value = table.get(OPTIONS, "unauthenticated-receiver");
    let owner = owner_value
        .as_ref()
        .and_then(|value| values::read_account(value, report));
    let flag = flag_value.as_ref().and_then(|value| value.flag(report));
    let is_unauthenticated = flag == Some(true);
    let is_tls = receiver.is_some_and(|(url, _)| url.scheme() == "https");
    let is_socket = receiver.is_some_and(|(_, socket)| socket.is_some());
    if let Some(value) = owner_value.filter(|_| is_tls) {
        let message = "has no effect with https: the certificate names the receiver";
        report.add_problem(&value.location, message, "remove it");
    } else if let Some(value) = flag_value.filter(|_| is_unauthenticated) {
        let problem = if is_tls {
            Some(("has no effect with https", "remove it"))
        } else if is_socket {
            Some((
                "has no effect with a Unix socket, which shows the receiver's user",
                "remove it, or set `owner`",
            ))
        } else if owner.is_some() {
            Some(("cannot be combined with `owner`", "remove one of them"))
        } else {
            None
        };
        if let Some((message, hint)) = problem {
            report.add_problem(&value.location, message, hint);
        }
    }
    (report.count() == count).then_some((owner, is_unauthenticated))
}
