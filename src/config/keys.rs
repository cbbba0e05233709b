//! `[defaults]` and the keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::claims::PathClaims;
use super::environment::Environment;
use super::key_options::KeyOptions;
use super::key_options::{DEFAULTS, KEY};
use super::policy::PolicyBuilder;
use super::settings::KeySettings;
use super::sinks::{self, ParsedSinks};
use super::top_table::TOP;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::core::ids::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::scope::Scope;
use crate::provider::kind::DEFAULT_KIND;
use crate::sink::target::FileWideContext;

/// The keys of the file, whether or not they are valid, before they are read. Each
/// is dropped as soon as it is read: the parsed text of ten thousand keys takes
/// more memory than all settings that follow from it.
pub(super) struct UnreadKeys<'t>(DeTable<'t>);

impl<'t> UnreadKeys<'t> {
    /// Takes the keys out of a parsed file, and leaves an empty table.
    pub(super) fn take(file: &mut DeTable<'t>) -> Self {
        // The reader of the table reports a value of another type.
        let Some(DeValue::Table(keys)) = file.get_mut("key").map(Spanned::get_mut) else {
            return Self(DeTable::default());
        };
        Self(std::mem::take(keys))
    }

    /// Lists the names of the keys, whether or not they are valid.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(|name| &**name.get_ref()).collect()
    }
}

/// Reads every key, ordered by name.
pub(super) fn read_keys(
    top: &ConfigTable<'_>,
    keys: UnreadKeys<'_>,
    environment: &Environment,
    credential_file: Option<&Path>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Vec<KeySettings> {
    let table = top.subtable(TOP, "defaults", report);
    table.reject_unknown(&[DEFAULTS], report);
    let configured = keys.names().into_iter().map(str::to_owned).collect();
    let mut reader = KeyReader {
        configured,
        former: BTreeSet::new(),
        defaults: KeyOptions::read(&table, report),
        policies: PolicyBuilder::new(environment),
        file_wide: FileWideContext::new(credential_file),
        report,
    };
    let table = top.subtable(TOP, "key", reader.report);
    // Commands list the keys by name, whatever their order in the file.
    let mut entries: Vec<_> = keys.0.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.get_ref().cmp(other.get_ref()));
    let mut parsed = Vec::with_capacity(entries.len());
    for (name, value) in entries {
        parsed.extend(reader.read_key(name.get_ref(), &table.entry(&name, &value)));
    }

    // The files that are only read come first, for every key, so that the order
    // of the keys does not decide which of two options is reported.
    parsed
        .iter()
        .for_each(|key| key.sinks.reserve_files(claims));
    let keys = parsed.into_iter().filter_map(|key| {
        let sinks = key.sinks.claim_files(claims);
        Some(KeySettings {
            name: key.name?,
            was: key.was,
            scope: key.scope?,
            policy: key.policy?,
            sinks,
        })
    });
    keys.collect()
}

/// A key, as far as it is valid.
struct ParsedKey {
    name: Option<KeyName>,
    was: Option<KeyName>,
    scope: Option<Scope>,
    policy: Option<Arc<KeyPolicy>>,
    sinks: ParsedSinks,
}

/// The state that all keys share while they are read.
struct KeyReader<'e, 'r> {
    /// The names of all keys of the file.
    configured: BTreeSet<String>,
    /// The former names so far.
    former: BTreeSet<KeyName>,
    defaults: KeyOptions,
    policies: PolicyBuilder<'e>,
    file_wide: FileWideContext<'e>,
    report: &'r mut ProblemReport,
}

impl KeyReader<'_, '_> {
    /// Reads the former name of a key, which no configured key and no second one may have.
    fn read_former_name(
        &mut self,
        table: &ConfigTable<'_>,
        name: Option<&KeyName>,
    ) -> Option<KeyName> {
        let value = table.get(KEY, "was")?;
        let text = value.text(self.report)?;
        let was = match KeyName::new(text) {
            Ok(was) => was,
            Err(error) => {
                let message = "not a valid name for a key";
                self.report
                    .add_problem(&value.location, message, error.to_string());
                return None;
            }
        };
        let problem = if Some(&was) == name {
            Some(("it is the present name of the key", "write the former name"))
        } else if self.configured.contains(was.as_str()) {
            Some((
                "it is the name of a configured key",
                "remove that key, or this line; to exchange two names, rename in two steps",
            ))
        } else if !self.former.insert(was.clone()) {
            Some((
                "it is also the former name of another key",
                "only one key can take its place",
            ))
        } else {
            None
        };
        match problem {
            Some((message, hint)) => {
                self.report.add_problem(&value.location, message, hint);
                None
            }
            None => Some(was),
        }
    }

    fn read_key(&mut self, name: &str, value: &ConfigValue<'_>) -> Option<ParsedKey> {
        let key_name = KeyName::new(name);
        if let Err(error) = &key_name {
            let message = "not a valid name for a key";
            self.report
                .add_problem(&value.location, message, error.to_string());
        }
        let table = value.table(self.report)?;
        table.reject_unknown(&[DEFAULTS, KEY, DEFAULT_KIND.options], self.report);
        let name = key_name.ok();
        let scope = (DEFAULT_KIND.read_scope)(&table, self.report);
        let policy = self
            .policies
            .build(&table, name.as_ref(), &self.defaults, self.report);
        let sinks = sinks::read_sinks(&table, &mut self.file_wide, self.report);
        let was = self.read_former_name(&table, name.as_ref());
        Some(ParsedKey {
            name,
            was,
            scope,
            policy,
            sinks,
        })
    }
}
