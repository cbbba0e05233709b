//! `[defaults]` and the keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::Environment;
use super::check::Claims;
use super::options::Section;
use super::quote::{looks_secret, quoted};
use super::reader::{Table, Value};
use super::report::{Place, Report};
use super::sinks::{self, Own, Sinks};
use super::values;
use crate::core::duration::{LONGEST, to_text};
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::{ALLOWED, Schedule, ScheduleError};
use crate::core::settings::KeySettings;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Twice a create a second for a day: no schedule needs more.
const MOST_CREATES: usize = 172_800;

/// Reads every key, in the order of their names.
pub(super) fn keys(
    top: &Table<'_>,
    environment: &Environment,
    credential_file: Option<&Path>,
    claims: &mut Claims,
    report: &mut Report,
) -> Vec<KeySettings> {
    let table = top.table(Section::Top, "defaults", report);
    table.refuse_unknown(&[Section::Defaults], report);
    let mut reader = Reader {
        defaults: Patience::read(&table, report),
        schedules: Schedules::new(environment),
        own: Own::new(credential_file),
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
        let own = Patience::read(&table, self.report);
        let policy = self.policy(&table, own);
        let sinks = sinks::sinks(&table, &mut self.own, self.report);
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
        let budget = own
            .creates_per_day
            .clone()
            .or_else(|| self.defaults.creates_per_day.clone());
        self.check_budget(table, &schedule, budget.as_ref());
        let span = overlap.as_ref().map_or_else(
            || KeyPolicy::new(schedule.clone()).overlap.min(room / 2),
            |(span, _)| *span,
        );
        let expires = own
            .expires_after
            .clone()
            .or_else(|| self.defaults.expires_after.clone());
        self.check_life(&schedule, span, expires.as_ref());
        let defaults = &self.defaults;
        let plain = KeyPolicy::new(schedule);
        let pick = |own: Option<Duration>, default: Option<Duration>, plain| {
            own.or(default).unwrap_or(plain)
        };
        Some(KeyPolicy {
            overlap: span,
            verify_for: pick(own.verify_for, defaults.verify_for, plain.verify_for),
            settle: pick(own.settle, defaults.settle, plain.settle),
            deliver_for: pick(own.deliver_for, defaults.deliver_for, plain.deliver_for),
            creates_per_day: budget.map_or(plain.creates_per_day, |(most, _)| most),
            live_at_most: own
                .live_at_most
                .or(defaults.live_at_most)
                .unwrap_or(plain.live_at_most),
            expires_after: expires.map(|(life, _)| life),
            hold_while_used: pick(
                own.hold_while_used,
                defaults.hold_while_used,
                plain.hold_while_used,
            ),
            hold_at_most: pick(own.hold_at_most, defaults.hold_at_most, plain.hold_at_most),
            ..plain
        })
    }

    /// A budget that the schedule alone can use up would stop the key on the
    /// first day with a failure.
    fn check_budget(
        &mut self,
        table: &Table<'_>,
        schedule: &Schedule,
        budget: Option<&(u32, Place)>,
    ) {
        let needed = schedule.firings_in_a_day().saturating_mul(2);
        let most = budget.map_or(
            KeyPolicy::new(schedule.clone()).creates_per_day,
            |(most, _)| *most,
        );
        if usize::try_from(most).unwrap_or(usize::MAX) >= needed {
            return;
        }
        let message = format!(
            "{most} creates a day are less than twice what {} needs",
            quoted(schedule.expression())
        );
        let hint = format!("at least {needed} are needed: creates-per-day = {needed}");
        let place = budget.map_or_else(
            || table.place.option("creates-per-day"),
            |(_, at)| at.clone(),
        );
        self.report.wrong(&place, message, hint);
    }

    /// A credential must outlive the time until its successor is everywhere.
    fn check_life(
        &mut self,
        schedule: &Schedule,
        overlap: Duration,
        expires: Option<&(Duration, Place)>,
    ) {
        let gap = schedule.longest_gap(self.schedules.environment.now);
        let (Some((life, place)), Some(gap)) = (expires, gap) else {
            return;
        };
        let least = gap * 3 / 2 + overlap;
        if *life >= least {
            return;
        }
        let message = format!(
            "\"{}\" is too short a life for {}",
            to_text(*life),
            quoted(schedule.expression())
        );
        let hint = format!(
            "1.5 times its longest gap and the overlap, at least \"{}\", are needed",
            to_text(least)
        );
        self.report.wrong(place, message, hint);
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
    creates_per_day: Option<(u32, Place)>,
    live_at_most: Option<usize>,
    expires_after: Option<(Duration, Place)>,
    hold_while_used: Option<Duration>,
    hold_at_most: Option<Duration>,
}

impl Patience {
    fn read(table: &Table<'_>, report: &mut Report) -> Self {
        let mut span = |name, least, most| {
            let value = table.get(Section::Defaults, name)?;
            let span = values::span(&value, least, most, report)?;
            Some((span, value.place))
        };
        let overlap = span("overlap", Duration::ZERO, LONGEST);
        let expires_after = span("expires-after", HOUR, 365 * DAY);
        let mut plain = |name, least, most| span(name, least, most).map(|(span, _)| span);
        Self {
            overlap,
            verify_for: plain("verify-for", SECOND, DAY),
            settle: plain("settle", Duration::ZERO, HOUR),
            deliver_for: plain("deliver-for", SECOND, 30 * DAY),
            expires_after,
            hold_while_used: plain("hold-while-used", Duration::ZERO, 30 * DAY),
            hold_at_most: plain("hold-at-most", Duration::ZERO, LONGEST),
            creates_per_day: table
                .get(Section::Defaults, "creates-per-day")
                .and_then(|value| {
                    let most = value.number(1, MOST_CREATES, report)?;
                    Some((u32::try_from(most).ok()?, value.place))
                }),
            live_at_most: table
                .get(Section::Defaults, "live-at-most")
                .and_then(|value| value.number(3, 100, report)),
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
