//! The options that a key and `[defaults]` share.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::options;
use crate::config_reader::location::Location;
use crate::config_reader::quote::{expected_one_of, quoted};
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::suggestion::closest_match;
use crate::config_reader::values;
use crate::core::duration::MAX_DURATION;
use crate::core::policy::{InitialRotation, KeyPolicy};
use crate::core::schedule::timetable::Timetable;
use crate::core::time::{DAY, HOUR};
use crate::platform::zones;

const SECOND: Duration = Duration::from_secs(1);

/// Two creates a second for a day, more than any schedule needs.
const LARGEST_CREATES_PER_DAY: usize = 172_800;

/// An option's value and location, if it is set.
pub(super) type LocatedValue<T> = Option<(T, Location)>;

/// The options that a key and `[defaults]` share, as far as they are set.
#[derive(Clone)]
pub(super) struct KeyOptions {
    pub(super) timezone: LocatedValue<TimeZone>,
    pub(super) jitter: LocatedValue<Duration>,
    pub(super) overlap: LocatedValue<Duration>,
    pub(super) max_creates_per_day: LocatedValue<u32>,
    pub(super) expires_after: LocatedValue<Duration>,
    initial_rotation: Option<InitialRotation>,
    catch_up_window: Option<Duration>,
    verify_timeout: Option<Duration>,
    verify_interval: Option<Duration>,
    delivery_deadline: Option<Duration>,
    max_live_credentials: Option<usize>,
    revoke_when_idle_for: Option<Duration>,
    max_revoke_delay: Option<Duration>,
}

impl KeyOptions {
    pub(super) fn read(table: &ConfigTable<'_>, report: &mut ProblemReport) -> Self {
        let get = |name| table.get(options::DEFAULTS, name);
        let mut read_span = |name, minimum, maximum| {
            let value = get(name)?;
            let span = values::read_duration(&value, minimum, maximum, report)?;
            Some((span, value.location))
        };
        let jitter = read_span("jitter", Duration::ZERO, MAX_DURATION);
        let overlap = read_span("overlap", Duration::ZERO, MAX_DURATION);
        let expires_after = read_span("expires-after", HOUR, 365 * DAY);
        let mut read_plain_span = |name, minimum, maximum| {
            read_span(name, minimum, maximum).map(|(read_span, _)| read_span)
        };
        Self {
            jitter,
            overlap,
            expires_after,
            catch_up_window: read_plain_span("catch-up-window", Duration::ZERO, MAX_DURATION),
            verify_timeout: read_plain_span("verify-timeout", SECOND, DAY),
            verify_interval: read_plain_span("verify-interval", Duration::ZERO, HOUR),
            delivery_deadline: read_plain_span("delivery-deadline", SECOND, 30 * DAY),
            revoke_when_idle_for: read_plain_span("revoke-when-idle-for", Duration::ZERO, 30 * DAY),
            max_revoke_delay: read_plain_span("max-revoke-delay", Duration::ZERO, MAX_DURATION),
            timezone: get("timezone").and_then(|value| {
                let zone = read_time_zone(&value, report)?;
                Some((zone, value.location))
            }),
            initial_rotation: get("initial-rotation")
                .and_then(|value| read_initial_rotation(&value, report)),
            max_creates_per_day: get("max-creates-per-day").and_then(|value| {
                let maximum = value.number(1, LARGEST_CREATES_PER_DAY, report)?;
                Some((u32::try_from(maximum).ok()?, value.location))
            }),
            max_live_credentials: get("max-live-credentials")
                .and_then(|value| value.number(3, 100, report)),
        }
    }

    /// Returns these options, completed by those of `defaults`.
    pub(super) fn with_defaults(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            timezone: self.timezone.or(defaults.timezone),
            jitter: self.jitter.or(defaults.jitter),
            overlap: self.overlap.or(defaults.overlap),
            max_creates_per_day: self.max_creates_per_day.or(defaults.max_creates_per_day),
            expires_after: self.expires_after.or(defaults.expires_after),
            initial_rotation: self.initial_rotation.or(defaults.initial_rotation),
            catch_up_window: self.catch_up_window.or(defaults.catch_up_window),
            verify_timeout: self.verify_timeout.or(defaults.verify_timeout),
            verify_interval: self.verify_interval.or(defaults.verify_interval),
            delivery_deadline: self.delivery_deadline.or(defaults.delivery_deadline),
            max_live_credentials: self.max_live_credentials.or(defaults.max_live_credentials),
            revoke_when_idle_for: self.revoke_when_idle_for.or(defaults.revoke_when_idle_for),
            max_revoke_delay: self.max_revoke_delay.or(defaults.max_revoke_delay),
        }
    }

    /// Returns the zone of the schedule.
    pub(super) fn time_zone(&self) -> TimeZone {
        let zone = self.timezone.as_ref().map(|(zone, _)| zone.clone());
        zone.unwrap_or(TimeZone::UTC)
    }

    /// Returns the policy of a key that rotates by `timetable`, which includes
    /// the jitter.
    pub(super) fn to_policy(&self, timetable: Timetable, overlap: Duration) -> KeyPolicy {
        let default = KeyPolicy::new(timetable);
        KeyPolicy {
            overlap,
            initial_rotation: self.initial_rotation.unwrap_or(default.initial_rotation),
            catch_up_window: self.catch_up_window.or(default.catch_up_window),
            verify_timeout: self.verify_timeout.unwrap_or(default.verify_timeout),
            verify_interval: self.verify_interval.unwrap_or(default.verify_interval),
            delivery_deadline: self.delivery_deadline.unwrap_or(default.delivery_deadline),
            max_creates_per_day: self
                .max_creates_per_day
                .as_ref()
                .map_or(default.max_creates_per_day, |(count, _)| *count),
            max_live_credentials: self
                .max_live_credentials
                .unwrap_or(default.max_live_credentials),
            expires_after: self.expires_after.as_ref().map(|(span, _)| *span),
            revoke_when_idle_for: self
                .revoke_when_idle_for
                .unwrap_or(default.revoke_when_idle_for),
            max_revoke_delay: self.max_revoke_delay.unwrap_or(default.max_revoke_delay),
            timetable: default.timetable,
        }
    }
}

fn read_time_zone(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<TimeZone> {
    let text = value.text(report)?;
    if let Some(zone) = zones::find(text) {
        return Some(zone);
    }
    let known = zones::names();
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = match closest_match(text, &names) {
        Some(suggestion) => format!("did you mean \"{suggestion}\"?"),
        None if known.is_empty() => {
            "this host has no time zones: install its package tzdata".to_owned()
        }
        None => format!(
            "{}; for a new zone, update this host's package tzdata",
            value.expected("an IANA name")
        ),
    };
    let message = format!("unknown time zone {}", quoted(text));
    report.add_problem(&value.location, message, hint);
    None
}

fn read_initial_rotation(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<InitialRotation> {
    match value.text(report)? {
        "now" => Some(InitialRotation::Now),
        "scheduled" => Some(InitialRotation::Scheduled),
        other => {
            let message = format!("unknown value {}", quoted(other));
            let hint = expected_one_of(["now", "scheduled"].into_iter());
            report.add_problem(&value.location, message, hint);
            None
        }
    }
}
