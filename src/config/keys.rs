//! `[key.NAME]` and `[defaults]`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use toml::de::DeTable;

use crate::config::reader::{Found, Section};
use crate::config::sinks;
use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::schedule::{Schedule, ScheduleError};
use crate::core::settings::KeySettings;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The default overlap, where the schedule leaves room for it.
const OVERLAP: Duration = DAY;

/// Schedules already read: ten thousand keys share a handful of expressions.
type Schedules<'a> = BTreeMap<&'a str, Result<(Schedule, Option<Duration>), ScheduleError>>;

/// Every key, in the order of their names; a broken one is noted and left out.
pub(crate) fn keys(root: &Section<'_>) -> Vec<KeySettings> {
    let empty = DeTable::default();
    let defaults = root
        .table("defaults")
        .unwrap_or_else(|| Section::new(root.report, "defaults", 0, &empty));
    check_defaults(&defaults);
    let Some(all) = root.table("key") else {
        return Vec::new();
    };
    let mut schedules = Schedules::new();
    let mut keys = Vec::new();
    for (name, at, value) in all.members() {
        let path = all.path_of(name);
        let Ok(name) = KeyName::new(name) else {
            let form = "a key's name is 1 to 48 characters of a-z, 0-9 and -, not beginning with -";
            root.report.note(Some(at), &path, form);
            continue;
        };
        match value.get_ref().as_table() {
            Some(table) => {
                let section = Section::new(root.report, path, at, table).with_fallback(&defaults);
                keys.extend(key(name, &section, &mut schedules));
            }
            None => root
                .report
                .note(Some(at), &path, "it must be a table, begun with [key.NAME]"),
        }
    }
    keys.sort_by(|one, other| one.name.cmp(&other.name));
    keys
}

/// The options that `[defaults]` and every key have.
struct Patience {
    overlap: Option<Found<Duration>>,
    verify_for: Duration,
    settle: Duration,
    deliver_for: Duration,
}

fn patience(section: &Section<'_>) -> Patience {
    let second = Duration::from_secs(1);
    Patience {
        overlap: section.duration("overlap"),
        verify_for: section.bounded("verify-for", 15 * 60 * second, second, DAY),
        settle: section.bounded("settle", 2 * second, Duration::ZERO, HOUR),
        deliver_for: section.bounded("deliver-for", HOUR, second, 30 * DAY),
    }
}

/// So that a mistake in `[defaults]` is told once, and where it stands.
fn check_defaults(defaults: &Section<'_>) {
    let _ = patience(defaults);
    defaults.finish();
}

fn key<'a>(
    name: KeyName,
    section: &Section<'a>,
    schedules: &mut Schedules<'a>,
) -> Option<KeySettings> {
    let found = section.text("schedule");
    if found.is_none() && section.is_sound() {
        section.wrong("no schedule; it needs one, such as schedule = \"0 3 * * Mon\"");
    }
    let patience = patience(section);
    let sinks = sinks::sinks(section);
    section.finish();
    let found = found?;
    let parsed = schedules.entry(found.value).or_insert_with(|| {
        let schedule = Schedule::parse(found.value, TimeZone::UTC)?;
        let gap = schedule.shortest_gap(reference());
        Ok((schedule, gap))
    });
    let (schedule, gap) = match parsed {
        Ok((schedule, gap)) => (schedule.clone(), *gap),
        Err(error) => {
            section.bad(&found, format!("found {:?}; {error}", found.value));
            return None;
        }
    };
    if schedule.next_after(reference()).is_none() {
        section.bad(&found, format!("found {:?}; it never fires", found.value));
        return None;
    }
    let overlap = overlap(section, patience.overlap, gap);
    let policy = KeyPolicy {
        overlap,
        verify_for: patience.verify_for,
        settle: patience.settle,
        deliver_for: patience.deliver_for,
        ..KeyPolicy::new(schedule)
    };
    section.is_sound().then_some(KeySettings {
        name,
        policy,
        sinks,
    })
}

/// From when on gaps are looked for. A fixed day: whether a configuration is
/// right must not depend on when it is read. 2027 begins without a leap day
/// ahead and 2028 has one, and 400 days see both.
fn reference() -> Timestamp {
    Timestamp::from_second(1_798_761_600).unwrap_or_default()
}

fn overlap(
    section: &Section<'_>,
    given: Option<Found<Duration>>,
    gap: Option<Duration>,
) -> Duration {
    let Some(gap) = gap else {
        return given.map_or(OVERLAP, |given| given.value);
    };
    match given {
        None => OVERLAP.min(gap / 2),
        Some(given) => {
            if given.value >= gap {
                let (long, short) = (duration::to_text(given.value), duration::to_text(gap));
                section.bad(
                    &given,
                    format!(
                        "found {long:?}; it must be shorter than the shortest time between \
                         two firings of the schedule, {short}"
                    ),
                );
            }
            given.value
        }
    }
}
