//! The options of a key, and those that it shares with `[defaults]`.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config_reader::location::Location;
use crate::config_reader::reader::{ConfigTable, ConfigValue};
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::DefaultValue::{Described, RequiredUnless};
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::suggestion::closest_match;
use crate::config_reader::values;
use crate::core::duration::MAX_DURATION;
use crate::core::policy::{InitialRotation, KeyPolicy};
use crate::core::schedule::timetable::Timetable;
use crate::core::time::{DAY, HOUR};
use crate::platform::zones;

const SECOND: Duration = Duration::from_secs(1);

/// Any duration.
const ANY_DURATION: ValueType = ValueType::Duration(Duration::ZERO, MAX_DURATION);

/// Any text but an empty one.
const NON_EMPTY: ValueType = ValueType::Text("^.+$");

/// `[defaults]`, and also every key.
pub const DEFAULTS: Section = Section {
    name: "defaults",
    about: "Options for all keys. A key may set the same options differently.",
    options: &[
        ConfigOption::new(
            "timezone",
            NON_EMPTY,
            r#""Europe/Berlin""#,
            "The time zone of the schedules, by its IANA name. If the clocks skip a time when they \
             go forward, the rotation runs right after the jump; if a time occurs twice when they \
             go back, the rotation runs once.",
        )
        .or(r#""UTC""#)
        .with_details("The rules of the zone come from the host's tzdata."),
        ConfigOption::new(
            "jitter",
            ANY_DURATION,
            r#""10m""#,
            "Each rotation starts up to this much later than its schedule says, so that many \
             keys do not rotate at once. The same run of a key always has the same delay.",
        )
        .or(r#""0s""#),
        ConfigOption::new(
            "initial-rotation",
            ValueType::Choice(&["now", "scheduled"]),
            r#""scheduled""#,
            "When a key that was never rotated is due: `\"now\"`, or `\"scheduled\"`, at its first \
             scheduled time.",
        )
        .or(r#""now""#),
        ConfigOption::new(
            "catch-up-window",
            ANY_DURATION,
            r#""2h""#,
            "A missed rotation (rekeyd was not running, the host slept, the key was paused) runs \
             at once, unless it is older than this.",
        )
        .with_default(Described("no limit")),
        ConfigOption::new(
            "overlap",
            ANY_DURATION,
            r#""24h""#,
            "How long the previous credential stays valid after a sink accepted the new one: the \
             time that your programs have to read the new secret. It must be shorter than the shortest gap \
             between two rotations.",
        )
        .with_default(Described(
            "`\"24h\"`, or half the shortest gap if that is less",
        )),
        ConfigOption::new(
            "verify-timeout",
            ValueType::Duration(SECOND, DAY),
            r#""15m""#,
            "How long the provider may refuse a new secret before rekeyd abandons it. Outages of \
             the provider do not count.",
        )
        .or(r#""15m""#),
        ConfigOption::new(
            "verify-interval",
            ValueType::Duration(Duration::ZERO, HOUR),
            r#""2s""#,
            "A new secret must work twice, this far apart, before it is delivered.",
        )
        .or(r#""2s""#),
        ConfigOption::new(
            "delivery-deadline",
            ValueType::Duration(SECOND, Duration::from_secs(30 * 86_400)),
            r#""1h""#,
            "If a rotation is not complete after this time, rekeyd reports the key as overdue and \
             retries failed deliveries more slowly. While rekeyd runs, it never gives up.",
        )
        .or(r#""1h""#)
        .with_details("After this time, rekeyd skips sinks that are not required."),
        ConfigOption::new(
            "max-creates-per-day",
            // Two creates a second, more than any schedule needs.
            ValueType::Number(1, 172_800),
            "24",
            "A limit against loops: the number of creates of a key in 24 hours, including \
             uncertain ones. It must be at least twice what the schedule needs. `rekeyd rotate` \
             exceeds it with a warning.",
        )
        .or("24"),
        ConfigOption::new(
            "max-live-credentials",
            ValueType::Number(3, 100),
            "6",
            "A limit against loops: no create while the key has this many live credentials. \
             `rekeyd rotate` exceeds it with a warning.",
        )
        .or("6"),
        ConfigOption::new(
            "expires-after",
            ValueType::Duration(HOUR, Duration::from_secs(365 * 86_400)),
            r#""60d""#,
            "A safety net: the provider lets a credential expire after this time. It must be at \
             least 1.5 times the longest gap between rotations, plus the overlap and the jitter. \
             In the last quarter of the credential's lifetime the key is due, whatever its \
             schedule says.",
        )
        .with_default(Described("no expiry"))
        .with_details("Neither `catch-up-window` nor a pause delays the rotation then."),
        ConfigOption::new(
            "revoke-when-idle-for",
            ValueType::Duration(Duration::ZERO, Duration::from_secs(30 * 86_400)),
            r#""1h""#,
            "rekeyd postpones the revocation of a retired credential that was used within this \
             time. `\"0s\"` turns this off.",
        )
        .or(r#""1h""#),
        ConfigOption::new(
            "max-revoke-delay",
            ANY_DURATION,
            r#""7d""#,
            "The longest time for which a recent use delays a revocation, counted from the end of \
             the overlap.",
        )
        .or(r#""7d""#)
        .with_details(
            "It also bounds how long rekeyd leaves a retired credential in a file that somebody \
             restored.",
        ),
    ],
};

/// The options that only `[key.NAME]` has.
pub const KEY: Section = Section {
    name: "key",
    about: "One key: a series of credentials, each of which replaces the one before. Choose its \
            name: a-z, 0-9 and \"-\", up to 48 characters, not beginning with \"-\". The names of its \
            credentials at the provider begin with it.",
    options: &[
        ConfigOption::new(
            "schedule",
            NON_EMPTY,
            r#""0 3 * * Mon""#,
            "When the key rotates, in its time zone: a cron expression of five fields (minute, \
             hour, day of the month, month, weekday), or of six, beginning with seconds; or \
             `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. `\"0 3 * * Mon\"` is Mondays \
             at three.",
        )
        .with_default(RequiredUnless("every")),
        ConfigOption::new(
            "every",
            ValueType::Duration(SECOND, MAX_DURATION),
            r#""30d""#,
            "Instead of a schedule: the maximum age of the current credential, including an \
             adopted one.",
        )
        .with_default(RequiredUnless("schedule"))
        .with_details(
            "A credential that is already older when you adopt it is due at once; if there are \
             several, rekeyd spreads them over one interval, by the names of their keys.",
        ),
        ConfigOption::new(
            "was",
            NON_EMPTY,
            r#""old-name""#,
            "The former name of the key: the key is renamed and keeps its credentials. Without \
             this line, a new name is another key, and the credential of the former one stays \
             alive. Once the rename is applied, the line does nothing.",
        )
        .with_default(Described("the key was not renamed")),
        ConfigOption::new(
            "sink",
            ValueType::Tables,
            r#"[{ type = "file", path = "/etc/billing/openai.key" }]"#,
            "The sinks to which rekeyd delivers the secret. At least one of them must be required.",
        )
        .required(),
    ],
};

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
        let get = |name| table.get(DEFAULTS, name);
        let mut read_span = |name| {
            let value = get(name)?;
            let span = values::read_duration(&value, report)?;
            Some((span, value.location))
        };
        let jitter = read_span("jitter");
        let overlap = read_span("overlap");
        let expires_after = read_span("expires-after");
        let mut read_plain_span = |name| read_span(name).map(|(read_span, _)| read_span);
        Self {
            jitter,
            overlap,
            expires_after,
            catch_up_window: read_plain_span("catch-up-window"),
            verify_timeout: read_plain_span("verify-timeout"),
            verify_interval: read_plain_span("verify-interval"),
            delivery_deadline: read_plain_span("delivery-deadline"),
            revoke_when_idle_for: read_plain_span("revoke-when-idle-for"),
            max_revoke_delay: read_plain_span("max-revoke-delay"),
            timezone: get("timezone").and_then(|value| {
                let zone = read_time_zone(&value, report)?;
                Some((zone, value.location))
            }),
            initial_rotation: get("initial-rotation")
                .and_then(|value| read_initial_rotation(&value, report)),
            max_creates_per_day: get("max-creates-per-day").and_then(|value| {
                let maximum = value.number(report)?;
                Some((u32::try_from(maximum).ok()?, value.location))
            }),
            max_live_credentials: get("max-live-credentials")
                .and_then(|value| value.number(report)),
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
    report.add_problem(&value.location, "unknown time zone", hint);
    None
}

fn read_initial_rotation(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<InitialRotation> {
    Some(match values::read_choice(value, report)? {
        "scheduled" => InitialRotation::Scheduled,
        _ => InitialRotation::Now,
    })
}
