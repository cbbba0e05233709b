//! `[defaults]` and the keys.

use std::path::Path;
use std::sync::Arc;

use super::Environment;
use super::check::Claims;
use super::options::Section;
use super::patience::Patience;
use super::place::Place;
use super::quote::quoted;
use super::reader::{Entry, Table, Value};
use super::report::Report;
use super::sinks::{self, Own, Sinks};
use super::timing::Timing;
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::settings::KeySettings;

/// Reads every key of `taken`, in the order of their names.
pub(super) fn keys(
    top: &Table<'_>,
    taken: Option<Entry<'_>>,
    environment: &Environment,
    credential_file: Option<&Path>,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<KeySettings> {
    let table = top.table(Section::Top, "defaults", report);
    table.refuse_unknown(&[Section::Defaults], report);
    let mut reader = Reader {
        defaults: Patience::read(&table, report),
        timing: Timing::new(environment),
        own: Own::new(credential_file),
        report,
    };
    let mut read = Vec::new();
    if let Some(taken) = taken {
        let table = top.value_of(&taken).table(reader.report);
        let place = table.map_or_else(Place::file, |table| table.place);
        let table = top.emptied(place);
        for entry in taken.into_entries() {
            read.extend(reader.key(entry.name(), &table.value_of(&entry)));
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
    keys
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
