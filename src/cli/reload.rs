//! `rekeyd reload`: a reload as by SIGHUP, with a response.
//!
//! A daemon without a control socket cannot respond. If the service manager
//! names its process (`ExecReload=`), that process gets the signal after the
//! file was found valid.

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::config_effects::config_effects;
use crate::cli::context::{GlobalOptions, read_environment};
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{LoadedSettings, find_daemon_to_reload, loaded_settings, open_ledger};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config;
use crate::config::settings::Settings;
use crate::core::os_error;
use crate::daemon::config_changes::{ending_changes, unknown_to_ledger};
use crate::daemon::control::protocol::{CONFIGURATION, ControlRequest};
use crate::ledger::WriterLock;

#[derive(Debug, clap::Args)]
pub(crate) struct ReloadCommand {
    /// Change nothing, and show what the file would create, drop, retarget or leave unmanaged
    #[arg(long)]
    dry_run: bool,
}

impl ReloadCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = match options.load_settings() {
            Ok(settings) => settings,
            Err(failure) if self.dry_run => return Err(failure),
            Err(failure) => {
                // This command reports every problem with the file. The daemon reads it as
                // well, so that its log and status also report them.
                request_reload_of_invalid_config(options).await;
                return Err(failure);
            }
        };
        if self.dry_run {
            return show_effects(&settings).await;
        }
        let Some(daemon) = find_daemon_to_reload(&settings).await? else {
            return send_sighup(&settings);
        };
        let response = daemon.send(&ControlRequest::Reload).await?;
        for outcome in response.outcomes {
            if !outcome.done {
                return Err(if outcome.about == CONFIGURATION {
                    Failure::Configuration(outcome.message)
                } else {
                    Failure::Other(outcome.message)
                });
            }
            output::print_message(&outcome.message)?;
        }
        Ok(())
    }
}

/// Shows what the file would change: by the ledger, and by the configuration of the running
/// daemon, which may have keys that never had a credential.
async fn show_effects(settings: &Settings) -> Result<(), Failure> {
    let daemon_options = DaemonOptions::default();
    let ledger = open_ledger(&daemon_options, settings).await?;
    let loaded = loaded_settings(&daemon_options, settings).await?;
    let running = loaded.as_ref().map(|loaded| match loaded {
        LoadedSettings::AsInFile => settings,
        LoadedSettings::Other(other) => other,
    });
    let mut effects = config_effects(settings, ledger.as_ref(), running)?;
    let ending = running.map(|running| ending_changes(running, settings));
    let ending = ending.unwrap_or_default();
    let unknown: Vec<_> = unknown_to_ledger(&ending, &effects).cloned().collect();
    effects.extend(unknown);
    effects.sort_by(|one, other| one.key.cmp(&other.key));
    let file = settings.file.display();
    let mut text = if effects.is_empty() {
        format!("{file}: no key or sink is created, dropped, retargeted or left unmanaged\n")
    } else {
        String::new()
    };
    for effect in effects {
        text.push_str(&format!("{effect}\n"));
    }
    output::print(text.as_bytes())
}

async fn request_reload_of_invalid_config(options: &GlobalOptions) {
    let Some(settings) = config::load_lenient(&options.config, &read_environment()) else {
        return;
    };
    if let Ok(Some(daemon)) = find_daemon_to_reload(&settings).await {
        // Its response can only repeat the problems reported here.
        let _ = daemon.send(&ControlRequest::Reload).await;
    }
}

/// Sends the signal. There is no response; the daemon logs the outcome.
fn send_sighup(settings: &Settings) -> Result<(), Failure> {
    let process = std::env::var("MAINPID").ok();
    let process = process.and_then(|process| parse_process(&process));
    let Some(process) = process else {
        let ledger = settings.ledger.display();
        return Err(Failure::Other(match WriterLock::holder(&settings.ledger) {
            None => format!(
                "no rekeyd is running with the ledger {ledger}, so there is nothing to reload; the \
                 next `rekeyd run` or `rekeyd once` reads the configuration"
            ),
            Some(_) => "no rekeyd answers at the control socket of this configuration; hint: run \
                        `systemctl reload rekeyd` or send SIGHUP to rekeyd"
                .to_owned(),
        }));
    };
    kill_process(process, Signal::HUP).map_err(|error| {
        let process = process.as_raw_nonzero();
        let reason = os_error::describe(&error.into());
        Failure::Other(format!("cannot send SIGHUP to process {process}: {reason}"))
    })?;
    let message = "sent SIGHUP; without a control socket, only the log shows the result\n";
    output::print(message.as_bytes())
}

/// Parses the number of a process. A negative one would be a group of processes, or all
/// of them.
fn parse_process(text: &str) -> Option<Pid> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<i32>().ok().filter(|_| is_number)?;
    Pid::from_raw(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_of_one_process_is_taken() {
        for (text, expected) in [
            ("1", Some(1)),
            ("4711", Some(4711)),
            ("2147483647", Some(i32::MAX)),
            ("0", None),
            ("-1", None),
            ("-4711", None),
            ("+4711", None),
            ("2147483648", None),
            ("4294967295", None),
            ("", None),
            (" 4711", None),
            ("4711\n", None),
            ("4711 4712", None),
            ("0x10", None),
            ("\u{664}\u{667}", None),
        ] {
            let process = parse_process(text).map(|process| process.as_raw_nonzero().get());
            assert_eq!(process, expected, "{text:?}");
        }
    }
}
