//! `rekeyd schedule`: lists the next firings of each key.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;

use crate::cli::context::{GlobalOptions, find_key};
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{ShownSettings, as_of_line, note_as_of, open_ledger, shown_settings};
use crate::cli::failure::Failure;
use crate::cli::renamed_keys::states_by_name;
use crate::cli::screen::{Screen, TimeStyle};
use crate::cli::table::{Cell, Column, Fit, Table};
use crate::cli::{output, time_argument};
use crate::config::settings::{KeySettings, Settings};
use crate::core::decide::due::{Downtime, Due, age_origin, check_due};
use crate::core::health::most_urgent_error;
use crate::core::ids::KeyName;
use crate::core::overdue::due_since;
use crate::core::state::KeyState;
use crate::core::time;
use crate::ledger::{LedgerError, LedgerReader};
use crate::platform::clock::{Clock as _, SystemClock};

#[derive(Debug, clap::Args)]
pub(crate) struct ScheduleCommand {
    /// Only this key
    key: Option<String>,
    /// Number of rotations to list for each key
    #[arg(short = 'n', value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    count: u16,
    /// Start at a time (2026-03-28T00:00:00Z), a date or a duration from now (7d) [default: now]
    #[arg(long, value_name = "TIME", value_parser = time_argument::parse_future)]
    from: Option<Timestamp>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show every column, and exact times beside the relative ones
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// A firing of a key, or a run that is due.
struct ScheduledRun<'s> {
    key: &'s KeySettings,
    at: Timestamp,
    /// Since when it is due, where that is known, and why it has not ended; none for a
    /// firing to come.
    due: Option<(Option<Timestamp>, String)>,
    /// Whether a pause skips it.
    is_paused: bool,
}

impl ScheduleCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        let ShownSettings {
            settings,
            is_loaded,
        } = shown_settings(&self.daemon, settings).await;
        let keys = self.selected_keys(&settings)?;
        let now = SystemClock.now();
        let from = self.from.unwrap_or(now);
        let recorded = self.read_ledger(&settings, &keys).await?;
        let mut firings: Vec<_> = keys
            .iter()
            .flat_map(|key| self.next_runs(key, recorded.state(&key.name).as_ref(), from, now))
            .collect();
        if self.json {
            let objects = firings.iter().map(|run| run.to_json(is_loaded));
            let objects: Vec<_> = objects.collect();
            return output::print_json(&objects);
        }
        firings.sort_by_key(|firing| firing.at);
        output::print(to_table(&firings, Screen::of_output(self.verbose), now).as_bytes())
    }

    fn selected_keys<'s>(&self, settings: &'s Settings) -> Result<Vec<&'s KeySettings>, Failure> {
        match &self.key {
            None => Ok(settings.keys.iter().collect()),
            Some(name) => Ok(vec![find_key(settings, name)?]),
        }
    }

    fn next_runs<'s>(
        &self,
        key: &'s KeySettings,
        recorded: Option<&RecordedKey>,
        from: Timestamp,
        now: Timestamp,
    ) -> Vec<ScheduledRun<'s>> {
        if recorded.is_some_and(|recorded| recorded.state.is_retired()) {
            return Vec::new();
        }
        let due = recorded.filter(|_| self.from.is_none());
        let due = due.and_then(|recorded| due_run(key, recorded, now));
        let state = recorded.map(|recorded| &recorded.state);
        let pause = state.and_then(|state| state.pause);
        // The age counts anew from the run that is due.
        let origin = match (&due, state) {
            (Some(due), _) => due.at,
            (None, Some(state)) => age_origin(&key.policy, state, from),
            (None, None) => from,
        };
        let firings = key.policy.timetable.firings_from(origin);
        let next = |at: &Timestamp| firings.next_after(*at);
        let firings = std::iter::successors(next(&from), next).map(|at| ScheduledRun {
            key,
            at,
            due: None,
            is_paused: pause.is_some_and(|pause| pause.is_active(now) && pause.is_active(at)),
        });
        let runs = due.into_iter().chain(firings);
        runs.take(usize::from(self.count)).collect()
    }

    /// Reads the states of the keys in the ledger. Firings that do not depend on it are
    /// shown without it.
    async fn read_ledger(
        &self,
        settings: &Settings,
        keys: &[&KeySettings],
    ) -> Result<RecordedKeys, Failure> {
        let read = async {
            match open_ledger(&self.daemon, settings).await? {
                Some(reader) => {
                    if self.json {
                        note_as_of(&reader, settings);
                    } else if let Some(line) = as_of_line(&reader, settings) {
                        output::print(format!("{line}\n").as_bytes())?;
                    }
                    RecordedKeys::read(settings, &reader)
                }
                None => Ok(RecordedKeys::Read(BTreeMap::new())),
            }
        };
        let recorded = read.await;
        if keys.iter().any(|key| key.policy.timetable.is_by_age()) {
            return recorded;
        }
        Ok(recorded.unwrap_or(RecordedKeys::Unreadable))
    }
}

/// What the ledger has of the keys.
enum RecordedKeys {
    /// It cannot be read.
    Unreadable,
    /// Its keys; one without a row was never rotated.
    Read(BTreeMap<KeyName, RecordedKey>),
}

/// Returns what the ledger has of a key under any of its names.
fn first_recorded<T>(
    state: &KeyState,
    read: impl Fn(&KeyName) -> Result<Option<T>, LedgerError>,
) -> Result<Option<T>, LedgerError> {
    for name in state.names() {
        if let Some(found) = read(name)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// What the ledger has of one key.
#[derive(Clone)]
struct RecordedKey {
    state: KeyState,
    /// The first of its latest consecutive failures.
    failing_since: Option<Timestamp>,
}

impl RecordedKeys {
    fn read(settings: &Settings, reader: &LedgerReader) -> Result<Self, Failure> {
        let snapshot = reader.snapshot()?;
        let mut keys = BTreeMap::new();
        for (key, state) in states_by_name(settings, &snapshot)? {
            let failing_since = match state.attempt {
                0 => None,
                // The ledger may have the former name.
                _ => first_recorded(&state, |name| snapshot.failing_since(name))?,
            };
            let recorded = RecordedKey {
                state,
                failing_since,
            };
            keys.insert(key, recorded);
        }
        Ok(Self::Read(keys))
    }

    /// Returns what is recorded of a key; none if the ledger cannot be read.
    fn state(&self, key: &KeyName) -> Option<RecordedKey> {
        match self {
            Self::Unreadable => None,
            Self::Read(keys) => Some(keys.get(key).cloned().unwrap_or_else(|| RecordedKey {
                state: KeyState::unknown(key.clone()),
                failing_since: None,
            })),
        }
    }
}

/// Returns the run of a key that is due, or under way; none if the next one is to come.
fn due_run<'s>(
    key: &'s KeySettings,
    recorded: &RecordedKey,
    now: Timestamp,
) -> Option<ScheduledRun<'s>> {
    let state = &recorded.state;
    let required = key.sinks.iter().filter(|sink| sink.required);
    let required: Vec<_> = required.map(|sink| sink.id.clone()).collect();
    let since = due_since(&key.policy, &required, state, recorded.failing_since, now)?;
    // Where neither a firing nor a failure dates it, it counts from the start of the daemon,
    // which the ledger does not have.
    let since = Some(since).filter(|since| *since < now);
    let retry_at = match check_due(&key.policy, &required, state, Downtime::none(now), now) {
        Due::NotDue { next } => next,
        Due::Now { .. } | Due::MissedRunSkipped { .. } => None,
    };
    let is_open = state.open_rotation().is_some();
    let mut why = if is_open { "under way" } else { "due" }.to_owned();
    if let Some(since) = since {
        why.push_str(&format!(" since {}", time::to_text(since)));
    }
    if let Some(error) = most_urgent_error(state) {
        why.push_str(&format!(": {error}"));
    }
    Some(ScheduledRun {
        key,
        at: time::whole_seconds(retry_at.map_or(now, |at| at.max(now))),
        due: Some((since, why)),
        is_paused: false,
    })
}

impl ScheduledRun<'_> {
    fn zone(&self) -> &TimeZone {
        self.key.policy.timetable.zone()
    }

    fn zone_name(&self) -> &str {
        self.zone().iana_name().unwrap_or("UTC")
    }

    /// Returns the time with its offset: `2026-03-29T03:30:00+02:00`.
    fn local_time(&self) -> String {
        let local = self.at.to_zoned(self.zone().clone());
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// Whether the zone's offset changes on the day of this firing.
    fn is_on_clock_change_day(&self) -> bool {
        let zone = self.zone();
        let Ok(day) = self.at.to_zoned(zone.clone()).start_of_day() else {
            return false;
        };
        let Ok(next) = day
            .date()
            .checked_add(1.day())
            .and_then(|date| date.to_zoned(zone.clone()))
        else {
            return false;
        };
        zone.to_offset(day.timestamp()) != zone.to_offset(next.timestamp())
    }

    fn to_json(&self, configuration_loaded: Option<bool>) -> RunJson<'_> {
        RunJson {
            key: &self.key.name,
            at: time::to_text(self.at),
            local: self.local_time(),
            timezone: self.zone_name(),
            configuration_loaded,
            due_since: self
                .due
                .as_ref()
                .and_then(|(since, _)| since.map(time::to_text)),
        }
    }
}

/// A run in the output of `rekeyd schedule --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RunJson<'a> {
    /// The key.
    #[cfg_attr(test, schemars(with = "String"))]
    key: &'a KeyName,
    /// The time of the run, in UTC.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    at: String,
    /// The same time in the key's zone, with its offset.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    local: String,
    /// The IANA name of the key's zone.
    timezone: &'a str,
    /// Whether the running daemon has loaded the configuration in its present form; null
    /// where that is unknown.
    configuration_loaded: Option<bool>,
    /// The time since which the run is due; absent for a run to come, and where it is not
    /// known, as for a key that was never rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    due_since: Option<String>,
}

/// The columns of the table: the time in UTC and in the key's zone, and on a terminal how far
/// it is, which is over once a file is read.
const COLUMNS: [Column; 6] = [
    ("KEY", Fit::Stays),
    ("UTC", Fit::LeftOut(1)),
    ("LOCAL TIME", Fit::Folds(1)),
    ("ZONE", Fit::LeftOut(2)),
    ("WHEN", Fit::Folds(2)),
    ("NOTE", Fit::Below),
];

fn to_table(firings: &[ScheduledRun<'_>], screen: Screen, now: Timestamp) -> String {
    if firings.is_empty() {
        return "no scheduled rotations\n".to_owned();
    }
    let waits = Screen {
        times: TimeStyle::Relative,
        ..screen
    };
    let is_shown = |title| screen.times != TimeStyle::Exact || title != "WHEN";
    let columns: Vec<Column> = COLUMNS
        .into_iter()
        .filter(|(title, _)| is_shown(*title))
        .collect();
    let row = |firing: &ScheduledRun<'_>| -> Vec<Cell> {
        let local = firing.at.to_zoned(firing.zone().clone());
        let notes = [
            firing.due.as_ref().map(|(_, why)| why.as_str()),
            firing.is_paused.then_some("paused"),
            firing.is_on_clock_change_day().then_some("clock change"),
        ];
        let notes: Vec<_> = notes.into_iter().flatten().collect();
        let cells = [
            firing.key.name.to_string().into(),
            time::to_text(firing.at).into(),
            local
                .strftime("%a %Y-%m-%d %H:%M:%S %:z")
                .to_string()
                .into(),
            firing.zone_name().into(),
            if firing.due.is_some() && firing.at <= now {
                "now".into()
            } else {
                waits.time(firing.at, now).into()
            },
            notes.join(", ").into(),
        ];
        let cells = cells.into_iter().zip(COLUMNS);
        let cells = cells.filter(|(_, (title, _))| is_shown(*title));
        cells.map(|(cell, _)| cell).collect()
    };
    let rows: Vec<Vec<Cell>> = firings.iter().map(row).collect();
    Table::format(&columns, &rows, screen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::{assert_fits, assert_golden, at, now, on_each_screen, settings};

    #[test]
    fn table_matches_the_golden_file() {
        let settings = settings();
        let rows = |from: &str, key: usize| {
            let key = &settings.keys[key];
            let command = ScheduleCommand {
                key: None,
                count: 3,
                from: None,
                json: false,
                verbose: false,
                daemon: DaemonOptions::default(),
            };
            command.next_runs(key, None, at(from), at(from))
        };
        let mut firings = rows("2026-11-24T12:00:00Z", 0);
        firings.extend(rows("2026-11-24T12:00:00Z", 2));
        firings.sort_by_key(|firing| firing.at);
        // The clocks of Berlin change on 2027-03-28.
        firings.extend(rows("2027-03-27T12:00:00Z", 0));
        let mut all = String::new();
        for (title, firings) in [("schedule", firings), ("no keys", Vec::new())] {
            all.push_str(&on_each_screen(title, |screen| {
                let text = to_table(&firings, screen, now());
                assert_fits(&text, screen);
                text
            }));
        }
        assert_golden("schedule", &all);
    }

    /// A long reason has a line of its own below its row, so that no column gives way to it.
    #[test]
    fn note_takes_no_room_from_the_columns() {
        let settings = settings();
        let firings = [ScheduledRun {
            key: &settings.keys[0],
            at: now(),
            due: Some((None, format!("due: {}", "a long reason ".repeat(20)))),
            is_paused: false,
        }];
        let screen = Screen {
            width: Some(120),
            has_color: false,
            times: TimeStyle::Relative,
        };
        let text = to_table(&firings, screen, now());
        let titles = ["KEY", "UTC", "LOCAL TIME", "ZONE", "WHEN"];
        let head = text.lines().next().unwrap();
        assert!(titles.iter().all(|title| head.contains(title)), "{text}");
        assert!(text.contains("\n  note: due: a long reason"), "{text}");
    }

    /// Two calls at different times agree on when a key became due.
    #[test]
    fn time_since_which_a_key_is_due_does_not_move() {
        let settings = settings();
        let key = &settings.keys[0];
        let command = ScheduleCommand {
            key: None,
            count: 1,
            from: None,
            json: false,
            verbose: false,
            daemon: DaemonOptions::default(),
        };
        let recorded = RecordedKeys::Read(BTreeMap::new());
        let new = recorded.state(&key.name).unwrap();
        let failing = RecordedKey {
            failing_since: Some(at("2026-11-24T11:00:00Z")),
            ..new.clone()
        };
        let since = |recorded: &RecordedKey, now: &str| {
            let runs = command.next_runs(key, Some(recorded), at(now), at(now));
            let due = runs[0]
                .due
                .clone()
                .expect("a key that was never rotated is due");
            (due.0, due.1.contains("since"))
        };
        for now in ["2026-11-24T12:00:00Z", "2026-11-24T12:00:05Z"] {
            assert_eq!(since(&new, now), (None, false), "{now}");
            let expected = Some(at("2026-11-24T11:00:00Z"));
            assert_eq!(since(&failing, now), (expected, true), "{now}");
        }
        assert!(RecordedKeys::Unreadable.state(&key.name).is_none());
    }

    #[test]
    fn json_schema_is_that_of_the_output() {
        crate::platform::json_schema::check_file::<Vec<RunJson<'_>>>("schedule");
    }
}
