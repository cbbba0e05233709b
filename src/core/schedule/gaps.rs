//! The shortest and the longest gap between firings, read off the parsed fields: walking the
//! firings of `* * * * * *` over 400 days would be 35 million steps.

use std::time::Duration;

use croner::Cron;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::core::schedule::Schedule;
use crate::core::schedule::dates::matches_date;
use crate::core::time;

/// How far ahead gaps are looked at: a year and a bit, so that every season
/// and both changes of the clock are seen.
const HORIZON: Duration = Duration::from_secs(400 * DAY.unsigned_abs());

/// One day of the wall clock.
const DAY: i64 = 86_400;

impl Schedule {
    /// The shortest time between two firings in the 400 days after `from`, or
    /// between the next two if they are further apart; none if it never fires
    /// twice.
    ///
    /// It is read off the parsed fields; only around a change of the zone's
    /// offset are real firings looked at.
    #[must_use]
    pub fn shortest_gap(&self, from: Timestamp) -> Option<Duration> {
        if !self.parsed.can_fire {
            return None;
        }
        shortest(self, from)
    }

    /// The longest time between two firings in the years after `from`; none
    /// if it does not fire twice.
    #[must_use]
    pub fn longest_gap(&self, from: Timestamp) -> Option<Duration> {
        longest(self, from)
    }

    /// How often it fires on a day on which it does.
    #[must_use]
    pub fn firings_per_day(&self) -> usize {
        TimesOfDay::new(&self.parsed.cron).map_or(0, |times| times.count)
    }
}

/// The shortest gap in the 400 days after `from`. A schedule too rare for two
/// firings in them has the gap between its next two: whether a configuration
/// with `@yearly` is right must not depend on the month it is read in.
fn shortest(schedule: &Schedule, from: Timestamp) -> Option<Duration> {
    let end = time::after(from, HORIZON);
    let on_the_wall = shortest_by_fields(
        &schedule.parsed.cron,
        schedule.zone.to_datetime(from).date(),
        schedule.zone.to_datetime(end).date(),
    );
    shortest_around_changes(schedule, from, end)
        .into_iter()
        .chain(on_the_wall)
        .min()
        .or_else(|| {
            let next = schedule.next_after(from)?;
            Some(time::until(next, schedule.next_after(next)?))
        })
}

/// The longest gap in the 800 days after `from`, by the wall clock; for a
/// schedule too rare for two of its days in them, that between its next two
/// days. Only a skipped hour, for which a schedule that follows the real time
/// does not make up, is looked at in real firings.
fn longest(schedule: &Schedule, from: Timestamp) -> Option<Duration> {
    if !schedule.parsed.can_fire {
        return None;
    }
    let cron = &schedule.parsed.cron;
    let times = TimesOfDay::new(cron)?;
    let end = time::after(from, HORIZON * 2);
    let first = schedule.zone.to_datetime(from).date();
    let last = schedule.zone.to_datetime(end).date();

    let mut over_night: Option<i64> = None;
    let mut before: Option<i64> = None;
    for (number, date) in (0_i64..).zip(first.series(1.day())) {
        if date > last && over_night.is_some() {
            break;
        }
        if matches_date(cron, date) {
            over_night = over_night.max(before.map(|before| times.gap_over_days(number - before)));
            before = Some(number);
        }
    }
    let within = times.gaps.map_or(0, |(_, longest)| longest);
    let on_the_wall = Duration::from_secs(over_night?.max(within).unsigned_abs());
    Some(on_the_wall.max(longest_over_skipped_hour(schedule, from, end).unwrap_or_default()))
}

/// The longest real gap that a skipped hour lies in. A fixed schedule loses no
/// firing there.
fn longest_over_skipped_hour(
    schedule: &Schedule,
    from: Timestamp,
    end: Timestamp,
) -> Option<Duration> {
    if schedule.parsed.is_fixed {
        return None;
    }
    let zone = &schedule.zone;
    offset_changes(schedule, from, end)
        .filter(|(just_before, change)| zone.to_offset(*just_before) < zone.to_offset(*change))
        .filter_map(|(just_before, _)| {
            let last = schedule.last_between(Timestamp::MIN, just_before)?;
            Some(time::until(last, schedule.next_after(last)?))
        })
        .max()
}

/// The shortest gap on the wall clock, as if there were no zone, from the
/// beginning of `first` to the end of `last`. Whole days make it a little
/// stricter than asked, never laxer.
fn shortest_by_fields(cron: &Cron, first: Date, last: Date) -> Option<Duration> {
    let times = TimesOfDay::new(cron)?;
    let within = times.gaps.map(|(shortest, _)| shortest);
    let mut shortest: Option<i64> = None;
    let mut before: Option<i64> = None;
    let dates = first.series(1.day()).take_while(|date| *date <= last);
    for (number, date) in (0_i64..).zip(dates) {
        if !matches_date(cron, date) {
            continue;
        }
        let over_night = before.map(|before| times.gap_over_days(number - before));
        shortest = [shortest, over_night, within].into_iter().flatten().min();
        before = Some(number);
    }
    shortest.map(|seconds| Duration::from_secs(seconds.unsigned_abs()))
}

/// The real gaps beside each change of the zone's offset. Only a gap that a
/// change lies in, or the one that begins with it (skipped times fire there),
/// differs from the wall clock's.
fn shortest_around_changes(
    schedule: &Schedule,
    from: Timestamp,
    end: Timestamp,
) -> Option<Duration> {
    offset_changes(schedule, from, end)
        .filter_map(|(just_before, _)| {
            let last = schedule.last_between(Timestamp::MIN, just_before)?;
            let next = schedule.next_after(last)?;
            let after = schedule.next_after(next);
            let second_gap = after.map_or(Duration::MAX, |after| time::until(next, after));
            Some(time::until(last, next).min(second_gap))
        })
        .min()
}

/// The zone's changes after `from` until `end`, each with the second before it.
fn offset_changes(
    schedule: &Schedule,
    from: Timestamp,
    end: Timestamp,
) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let second = SignedDuration::from_secs(1);
    schedule
        .zone
        .following(from)
        .map(|change| change.timestamp())
        .take_while(move |change| *change <= end)
        .filter_map(move |change| Some((change.checked_sub(second).ok()?, change)))
}

/// When it fires on a day that matches, in seconds of the day. All times of
/// `* * * * * *` are 86,400: what is asked of them follows from the fields.
struct TimesOfDay {
    first: i64,
    last: i64,
    count: usize,
    /// The shortest and the longest gap; none if it fires once.
    gaps: Option<(i64, i64)>,
}

impl TimesOfDay {
    /// None if it never fires.
    fn new(cron: &Cron) -> Option<Self> {
        let pattern = &cron.pattern;
        let second = Self {
            first: 0,
            last: 0,
            count: 1,
            gaps: None,
        };
        second
            .repeat_at(1, &pattern.seconds.values())?
            .repeat_at(60, &pattern.minutes.values())?
            .repeat_at(3_600, &pattern.hours.values())
    }

    /// These times again at each of `values`, ascending, which count `unit`
    /// seconds.
    fn repeat_at(self, unit: i64, values: &[u16]) -> Option<Self> {
        let at = |value: &u16| i64::from(*value) * unit;
        let between = values
            .windows(2)
            .map(|pair| at(&pair[1]) - at(&pair[0]) - self.last + self.first);
        let between = between.map(|gap| (gap, gap));
        Some(Self {
            first: at(values.first()?) + self.first,
            last: at(values.last()?) + self.last,
            count: self.count * values.len(),
            gaps: self.gaps.into_iter().chain(between).reduce(extremes),
        })
    }

    /// The gap from the last of a day to the first of the day so many later.
    const fn gap_over_days(&self, days: i64) -> i64 {
        days * DAY - self.last + self.first
    }
}

/// The shorter and the longer of gaps.
fn extremes(one: (i64, i64), other: (i64, i64)) -> (i64, i64) {
    (one.0.min(other.0), one.1.max(other.1))
}
