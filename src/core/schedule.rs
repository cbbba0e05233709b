//! When a cron expression fires, in a time zone, as Debian's cron keeps it.
//!
//! A firing at a fixed time that falls into an hour skipped by daylight saving
//! runs right after the jump, one in a repeated hour runs once; hours and
//! minutes written with `*` follow real time.

use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::core::time;

/// How far ahead gaps between firings are looked for, in days.
const GAP_HORIZON: i64 = 400;

/// A search that finds nothing within so many steps is given up: more firings
/// than this are never skipped or repeated by one clock change.
const MOST_STEPS: usize = 10_000;

/// A cron expression with its time zone. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schedule(Arc<Parsed>);

#[derive(Debug)]
struct Parsed {
    expression: String,
    cron: Cron,
    /// Neither minute nor hour begins with `*`: fires by the wall clock.
    fixed: bool,
    zone: TimeZone,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScheduleError(String);

impl Schedule {
    /// Reads a cron expression in `zone`: five fields, or six with the seconds
    /// first, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    ///
    /// # Errors
    /// A text that is no cron expression, in words that say what would be one.
    pub fn parse(expression: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        const FORM: &str = "a schedule has 5 fields (minute hour day month weekday), \
            6 with seconds first, or is @hourly, @daily, @weekly, @monthly or @yearly";
        let plain = match expression.trim() {
            "@hourly" => "0 * * * *",
            "@daily" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" => "0 0 1 1 *",
            other => other,
        };
        let fields: Vec<&str> = plain.split_whitespace().collect();
        if !matches!(fields.len(), 5 | 6) || plain.starts_with('@') {
            return Err(ScheduleError(FORM.to_owned()));
        }
        let [minute, hour, day, _, weekday] = fields[fields.len() - 5..] else {
            return Err(ScheduleError(FORM.to_owned()));
        };
        let cron = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Disallowed)
            .dom_and_dow(day.starts_with('*') || weekday.starts_with('*'))
            .build()
            .parse(plain)
            .map_err(|error| ScheduleError(format!("{error}; {FORM}")))?;
        let fixed = !minute.starts_with('*') && !hour.starts_with('*');
        Ok(Self(Arc::new(Parsed {
            expression: expression.to_owned(),
            cron,
            fixed,
            zone,
        })))
    }

    /// The expression as it was written.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.0.expression
    }

    /// The first firing after `at`; none if it never fires again.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        let zone = &self.0.zone;
        if !self.0.fixed {
            let start = at.to_zoned(zone.clone());
            let found = self
                .0
                .cron
                .find_next_occurrence(&start, false)
                .ok()?
                .timestamp();
            return (found > at).then_some(found);
        }
        // A skipped wall time fires after the jump, so the search begins an
        // hour and more before the wall clock of `at`.
        let mut wall = zone.to_datetime(at).checked_sub(3.hours()).ok()?;
        for _ in 0..MOST_STEPS {
            wall = self.0.cron.find_next_occurrence(&wall, false).ok()?;
            let fires = instant(zone, wall)?;
            if fires > at {
                return Some(fires);
            }
        }
        None
    }

    /// The last firing after `since` and not after `at`.
    #[must_use]
    pub fn last_between(&self, since: Timestamp, at: Timestamp) -> Option<Timestamp> {
        if since >= at {
            return None;
        }
        let zone = &self.0.zone;
        let found = if self.0.fixed {
            let mut wall = zone.to_datetime(at).checked_add(3.hours()).ok()?;
            let mut found = None;
            for _ in 0..MOST_STEPS {
                wall = self.0.cron.find_previous_occurrence(&wall, false).ok()?;
                let fires = instant(zone, wall)?;
                if fires <= at {
                    found = Some(fires);
                    break;
                }
            }
            found?
        } else {
            let end = at.to_zoned(zone.clone());
            self.0
                .cron
                .find_previous_occurrence(&end, true)
                .ok()?
                .timestamp()
        };
        (found > since && found <= at).then_some(found)
    }

    /// The shortest time between two firings in the 400 days after `from`;
    /// none if it does not fire twice. Read off the fields, so that a schedule
    /// of every second costs as little as a yearly one.
    #[must_use]
    pub fn shortest_gap(&self, from: Timestamp) -> Option<Duration> {
        let day_gap = self.shortest_day_gap(self.0.zone.to_datetime(from).date());
        let times = self.times_of_day();
        let (first, last) = (*times.first()?, *times.last()?);
        let within = times.windows(2).map(|pair| pair[1] - pair[0]).min();
        let across = day_gap.map(|days| days * 86_400 - last + first);
        within
            .into_iter()
            .chain(across)
            .min()
            .map(Duration::from_secs)
    }

    /// The seconds of the day at which it fires on a day that matches, as far
    /// as the shortest distance needs them: hours and minutes repeat what the
    /// seconds do.
    fn times_of_day(&self) -> Vec<u64> {
        let pattern = &self.0.cron.pattern;
        let mut times = Vec::new();
        for hour in pattern.hours.values() {
            for minute in pattern.minutes.values() {
                for second in pattern.seconds.values() {
                    times
                        .push(u64::from(hour) * 3_600 + u64::from(minute) * 60 + u64::from(second));
                }
            }
        }
        times.sort_unstable();
        times
    }

    /// The smallest number of days between two days that match.
    fn shortest_day_gap(&self, from: Date) -> Option<u64> {
        let pattern = &self.0.cron.pattern;
        let hour = i8::try_from(*pattern.hours.values().first()?).ok()?;
        let minute = i8::try_from(*pattern.minutes.values().first()?).ok()?;
        let second = i8::try_from(*pattern.seconds.values().first()?).ok()?;
        let (mut before, mut shortest) = (None::<i64>, None::<i64>);
        for ahead in 0..=GAP_HORIZON {
            let day = from
                .checked_add(ahead.days())
                .ok()?
                .at(hour, minute, second, 0);
            if self.0.cron.is_time_matching(&day).unwrap_or(false) {
                let gap = before.map(|before| ahead - before);
                shortest = shortest.into_iter().chain(gap).min();
                before = Some(ahead);
                if shortest == Some(1) {
                    break;
                }
            }
        }
        shortest.and_then(|days| u64::try_from(days).ok())
    }
}

/// The instant of a wall time: a skipped one right after the jump, a repeated
/// one the first time.
fn instant(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(wall);
    match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Gap { .. } => {
            // The first moment at which the new offset holds.
            let later = ambiguous.later().ok()?;
            zone.preceding(time::after(later, Duration::from_secs(1)))
                .next()
                .map(|change| change.timestamp())
        }
        jiff::tz::AmbiguousOffset::Unambiguous { .. } | jiff::tz::AmbiguousOffset::Fold { .. } => {
            ambiguous.earlier().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(expression: &str, zone: &str) -> Schedule {
        Schedule::parse(expression, TimeZone::get(zone).unwrap()).unwrap()
    }

    fn firings(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
        let mut at: Timestamp = from.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..count {
            at = schedule.next_after(at).unwrap();
            found.push(at.to_string());
        }
        found
    }

    #[test]
    fn a_weekly_schedule_fires_on_its_day() {
        let found = firings(&schedule("0 3 * * Mon", "UTC"), "2026-11-23T03:00:00Z", 2);
        assert_eq!(found, ["2026-11-30T03:00:00Z", "2026-12-07T03:00:00Z"]);
    }

    #[test]
    fn seconds_come_first_in_six_fields() {
        let found = firings(
            &schedule("*/20 * * * * *", "UTC"),
            "2026-11-23T03:00:10Z",
            3,
        );
        assert_eq!(
            found,
            [
                "2026-11-23T03:00:20Z",
                "2026-11-23T03:00:40Z",
                "2026-11-23T03:01:00Z"
            ]
        );
    }

    #[test]
    fn a_fixed_time_keeps_the_wall_clock_over_a_change() {
        // Skipped on 2026-03-29: right after the jump. Repeated on 2026-10-25: once.
        let berlin = schedule("30 2 * * *", "Europe/Berlin");
        let spring = firings(&berlin, "2026-03-28T00:00:00Z", 3);
        assert_eq!(
            spring,
            [
                "2026-03-28T01:30:00Z",
                "2026-03-29T01:00:00Z",
                "2026-03-30T00:30:00Z"
            ]
        );
        let autumn = firings(&berlin, "2026-10-24T00:00:00Z", 3);
        assert_eq!(
            autumn,
            [
                "2026-10-24T00:30:00Z",
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z"
            ]
        );
    }

    #[test]
    fn looking_back_finds_what_looking_forward_finds() {
        for (expression, zone) in [
            ("30 2 * * *", "Europe/Berlin"),
            ("*/7 * * * * *", "UTC"),
            ("0 0 1 * *", "UTC"),
        ] {
            let schedule = schedule(expression, zone);
            let at: Timestamp = "2026-03-29T01:00:00Z".parse().unwrap();
            let next = schedule.next_after(at).unwrap();
            assert_eq!(schedule.last_between(at, next), Some(next), "{expression}");
            let before = time::before(next, Duration::from_secs(1));
            assert_eq!(schedule.last_between(at, before), None, "{expression}");
        }
    }

    #[test]
    fn what_never_fires_never_fires() {
        let never = schedule("0 0 31 2 *", "UTC");
        assert_eq!(
            never.next_after("2026-01-01T00:00:00Z".parse().unwrap()),
            None
        );
        assert_eq!(
            never.shortest_gap("2026-01-01T00:00:00Z".parse().unwrap()),
            None
        );
    }

    #[test]
    fn the_shortest_gap_is_read_off_the_fields() {
        let from = "2026-01-01T00:00:00Z".parse().unwrap();
        for (expression, seconds) in [
            ("*/5 * * * * *", 5),
            ("* * * * * *", 1),
            ("0 3 * * Mon", 7 * 86_400),
            ("0 0,23 * * *", 3_600),
            ("0 0 1 * *", 28 * 86_400),
            ("@hourly", 3_600),
            ("@yearly", 365 * 86_400),
        ] {
            let gap = schedule(expression, "UTC").shortest_gap(from);
            assert_eq!(gap, Some(Duration::from_secs(seconds)), "{expression}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "daily",
            "@reboot",
            "* * * *",
            "61 * * * *",
            "* * * * * * *",
            "0 0 * * Foo",
        ] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
    }
}
