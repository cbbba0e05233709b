//! `rekeyd history`: past rotations, with the columns of the view `history`.

mod json;

use std::io::{Error, ErrorKind, Write};
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serializer as _;
use serde::ser::SerializeSeq as _;
use serde_json::Value;

use self::json::to_json;
use crate::cli::context::{GlobalOptions, unknown_key};
use crate::cli::daemon_options::{DaemonOptions, report_mistakes};
use crate::cli::dispatch::{ShownSettings, as_of_line, note_as_of, open_ledger, shown_settings};
use crate::cli::failure::Failure;
use crate::cli::json_output::VisibleFormatter;
use crate::cli::ledger_prune::open_archive;
use crate::cli::notes;
use crate::cli::output::{self, PrintError};
use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Column, Fit, Table, Tone};
use crate::cli::time_argument;
use crate::config::settings::Settings;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::redact;
use crate::ledger::{
    HistoryEntry, HistoryFilter, HistoryQuery, LedgerError, LedgerReader, LedgerSnapshot,
    OperatorRecord,
};
use crate::platform::clock::{Clock as _, SystemClock};

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryCommand {
    /// Only rotations of this key
    key: Option<String>,
    /// Only rotations that started since a time (2026-11-01T00:00:00Z) or a date, or within a
    /// duration (7d)
    #[arg(long, value_name = "TIME", value_parser = time_argument::parse_past)]
    since: Option<Timestamp>,
    /// Maximum number of rotations
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Show the rotations in an archive that `rekeyd ledger prune` made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ledger", "socket"])]
    archive: Option<PathBuf>,
    /// Print JSON, with the columns of the view `history`
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values with a header line
    #[arg(long)]
    csv: bool,
    /// Show every column, and exact times beside the relative ones
    #[arg(long, short, conflicts_with_all = ["json", "csv"])]
    verbose: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl HistoryCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        // An archive needs no configuration, nor does the ledger alone.
        if let Some(archive) = &self.archive {
            let reader = LedgerReader::of_archive(archive, open_archive(archive)?)?;
            let shown = self.show_archive(&reader, archive);
            return shown.map_err(|failure| match failure {
                Failure::Ledger(error) => error.of_archive(archive).into(),
                failure @ (Failure::Problems { .. }
                | Failure::Configuration(_)
                | Failure::Service(_)
                | Failure::OtherWriter(_)
                | Failure::Busy(_)
                | Failure::Unproven(_)
                | Failure::Other(_)
                | Failure::Reported) => failure,
            });
        }
        if let Some(ledger) = &self.daemon.ledger {
            let reader = LedgerReader::open(ledger)?;
            report_mistakes(options);
            self.check_recorded_key(&reader, &format!("ledger {}", ledger.display()))?;
            return self.print(&reader);
        }
        let settings = self.daemon.settings(options).await?;
        // The running daemon may have other keys, and another ledger, than the file.
        let ShownSettings { settings, .. } = shown_settings(&self.daemon, settings).await;
        let Some(reader) = open_ledger(&self.daemon, &settings).await? else {
            let path = settings.ledger.clone();
            return Err(LedgerError::NotFound { path }.into());
        };
        self.check_key(&settings, &reader)?;
        if self.json || self.csv {
            note_as_of(&reader, &settings);
        } else if let Some(line) = as_of_line(&reader, &settings) {
            output::print(format!("{line}\n").as_bytes())?;
        }
        self.print(&reader)
    }

    /// Refuses a key that is neither configured nor in the ledger: an empty answer would look
    /// like that of a key that never rotated.
    fn check_key(&self, settings: &Settings, reader: &LedgerReader) -> Result<(), Failure> {
        let Some(name) = &self.key else {
            return Ok(());
        };
        let mut configured = settings.keys.iter().map(|key| &key.name);
        if configured.any(|key| key.as_str() == name) {
            return Ok(());
        }
        if is_recorded(reader, name)? {
            return Ok(());
        }
        let configured = settings.keys.iter().map(|key| &key.name);
        Err(unknown_key(name, configured, "configured or in the ledger"))
    }

    fn show_archive(&self, reader: &LedgerReader, archive: &Path) -> Result<(), Failure> {
        let place = format!("archive {}", archive.display());
        self.check_recorded_key(reader, &place)?;
        self.print(reader)
    }

    /// Refuses a key that a ledger or archive does not have, where no configuration has it
    /// either.
    fn check_recorded_key(&self, reader: &LedgerReader, place: &str) -> Result<(), Failure> {
        match &self.key {
            Some(name) if !is_recorded(reader, name)? => Err(Failure::Other(format!(
                "no key {} is in the {place}; hint: without a key, `rekeyd history` shows all",
                redact::sanitize_name(name),
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Prints the latest `limit` rotations, of one key or of all, as a table.
    pub(crate) fn print_latest(
        reader: &LedgerReader,
        key: Option<&str>,
        limit: u32,
        screen: Screen,
    ) -> Result<(), Failure> {
        let snapshot = reader.snapshot()?;
        let mut history = snapshot.history(&HistoryFilter {
            key: key.map(str::to_owned),
            limit: Some(limit),
            since: None,
        })?;
        if history.rows()?.next().is_none() {
            return output::print(b"none\n");
        }
        output::print_stream(|out| write_table(&mut history, screen, out))
    }

    fn print(&self, reader: &LedgerReader) -> Result<(), Failure> {
        let snapshot = reader.snapshot()?;
        let mut history = snapshot.history(&self.filter())?;
        if self.json {
            return output::print_stream(|out| write_json(&mut history, out));
        }
        if self.csv {
            return output::print_stream(|out| write_csv(&mut history, out));
        }
        if history.rows()?.next().is_none() {
            return output::print(self.nothing_found().as_bytes());
        }
        let screen = Screen::of_output(self.verbose);
        let mut notes = self.pauses(&snapshot, &screen)?;
        output::print_stream(|out| {
            write_table(&mut history, screen, out)?;
            write_holds(&mut history, &screen, out)?;
            Ok(out.write_all(std::mem::take(&mut notes).as_bytes())?)
        })
    }

    /// Returns a line for each key that is paused now.
    fn pauses(&self, snapshot: &LedgerSnapshot<'_>, screen: &Screen) -> Result<String, Failure> {
        let now = SystemClock.now();
        let mut lines = String::new();
        for (key, state) in snapshot.key_states()? {
            let is_shown = self.key.as_ref().is_none_or(|name| name == key.as_str());
            let Some(pause) = state.pause.filter(|pause| is_shown && pause.is_active(now)) else {
                continue;
            };
            let record = snapshot.latest_pause(&key)?;
            let line = notes::pause_line(&key, pause, record.as_ref(), screen, now);
            lines.push_str(&note(&key, &line, screen));
        }
        for request in snapshot.rotation_requests()? {
            let mut shown = self.key.iter();
            if shown.all(|name| name == request.key.as_str()) {
                let line = notes::request_line(&request, screen, now);
                lines.push_str(&note(&request.key, &line, screen));
            }
        }
        Ok(lines)
    }

    fn filter(&self) -> HistoryFilter {
        HistoryFilter {
            key: self.key.clone(),
            since: self.since,
            limit: self.limit,
        }
    }

    const fn nothing_found(&self) -> &'static str {
        if self.key.is_none() && self.since.is_none() && !matches!(self.limit, Some(0)) {
            "no rotations yet\n"
        } else {
            "no matching rotations\n"
        }
    }
}

/// Returns whether the ledger has a key of this name, or rotations of one.
fn is_recorded(reader: &LedgerReader, name: &str) -> Result<bool, Failure> {
    let snapshot = reader.snapshot()?;
    if snapshot
        .key_states()?
        .keys()
        .any(|key| key.as_str() == name)
    {
        return Ok(true);
    }
    let mut history = snapshot.history(&HistoryFilter {
        key: Some(name.to_owned()),
        since: None,
        limit: Some(1),
    })?;
    let is_found = history.rows()?.next().is_some();
    Ok(is_found)
}

/// The columns of the view.
const COLUMNS: [&str; 22] = [
    "rotation",
    "key",
    "sequence",
    "trigger",
    "scheduled_for",
    "started_at",
    "label",
    "credential_id",
    "redacted_value",
    "created_at",
    "expires_at",
    "phase",
    "current_at",
    "retired_at",
    "revoke_after",
    "revoked_at",
    "error",
    "held",
    "hold_until",
    "holder",
    "hold_reason",
    "name",
];

fn write_json(history: &mut HistoryQuery<'_>, out: &mut dyn Write) -> Result<(), PrintError> {
    let formatter = VisibleFormatter::default();
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, formatter);
    let mut array = serializer.serialize_seq(None).map_err(Error::from)?;
    for entry in history.rows()? {
        let object = to_json(&entry?)?;
        array.serialize_element(&object).map_err(Error::from)?;
    }
    array.end().map_err(Error::from)?;
    Ok(writeln!(out)?)
}

fn write_csv(history: &mut HistoryQuery<'_>, out: &mut dyn Write) -> Result<(), PrintError> {
    let mut writer = csv::Writer::from_writer(out);
    writer.write_record(COLUMNS).map_err(csv_error)?;
    for entry in history.rows()? {
        let object = to_json(&entry?)?;
        writer
            .write_record(COLUMNS.map(|column| cell_text(&object[column])))
            .map_err(csv_error)?;
    }
    Ok(writer.flush()?)
}

fn csv_error(error: csv::Error) -> Error {
    let text = error.to_string();
    if let csv::ErrorKind::Io(error) = error.into_kind() {
        return error;
    }
    Error::new(ErrorKind::InvalidData, text)
}

fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

/// The columns that a person reads first; JSON and SQL have the others.
const SUMMARY_COLUMNS: [Column; 8] = [
    ("KEY", Fit::Stays),
    ("STARTED", Fit::Folds(2)),
    ("TRIGGER", Fit::LeftOut(1)),
    ("PHASE", Fit::Folds(1)),
    ("CREDENTIAL", Fit::Folds(3)),
    ("REVOKE AFTER", Fit::Folds(4)),
    ("SEQUENCE", Fit::LeftOut(2)),
    ("ERROR", Fit::Below),
];

/// Reads the rows twice, first for their widths, so that they are never all in
/// memory.
fn write_table(
    history: &mut HistoryQuery<'_>,
    screen: Screen,
    out: &mut dyn Write,
) -> Result<(), PrintError> {
    let now = SystemClock.now();
    let mut table = Table::new(&SUMMARY_COLUMNS, screen);
    for entry in history.rows()? {
        table.measure(&summary(&entry?, &screen, now));
    }
    out.write_all(table.head().as_bytes())?;
    for entry in history.rows()? {
        let row = summary(&entry?, &screen, now);
        out.write_all(table.row(&row).as_bytes())?;
    }
    Ok(())
}

/// Returns a remark about a key, as a line below the table.
fn note(key: &KeyName, text: &str, screen: &Screen) -> String {
    format!("{}\n", screen.wrap(&format!("{key}: {text}"), 2))
}

/// Writes a line for each credential that an operator holds.
fn write_holds(
    history: &mut HistoryQuery<'_>,
    screen: &Screen,
    out: &mut dyn Write,
) -> Result<(), PrintError> {
    let now = SystemClock.now();
    for entry in history.rows()? {
        let entry = entry?;
        let Some(credential) = entry.credential.as_ref().filter(|_| entry.is_held) else {
            continue;
        };
        let record = OperatorRecord {
            at: entry.started_at,
            by: entry.holder.clone(),
            reason: entry.hold_reason.clone(),
        };
        let line = notes::hold_line(credential, entry.hold_until, Some(&record), screen, now);
        out.write_all(note(&entry.key, &line, screen).as_bytes())?;
    }
    Ok(())
}

fn summary(entry: &HistoryEntry, screen: &Screen, now: Timestamp) -> [Cell; SUMMARY_COLUMNS.len()] {
    let time = |at: Option<Timestamp>| at.map(|at| screen.time(at, now)).unwrap_or_default();
    let credential = entry.credential.as_ref().map(ToString::to_string);
    let tone = match entry.phase {
        Phase::Current => Tone::Good,
        Phase::Intended | Phase::Created | Phase::Verified | Phase::Retired => Tone::Plain,
        Phase::Stranded | Phase::Orphaned => Tone::Warning,
        Phase::Failed => Tone::Bad,
        Phase::Revoked => Tone::Dim,
    };
    [
        entry.key.to_string().into(),
        screen.past_time(entry.started_at, now).into(),
        entry.trigger.as_str().into(),
        Cell::with_symbol(entry.phase.as_str(), tone, screen),
        credential.unwrap_or_default().into(),
        time(entry.revoke_after).into(),
        entry.sequence.to_string().into(),
        entry.error.clone().unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::{assert_fits, assert_golden, at, now, on_each_screen, rotation};
    use crate::core::state::Rotation;

    fn entry(rotation: Rotation) -> HistoryEntry {
        let credential = rotation.credential;
        let created_at = credential.as_ref().and_then(|made| made.created_at);
        HistoryEntry {
            rotation: rotation.id,
            key: KeyName::new("billing-exporter").unwrap(),
            sequence: rotation.sequence,
            trigger: rotation.trigger,
            scheduled_for: None,
            started_at: rotation.started_at,
            label: rotation.label,
            credential: credential.map(|made| made.id),
            redacted_value: None,
            created_at,
            expires_at: None,
            phase: rotation.phase,
            current_at: None,
            retired_at: None,
            revoke_after: rotation.revoke_after,
            revoked_at: None,
            error: rotation.error,
            is_held: false,
            hold_until: None,
            holder: None,
            hold_reason: None,
            name: None,
        }
    }

    #[test]
    fn table_matches_the_golden_file() {
        let made =
            |number, phase, started_at| rotation("billing-exporter", number, phase, started_at);
        let mut failed = made(4, Phase::Failed, "2026-11-24T11:00:00Z");
        failed.credential = None;
        failed.error = Some("cannot reach api.openai.com: connection refused".to_owned());
        let mut retired = made(2, Phase::Retired, "2026-11-16T02:00:00Z");
        retired.revoke_after = Some(at("2026-11-25T02:00:00Z"));
        let entries = [
            failed,
            made(3, Phase::Current, "2026-11-23T02:00:00Z"),
            retired,
            made(1, Phase::Revoked, "2026-11-09T02:00:00Z"),
        ];
        let entries = entries.map(entry);
        let text = on_each_screen("history", |screen| {
            let rows = entries.iter();
            let rows = rows.map(|entry| summary(entry, &screen, now()).to_vec());
            let text = Table::format(&SUMMARY_COLUMNS, &rows.collect::<Vec<_>>(), screen);
            assert_fits(&text, screen);
            text
        });
        assert_golden("history", &text);
    }
}
