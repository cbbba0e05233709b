//! The options that a key and `[defaults]` share.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::options::{Section, nearest};
use super::place::Place;
use super::quote::quoted;
use super::reader::{Table, Value};
use super::report::Report;
use super::values;
use crate::core::duration::LONGEST;
use crate::core::policy::{First, KeyPolicy};
use crate::core::timetable::Timetable;
use crate::host::zones;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Twice a create a second for a day: no schedule needs more.
const MOST_CREATES: usize = 172_800;

/// An option that was read, and where.
pub(super) type Read<T> = Option<(T, Place)>;

/// The options that a key and `[defaults]` share, as far as they are there.
#[derive(Clone)]
pub(super) struct Patience {
    pub(super) timezone: Read<TimeZone>,
    pub(super) jitter: Read<Duration>,
    pub(super) overlap: Read<Duration>,
    pub(super) creates_per_day: Read<u32>,
    pub(super) expires_after: Read<Duration>,
    first: Option<First>,
    window: Option<Duration>,
    verify_for: Option<Duration>,
    settle: Option<Duration>,
    deliver_for: Option<Duration>,
    live_at_most: Option<usize>,
    hold_while_used: Option<Duration>,
    hold_at_most: Option<Duration>,
}

impl Patience {
    pub(super) fn read(table: &Table<'_>, report: &mut Report) -> Self {
        let get = |name| table.get(Section::Defaults, name);
        let mut span = |name, least, most| {
            let value = get(name)?;
            let span = values::span(&value, least, most, report)?;
            Some((span, value.place))
        };
        let jitter = span("jitter", Duration::ZERO, LONGEST);
        let overlap = span("overlap", Duration::ZERO, LONGEST);
        let expires_after = span("expires-after", HOUR, 365 * DAY);
        let mut plain = |name, least, most| span(name, least, most).map(|(span, _)| span);
        Self {
            jitter,
            overlap,
            expires_after,
            window: plain("window", Duration::ZERO, LONGEST),
            verify_for: plain("verify-for", SECOND, DAY),
            settle: plain("settle", Duration::ZERO, HOUR),
            deliver_for: plain("deliver-for", SECOND, 30 * DAY),
            hold_while_used: plain("hold-while-used", Duration::ZERO, 30 * DAY),
            hold_at_most: plain("hold-at-most", Duration::ZERO, LONGEST),
            timezone: get("timezone").and_then(|value| {
                let zone = timezone(&value, report)?;
                Some((zone, value.place))
            }),
            first: get("first").and_then(|value| first(&value, report)),
            creates_per_day: get("creates-per-day").and_then(|value| {
                let most = value.number(1, MOST_CREATES, report)?;
                Some((u32::try_from(most).ok()?, value.place))
            }),
            live_at_most: get("live-at-most").and_then(|value| value.number(3, 100, report)),
        }
    }

    /// These options, and where one is not there that of `defaults`.
    pub(super) fn or(self, defaults: &Self) -> Self {
        let defaults = defaults.clone();
        Self {
            timezone: self.timezone.or(defaults.timezone),
            jitter: self.jitter.or(defaults.jitter),
            overlap: self.overlap.or(defaults.overlap),
            creates_per_day: self.creates_per_day.or(defaults.creates_per_day),
            expires_after: self.expires_after.or(defaults.expires_after),
            first: self.first.or(defaults.first),
            window: self.window.or(defaults.window),
            verify_for: self.verify_for.or(defaults.verify_for),
            settle: self.settle.or(defaults.settle),
            deliver_for: self.deliver_for.or(defaults.deliver_for),
            live_at_most: self.live_at_most.or(defaults.live_at_most),
            hold_while_used: self.hold_while_used.or(defaults.hold_while_used),
            hold_at_most: self.hold_at_most.or(defaults.hold_at_most),
        }
    }

    /// The zone that times are meant in.
    pub(super) fn zone(&self) -> TimeZone {
        let zone = self.timezone.as_ref().map(|(zone, _)| zone.clone());
        zone.unwrap_or(TimeZone::UTC)
    }

    /// What follows for a key that rotates by `timetable`, jitter included.
    pub(super) fn policy(&self, timetable: Timetable, overlap: Duration) -> KeyPolicy {
        let plain = KeyPolicy::new(timetable);
        KeyPolicy {
            overlap,
            first: self.first.unwrap_or(plain.first),
            window: self.window.or(plain.window),
            verify_for: self.verify_for.unwrap_or(plain.verify_for),
            settle: self.settle.unwrap_or(plain.settle),
            deliver_for: self.deliver_for.unwrap_or(plain.deliver_for),
            creates_per_day: self
                .creates_per_day
                .as_ref()
                .map_or(plain.creates_per_day, |(most, _)| *most),
            live_at_most: self.live_at_most.unwrap_or(plain.live_at_most),
            expires_after: self.expires_after.as_ref().map(|(span, _)| *span),
            hold_while_used: self.hold_while_used.unwrap_or(plain.hold_while_used),
            hold_at_most: self.hold_at_most.unwrap_or(plain.hold_at_most),
            timetable: plain.timetable,
        }
    }
}

fn timezone(value: &Value<'_>, report: &mut Report) -> Option<TimeZone> {
    let text = value.text(report)?;
    if let Some(zone) = zones::look_up(text) {
        return Some(zone);
    }
    let known = zones::names();
    let names: Vec<&str> = known.iter().map(String::as_str).collect();
    let hint = match nearest(text, &names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None if known.is_empty() => {
            "this host has no time zones: install its package tzdata".to_owned()
        }
        None => "an IANA name such as \"Europe/Berlin\" is allowed; \
                 new ones come with the host's package tzdata"
            .to_owned(),
    };
    let message = format!("{} is no time zone that this host knows", quoted(text));
    report.wrong(&value.place, message, hint);
    None
}

fn first(value: &Value<'_>, report: &mut Report) -> Option<First> {
    match value.text(report)? {
        "now" => Some(First::Now),
        "scheduled" => Some(First::Scheduled),
        other => {
            let message = format!("{} is not known", quoted(other));
            let hint = "\"now\" and \"scheduled\" are allowed";
            report.wrong(&value.place, message, hint);
            None
        }
    }
}
