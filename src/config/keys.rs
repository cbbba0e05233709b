//! `[defaults]` and the keys.

use std::path::Path;
use std::sync::Arc;

use super::Environment;
use super::check::Claims;
use super::options::Section;
use super::patience::Patience;
use super::pieces::Pieces;
use super::place::Place;
use super::quote::quoted;
use super::reader::{Entry, Table, Value};
use super::report::Report;
use super::sinks::{self, Own, Sinks};
use super::timing::Timing;
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::settings::KeySettings;

/// The keys, before they are read.
pub(super) enum Keys<'t> {
    /// As they were taken out of the file's table, if there are any.
    Table(Option<Entry<'t>>),
    /// Those of a long file.
    Pieces(Pieces<'t>),
}

impl Keys<'_> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Table(taken) => taken.as_ref().map_or(0, Entry::len),
            Self::Pieces(pieces) => pieces.names().count(),
        }
    }

    /// What they are called.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Table(taken) => taken.as_ref().map(Entry::names).unwrap_or_default(),
            Self::Pieces(pieces) => pieces.names().collect(),
        }
    }
}

/// Reads every key, in the order of their names; none if they cannot be read in
/// the pieces that they are in.
pub(super) fn keys(
    top: &Table<'_>,
    keys: Keys<'_>,
    environment: &Environment,
    credential_file: Option<&Path>,
    claims: &mut Claims,
    report: &mut Report,
) -> Option<Vec<KeySettings>> {
    let table = top.table(Section::Top, "defaults", report);
    table.refuse_unknown(&[Section::Defaults], report);
    let mut reader = Reader {
        defaults: Patience::read(&table, report),
        timing: Timing::new(environment),
        own: Own::new(credential_file),
        report,
    };
    let mut read = Vec::with_capacity(keys.len());
    match keys {
        Keys::Table(None) => {}
        Keys::Table(Some(taken)) => {
            let table = top.value_of(&taken).table(reader.report);
            let place = table.map_or_else(Place::file, |table| table.place);
            let table = Table::emptied(place);
            for entry in taken.into_entries() {
                read.extend(reader.key(entry.name(), &table.value_of(&entry)));
            }
        }
        Keys::Pieces(pieces) => {
            let table = top.table(Section::Top, "key", reader.report);
            pieces.read(|entry| {
                read.push(reader.key(entry.name(), &table.value_of(entry))?);
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
    read.iter().for_each(|key| key.sinks.reserve(claims));
    let mut keys: Vec<_> = read
        .into_iter()
        .filter_map(|key| {
            let sinks = key.sinks.claim(claims, report);
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
struct ReadKey {
    name: Option<KeyName>,
    policy: Option<Arc<KeyPolicy>>,
    sinks: Sinks,
}

/// What all keys share while they are read.
struct Reader<'e, 'r> {
    defaults: Patience,
    timing: Timing<'e>,
    own: Own<'e>,
    report: &'r mut Report,
}

impl Reader<'_, '_> {
    fn key(&mut self, name: &str, value: &Value<'_>) -> Option<ReadKey> {
        let checked = KeyName::new(name);
        if let Err(error) = &checked {
            let message = format!("{} is no name for a key", quoted(name));
            self.report.wrong(&value.place, message, error.to_string());
        }
        let table = value.table(self.report)?;
        table.refuse_unknown(&[Section::Defaults, Section::Key], self.report);
        let name = checked.ok();
        let policy = self
            .timing
            .policy(&table, name.as_ref(), &self.defaults, self.report);
        let sinks = sinks::sinks(&table, &mut self.own, self.report);
        Some(ReadKey {
            name,
            policy,
            sinks,
        })
    }
}
