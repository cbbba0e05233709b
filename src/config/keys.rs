//! `[defaults]` and the keys.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::Environment;
use super::check::Claims;
use super::options::Section;
use super::quote::{looks_secret, quoted};
use super::reader::{Table, Value};
use super::report::{Place, Report};
use super::sinks::{self, Sinks};
use super::values;
use crate::core::duration::{LONGEST, to_text};
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::{ALLOWED, Schedule, ScheduleError};
use crate::core::settings::KeySettings;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads every key, in the order of their names.
pub(super) fn keys(
    top: &Table<'_>,
    environment: &Environment,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<KeySettings> {
    let table = top.table(Section::Top, "defaults", report);
    table.refuse_unknown(&[Section::Defaults], report);
    let mut reader = Reader {
        defaults: Patience::read(&table, report),
        schedules: Schedules::new(environment),
        report,
    };
    let mut entries = top.table(Section::Top, "key", reader.report).entries();
    entries.sort_by_key(|(name, _)| *name);
    let read: Vec<_> = entries
        .into_iter()
        .filter_map(|(name, value)| reader.key(name, &value))
        .collect();

    // First what is only read, of every key, so that the order of the keys
    // does not decide which of two options is called wrong.
    read.iter().for_each(|key| key.sinks.reserve(claims));
    read.into_iter()
        .filter_map(|key| {
            let sinks = key.sinks.claim(claims, report);
            Some(KeySettings {
                name: key.name?,
                policy: key.policy?,
                sinks,
            })
        })
        .collect()
}

/// A key as far as it could be read.
struct ReadKey {
    name: Option<KeyName>,
    policy: Option<KeyPolicy>,
    sinks: Sinks,
}

/// What all keys share while they are read.
struct Reader<'e, 'r> {
    defaults: Patience,
    schedules: Schedules<'e>,
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
        let own = Patience::read(&table, self.report);
        let policy = self.policy(&table, own);
        let sinks = sinks::sinks(&table, self.report);
        Some(ReadKey {
            name: checked.ok(),
            policy,
            sinks,
        })
    }

    fn policy(&mut self, table: &Table<'_>, own: Patience) -> Option<KeyPolicy> {
        let found = self.schedule(table);
        let overlap = own.overlap.or_else(|| {
            let (span, place) = self.defaults.overlap.as_ref()?;
            let at = table.place.option("overlap");
            Some((*span, place.told_as(at.path().to_owned())))
        });
        let (schedule, gap) = found?;
        let room = gap.unwrap_or(Duration::MAX);
        if let Some((span, place)) = &overlap
            && *span >= room
        {
            let message = format!(
                "\"{}\" is not shorter than the shortest gap between two firings of {}",
                to_text(*span),
                quoted(schedule.expression())
            );
            let hint = format!("less than \"{}\" is allowed", to_text(room));
            self.report.wrong(place, message, hint);
        }
        let defaults = &self.defaults;
        let plain = KeyPolicy::new(schedule);
        let pick = |own: Option<Duration>, default: Option<Duration>, plain| {
            own.or(default).unwrap_or(plain)
        };
        Some(KeyPolicy {
            overlap: overlap.map_or(plain.overlap.min(room / 2), |(span, _)| span),
            verify_for: pick(own.verify_for, defaults.verify_for, plain.verify_for),
            settle: pick(own.settle, defaults.settle, plain.settle),
            deliver_for: pick(own.deliver_for, defaults.deliver_for, plain.deliver_for),
            ..plain
        })
    }

    fn schedule(&mut self, table: &Table<'_>) -> Option<(Schedule, Option<Duration>)> {
        let Some(value) = table.get(Section::Key, "schedule") else {
            self.report.missing(
                &table.place,
                "has no schedule",
                "add one, such as schedule = \"0 3 * * Mon\"",
            );
            return None;
        };
        let text = value.text(self.report)?;
        match self.schedules.get(text) {
            Err(error) => {
                let message = if looks_secret(text) {
                    format!("{} is no cron expression", quoted(text))
                } else {
                    error.to_string()
                };
                self.report.wrong(&value.place, message, ALLOWED);
                None
            }
            Ok((schedule, _)) if !schedule.ever_fires() => {
                let message = format!("{} never fires", quoted(text));
                let hint = "no date matches its day and month: name a day that the month has";
                self.report.wrong(&value.place, message, hint);
                None
            }
            Ok(found) => Some(found),
        }
    }
}

/// The options that a key and `[defaults]` share, as far as they are there.
struct Patience {
    overlap: Option<(Duration, Place)>,
    verify_for: Option<Duration>,
    settle: Option<Duration>,
    deliver_for: Option<Duration>,
}

impl Patience {
    fn read(table: &Table<'_>, report: &mut Report) -> Self {
        let mut span = |name, least, most| {
            let value = table.get(Section::Defaults, name)?;
            let span = values::span(&value, least, most, report)?;
            Some((span, value.place))
        };
        let overlap = span("overlap", Duration::ZERO, LONGEST);
        let mut plain = |name, least, most| span(name, least, most).map(|(span, _)| span);
        Self {
            overlap,
            verify_for: plain("verify-for", SECOND, DAY),
            settle: plain("settle", Duration::ZERO, HOUR),
            deliver_for: plain("deliver-for", SECOND, 30 * DAY),
        }
    }
}

/// A schedule with its shortest gap.
type WithGap = (Schedule, Option<Duration>);

/// The schedules read so far: ten thousand keys with one expression cost one
/// parse, and one schedule's memory.
struct Schedules<'e> {
    environment: &'e Environment,
    known: BTreeMap<String, Result<WithGap, ScheduleError>>,
}

impl<'e> Schedules<'e> {
    const fn new(environment: &'e Environment) -> Self {
        Self {
            environment,
            known: BTreeMap::new(),
        }
    }

    fn get(&mut self, text: &str) -> Result<WithGap, ScheduleError> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let parsed = Schedule::parse(text, TimeZone::UTC).map(|schedule| {
            let gap = schedule.shortest_gap(self.environment.now);
            (schedule, gap)
        });
        self.known.insert(text.to_owned(), parsed.clone());
        parsed
    }
}
