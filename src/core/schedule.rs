//! When a key is due by its schedule.
//!
//! croner parses the expressions and searches for firings; this module adds the time
//! zones, as Debian's cron treats them. A schedule is *fixed* if neither its minute
//! nor its hour starts with `*`. It fires once for each wall-clock time: right after
//! the jump for a skipped time, and in the first pass for a repeated one. Any other
//! schedule follows the real time: it fires in both passes of a repeated hour and not
//! in a skipped one.
//!
//! Deliberately not here: whether a key is due ([`crate::core::decide::due`]).

mod cache;
mod dates;
mod gaps;
mod grammar;
pub mod timetable;
mod wall_clock;

use std::fmt;
use std::sync::Arc;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Year};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::cache::FiringCache;
use crate::core::time;

/// The accepted syntax, for every message about a schedule.
const SYNTAX_HELP: &str = "expected 5 fields (minute hour day month weekday), 6 fields (second first), or @hourly, @daily, @weekly, @monthly or @yearly, such as schedule = \"0 3 * * Mon\"";

/// The short names and their fields.
const NICKNAMES: [(&str, &str); 5] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
];

/// What separates fields.
const BLANKS: [char; 2] = [' ', '\t'];

/// A cron expression with its time zone. Cheap to clone.
#[derive(Clone)]
pub struct Schedule {
    parsed: Arc<ParsedExpression>,
    zone: TimeZone,
    cache: Arc<FiringCache>,
}

/// A parsed expression, shared by every key that uses it.
struct ParsedExpression {
    expression: String,
    cron: Cron,
    /// Whether neither the minute nor the hour starts with `*`: see the module.
    is_fixed: bool,
    /// Whether any date ever matches: croner would search three thousand years for
    /// 31 February.
    can_fire: bool,
}

/// The reason why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ScheduleError {
    message: String,
    /// What an expression looks like, unless the message is about one field.
    pub help: Option<&'static str>,
}

impl Schedule {
    /// Parses a cron expression in `zone`.
    ///
    /// An expression that never fires, such as 31 February, is accepted: see
    /// [`Schedule::can_fire`].
    ///
    /// # Errors
    /// [`ScheduleError`] for a text that is no cron expression.
    pub fn parse(expression: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let fields = split_fields(expression)?;
        let match_both_days = starts_with_star(&fields.days) || starts_with_star(&fields.weekdays);
        let cron = parse_cron(&fields.text, match_both_days)
            .map_err(|_| invalid_expression("a field is not valid"))?;
        let can_fire = dates::can_fire(&cron);
        let parsed = ParsedExpression {
            expression: expression.to_owned(),
            cron,
            is_fixed: !starts_with_star(&fields.minutes) && !starts_with_star(&fields.hours),
            can_fire,
        };
        Ok(Self {
            parsed: Arc::new(parsed),
            zone,
            cache: Arc::default(),
        })
    }

    /// Returns the expression as it was written.
    #[must_use]
    pub fn expression(&self) -> &str {
        &self.parsed.expression
    }

    /// Returns the zone of its fields.
    #[must_use]
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Returns the same expression in another zone, without parsing it again.
    #[must_use]
    pub fn in_zone(&self, zone: TimeZone) -> Self {
        Self {
            parsed: Arc::clone(&self.parsed),
            zone,
            cache: Arc::default(),
        }
    }

    /// Returns whether any date of the calendar matches: 31 February never does.
    /// [`Schedule::next_after`] also considers the zone.
    #[must_use]
    pub fn can_fire(&self) -> bool {
        self.parsed.can_fire
    }

    /// Returns the first firing after `at`; none if it never fires again.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        if !self.parsed.can_fire {
            return None;
        }
        // Firings are whole seconds, so a fraction in `at` makes no difference.
        let at = time::whole_seconds(at);
        self.cache.next_or_search(at, || self.search_next(at))
    }

    fn search_next(&self, at: Timestamp) -> Option<Timestamp> {
        if self.parsed.is_fixed {
            return wall_clock::next_after(&self.parsed.cron, &self.zone, at);
        }
        let from = at.to_zoned(self.zone.clone());
        let next = self.parsed.cron.find_next_occurrence(&from, false).ok()?;
        Some(next.timestamp()).filter(|next| *next > at)
    }

    /// Returns the last firing at or before `at` and after `since`.
    ///
    /// The search runs backward from `at`, so that its cost does not depend on
    /// `since`.
    #[must_use]
    pub fn last_between(&self, since: Timestamp, at: Timestamp) -> Option<Timestamp> {
        if !self.parsed.can_fire || since >= at {
            return None;
        }
        let second = time::whole_seconds(at);
        let last = self
            .cache
            .last_or_search(second, || self.search_last(second));
        last.filter(|last| since < *last && *last <= at)
    }

    fn search_last(&self, at: Timestamp) -> Option<Timestamp> {
        if self.parsed.is_fixed {
            return wall_clock::last_until(&self.parsed.cron, &self.zone, at);
        }
        let from = at.to_zoned(self.zone.clone());
        let last = self.parsed.cron.find_previous_occurrence(&from, true);
        last.ok().map(|last| last.timestamp())
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zone = self.zone.iana_name().unwrap_or("UTC");
        write!(formatter, "Schedule({:?} in {zone})", self.expression())
    }
}

/// The fields of an expression that decide how it treats days and time zones.
struct ExpressionFields {
    text: String,
    minutes: String,
    hours: String,
    days: String,
    weekdays: String,
}

fn split_fields(expression: &str) -> Result<ExpressionFields, ScheduleError> {
    let trimmed = expression.trim_matches(BLANKS);
    let text = if trimmed.starts_with('@') {
        NICKNAMES
            .into_iter()
            .find(|(name, _)| trimmed.eq_ignore_ascii_case(name))
            .map(|(_, text)| text)
            .ok_or_else(|| invalid_expression("unknown short name"))?
    } else {
        trimmed
    };
    let parts: Vec<&str> = text.split(BLANKS).filter(|part| !part.is_empty()).collect();
    let rest = match parts.len() {
        5 => &parts[..],
        6 => &parts[1..],
        count => {
            let plural = if count == 1 { "field" } else { "fields" };
            return Err(invalid_expression(&format!("it has {count} {plural}")));
        }
    };
    grammar::check(&parts).map_err(|reason| ScheduleError {
        help: None,
        ..invalid_expression(&reason)
    })?;
    Ok(ExpressionFields {
        text: text.to_owned(),
        minutes: rest[0].to_owned(),
        hours: rest[1].to_owned(),
        days: rest[2].to_owned(),
        weekdays: rest[4].to_owned(),
    })
}

/// Parses fields; `match_both_days` says whether a day must match both day fields.
fn parse_cron(text: &str, match_both_days: bool) -> Result<Cron, CronError> {
    CronParser::builder()
        .year(Year::Disallowed)
        .dom_and_dow(match_both_days)
        .build()
        .parse(text)
}

/// Returns whether a field starts with `*`, or with `?`, its synonym in the day
/// fields.
fn starts_with_star(field: &str) -> bool {
    field.starts_with(['*', '?'])
}

/// Returns the error of an expression, which it does not repeat: the text may be anything.
fn invalid_expression(reason: &str) -> ScheduleError {
    ScheduleError {
        message: format!("not a valid cron expression: {reason}"),
        help: Some(SYNTAX_HELP),
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod tests;
