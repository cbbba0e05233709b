//! Reads the options of `[[notify]]` with `type = "webhook"`.

use std::path::PathBuf;

use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::Section;
use crate::config_reader::values::{self, UrlRole};

/// The options that only a webhook channel has.
pub(super) const OPTIONS: Section = Section {
    name: "notify.webhook",
    options: &["url", "signing-secret-file"],
};

/// The checked options of `[[notify]]` with `type = "webhook"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookChannelTarget {
    /// The URL to post to; https, or http on loopback, without userinfo.
    pub url: url::Url,
    /// The file with one or two lines `whsec_<base64>`; read for each attempt.
    pub signing_secret_file: PathBuf,
}

/// Reads the receiver that `table` names.
pub(super) fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<WebhookChannelTarget> {
    let get = |name| table.get(OPTIONS, name);
    let url = match get("url") {
        Some(value) => values::read_url(&value, UrlRole::Receiver, report),
        None => {
            let hint = "add url = \"https://…\", where it is posted to";
            report.add_missing(&table.location, "has no url", hint);
            None
        }
    };
    let file = match get("signing-secret-file") {
        Some(value) => values::read_path(&value, report),
        None => {
            let hint = "add signing-secret-file = \"/…\", a file with whsec_<base64>";
            report.add_missing(&table.location, "has no signing-secret-file", hint);
            None
        }
    };
    if let Some(file) = &file {
        files.read_only.push(("signing-secret-file", file.clone()));
    }
    Some(WebhookChannelTarget {
        url: url?,
        signing_secret_file: file?,
    })
}
