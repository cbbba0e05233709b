//! `rekeyd show KEY`: everything about one key.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{ShownSettings, shown_settings};
use crate::cli::failure::Failure;
use crate::cli::history::HistoryCommand;
use crate::cli::output;
use crate::cli::screen::Screen;
use crate::cli::status::{
    KeyJson, KeyStatus, ReportSource, SinkStatus, StatusReport, next_rotation_text, note_lines,
    revocation_text, state_cell, to_json,
};
use crate::cli::table::{Cell, Column, Fit, Table, Tone};
use crate::config::settings::KeySettings;
use crate::core::state::{DeliveryState, Rotation};
use crate::core::{duration, time};
use crate::platform::clock::{Clock as _, SystemClock};

/// How many of the latest rotations are shown.
const ROTATIONS: u32 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct ShowCommand {
    /// Key to show
    key: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show every column, and exact times beside the relative ones
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl ShowCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let (settings, mistakes) = self.daemon.settings_and_mistakes(options).await?;
        let ShownSettings {
            settings,
            is_loaded: configuration_loaded,
        } = shown_settings(&self.daemon, settings).await;
        let now = SystemClock.now();
        let source = ReportSource {
            daemon: &self.daemon,
            is_offline: false,
            is_json: self.json,
        };
        let report = StatusReport::read(&settings, source, Some(&self.key), now).await?;
        if let Some(mistakes) = mistakes {
            mistakes.report_unless_in(report.shown_problems(self.json));
        }
        let configured = settings
            .keys
            .iter()
            .find(|key| key.name.as_str() == self.key);
        for status in &report.keys {
            if self.json {
                let mut json = key_json(status, configured, now);
                json.configuration_loaded = configuration_loaded;
                output::print_json(&json)?;
                continue;
            }
            let screen = Screen::of_output(self.verbose);
            let text = key_text(status, configured, &screen, now);
            output::print(format!("{}{text}", report.head(&screen, now)).as_bytes())?;
            if let Some(ledger) = &report.ledger {
                output::print(b"\nlatest rotations\n")?;
                HistoryCommand::print_latest(ledger, Some(&self.key), ROTATIONS, screen)?;
            }
        }
        if report.has_problem() {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }
}

/// The columns of the list of sinks.
const SINK_COLUMNS: [Column; 4] = [
    ("SINK", Fit::Stays),
    ("STATE", Fit::Folds(1)),
    ("TARGET", Fit::Folds(2)),
    ("ERROR", Fit::Below),
];

fn key_text(
    status: &KeyStatus,
    configured: Option<&KeySettings>,
    screen: &Screen,
    now: Timestamp,
) -> String {
    let mut text = fields(&rows(status, configured, screen, now), screen);
    let has_problem = status.problem.is_some();
    for (index, line) in note_lines(status, screen, now).into_iter().enumerate() {
        let title = if index == 0 && has_problem {
            "problem"
        } else {
            "note"
        };
        let line = screen.wrap(&format!("{title:<WIDTH$}{line}"), WIDTH);
        text.push_str(&format!("{line}\n"));
    }
    if !status.sinks.is_empty() {
        let rows: Vec<_> = status
            .sinks
            .iter()
            .map(|sink| sink_row(sink, status.retirement.is_some(), screen, now))
            .collect();
        text.push('\n');
        text.push_str(&Table::format(&SINK_COLUMNS, &rows, *screen));
    }
    text
}

/// The width of the titles of fields.
const WIDTH: usize = 16;

fn fields(rows: &[(&str, String)], screen: &Screen) -> String {
    rows.iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(title, value)| screen.wrap(&format!("{title:<WIDTH$}{value}"), WIDTH) + "\n")
        .collect()
}

fn rows(
    status: &KeyStatus,
    configured: Option<&KeySettings>,
    screen: &Screen,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let state = Table::styled(&state_cell(status, screen), *screen);
    let mut rows = vec![("key", status.key.to_string()), ("state", state)];
    if let Some(key) = configured {
        let policy = &key.policy;
        rows.push(("schedule", policy.timetable.to_string()));
        let zone = policy.timetable.zone().iana_name();
        rows.push(("time zone", zone.unwrap_or("UTC").to_owned()));
        rows.push(("overlap", duration::to_text(policy.overlap)));
    }
    rows.push(("next rotation", next_rotation_text(status, screen, now)));
    match &status.current {
        Some(current) => rows.extend(credential_rows(current, screen, now)),
        None => rows.push(("credential", "none".to_owned())),
    }
    for rotation in &status.overlap {
        let text = revocation_text(rotation, screen, now);
        rows.push(("in overlap", text.unwrap_or_default()));
    }
    rows
}

fn credential_rows(
    current: &Rotation,
    screen: &Screen,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let time = |at: Option<Timestamp>| at.map(|at| screen.time(at, now)).unwrap_or_default();
    let past = |at: Option<Timestamp>| {
        let text = at.map(|at| screen.past_time(at, now));
        text.unwrap_or_default()
    };
    let Some(credential) = &current.credential else {
        return Vec::new();
    };
    let redacted = credential.redacted_value.clone().unwrap_or_default();
    vec![
        ("credential", credential.id.to_string()),
        ("name", current.name.clone().unwrap_or_default()),
        ("redacted value", redacted),
        ("created", past(credential.created_at)),
        ("became current", past(current.current_at)),
        ("expires", time(credential.expires_at)),
        ("sequence", current.sequence.to_string()),
    ]
}

fn sink_row(sink: &SinkStatus, is_retired: bool, screen: &Screen, now: Timestamp) -> Vec<Cell> {
    // What the open rotation did here is newer than what the current one did.
    let open = sink.open_delivery.as_ref();
    let open = open.filter(|open| open.attempts > 0 || open.may_have_received());
    let delivery = open.or(sink.delivery.as_ref());
    let is_written = delivery.is_some_and(|delivery| delivery.written_at.is_some());
    let (text, tone) = match delivery.map(|delivery| delivery.state) {
        Some(state) if is_written && state != DeliveryState::Accepted => {
            ("written".to_owned(), Tone::Warning)
        }
        Some(DeliveryState::Accepted) => {
            let at = delivery.and_then(|delivery| delivery.delivered_at(now));
            let at = at.map(|at| format!(" {}", screen.past_time(at, now)));
            (format!("delivered{}", at.unwrap_or_default()), Tone::Good)
        }
        Some(DeliveryState::Pending) => ("pending".to_owned(), Tone::Warning),
        Some(DeliveryState::Uncertain) => ("uncertain".to_owned(), Tone::Warning),
        Some(DeliveryState::Refused) => ("refused".to_owned(), Tone::Bad),
        Some(DeliveryState::Missed) => ("skipped".to_owned(), Tone::Warning),
        // Each sink of a retired key counts as removed, and may still hold its last secret.
        Some(DeliveryState::Removed) | None if is_retired => ("removed".to_owned(), Tone::Dim),
        Some(DeliveryState::Removed) | None => ("not delivered".to_owned(), Tone::Dim),
    };
    let name = if sink.required {
        sink.id.name.clone()
    } else {
        format!("{} (optional)", sink.id.name)
    };
    let error = delivery.and_then(|delivery| delivery.error.clone());
    vec![
        name.into(),
        Cell::with_symbol(&text, tone, screen),
        sink.id.target.clone().into(),
        error.unwrap_or_default().into(),
    ]
}

/// The output of `rekeyd show --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ShowJson<'a> {
    #[serde(flatten)]
    status: KeyJson<'a>,
    /// Whether the running daemon has loaded the configuration in its present form; null
    /// where that is unknown.
    configuration_loaded: Option<bool>,
    /// Its configured sinks.
    sinks: Vec<SinkJson<'a>>,
    /// When it rotates; absent if it is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    /// Its overlap in seconds; absent if it is not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_seconds: Option<u64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SinkJson<'a> {
    /// Its name.
    name: &'a str,
    /// Its target: a type, a colon, and a path, a URL or a command.
    target: &'a str,
    /// Whether a rotation is complete only once this sink has accepted it.
    required: bool,
    /// The state of the delivery of the current secret, if there is one.
    #[cfg_attr(test, schemars(with = "Option<DeliveryState>"))]
    state: Option<&'static str>,
    /// When it accepted the current secret.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    accepted_at: Option<String>,
    /// Why the delivery fails, for people.
    error: Option<&'a str>,
}

fn key_json<'a>(
    status: &'a KeyStatus,
    configured: Option<&KeySettings>,
    now: Timestamp,
) -> ShowJson<'a> {
    ShowJson {
        status: to_json(status, now),
        configuration_loaded: None,
        sinks: status
            .sinks
            .iter()
            .map(|sink| sink_json(sink, now))
            .collect(),
        schedule: configured.map(|key| key.policy.timetable.to_string()),
        overlap_seconds: configured.map(|key| key.policy.overlap.as_secs()),
    }
}

fn sink_json(sink: &SinkStatus, now: Timestamp) -> SinkJson<'_> {
    let delivery = sink.delivery.as_ref();
    let accepted_at = delivery.and_then(|delivery| delivery.delivered_at(now));
    SinkJson {
        name: &sink.id.name,
        target: &sink.id.target,
        required: sink.required,
        state: delivery.map(|delivery| delivery.state.as_str()),
        accepted_at: accepted_at.map(time::to_text),
        error: delivery.and_then(|delivery| delivery.error.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::{TERMINAL, assert_fits, assert_golden, now, on_each_screen, settings};
    use crate::cli::status::tests::{rotated, state, statuses};

    #[test]
    fn text_matches_the_golden_file() {
        let settings = settings();
        let mut lagging = rotated();
        let delivery = &mut lagging.live[1].deliveries[1];
        delivery.state = DeliveryState::Refused;
        delivery.error = Some("the receiver answered 503 Service Unavailable".to_owned());
        let mut all = String::new();
        for (title, state) in [
            ("healthy", rotated()),
            ("optional sink fails", lagging),
            ("new", state("deploy", Vec::new())),
        ] {
            let statuses = statuses(vec![state]);
            let configured = settings.keys.iter();
            let mut configured = configured.filter(|key| key.name == statuses[0].key);
            let configured = configured.next();
            all.push_str(&on_each_screen(title, |screen| {
                let text = key_text(&statuses[0], configured, &screen, now());
                assert_fits(&text, screen);
                text
            }));
        }
        assert_golden("show", &all);
    }

    /// The ledger rounds the time up, and takes the provider's if that is ahead.
    #[test]
    fn delivery_is_neither_in_the_future_nor_after_its_end() {
        let second = std::time::Duration::from_secs(1);
        let (before, after) = (time::before(now(), second), time::after(now(), second));
        for (accepted_at, ended_at, expected) in [
            (after, Some(now()), "0 s ago"),
            (after, None, "0 s ago"),
            (now(), Some(before), "1 s ago"),
            // A repair that was withdrawn ended later.
            (before, Some(now()), "1 s ago"),
        ] {
            let mut state = rotated();
            let delivery = &mut state.live[1].deliveries[0];
            (delivery.accepted_at, delivery.last_attempt_at) = (Some(accepted_at), ended_at);
            let statuses = statuses(vec![state]);
            let row = sink_row(&statuses[0].sinks[0], false, &TERMINAL, now());
            let expected = format!("● delivered {expected}");
            assert_eq!(
                row[1],
                Cell::with_symbol(&expected[4..], Tone::Good, &TERMINAL)
            );
            let json = sink_json(&statuses[0].sinks[0], now()).accepted_at.unwrap();
            assert!(json <= time::to_text(now()), "{json}");
        }
    }

    #[test]
    fn json_schema_is_that_of_the_output() {
        crate::platform::json_schema::check_file::<ShowJson<'_>>("show");
    }
}
