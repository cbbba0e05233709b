//! The shortest and the longest gap between firings, computed from the parsed fields:
//! `* * * * * *` fires 35 million times in 400 days.

use std::time::Duration;

use croner::Cron;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp, ToSpan as _};

use crate::core::schedule::Schedule;
use crate::core::schedule::dates::matches_date;
use crate::core::time;

/// The time for which gaps are computed: more than a year, so that it has every season
/// and both changes of the clock.
const HORIZON: Duration = Duration::from_secs(400 * DAY.unsigned_abs());

/// One day of the wall clock.
const DAY: i64 = 86_400;

impl Schedule {
    /// Returns the shortest time between two firings in the 400 days after `from`, or
    /// between the next two if they are further apart; none if it never fires twice.
    ///
    /// The gap follows from the parsed fields; real firings are searched only around a
    /// change of the zone's offset.
    #[must_use]
    pub fn shortest_gap(&self, from: Timestamp) -> Option<Duration> {
        if !self.parsed.can_fire {
            return None;
        }
        shortest(self, from)
    }

    /// Returns the longest time between two firings in the years after `from`; none
    /// if it does not fire twice.
    #[must_use]
    pub fn longest_gap(&self, from: Timestamp) -> Option<Duration> {
        longest(self, from)
    }

    /// Returns the number of firings on a day that has any.
    #[must_use]
    pub fn firings_per_day(&self) -> usize {
        TimesOfDay::new(&self.parsed.cron).map_or(0, |times| times.count)
    }
}

/// Returns the shortest gap in the 400 days after `from`, or the gap between the next
/// two firings of a rarer schedule: whether a configuration with `@yearly` is valid must
/// not depend on the current month.
fn shortest(schedule: &Schedule, from: Timestamp) -> Option<Duration> {
    let end = time::after(from, HORIZON);
    let by_wall_clock = shortest_by_fields(
        &schedule.parsed.cron,
        schedule.zone.to_datetime(from).date(),
        schedule.zone.to_datetime(end).date(),
    );
    shortest_around_changes(schedule, from, end)
        .into_iter()
        .chain(by_wall_clock)
        .min()
        .or_else(|| {
            let next = schedule.next_after(from)?;
            Some(time::until(next, schedule.next_after(next)?))
        })
}

/// Returns the longest gap in the 800 days after `from` by the wall clock, or the gap
/// between the next two days of a rarer schedule. Real firings are searched only around
/// a skipped hour, in which a schedule that is not fixed loses firings.
fn longest(schedule: &Schedule, from: Timestamp) -> Option<Duration> {
    if !schedule.parsed.can_fire {
        return None;
    }
    let cron = &schedule.parsed.cron;
    let times = TimesOfDay::new(cron)?;
    let end = time::after(from, HORIZON * 2);
    let first = schedule.zone.to_datetime(from).date();
    let last = schedule.zone.to_datetime(end).date();

    let mut across_days: Option<i64> = None;
    let mut previous: Option<i64> = None;
    for (number, date) in (0_i64..).zip(first.series(1.day())) {
        if date > last && across_days.is_some() {
            break;
        }
        if matches_date(cron, date) {
            across_days =
                across_days.max(previous.map(|previous| times.gap_over_days(number - previous)));
            previous = Some(number);
        }
    }
    let within_day = times.gaps.map_or(0, |(_, longest)| longest);
    let by_wall_clock = Duration::from_secs(across_days?.max(within_day).unsigned_abs());
    Some(by_wall_clock.max(longest_over_skipped_hour(schedule, from, end).unwrap_or_default()))
}

/// Returns the longest real gap around a skipped hour; none for a fixed schedule, which
/// loses no firing there.
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

/// Returns the shortest gap on the wall clock without a zone, from the beginning of
/// `first` to the end of `last`. These whole days may include a shorter gap than the
/// exact span, never a longer one.
fn shortest_by_fields(cron: &Cron, first: Date, last: Date) -> Option<Duration> {
    let times = TimesOfDay::new(cron)?;
    let within_day = times.gaps.map(|(shortest, _)| shortest);
    let mut shortest: Option<i64> = None;
    let mut previous: Option<i64> = None;
    let dates = first.series(1.day()).take_while(|date| *date <= last);
    for (number, date) in (0_i64..).zip(dates) {
        if !matches_date(cron, date) {
            continue;
        }
        let across_days = previous.map(|previous| times.gap_over_days(number - previous));
        shortest = [shortest, across_days, within_day]
            .into_iter()
            .flatten()
            .min();
        previous = Some(number);
    }
    shortest.map(|seconds| Duration::from_secs(seconds.unsigned_abs()))
}

/// Returns the shortest real gap beside a change of the zone's offset. Only the gap
/// around a change, and the one after it (skipped times fire at the change), differ from
/// the wall clock's.
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

/// Returns the zone's changes after `from` until `end`, each with the second before it.
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

/// The firings of a matching day, in seconds of the day. Their bounds and gaps follow
/// from the fields: a list of the times of `* * * * * *` would have 86,400 entries.
struct TimesOfDay {
    first: i64,
    last: i64,
    count: usize,
    /// The shortest and the longest gap; none if it fires once.
    gaps: Option<(i64, i64)>,
}

impl TimesOfDay {
    /// Returns the times of an expression; none if it never fires.
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

    /// Returns these times repeated at each of `values`, which ascend and are in units of
    /// `unit` seconds.
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

    /// Returns the gap from the last time of a day to the first time `days` later.
    const fn gap_over_days(&self, days: i64) -> i64 {
        days * DAY - self.last + self.first
    }
}

/// Returns the shortest and the longest of two such pairs.
fn extremes(one: (i64, i64), other: (i64, i64)) -> (i64, i64) {
    (one.0.min(other.0), one.1.max(other.1))
}
