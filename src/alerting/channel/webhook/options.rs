//! Reads the options of `[[notify]]` with `type = "webhook"`.

use std::path::PathBuf;

use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values::{self, UrlRole};
use crate::net::client_identity::ClientIdentityFiles;

/// The options that only a webhook channel has.
pub(super) const OPTIONS: Section = Section {
    name: "notify.webhook",
    about: "An HTTP receiver that understands Standard Webhooks.",
    options: &[
        ConfigOption::new(
            "url",
            ValueType::Url,
            r#""https://alerts.example.com/rekeyd""#,
            "The receiver: https, or http on this host.",
        )
        .required(),
        values::signing_secret_option(),
        values::client_certificate_option(),
        values::client_key_option(),
    ],
};

/// The checked options of `[[notify]]` with `type = "webhook"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookChannelTarget {
    /// The URL to post to; https, or http on loopback, without userinfo.
    pub url: url::Url,
    /// The file with one or two lines `whsec_<base64>`; read for each attempt.
    pub signing_secret_file: PathBuf,
    /// The certificate to show a receiver with https; read for each attempt.
    pub identity: Option<ClientIdentityFiles>,
}

/// Reads the receiver that `table` names.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<WebhookChannelTarget> {
    let get = |name| table.get(OPTIONS, name);
    let url = match get("url") {
        Some(value) => values::read_url(&value, UrlRole::ChannelReceiver, report),
        None => {
            report.add_missing_option(
                &table.location,
                OPTIONS,
                "url",
                "where rekeyd sends notifications",
            );
            None
        }
    };
    let file = match get("signing-secret-file") {
        Some(value) => values::read_path(&value, report),
        None => {
            report.add_missing_option(
                &table.location,
                OPTIONS,
                "signing-secret-file",
                "a file with whsec_<base64>",
            );
            None
        }
    };
    if let Some(file) = &file {
        files.add_secret("signing-secret-file", file.clone());
    }
    let client_files = values::read_client_files(table, OPTIONS, files, report);
    Some(WebhookChannelTarget {
        url: url?,
        signing_secret_file: file?,
        identity: client_files.map(|(certificate, key)| ClientIdentityFiles { certificate, key }),
    })
}
