//! When a key rotates: by a cron schedule or by the age of its current credential,
//! with each firing delayed by its jitter.
//!
//! Deliberately not here: how a schedule is evaluated in its time zone
//! ([`crate::core::schedule`]), and whether a key is due ([`crate::core::decide::due`]).

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::digest::{SHA256, digest};

use crate::core::ids::KeyName;
use crate::core::schedule::Schedule;
use crate::core::{duration, time};

/// The separator of the parts of a timetable's text in the ledger.
const SEPARATOR: &str = " | ";

/// When a key rotates. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Timetable {
    rule: Rule,
    jitter: Jitter,
}

#[derive(Debug, Clone)]
enum Rule {
    /// The option `schedule`.
    Cron(Schedule),
    /// The option `every`, with the zone in which its times are shown.
    Every(Duration, TimeZone),
}

/// The delay of each firing.
#[derive(Debug, Clone)]
struct Jitter {
    /// The longest delay.
    span: Duration,
    /// The key's name, so that two keys with one schedule fire at different times.
    key: String,
}

/// The firings of a timetable for one credential, jitter included.
#[derive(Debug, Clone, Copy)]
pub struct Firings<'a> {
    timetable: &'a Timetable,
    origin: Timestamp,
}

impl From<Schedule> for Timetable {
    /// Returns a timetable by a schedule, without jitter.
    fn from(schedule: Schedule) -> Self {
        Self {
            rule: Rule::Cron(schedule),
            jitter: Jitter {
                span: Duration::ZERO,
                key: String::new(),
            },
        }
    }
}

impl Timetable {
    /// Returns a timetable by the age of the current credential, whose times are shown
    /// in `zone`.
    #[must_use]
    pub fn every(age: Duration, zone: TimeZone) -> Self {
        Self {
            // Times in the ledger have whole seconds.
            rule: Rule::Every(Duration::from_secs(age.as_secs().max(1)), zone),
            jitter: Jitter {
                span: Duration::ZERO,
                key: String::new(),
            },
        }
    }

    /// Returns the timetable with each firing delayed by up to `span`. The delay depends
    /// only on `key` and the firing.
    #[must_use]
    pub fn with_jitter(self, key: &KeyName, span: Duration) -> Self {
        Self {
            rule: self.rule,
            jitter: Jitter {
                span: Duration::from_secs(span.as_secs()),
                key: key.to_string(),
            },
        }
    }

    /// Returns its firings, with the age of the current credential counted from
    /// `origin`.
    #[must_use]
    pub fn firings_from(&self, origin: Timestamp) -> Firings<'_> {
        Firings {
            timetable: self,
            origin: time::whole_seconds(origin),
        }
    }

    /// Returns whether firings depend on the age of the current credential.
    #[must_use]
    pub const fn is_by_age(&self) -> bool {
        self.max_age().is_some()
    }

    /// Returns the age at which a credential is due; none for a cron schedule.
    #[must_use]
    pub const fn max_age(&self) -> Option<Duration> {
        match self.rule {
            Rule::Cron(_) => None,
            Rule::Every(age, _) => Some(age),
        }
    }

    /// Returns the zone of its times.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        match &self.rule {
            Rule::Cron(schedule) => schedule.zone(),
            Rule::Every(_, zone) => zone,
        }
    }

    /// Returns the same timetable in another zone, or in the same one with other rules.
    #[must_use]
    pub fn in_zone(&self, zone: TimeZone) -> Self {
        let rule = match &self.rule {
            Rule::Cron(schedule) => Rule::Cron(schedule.in_zone(zone)),
            Rule::Every(age, _) => Rule::Every(*age, zone),
        };
        Self {
            rule,
            jitter: self.jitter.clone(),
        }
    }

    /// Returns the longest delay of a firing.
    #[must_use]
    pub const fn jitter(&self) -> Duration {
        self.jitter.span
    }

    /// Returns the shortest time between two firings in the 400 days after `from`,
    /// without jitter; none if it never fires twice.
    #[must_use]
    pub fn shortest_gap(&self, from: Timestamp) -> Option<Duration> {
        match &self.rule {
            Rule::Cron(schedule) => schedule.shortest_gap(from),
            Rule::Every(age, _) => Some(*age),
        }
    }

    /// Returns the longest time between two firings in the years after `from`, without
    /// jitter; none if it does not fire twice.
    #[must_use]
    pub fn longest_gap(&self, from: Timestamp) -> Option<Duration> {
        match &self.rule {
            Rule::Cron(schedule) => schedule.longest_gap(from),
            Rule::Every(age, _) => Some(*age),
        }
    }

    /// Returns the number of firings on a day that has any.
    #[must_use]
    pub fn firings_per_day(&self) -> usize {
        const DAY: u64 = 86_400;
        match &self.rule {
            Rule::Cron(schedule) => schedule.firings_per_day(),
            Rule::Every(age, _) => {
                usize::try_from(DAY.div_ceil(age.as_secs())).unwrap_or(usize::MAX)
            }
        }
    }

    /// Returns the text that the ledger records, to detect a changed timetable.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (rule, zone, jitter) = self.text_parts();
        format!("{rule}{SEPARATOR}{zone}{SEPARATOR}{jitter}")
    }

    /// Returns whether `text` is the result of [`Timetable::to_text`].
    #[must_use]
    pub fn matches_text(&self, text: &str) -> bool {
        let (rule, zone, jitter) = self.text_parts();
        let parts = [&*rule, SEPARATOR, zone, SEPARATOR, &*jitter];
        let rest = parts
            .iter()
            .try_fold(text, |text, part| text.strip_prefix(part));
        rest.is_some_and(str::is_empty)
    }

    fn text_parts(&self) -> (Cow<'_, str>, &str, String) {
        let rule = match &self.rule {
            Rule::Cron(schedule) => Cow::Borrowed(schedule.expression()),
            Rule::Every(age, _) => Cow::Owned(format!("every {}", duration::to_text(*age))),
        };
        let zone = self.zone().iana_name().unwrap_or("UTC");
        (rule, zone, duration::to_text(self.jitter.span))
    }

    /// Parses the text that [`Timetable::to_text`] returned for `key`; `zone` finds a
    /// zone by its name. None for a text that cannot be parsed, such as one with a zone
    /// that this host does not have.
    pub fn from_text(
        text: &str,
        key: &KeyName,
        zone: impl FnOnce(&str) -> Option<TimeZone>,
    ) -> Option<Self> {
        let mut parts = text.split(SEPARATOR);
        let (rule, name, jitter) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let zone = zone(name)?;
        let unjittered = match rule.strip_prefix("every ") {
            Some(age) => Self::every(duration::parse(age).ok()?, zone),
            None => Self::from(Schedule::parse(rule, zone).ok()?),
        };
        Some(unjittered.with_jitter(key, duration::parse(jitter).ok()?))
    }

    /// Returns a firing with its jitter, which depends on key and firing.
    fn with_jitter_added(&self, firing: Timestamp) -> Timestamp {
        let seconds = self.jitter.span.as_secs();
        if seconds == 0 {
            return firing;
        }
        let text = format!("{}\n{}", self.jitter.key, time::to_text(firing));
        time::after(firing, hashed_delay(&text, seconds))
    }
}

/// Returns the delay of `key` among keys that fall due together: less than `interval`,
/// and the same each time.
#[must_use]
pub fn spread_delay(key: &KeyName, interval: Duration) -> Duration {
    hashed_delay(key.as_str(), interval.as_secs().saturating_sub(1))
}

/// Returns the first bytes of SHA-256 of `text`, scaled to at most `longest` whole
/// seconds.
fn hashed_delay(text: &str, longest: u64) -> Duration {
    let hash = digest(&SHA256, text.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_ref()[..8]);
    let scaled = u128::from(u64::from_be_bytes(first)) * (u128::from(longest) + 1);
    Duration::from_secs(u64::try_from(scaled >> 64).unwrap_or(longest))
}

impl fmt::Display for Timetable {
    /// Writes the timetable as the configuration has it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Cron(schedule) => formatter.write_str(schedule.expression()),
            Rule::Every(age, _) => write!(formatter, "every {}", duration::to_text(*age)),
        }
    }
}

impl Firings<'_> {
    /// Returns the first firing after `at`; none if it never fires again.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        // The jitter may have delayed an earlier firing past `at`.
        let mut firing = self.unjittered_after(time::before(at, self.timetable.jitter.span))?;
        loop {
            let delayed = self.timetable.with_jitter_added(firing);
            if delayed > at {
                return Some(delayed);
            }
            firing = self.unjittered_after(firing)?;
        }
    }

    /// Returns the last firing at or before `at` and after `since`.
    #[must_use]
    pub fn last_between(&self, since: Timestamp, at: Timestamp) -> Option<Timestamp> {
        let mut until = at;
        loop {
            let firing = self.unjittered_until(until)?;
            let delayed = self.timetable.with_jitter_added(firing);
            if delayed <= at {
                return Some(delayed).filter(|delayed| *delayed > since);
            }
            until = time::before(firing, Duration::from_secs(1));
        }
    }

    fn unjittered_after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.timetable.rule {
            Rule::Cron(schedule) => schedule.next_after(at),
            Rule::Every(age, _) => {
                let ages = time::until(self.origin, at).as_secs() / age.as_secs();
                self.multiple(*age, ages + 1)
            }
        }
    }

    fn unjittered_until(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.timetable.rule {
            Rule::Cron(schedule) => schedule.last_between(Timestamp::MIN, at),
            Rule::Every(age, _) => {
                let ages = time::until(self.origin, at).as_secs() / age.as_secs();
                (ages > 0).then(|| self.multiple(*age, ages))?
            }
        }
    }

    /// Returns the origin plus `times` ages.
    fn multiple(&self, age: Duration, times: u64) -> Option<Timestamp> {
        let span = Duration::from_secs(age.as_secs().checked_mul(times)?);
        self.origin.checked_add(span).ok()
    }
}

#[cfg(test)]
mod tests;
