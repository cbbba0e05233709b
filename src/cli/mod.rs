//! The command line, with one file for each command.

mod audit;
mod backup;
mod channel_status;
mod check;
mod clean_fields;
mod config_effects;
mod context;
mod credential_commands;
mod daemon_channel;
mod daemon_client;
mod daemon_options;
#[cfg(feature = "demo")]
mod demo;
mod dispatch;
mod failure;
#[cfg(test)]
mod golden;
mod history;
mod json_output;
mod ledger_locks;
mod ledger_prune;
mod listener_check;
mod log_level;
pub mod logging;
pub mod manual;
mod notes;
mod notify;
mod once;
mod output;
mod passed_file;
mod passed_key;
mod pause;
mod preflight;
mod program_check;
mod question;
mod reload;
mod renamed_keys;
mod restore;
mod retire;
mod rotate;
mod run;
#[cfg(feature = "demo")]
mod sandbox;
mod schedule;
mod screen;
mod secret_argument;
mod service_view;
mod show;
mod status;
mod table;
mod terminal_text;
mod time_argument;
mod unproven_daemon;
mod use_credential;
mod wait_notes;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::{ContextKind, ContextValue};
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use crate::cli::context::{GlobalOptions, block_on};
use crate::cli::failure::{Failure, exit_code};
use crate::cli::logging::{LogOptions, LogWriting};
use crate::config::closest_match;
use crate::config::settings::Settings;
use crate::daemon::hardening;
use crate::platform::log::filter::LogFilter;
use crate::platform::log::queue;
use crate::platform::signals::{early, init_process};
use crate::platform::{crash, passed_sockets};

/// Rotate OpenAI organization admin keys on a schedule, without losing one.
#[derive(Debug, Parser)]
#[command(
    name = "rekeyd",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    options: GlobalOptions,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the daemon: rotate keys on schedule until SIGTERM or SIGINT
    Run(run::RunCommand),
    /// Run everything that is due, then exit
    Once(once::OnceCommand),
    /// Check the configuration and this host, and print every problem at once
    Check(check::CheckCommand),
    /// Rotate keys now, and wait until they are delivered
    Rotate(rotate::RotateCommand),
    /// Revoke a credential now
    Revoke(credential_commands::RevokeCommand),
    /// Keep a credential from being revoked on schedule
    Hold(credential_commands::HoldCommand),
    /// End the hold of a credential
    Release(credential_commands::ReleaseCommand),
    /// Take over a credential that was created outside of rekeyd
    Adopt(credential_commands::AdoptCommand),
    /// Suspend scheduled rotations of a key
    Pause(pause::PauseCommand),
    /// Resume scheduled rotations of a key
    Resume(pause::ResumeCommand),
    /// Retire a key: never rotate it again, and revoke its credentials one overlap later
    Retire(retire::RetireCommand),
    /// Make the running daemon reload its configuration, and print any problems with it
    Reload(reload::ReloadCommand),
    /// Change what the running daemon logs, also for a while
    LogLevel(log_level::LogLevelCommand),
    /// Give the running daemon another admin key, which its next start must find by itself
    UseCredential(use_credential::UseCredentialCommand),
    /// Compare the ledger with the provider's list of credentials
    ///
    /// The exit code is 1 if they disagree, if credentials that are not in the ledger look like
    /// rekeyd's, or if a key that is neither configured nor retired has a live credential.
    Audit(audit::AuditCommand),
    /// Show the state of each key
    ///
    /// The exit code is 1 if a key is failing or overdue, if there is a problem that concerns all
    /// keys, if a notification channel fails, if credentials that are not in the ledger look like
    /// rekeyd's, or if the daemon is not running and `rekeyd once` did not run last.
    Status(status::StatusCommand),
    /// Show everything about one key: schedule, credentials, sinks and latest rotations
    Show(show::ShowCommand),
    /// Send a test to the notification channels
    ///
    /// The exit code is 1 if a channel does not accept it.
    Notify(notify::NotifyCommand),
    /// List past rotations, newest first
    History(history::HistoryCommand),
    /// List the next scheduled rotations, in UTC and in the time zone of each key
    Schedule(schedule::ScheduleCommand),
    /// Back up the ledger to a new file, even while rekeyd is running
    Backup(backup::BackupCommand),
    /// Restore the ledger from a backup, and keep the previous one beside it
    Restore(restore::RestoreCommand),
    /// Look into the files of the ledger
    Ledger(ledger_locks::LedgerCommand),
    /// Serve a local Admin API that behaves like the real one, for rehearsals
    #[cfg(feature = "demo")]
    Sandbox(sandbox::SandboxCommand),
    /// Try rekeyd without an account: a sandbox, a webhook receiver and the real daemon
    #[cfg(feature = "demo")]
    Demo(demo::DemoCommand),
    /// Print shell completions
    Completions {
        /// Shell that completes commands
        shell: clap_complete::Shell,
    },
    /// Print the manual page of rekeyd or of a command
    Man {
        /// Command whose page is printed, instead of that of rekeyd
        #[arg(value_name = "COMMAND")]
        command: Option<String>,
    },
}

/// The program: parses the command line and runs the command.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match init_process::run_child_if_init(&arguments) {
        Ok(None) => {}
        Ok(Some(exit_code)) => return exit_code,
        Err(error) => {
            output::report_error(&format!(
                "cannot start rekeyd as a child of process 1: {error}"
            ));
            return ExitCode::from(exit_code::FAILED);
        }
    }
    if let Err(error) = hardening::harden() {
        output::report_error(&format!("cannot disable core dumps: {error}"));
        return ExitCode::from(exit_code::FAILED);
    }
    passed_sockets::take();
    crash::end_on_panic();
    if let Some(problem) = secret_argument::find_problem(&arguments) {
        output::report_error(&problem);
        return ExitCode::from(2);
    }
    let parsed = program()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(mut error) => {
            remove_far_suggestions(&mut error);
            let is_error = error.use_stderr();
            // An error means that the reader has closed the pipe.
            let _ = error.print();
            return if is_error {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    if !matches!(cli.command, CliCommand::Run(_)) {
        early::end_on_hangup();
    }
    let exit_code = match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::report_failure(&failure);
            ExitCode::from(failure.exit_code())
        }
    };
    queue::flush();
    exit_code
}

/// Removes the suggestions of clap that are no likely misspellings: it also suggests names that
/// share a few letters, such as `rotate`, which nobody should run by mistake.
fn remove_far_suggestions(error: &mut clap::Error) {
    for (given, suggested) in [
        (
            ContextKind::InvalidSubcommand,
            ContextKind::SuggestedSubcommand,
        ),
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let given = error.get(given).map(ToString::to_string);
        let is_close = match (given, error.get(suggested)) {
            (Some(given), Some(ContextValue::String(name))) => {
                closest_match(&given, &[name.as_str()]).is_some()
            }
            (Some(given), Some(ContextValue::Strings(names))) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                closest_match(&given, &names).is_some()
            }
            (_, _) => continue,
        };
        if !is_close {
            error.remove(suggested);
        }
    }
}

/// The command line, without colours if the user or the terminal has none: by itself, clap
/// also reads other variables, such as `CI`, and colours a dumb terminal.
fn program() -> clap::Command {
    let color = if logging::may_color() {
        ColorChoice::Auto
    } else {
        ColorChoice::Never
    };
    ignore_empty_variables(Cli::command()).color(color)
}

/// Has each option ignore its variable where that is empty, as a shell script or a unit sets a
/// variable to nothing.
fn ignore_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_args(|option| {
        let value = option.get_env().and_then(std::env::var_os);
        match value.is_some_and(|value| value.is_empty()) {
            true => option.env(None::<&'static str>),
            false => option,
        }
    })
}

impl Cli {
    fn run(&self) -> Result<(), Failure> {
        match &self.command {
            CliCommand::Run(command) => {
                self.run_service(|settings| command.run(&self.options, settings))
            }
            CliCommand::Once(command) => self.run_service(|settings| command.run(settings)),
            CliCommand::Check(command) => block_on(command.run(&self.options)),
            CliCommand::Rotate(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Revoke(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Hold(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Release(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Adopt(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Reload(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::LogLevel(command) => block_on(command.run(&self.options)),
            CliCommand::UseCredential(command) => block_on(command.run(&self.options)),
            CliCommand::Pause(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Resume(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Retire(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Schedule(command) => block_on(command.run(&self.options)),
            CliCommand::Audit(command) => self.run_report(command.run(&self.options)),
            CliCommand::Status(command) => block_on(command.run(&self.options)),
            CliCommand::Show(command) => block_on(command.run(&self.options)),
            CliCommand::History(command) => block_on(command.run(&self.options)),
            CliCommand::Notify(command) => block_on(command.run(&self.options)),
            CliCommand::Backup(command) => block_on(command.run(&self.options)),
            CliCommand::Restore(command) => command.run(&self.options),
            CliCommand::Ledger(command) => block_on(command.run(&self.options)),
            #[cfg(feature = "demo")]
            CliCommand::Sandbox(command) => self.run_with_logging(command.run()),
            #[cfg(feature = "demo")]
            CliCommand::Demo(command) => command.run(),
            CliCommand::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Self::command(), "rekeyd", &mut script);
                output::print(&script)
            }
            CliCommand::Man { command } => manual::print(program(), command.as_deref()),
        }
    }

    /// Runs a command that logs.
    fn run_with_logging(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        logging::init(self.direct_log(self.options.log_level.clone()));
        block_on(work)
    }

    /// Runs a command that rotates by schedule, and that must not wait for the reader of its
    /// log.
    fn run_service<W: Future<Output = Result<(), Failure>>>(
        &self,
        work: impl FnOnce(Arc<Settings>) -> W,
    ) -> Result<(), Failure> {
        let settings = self.options.load_settings();
        // Without a configuration too: the report of its problems must not wait either.
        let log = settings.as_ref().map(|settings| settings.log.clone());
        let log = log.unwrap_or_default();
        logging::init(LogOptions {
            configured: log.level,
            format: self.options.log_format.unwrap_or(log.format),
            writing: LogWriting::Queued,
            ..self.direct_log(self.options.log_level.clone())
        });
        block_on(work(settings?))
    }

    /// Runs a command that prints a report, and logs only what goes wrong: that it works with
    /// an admin key is no transition.
    fn run_report(&self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let given = self.options.log_level.clone();
        let filter = given.unwrap_or(LogFilter::of_level(LevelFilter::WARN));
        logging::init(self.direct_log(Some(filter)));
        block_on(work)
    }

    /// Returns how a command logs that may wait for the reader of its log.
    fn direct_log(&self, given: Option<LogFilter>) -> LogOptions {
        LogOptions {
            given,
            configured: None,
            format: self.options.log_format.unwrap_or_default(),
            writing: LogWriting::Direct,
        }
    }
}
