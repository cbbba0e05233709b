//! The sinks of a key.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claims::{PathClaims, PathOwner};
use super::key_options::KEY;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::location::Location;
use crate::config_reader::quote::expected_one_of;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::values::{self, DEFAULT_TIMEOUT};
use crate::core::ids::{NameError, SinkId, is_valid_name};
use crate::sink::SINK_TYPES;
use crate::sink::target::{
    COMMON_OPTIONS, FileWideContext, ReadContext, SinkSettings, SinkTarget, target_text,
};

/// The sinks of a key, as far as they are valid.
pub(super) struct ParsedSinks(Vec<ParsedSink>);

/// A sink. Its files are claimed even when another of its options is wrong.
struct ParsedSink {
    location: Location,
    files: NamedFiles,
    settings: Option<SinkSettings>,
}

impl ParsedSinks {
    /// Claims the files that are only read.
    pub(super) fn reserve_files(&self, claims: &mut PathClaims) {
        for sink in &self.0 {
            claims.add_secrets(&sink.files.secrets);
            claims.add_programs(&sink.location, &sink.files.programs);
            for (option, file) in &sink.files.read_only {
                claims.reserve(
                    file,
                    PathOwner::new(format!("the {option} of"), &sink.location),
                );
            }
        }
    }

    /// Claims the files that are written. Returns the sinks in the order of
    /// delivery: the required ones first, rekeyd's own last, otherwise in the
    /// order of the file.
    pub(super) fn claim_files(self, claims: &mut PathClaims) -> Vec<Arc<SinkSettings>> {
        for sink in &self.0 {
            let Some((file, location)) = &sink.files.written else {
                continue;
            };
            let owner = PathOwner::new("already written by", &sink.location);
            let temp_owner = PathOwner::new("the temporary file of", &sink.location);
            claims.claim_replaced(file, owner, temp_owner, location);
        }
        let settings = self.0.into_iter().filter_map(|sink| sink.settings);
        let mut sinks: Vec<_> = settings.map(Arc::new).collect();
        // They were collected in the memory of what was read.
        sinks.shrink_to_fit();
        sinks.sort_by_key(|sink| (!sink.required, sink.target.is_self_credential()));
        sinks
    }
}

/// Reads the sinks of the key in the table `key`.
pub(super) fn read_sinks(
    key: &ConfigTable<'_>,
    file_wide: &mut FileWideContext<'_>,
    report: &mut ProblemReport,
) -> ParsedSinks {
    let hint = || format!("add a [[{}.sink]]", key.location);
    let Some(list) = key.get(KEY, "sink") else {
        report.add_missing(&key.location, "the key has no sink", &hint());
        return ParsedSinks(Vec::new());
    };
    let problem_count = report.count();
    let tables = list.tables(report);
    let all_are_tables = report.count() == problem_count;
    let is_optional = |table: &ConfigTable<'_>| {
        let required = table.get(COMMON_OPTIONS, "required");
        required.is_some_and(|value| value.as_flag() == Some(false))
    };
    if all_are_tables && tables.iter().all(is_optional) {
        if tables.is_empty() {
            report.add_missing(&key.location, "the key has no sink", &hint());
        } else {
            let hint = format!("remove it from one of them, or {}", hint());
            let message = "every sink of the key has required = false";
            report.add_missing(&key.location, message, &hint);
        }
    }
    let mut names = SinkNames::new(&tables);
    let mut sinks = Vec::with_capacity(tables.len());
    for table in &tables {
        sinks.extend(read_sink(table, &mut names, file_wide, report));
    }
    ParsedSinks(sinks)
}

/// The names of one key's sinks.
struct SinkNames {
    /// The number of sinks of each type, if the key has several sinks.
    type_counts: BTreeMap<String, usize>,
    /// The location of the sink with each name, if the key has several.
    used: BTreeMap<String, Location>,
}

impl SinkNames {
    fn new(tables: &[ConfigTable<'_>]) -> Self {
        let mut type_counts = BTreeMap::new();
        // A single sink cannot share its type or its name.
        let counted_tables = if tables.len() > 1 { tables } else { &[] };
        for table in counted_tables {
            let kind = table.get(COMMON_OPTIONS, "type");
            if let Some(kind) = kind.as_ref().and_then(ConfigValue::as_text) {
                *type_counts.entry(kind.to_owned()).or_default() += 1;
            }
        }
        Self {
            type_counts,
            used: BTreeMap::new(),
        }
    }

    fn assign(
        &mut self,
        table: &ConfigTable<'_>,
        type_name: &str,
        report: &mut ProblemReport,
    ) -> Option<String> {
        let name_value = table.get(COMMON_OPTIONS, "name");
        let location = name_value
            .as_ref()
            .map_or(&table.location, |value| &value.location);
        let name = match &name_value {
            Some(value) => value.text(report)?,
            None if self
                .type_counts
                .get(type_name)
                .is_some_and(|count| *count > 1) =>
            {
                report.add_problem(
                    location,
                    format!(
                        "missing option `name`: the key has another sink of type \"{type_name}\""
                    ),
                    "add a different name to each of them, such as name = \"billing-host\"",
                );
                return None;
            }
            None => type_name,
        };
        if !is_valid_name(name) {
            let message = "not a valid name for a sink";
            report.add_problem(location, message, NameError::InvalidForm.to_string());
            return None;
        }
        if let Some(other) = self.used.get(name) {
            let message = format!("already the name of {other}");
            report.add_problem(
                location,
                message,
                "use a different name for each sink of a key",
            );
            return None;
        }
        if !self.type_counts.is_empty() {
            self.used.insert(name.to_owned(), table.location.clone());
        }
        Some(name.to_owned())
    }
}

fn read_sink(
    table: &ConfigTable<'_>,
    names: &mut SinkNames,
    file_wide: &mut FileWideContext<'_>,
    report: &mut ProblemReport,
) -> Option<ParsedSink> {
    let get = |name| table.get(COMMON_OPTIONS, name);
    let Some(type_value) = get("type") else {
        report.add_missing(&table.location, "missing option `type`", &expected_types());
        return None;
    };
    let type_name = type_value.text(report)?;
    let required = match get("required") {
        Some(value) => value.flag(report),
        None => Some(true),
    };
    let timeout = match get("timeout") {
        Some(value) => values::read_duration(&value, report),
        None => Some(DEFAULT_TIMEOUT),
    };
    let name = names.assign(table, type_name, report);
    let mut context = ReadContext {
        files: NamedFiles::default(),
        file_wide,
    };
    let target = read_target(table, type_name, &type_value, &mut context, report);
    let settings = (|| {
        let target = target?;
        let id = SinkId {
            name: name?,
            target: target_text(&*target),
        };
        Some(SinkSettings {
            id,
            required: required?,
            timeout: timeout?,
            target,
        })
    })();
    Some(ParsedSink {
        location: table.location.clone(),
        files: context.files,
        settings,
    })
}

fn read_target(
    table: &ConfigTable<'_>,
    type_name: &str,
    type_value: &ConfigValue<'_>,
    context: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    let Some(sink_type) = SINK_TYPES
        .iter()
        .find(|sink_type| sink_type.name == type_name)
    else {
        report.add_problem(
            &type_value.location,
            "unknown type of sink",
            expected_types(),
        );
        return None;
    };
    table.reject_unknown(&[COMMON_OPTIONS, sink_type.options], report);
    (sink_type.read)(table, context, report)
}

/// Describes the known types for a message.
fn expected_types() -> String {
    expected_one_of(SINK_TYPES.iter().map(|sink_type| sink_type.name))
}
