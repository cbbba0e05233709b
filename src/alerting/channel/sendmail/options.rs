//! Reads the options of `[[notify]]` with `type = "sendmail"`.

use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};

/// The options that only a sendmail channel has.
pub(super) const OPTIONS: Section = Section {
    name: "notify.sendmail",
    about: "A mail, sent by /usr/sbin/sendmail.",
    options: &[ConfigOption::new(
        "to",
        ValueType::TextOrTexts("^[^-,;:<>()\\[\\]\\\\\"|`$ ][^,;:<>()\\[\\]\\\\\"|`$ ]*$"),
        r#""ops@example.com""#,
        "The address, or a list of addresses.",
    )
    .required()],
};

/// The checked options of `[[notify]]` with `type = "sendmail"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendmailChannelTarget {
    /// The addresses of the recipients.
    pub to: Vec<String>,
}

/// Reads the addresses that `table` names.
pub(super) fn read(
    table: &ConfigTable<'_>,
    report: &mut ProblemReport,
) -> Option<SendmailChannelTarget> {
    let Some(value) = table.get(OPTIONS, "to") else {
        let purpose = "the address of a recipient or a list of addresses";
        report.add_missing_option(&table.location, OPTIONS, "to", purpose);
        return None;
    };
    let items = match value.as_text() {
        Some(_) => vec![value],
        None => value.text_items(report)?,
    };
    if items.is_empty() {
        let message = "the list of recipients is empty";
        let hint = "add an address, such as \"root\" or \"ops@example.com\"";
        report.add_problem(&table.location_of(OPTIONS, "to"), message, hint);
        return None;
    }
    let to: Vec<_> = items
        .iter()
        .map(|item| read_recipient(item, report))
        .collect();
    let to = to.into_iter().collect::<Option<Vec<_>>>()?;
    Some(SendmailChannelTarget { to })
}

/// Reads an address. It has to be a single word of a command line and of a
/// header, and must not look like an option.
fn read_recipient(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    let is_plain_letter =
        |letter: char| letter.is_ascii_graphic() && !",;:<>()[]\\\"|`$".contains(letter);
    let is_plain = !text.is_empty() && text.chars().all(is_plain_letter) && !text.starts_with('-');
    let is_whole = text.split('@').all(|part| !part.is_empty());
    if is_plain && is_whole && text.matches('@').count() <= 1 {
        return Some(text.to_owned());
    }
    let hint = "use a user of this host or NAME@HOST, each in its own quotes";
    report.add_problem(&value.location, "not a valid mail address", hint);
    None
}
