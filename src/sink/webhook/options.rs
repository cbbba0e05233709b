//! Reads the options of a sink with `type = "webhook"`.

use std::path::PathBuf;

use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values::{self, UrlRole};

/// The options that only a webhook sink has.
pub(super) const OPTIONS: Section = Section {
    name: "sink.webhook",
    about: "An HTTP receiver that understands Standard Webhooks.",
    options: &[
        ConfigOption::new(
            "url",
            ValueType::Url,
            r#""https://billing.example.com/openai-key""#,
            "The receiver: https, or http on this host.",
        )
        .required(),
        values::signing_secret_option(),
        ConfigOption::new(
            "ca-file",
            ValueType::Path,
            r#""/etc/rekeyd/ca.pem""#,
            "Certificates (PEM) to trust in addition to the system's.",
        ),
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
    /// The URL to post to; https, or http on loopback, without userinfo.
    pub url: url::Url,
    /// The file with one or two lines `whsec_<base64>`; read for each delivery.
    pub signing_secret_file: PathBuf,
    /// The file with a token for the `Authorization: Bearer` header; read for
    /// each delivery.
    pub bearer_token_file: Option<PathBuf>,
    /// The file with roots (PEM) to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
}

/// Reads the receiver of the sink in `table`.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<WebhookTarget> {
    let get = |name| table.get(OPTIONS, name);
    let url = match get("url") {
        Some(value) => values::read_url(&value, UrlRole::SinkReceiver, report),
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
    let mut read_file = |name| {
        let path = get(name).and_then(|value| values::read_path(&value, report))?;
        files.read_only.push((name, path.clone()));
        Some(path)
    };
    let signing_secret_file = read_file("signing-secret-file");
    let bearer_token_file = read_file("bearer-token-file");
    let ca_file = read_file("ca-file");
    Some(WebhookTarget {
        url: url?,
        signing_secret_file: signing_secret_file?,
        bearer_token_file,
        ca_file,
    })
}
