//! `[defaults]` and the keys.

use std::path::Path;
use std::sync::Arc;

use super::Environment;
use super::check::PathClaims;
use super::chunks::ConfigChunks;
use super::key_options::KeyOptions;
use super::location::Location;
use super::options::Section;
use super::policy::PolicyBuilder;
use super::quote::quoted;
use super::reader::{ConfigTable, ConfigValue, OwnedEntry};
use super::report::ProblemReport;
use super::sinks::{self, ParsedSinks, SelfCredentialClaim};
use crate::core::ids::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::settings::KeySettings;

/// The keys, before they are read.
pub(super) enum UnparsedKeys<'t> {
    /// As they were taken out of the file's table, if there are any.
    Table(Option<OwnedEntry<'t>>),
    /// Those of a long file.
    Chunks(ConfigChunks<'t>),
}

impl UnparsedKeys<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Table(taken) => taken.as_ref().map_or(0, OwnedEntry::len),
            Self::Chunks(pieces) => pieces.key_names().count(),
        }
    }

    /// What they are called.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Table(taken) => taken.as_ref().map(OwnedEntry::names).unwrap_or_default(),
            Self::Chunks(pieces) => pieces.key_names().collect(),
        }
    }
}

/// Reads every key, in the order of their names; none if they cannot be read in
/// the pieces that they are in.
pub(super) fn read_keys(
    top: &ConfigTable<'_>,
    keys: UnparsedKeys<'_>,
    environment: &Environment,
    credential_file: Option<&Path>,
    claims: &mut PathClaims,
    report: &mut ProblemReport,
) -> Option<Vec<KeySettings>> {
    let table = top.subtable(Section::Top, "defaults", report);
    table.reject_unknown(&[Section::Defaults], report);
    let mut reader = KeyReader {
        defaults: KeyOptions::read(&table, report),
        policies: PolicyBuilder::new(environment),
        self_credential: SelfCredentialClaim::new(credential_file),
        report,
    };
    let mut read = Vec::with_capacity(keys.len());
    match keys {
        UnparsedKeys::Table(None) => {}
        UnparsedKeys::Table(Some(taken)) => {
            let table = top.entry_value(&taken).table(reader.report);
            let place = table.map_or_else(Location::whole_file, |table| table.location);
            let table = ConfigTable::empty(place);
            for entry in taken.into_entries() {
                read.extend(reader.read_key(entry.name(), &table.entry_value(&entry)));
            }
        }
        UnparsedKeys::Chunks(pieces) => {
            let table = top.subtable(Section::Top, "key", reader.report);
            pieces.for_each_key(|entry| {
                read.push(reader.read_key(entry.name(), &table.entry_value(entry))?);
                Some(())
            })?;
            // A file mostly has its keys in some order, which this makes use of.
            read.sort_by(|one, other| one.name.cmp(&other.name));
            if read.windows(2).any(|pair| pair[0].name == pair[1].name) {
                return None;
            }
        }
    }

    // First what is only read, of every key, so that the order of the keys
    // does not decide which of two options is called wrong.
    read.iter().for_each(|key| key.sinks.reserve_files(claims));
    let mut keys: Vec<_> = read
        .into_iter()
        .filter_map(|key| {
            let sinks = key.sinks.claim_files(claims, report);
            Some(KeySettings {
                name: key.name?,
                policy: key.policy?,
                sinks,
            })
        })
        .collect();
    // They were collected in the room of what was read.
    keys.shrink_to_fit();
    Some(keys)
}

/// A key as far as it could be read.
struct ParsedKey {
    name: Option<KeyName>,
    policy: Option<Arc<KeyPolicy>>,
    sinks: ParsedSinks,
}

/// What all keys share while they are read.
struct KeyReader<'e, 'r> {
    defaults: KeyOptions,
    policies: PolicyBuilder<'e>,
    self_credential: SelfCredentialClaim<'e>,
    report: &'r mut ProblemReport,
}

impl KeyReader<'_, '_> {
    fn read_key(&mut self, name: &str, value: &ConfigValue<'_>) -> Option<ParsedKey> {
        let checked = KeyName::new(name);
        if let Err(error) = &checked {
            let message = format!("{} is no name for a key", quoted(name));
            self.report
                .add_problem(&value.location, message, error.to_string());
        }
        let table = value.table(self.report)?;
        table.reject_unknown(&[Section::Defaults, Section::Key], self.report);
        let name = checked.ok();
        let policy = self
            .policies
            .build(&table, name.as_ref(), &self.defaults, self.report);
        let sinks = sinks::read_sinks(&table, &mut self.self_credential, self.report);
        Some(ParsedKey {
            name,
            policy,
            sinks,
        })
    }
}
