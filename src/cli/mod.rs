//! The command line: one file a command.

mod audit;
mod by_hand;
mod check;
mod demo;
mod history;
mod host;
pub mod log;
mod once;
mod output;
mod pause;
mod reload;
mod request;
mod rotate;
mod run;
mod sandbox;
mod schedule;
mod status;
mod text;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Environment, Kind, Problem};
use crate::core::secret::Secret;
use crate::core::settings::{KeySettings, Settings};
use crate::daemon::credential::Sources;
use crate::daemon::process;
use crate::daemon::service::ServiceError;
use crate::engine::clock::{Clock as _, HostClock};
use crate::ledger::{Ahead, LedgerError};

/// From so many keys on the ledger is read while the configuration still is:
/// with fewer a thread takes longer to begin than it would save.
const MANY: usize = 1_000;

/// Rotates OpenAI organization admin keys on a schedule, and never loses one.
#[derive(Debug, Parser)]
#[command(
    name = "rekeyd",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "REKEYD_CONFIG",
        default_value = "/etc/rekeyd/config.toml"
    )]
    config: PathBuf,
    /// How much is logged: error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
    /// The form of log lines on standard error
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    log_format: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rotates by schedule until a signal asks for the end
    Run(run::Run),
    /// Does what is due, and ends when nothing is due and nothing is open
    Once(once::Once),
    /// Reads the configuration as `run` would and prints every problem at once
    Check(check::Check),
    /// Rotates keys now and waits until they are delivered
    Rotate(rotate::Rotate),
    /// Revokes one credential of ours now
    Revoke(by_hand::Revoke),
    /// Keeps the schedule from revoking a credential
    Hold(by_hand::Hold),
    /// Lets the schedule revoke a held credential again
    Release(by_hand::Release),
    /// Takes a credential made by hand into the ledger
    Adopt(by_hand::Adopt),
    /// Begins nothing by schedule for a key, until it is resumed
    Pause(pause::Pause),
    /// Rotates a paused key by schedule again
    Resume(pause::Resume),
    /// Has the running daemon take the configuration anew, and prints what is wrong with it
    Reload(reload::Reload),
    /// Compares every row ever written with the provider; exit 1 if something of ours is wrong
    Audit(audit::Audit),
    /// Shows how each key stands; exit 1 if one is failing or overdue
    Status(status::Status),
    /// Lists past rotations, newest first
    History(history::History),
    /// Shows the next times at which each key rotates, in UTC and in its zone
    Schedule(schedule::Schedule),
    /// Serves a local Admin API that behaves like the real one, to rehearse against
    Sandbox(sandbox::SandboxCommand),
    /// Shows everything at work: a sandbox, a receiver and the real daemon
    Demo(demo::Demo),
    /// Prints the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or that of a command
    Man {
        /// The command
        #[arg(value_name = "SUBCOMMAND")]
        command: Option<String>,
    },
}

/// Why a command failed, with what the exit code depends on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The configuration has problems; they are printed.
    #[error("{0}")]
    Configuration(String),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A loop could not go on.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
    /// Something was found wrong and is already told.
    #[error("")]
    Told,
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.to_string())
    }
}

/// The exit codes of the contract.
mod code {
    pub(super) const FAILED: u8 = 1;
    pub(super) const TRY_AGAIN: u8 = 75;
    pub(super) const CONFIGURATION: u8 = 78;
}

impl Failure {
    /// Of a configuration with problems: only what nothing but an edit can
    /// repair counts as one of the configuration.
    fn of(problems: &[Problem]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let text = lines.join("\n");
        if problems.iter().any(|one| one.kind == Kind::Configuration) {
            Self::Configuration(text)
        } else {
            Self::Other(text)
        }
    }

    fn code(&self) -> u8 {
        match self {
            Self::Configuration(_) => code::CONFIGURATION,
            Self::Ledger(error) | Self::Service(ServiceError::Ledger(error)) => ledger_code(error),
            Self::Service(
                ServiceError::Scheduler(_)
                | ServiceError::Signals(_)
                | ServiceError::Metrics(_)
                | ServiceError::AnothersLedger(_),
            )
            | Self::Other(_)
            | Self::Told => code::FAILED,
        }
    }
}

fn ledger_code(error: &LedgerError) -> u8 {
    match error {
        LedgerError::Held { .. } => code::TRY_AGAIN,
        LedgerError::Foreign { .. } | LedgerError::OtherMachine { .. } => code::CONFIGURATION,
        LedgerError::Lock { .. }
        | LedgerError::Newer { .. }
        | LedgerError::NotADatabase { .. }
        | LedgerError::Missing { .. }
        | LedgerError::Open { .. }
        | LedgerError::Corrupt(_)
        | LedgerError::Illegal(_)
        | LedgerError::Sqlite(_)
        | LedgerError::BatchLost(_)
        | LedgerError::Stopped => code::FAILED,
    }
}

/// The program: reads the command line and does what it says.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    if let Err(error) = process::shut_in() {
        output::complain(&format!("cannot turn core dumps off: {error}"));
        return ExitCode::from(code::FAILED);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            // The reader of a closed pipe does not want the message.
            let _ = error.print();
            return if wrong {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match cli.go() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                output::complain(&text);
            }
            ExitCode::from(failure.code())
        }
    }
}

impl Cli {
    fn go(&self) -> Result<(), Failure> {
        match &self.command {
            Command::Run(command) => self.logged(command.go(self)),
            Command::Once(command) => self.logged(command.go(self)),
            Command::Check(command) => block_on(command.go(self)),
            Command::Rotate(command) => self.logged(command.go(self)),
            Command::Revoke(command) => self.logged(command.go(self)),
            Command::Hold(command) => self.logged(command.go(self)),
            Command::Release(command) => self.logged(command.go(self)),
            Command::Adopt(command) => self.logged(command.go(self)),
            Command::Reload(command) => self.logged(command.go(self)),
            Command::Pause(command) => self.logged(command.go(self)),
            Command::Resume(command) => self.logged(command.go(self)),
            Command::Schedule(command) => command.go(self),
            Command::Audit(command) => self.logged(command.go(self)),
            Command::Status(command) => command.go(self),
            Command::History(command) => command.go(self),
            Command::Sandbox(command) => self.logged(command.go()),
            Command::Demo(command) => command.go(),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Self::command(), "rekeyd", &mut script);
                output::print(&script)
            }
            Command::Man { command } => man(command.as_deref()),
        }
    }

    /// Runs a command that logs.
    fn logged(&self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        log::start(self.log_level, self.log_format);
        block_on(work)
    }

    /// The configuration, or every problem with it.
    fn settings(&self) -> Result<Arc<Settings>, Failure> {
        load(&self.config, &environment())
    }

    /// As [`Cli::settings`] for who is to write the ledger: where there are many
    /// keys, it is read while the configuration still is.
    fn settings_and_ledger(&self) -> Result<(Arc<Settings>, Option<Ahead>), Failure> {
        let mut ahead = None;
        let loaded = config::load_expecting(&self.config, &environment(), |ledger, keys| {
            if keys >= MANY {
                ahead = Ahead::begin(ledger);
            }
        });
        Ok((accepted(loaded)?, ahead))
    }

    /// Where the admin credential may come from.
    fn sources(settings: &Settings) -> Sources {
        Sources {
            file: settings.provider.credential_file.clone(),
            directory: environment().credentials_directory,
            variable: std::env::var("OPENAI_ADMIN_KEY")
                .ok()
                .filter(|value| !value.is_empty())
                .map(Secret::new),
        }
    }
}

/// Prints the manual page of the program, or of one of its commands.
fn man(command: Option<&str>) -> Result<(), Failure> {
    let mut program = Cli::command();
    program.build();
    let described = match command {
        None => program,
        Some(name) => {
            let unknown = format!("there is no command {name:?}");
            match program.find_subcommand(name).cloned() {
                Some(found) => found,
                None => program.error(ErrorKind::InvalidValue, unknown).exit(),
            }
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(described).render(&mut page)?;
    output::print(&page)
}

/// The configuration in `file`, or every problem with it.
fn load(file: &Path, environment: &Environment) -> Result<Arc<Settings>, Failure> {
    accepted(config::load(file, environment))
}

fn accepted(loaded: Result<Settings, Vec<Problem>>) -> Result<Arc<Settings>, Failure> {
    let accepted = loaded.map(Arc::new);
    accepted.map_err(|problems| Failure::of(&problems))
}

/// The key with this name.
fn named<'s>(settings: &'s Settings, name: &str) -> Result<&'s KeySettings, Failure> {
    let mut keys = settings.keys.iter();
    keys.find(|key| key.name.as_str() == name).ok_or_else(|| {
        let names: Vec<_> = settings.keys.iter().map(|key| key.name.as_str()).collect();
        Failure::Other(format!(
            "no key {name:?} is configured; there are: {}",
            names.join(", ")
        ))
    })
}

/// What a configuration depends on besides its file, as this process has it.
fn environment() -> Environment {
    Environment::read(HostClock.now(), |name| std::env::var_os(name))
}

/// One thread is enough: file work and the ledger have threads of their own.
fn block_on(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(work);
    // Nothing that still runs is worth waiting for: what matters is on disk.
    runtime.shutdown_background();
    done
}
