//! Whether rekeyd is running on the ledger, and what it reports of itself.

use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Access, AtFlags, CWD, accessat};

use crate::cli::daemon_client::ANSWER_TIMEOUT;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{find_daemon, names_daemon};
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::config::settings::Settings;
use crate::ledger::{LastRun, SchedulingCommand, WriterLock};

/// How a daemon is recorded in the lock file.
const DAEMON_COMMAND: &str = "rekeyd run";

/// The processes that write the ledger.
pub(super) enum ProcessStatus {
    /// It was not looked for.
    Unknown,
    /// This user sees no lock of the ledger, and what listens at the control socket does not
    /// say what it is.
    Unreachable {
        /// Why not.
        reason: String,
    },
    /// A process writes the ledger now.
    Running {
        /// Its command and process id.
        holder: String,
        /// What it reports of itself.
        problem: Option<String>,
    },
    /// A daemon should run, and does not.
    Stopped {
        /// When it last wrote the ledger.
        since: Timestamp,
        /// Whether it ended in order.
        is_orderly: bool,
    },
    /// Nothing runs, and `rekeyd once` ran last.
    RanOnce(LastRun),
    /// Nothing runs, and nothing that rotates by schedule ever ran.
    NeverRan {
        /// Whether the configuration has a socket at which a daemon would answer.
        is_expected: bool,
    },
}

impl ProcessStatus {
    /// Looks for a process that writes the ledger. `last_run` is the latest one that the
    /// ledger records, with the time of the newest event.
    pub(super) async fn observe(
        settings: &Settings,
        options: &DaemonOptions,
        last_run: Option<(LastRun, Option<Timestamp>)>,
    ) -> Self {
        let report = ask_daemon(settings, options).await;
        // Nobody sees the locks of a daemon whose files are gone, and it reports just that.
        let foreign_lock = report
            .holder
            .is_none()
            .then(|| foreign_lock(&settings.ledger));
        let holder = WriterLock::holder(&settings.ledger).or(report.holder);
        if let Some(holder) = holder {
            // A writer at whose socket another process may answer is not well.
            let problem = report.problem.or(foreign_lock.flatten());
            let problem = problem.or(report.silence);
            return Self::Running { holder, problem };
        }
        if let Some(reason) = report.silence.filter(|_| !sees_locks(&settings.ledger)) {
            return Self::Unreachable { reason };
        }
        let recorded = Self::from_record(settings, last_run);
        // A run whose start the ledger did not record, because its disk was full.
        let ended = WriterLock::ended_writer(&settings.ledger)
            .filter(|ended| ended.command == DAEMON_COMMAND)
            .filter(|ended| recorded.last_active().is_none_or(|at| at < ended.at));
        ended.map_or(recorded, |ended| Self::Stopped {
            since: ended.at,
            is_orderly: true,
        })
    }

    fn from_record(settings: &Settings, last_run: Option<(LastRun, Option<Timestamp>)>) -> Self {
        match last_run {
            None => Self::NeverRan {
                is_expected: settings.control.socket.is_some() && names_daemon(settings),
            },
            Some((run, newest_event)) => match run.command {
                SchedulingCommand::Once => Self::RanOnce(run),
                SchedulingCommand::Run => Self::Stopped {
                    // After a kill, the newest event is the last sign of life.
                    since: run
                        .ended_at
                        .unwrap_or(run.started_at.max(newest_event.unwrap_or(run.started_at))),
                    is_orderly: run.ended_at.is_some(),
                },
            },
        }
    }

    /// Returns the last sign of life that the ledger records of a run that has ended.
    fn last_active(&self) -> Option<Timestamp> {
        match self {
            Self::Stopped { since, .. } => Some(*since),
            Self::RanOnce(run) => Some(run.ended_at.unwrap_or(run.started_at)),
            Self::Unknown
            | Self::Unreachable { .. }
            | Self::Running { .. }
            | Self::NeverRan { .. } => None,
        }
    }

    /// Returns whether keys are not rotated because no process runs that should.
    pub(super) const fn is_problem(&self) -> bool {
        match self {
            Self::Stopped { .. } => true,
            Self::NeverRan { is_expected } => *is_expected,
            Self::Unknown | Self::Unreachable { .. } | Self::Running { .. } | Self::RanOnce(_) => {
                false
            }
        }
    }

    /// Returns what a running process reports of itself, or why none does.
    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            Self::Running { problem, .. } => problem.as_deref(),
            Self::Unreachable { reason } => Some(reason),
            Self::Unknown | Self::Stopped { .. } | Self::RanOnce(_) | Self::NeverRan { .. } => None,
        }
    }

    /// Returns whether a process runs; none if that is not known.
    pub(super) const fn is_running(&self) -> Option<bool> {
        match self {
            Self::Unknown | Self::Unreachable { .. } => None,
            Self::Running { .. } => Some(true),
            Self::Stopped { .. } | Self::RanOnce(_) | Self::NeverRan { .. } => Some(false),
        }
    }

    /// Returns since when a daemon that should run does not.
    pub(super) const fn not_running_since(&self) -> Option<Timestamp> {
        match self {
            Self::Stopped { since, .. } => Some(*since),
            Self::Unknown
            | Self::Unreachable { .. }
            | Self::Running { .. }
            | Self::RanOnce(_)
            | Self::NeverRan { .. } => None,
        }
    }

    /// Describes it in one line.
    pub(super) fn line(&self, screen: &Screen, now: Timestamp) -> String {
        let moment = |at: &Timestamp| screen.past_moment(*at, now);
        match self {
            Self::Unknown => "the state that the ledger records; rekeyd may be running".to_owned(),
            Self::Unreachable { .. } => "rekeyd did not say whether it is running".to_owned(),
            Self::Running { holder, .. } => format!("running: {holder}"),
            Self::Stopped {
                since,
                is_orderly: true,
            } => format!("rekeyd is NOT running; it stopped {}", moment(since)),
            Self::Stopped {
                since,
                is_orderly: false,
            } => format!(
                "rekeyd is NOT running; it crashed or was killed, and was last active {}",
                moment(since)
            ),
            Self::RanOnce(run) => {
                let end = match &run.ended_at {
                    Some(at) => format!("ended {}", moment(at)),
                    None => format!("started {} and did not finish", moment(&run.started_at)),
                };
                format!("rekeyd is not running; the last `rekeyd once` {end}")
            }
            Self::NeverRan { .. } => {
                "rekeyd is not running, and has not rotated by schedule yet".to_owned()
            }
        }
    }
}

/// Returns the problem of a ledger that another program than rekeyd has locked: no rekeyd
/// can start then.
fn foreign_lock(ledger: &Path) -> Option<String> {
    let path = ledger.display();
    WriterLock::has_unrecorded_holder(ledger).then(|| {
        format!(
            "a process holds a lock on {path} and is not rekeyd, or its lock file was removed; no \
             rekeyd can start; hint: find the process with `fuser -v {path}`, and stop it"
        )
    })
}

/// Returns whether this user sees who holds a lock of a ledger.
fn sees_locks(ledger: &Path) -> bool {
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    accessat(CWD, folder, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// What a daemon reports of itself through its control socket.
#[derive(Default)]
struct DaemonReport {
    /// Its command and process id.
    holder: Option<String>,
    /// What is wrong with it.
    problem: Option<String>,
    /// Why what listens there does not say what it is.
    silence: Option<String>,
}

impl DaemonReport {
    /// Returns the report of a process that does not say what it is, or is not believed.
    fn of_silence(reason: String) -> Self {
        Self {
            silence: Some(reason),
            ..Self::default()
        }
    }
}

/// Asks the running daemon; the report is empty if it has no control socket.
async fn ask_daemon(settings: &Settings, options: &DaemonOptions) -> DaemonReport {
    // The ledger has all but the condition of a ledger that cannot be written.
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, find_daemon(options, settings)).await;
    let found = asked.unwrap_or_else(|_| {
        let text = "the running rekeyd does not respond on its control socket";
        Err(Failure::Busy(text.to_owned()))
    });
    match found {
        Ok(Some(daemon)) => match daemon.doubt() {
            None => DaemonReport {
                holder: Some(holder_name(daemon.process())),
                problem: daemon.problem(),
                silence: None,
            },
            Some(doubt) => DaemonReport::of_silence(doubt.to_owned()),
        },
        Ok(None) => DaemonReport::default(),
        // A process that may look sees by its lock whether it runs.
        Err(Failure::Busy(text)) => DaemonReport {
            problem: Some(text.clone()),
            silence: Some(text),
            ..DaemonReport::default()
        },
        Err(Failure::Unproven(unproven)) => match unproven.damage_report(&settings.ledger) {
            Some(report) => DaemonReport {
                holder: Some(holder_name(report.process)),
                problem: Some(report.damage.to_owned()),
                silence: None,
            },
            None => DaemonReport::of_silence(unproven.to_string()),
        },
        Err(error) => DaemonReport::of_silence(error.to_string()),
    }
}

/// Describes a daemon as the lock file does.
fn holder_name(process: u32) -> String {
    format!("{DAEMON_COMMAND} (process {process})")
}
