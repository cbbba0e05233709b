//! The command line, with one file for each command.

mod audit;
mod backup;
mod check;
mod context;
mod credential_commands;
mod daemon_client;
mod daemon_options;
#[cfg(feature = "demo")]
mod demo;
mod dispatch;
mod failure;
mod history;
pub mod logging;
mod notes;
mod once;
mod output;
mod passed_key;
mod pause;
mod preflight;
mod reload;
mod restore;
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
mod time_argument;
mod wait_notes;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::cli::context::{GlobalOptions, block_on};
use crate::cli::failure::{Failure, exit_code};
use crate::cli::logging::LogWriting;
use crate::daemon::hardening;
use crate::platform::log_queue;
use crate::platform::process::kill_running_groups;
use crate::platform::signals::{early, init_process};

/// Rotates OpenAI organization admin keys on a schedule, and never loses one.
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
    /// Rotates by schedule until a signal asks for the end
    Run(run::RunCommand),
    /// Does what is due, and ends when nothing is due and nothing is open
    Once(once::OnceCommand),
    /// Reads the configuration as `run` would and prints every problem at once
    Check(check::CheckCommand),
    /// Rotates keys now and waits until they are delivered
    Rotate(rotate::RotateCommand),
    /// Revokes one credential of ours now
    Revoke(credential_commands::RevokeCommand),
    /// Keeps the schedule from revoking a credential
    Hold(credential_commands::HoldCommand),
    /// Lets the schedule revoke a held credential again
    Release(credential_commands::ReleaseCommand),
    /// Takes a credential made by hand into the ledger
    Adopt(credential_commands::AdoptCommand),
    /// Begins nothing by schedule for a key, until it is resumed
    Pause(pause::PauseCommand),
    /// Rotates a paused key by schedule again
    Resume(pause::ResumeCommand),
    /// Has the running daemon take the configuration anew, and prints what is wrong with it
    Reload(reload::ReloadCommand),
    /// Compares every row ever written with the provider; exit 1 if something of ours is wrong,
    /// or something without a row looks like ours
    Audit(audit::AuditCommand),
    /// Shows how each key stands; exit 1 if one is failing or overdue
    Status(status::StatusCommand),
    /// Shows all of one key: its schedule, its credentials, its sinks and its latest rotations
    Show(show::ShowCommand),
    /// Lists past rotations, newest first
    History(history::HistoryCommand),
    /// Shows the next times at which each key rotates, in UTC and in its zone
    Schedule(schedule::ScheduleCommand),
    /// Copies the ledger to a new file, also while rekeyd runs
    Backup(backup::BackupCommand),
    /// Puts a backup of the ledger back, and keeps the former ledger beside it
    Restore(restore::RestoreCommand),
    /// Serves a local Admin API that behaves like the real one, to rehearse against
    #[cfg(feature = "demo")]
    Sandbox(sandbox::SandboxCommand),
    /// Shows everything at work: a sandbox, a receiver and the real daemon
    #[cfg(feature = "demo")]
    Demo(demo::DemoCommand),
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

/// The program: parses the command line and runs the command.
#[must_use]
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match init_process::run_child_if_init(&arguments) {
        Ok(None) => {}
        Ok(Some(exit_code)) => return exit_code,
        Err(error) => {
            output::report_error(&format!("process 1 cannot start its child: {error}"));
            return ExitCode::from(exit_code::FAILED);
        }
    }
    if let Err(error) = hardening::harden() {
        output::report_error(&format!("cannot turn core dumps off: {error}"));
        return ExitCode::from(exit_code::FAILED);
    }
    end_programs_on_panic();
    if let Some(problem) = secret_argument::find_problem(&arguments) {
        output::report_error(&problem);
        return ExitCode::from(2);
    }
    let parsed = program()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
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
    log_queue::flush();
    exit_code
}

/// The command line, without colours if the user or the terminal has none: left to itself,
/// clap also looks at other variables, such as `CI`, and colours a dumb terminal.
fn program() -> clap::Command {
    let color = if logging::may_color() {
        ColorChoice::Auto
    } else {
        ColorChoice::Never
    };
    Cli::command().color(color)
}

/// Ends the programs that run before a panic ends the process, where it does.
fn end_programs_on_panic() {
    if cfg!(panic = "abort") {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            kill_running_groups();
            log_queue::flush();
            report(panic);
        }));
    }
}

impl Cli {
    fn run(&self) -> Result<(), Failure> {
        match &self.command {
            CliCommand::Run(command) => self.run_queued(command.run(&self.options)),
            CliCommand::Once(command) => self.run_queued(command.run(&self.options)),
            CliCommand::Check(command) => block_on(command.run(&self.options)),
            CliCommand::Rotate(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Revoke(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Hold(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Release(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Adopt(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Reload(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Pause(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Resume(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Schedule(command) => block_on(command.run(&self.options)),
            CliCommand::Audit(command) => self.run_with_logging(command.run(&self.options)),
            CliCommand::Status(command) => block_on(command.run(&self.options)),
            CliCommand::Show(command) => block_on(command.run(&self.options)),
            CliCommand::History(command) => block_on(command.run(&self.options)),
            CliCommand::Backup(command) => block_on(command.run(&self.options)),
            CliCommand::Restore(command) => command.run(&self.options),
            #[cfg(feature = "demo")]
            CliCommand::Sandbox(command) => self.run_with_logging(command.run()),
            #[cfg(feature = "demo")]
            CliCommand::Demo(command) => command.run(),
            CliCommand::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(*shell, &mut Self::command(), "rekeyd", &mut script);
                output::print(&script)
            }
            CliCommand::Man { command } => print_man_page(command.as_deref()),
        }
    }

    /// Runs a command that logs.
    fn run_with_logging(
        &self,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        self.run_and_log(LogWriting::Direct, work)
    }

    /// Runs a command that logs, and that must not wait for the reader of its log.
    fn run_queued(&self, work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        self.run_and_log(LogWriting::Queued, work)
    }

    fn run_and_log(
        &self,
        writing: LogWriting,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        logging::init(self.options.log_level, self.options.log_format, writing);
        block_on(work)
    }
}

/// Prints the manual page of the program, or of one of its commands.
fn print_man_page(command: Option<&str>) -> Result<(), Failure> {
    let mut program = program();
    program.build();
    let target = match command {
        None => program,
        Some(name) => {
            let message = format!("there is no command {name:?}");
            match program.find_subcommand(name).cloned() {
                Some(subcommand) => subcommand,
                None => program.error(ErrorKind::InvalidValue, message).exit(),
            }
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(target).render(&mut page)?;
    output::print(&page)
}
