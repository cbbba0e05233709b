//! What `status` and `show` report: the running process, the problems of all keys, and each key.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::cli::channel_status::ChannelStatus;
use crate::cli::context::unknown_key;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{as_of_line, note_as_of, open_ledger};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::screen::Screen;
use crate::cli::status::key_status::{KeyStatus, key_status, unmanaged_key_status};
use crate::cli::status::process_status::ProcessStatus;
use crate::cli::status::recorded_status::RecordedStatus;
use crate::config::find_unit;
use crate::config::settings::Settings;
use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::ledger::{LedgerReader, RecordedCrashes};

/// How a report is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReportSource<'a> {
    /// Which daemon is asked.
    pub(crate) daemon: &'a DaemonOptions,
    /// Whether the ledger alone counts.
    pub(crate) is_offline: bool,
    /// Whether a problem may be printed for people before a failure.
    pub(crate) is_json: bool,
}

/// The state of everything.
pub(crate) struct StatusReport {
    /// Of when the ledger is, if it is a snapshot.
    pub(super) as_of: Option<String>,
    /// The running process.
    pub(super) process: ProcessStatus,
    /// The unit that should run it, if it does not run.
    pub(super) stopped_unit: Option<String>,
    /// The problems that affect all keys, worst first.
    pub(crate) problems: Vec<String>,
    /// The keys that are configured, and those whose credentials still live.
    pub(crate) keys: Vec<KeyStatus>,
    /// The last crash, and the number of the recent ones.
    pub(super) crashes: Option<RecordedCrashes>,
    /// The notification channels.
    pub(super) channels: Vec<ChannelStatus>,
    /// The ledger, if there is one.
    pub(crate) ledger: Option<LedgerReader>,
}

impl StatusReport {
    /// Reads the ledger, and asks the daemon.
    ///
    /// # Errors
    /// If the ledger cannot be read, or has no key of the name that is asked for.
    pub(crate) async fn read(
        settings: &Settings,
        source: ReportSource<'_>,
        key: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let (ledger, mut losses) = match open_ledger(source.daemon, settings).await {
            Ok(ledger) => (ledger, Vec::new()),
            Err(Failure::Ledger(loss)) if loss.is_loss() => (None, vec![loss.to_string()]),
            Err(error) => return Err(report_unreadable(settings, source, error).await?),
        };
        let mut recorded = match RecordedStatus::read(settings, ledger.as_ref(), now) {
            Ok(recorded) => recorded,
            Err(error) => return Err(report_unreadable(settings, source, error.into()).await?),
        };
        let process = if source.is_offline {
            ProcessStatus::Unknown
        } else {
            ProcessStatus::observe(settings, source.daemon, recorded.last_run).await
        };
        if ledger.is_none() && losses.is_empty() {
            losses.extend(no_use(settings));
        }
        let mut problems = std::mem::take(&mut recorded.problems);
        problems.append(&mut losses);
        // A ledger that cannot be written does not have this one.
        if let Some(problem) = process.problem()
            && !problems.iter().any(|known| known == problem)
        {
            problems.insert(0, problem.to_owned());
        }
        let recorded_channels = std::mem::take(&mut recorded.channels);
        let channels = ChannelStatus::of_channels(settings, recorded_channels);
        problems.extend(channels.iter().filter_map(ChannelStatus::problem));
        let mut states = std::mem::take(&mut recorded.states);
        let key = key.map(|name| present_name(&states, name).to_owned());
        let mut keys: Vec<_> = settings
            .keys
            .iter()
            .map(|key| {
                let state = states.remove(&key.name);
                let state = state.unwrap_or_else(|| KeyState::unknown(key.name.clone()));
                key_status(key, state, &recorded, now)
            })
            .collect();
        keys.extend(
            states
                .into_values()
                .filter(|state| !state.live.is_empty())
                .map(|state| unmanaged_key_status(state, &recorded, now)),
        );
        let as_of = ledger
            .as_ref()
            .and_then(|ledger| as_of_line(ledger, settings));
        if let (Some(ledger), true) = (&ledger, source.is_json) {
            note_as_of(ledger, settings);
        }
        if let Some(name) = key {
            keys.retain(|status| status.key.as_str() == name);
            if keys.is_empty() {
                let configured = settings.keys.iter().map(|key| &key.name);
                return Err(unknown_key(
                    &name,
                    configured,
                    "configured or in the ledger",
                ));
            }
        }
        if process.is_running() == Some(false) {
            keys.iter_mut().for_each(|status| status.is_stopped = true);
        }
        let unit = process.is_problem().then(|| find_unit(&settings.file));
        Ok(Self {
            as_of,
            stopped_unit: unit
                .flatten()
                .map(|unit| unit.name_for_commands().to_owned()),
            crashes: recorded.crashes,
            process,
            problems,
            keys,
            channels,
            ledger,
        })
    }

    /// Whether something needs a person.
    pub(crate) fn has_problem(&self) -> bool {
        let mut keys = self.keys.iter();
        !self.problems.is_empty()
            || self.process.is_problem()
            || keys.any(|status| !status.is_healthy() || status.is_overdue)
    }

    /// Returns the problems that are printed for people.
    pub(crate) fn shown_problems(&self, is_json: bool) -> &[String] {
        if is_json { &[] } else { &self.problems }
    }

    /// Returns the line about crashes, if there was one lately.
    fn crash_line(&self, screen: &Screen, now: Timestamp) -> Option<String> {
        let crashes = self.crashes.as_ref()?;
        let restarts = match crashes.restarts {
            0 => return None,
            1 if crashes.last.is_without_trace() => "restarted after a kill".to_owned(),
            1 => "restarted after a crash".to_owned(),
            count => {
                format!("restarted {count} times after crashes or kills within a day, the last")
            }
        };
        let at = screen.past_moment(crashes.last.at, now);
        Some(format!("{restarts} {at}: {}", crashes.last))
    }

    /// Returns the lines before the keys: problems, and whether rekeyd runs.
    pub(crate) fn head(&self, screen: &Screen, now: Timestamp) -> String {
        let problems = self.problems.iter();
        // A line of a problem does not pass for one of the status.
        let problems =
            problems.map(|problem| format!("problem: {}", problem.replace('\n', "\n  ")));
        let lines = self.as_of.iter().cloned().chain(problems);
        let mut process = self.process.line(screen, now);
        if let Some(unit) = &self.stopped_unit {
            // Its start may have failed before it wrote the ledger.
            let started = match self.process.not_running_since() {
                Some(_) => "",
                None => "if it was started, ",
            };
            process.push_str(&format!(
                "; hint: {started}`journalctl -u {unit}` shows why it ended"
            ));
        }
        let lines = lines.chain([process]).chain(self.crash_line(screen, now));
        lines
            .map(|line| format!("{}\n", screen.wrap(&line, 2)))
            .collect()
    }
}

/// Returns the present name of the key that has, or had, this name; the same name if there is
/// none.
fn present_name<'n>(states: &'n BTreeMap<KeyName, KeyState>, name: &'n str) -> &'n str {
    let mut renamed = states.values();
    let renamed = renamed.find(|state| {
        let mut former = state.former_names.iter();
        former.any(|former| former.as_str() == name)
    });
    renamed.map_or(name, |state| state.key.as_str())
}

/// Returns the problem of a configuration that names a ledger which is not there, and has no
/// key that a first start would rotate: it is hardly the one that rekeyd runs with.
fn no_use(settings: &Settings) -> Option<String> {
    let is_unused = settings.keys.is_empty() && settings.is_ledger_named;
    is_unused.then(|| {
        format!(
            "{} has no key, and there is no ledger at {}; hint: check whether rekeyd \
             runs with this configuration",
            settings.file.display(),
            settings.ledger.display()
        )
    })
}

/// Prints what a running daemon reports: it may know why the ledger cannot be read. Returns
/// the failure.
async fn report_unreadable(
    settings: &Settings,
    source: ReportSource<'_>,
    error: Failure,
) -> Result<Failure, Failure> {
    if !source.is_offline && !source.is_json {
        let process = ProcessStatus::observe(settings, source.daemon, None).await;
        if let Some(problem) = process.problem() {
            let screen = Screen::of_output(false);
            let line = screen.wrap(&format!("problem: {problem}"), 2);
            output::print_message(&line)?;
        }
    }
    Ok(error)
}
