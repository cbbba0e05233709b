//! Reads the options of a sink with `type = "self"`.

use std::sync::Arc;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::Section;
use crate::sink::file::settings::FileTarget;
use crate::sink::target::{COMMON_OPTIONS, FileWideContext};

/// The value of the option `type`.
pub(super) const NAME: &str = "self";

/// No options: the file is `[provider] credential-file`.
pub(super) const OPTIONS: Section = Section {
    name: "sink.self",
    about: "Replaces `[provider] credential-file` and the admin key in use. The whole \
            configuration may have one such sink, and it must be the last sink of its key. rekeyd \
            must be able to write to the folder of that file.",
    options: &[],
};

/// Reads the file that a sink of type `self` replaces. rekeyd works with one
/// credential, so the whole configuration may have one such sink.
pub(super) fn read(
    table: &ConfigTable<'_>,
    file_wide: &mut FileWideContext<'_>,
    report: &mut ProblemReport,
) -> Option<Arc<FileTarget>> {
    let type_location = table.location_of(COMMON_OPTIONS, "type");
    if let Err(other) = file_wide.claim_only_one(NAME, &table.location) {
        let message = format!("{other} already replaces rekeyd's own admin key");
        let hint = "use only one sink of type \"self\" in the whole file";
        report.add_problem(&type_location, message, hint);
        return None;
    }
    let Some(file) = file_wide.credential_file else {
        let message = "needs [provider] credential-file, which is not set";
        let hint = "set it to the path of the file with rekeyd's admin key";
        report.add_problem(&type_location, message.to_owned(), hint);
        return None;
    };
    Some(Arc::new(FileTarget::with_defaults(file.to_owned())))
}
