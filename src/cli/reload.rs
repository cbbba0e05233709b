//! `rekeyd reload`: the same as SIGHUP, with an answer.
//!
//! A daemon without a control socket cannot answer. Where the service manager
//! says which process it is (`ExecReload=`), that one gets the signal, after
//! the file was found to be right.

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::context::{GlobalOptions, read_environment};
use crate::cli::dispatch::find_daemon_to_reload;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config;
use crate::daemon::control::protocol::ControlRequest;

#[derive(Debug, clap::Args)]
pub(crate) struct ReloadCommand {}

impl ReloadCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = match options.load_settings() {
            Ok(settings) => settings,
            Err(wrong) => {
                // Every problem with the file is told here. The daemon is asked
                // as well: its log and its status are to tell them, too.
                request_reload_of_invalid_config(options).await;
                return Err(wrong);
            }
        };
        let Some(daemon) = find_daemon_to_reload(&settings).await? else {
            return send_sighup();
        };
        let answer = daemon.send(&ControlRequest::Reload).await?;
        for outcome in answer.outcomes {
            if !outcome.done {
                return Err(Failure::Configuration(outcome.message));
            }
            output::print(format!("{}\n", outcome.message).as_bytes())?;
        }
        Ok(())
    }
}

async fn request_reload_of_invalid_config(options: &GlobalOptions) {
    let Some(settings) = config::load_lenient(&options.config, &read_environment()) else {
        return;
    };
    if let Ok(Some(daemon)) = find_daemon_to_reload(&settings).await {
        // It can only answer with what is told already.
        let _ = daemon.send(&ControlRequest::Reload).await;
    }
}

/// Without an answer: what becomes of it stands in the daemon's log.
fn send_sighup() -> Result<(), Failure> {
    let process = std::env::var("MAINPID").ok();
    let process = process.and_then(|process| Pid::from_raw(process.parse().ok()?));
    let Some(process) = process else {
        return Err(Failure::Other(
            "no running rekeyd can be asked on the control socket of this configuration; send it \
             SIGHUP, or use `systemctl reload`"
                .to_owned(),
        ));
    };
    kill_process(process, Signal::HUP).map_err(|error| {
        let process = process.as_raw_nonzero();
        Failure::Other(format!("cannot send SIGHUP to process {process}: {error}"))
    })?;
    let told = "sent SIGHUP: no control socket answers, so the log tells what becomes of it\n";
    output::print(told.as_bytes())
}
