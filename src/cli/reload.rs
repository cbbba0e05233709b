//! `rekeyd reload`: the same as SIGHUP, with an answer.

use crate::cli::request::daemon_of;
use crate::cli::{Cli, Failure, output};
use crate::daemon::control::wire::Request;

#[derive(Debug, clap::Args)]
pub(crate) struct Reload {}

impl Reload {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        // Every problem with the file, before anybody is asked.
        let settings = cli.settings()?;
        let Some(daemon) = daemon_of(&settings).await? else {
            return Err(Failure::Other(
                "no running rekeyd can be asked on the control socket of this configuration"
                    .to_owned(),
            ));
        };
        let answer = daemon.ask(&Request::Reload).await?;
        for outcome in answer.outcomes {
            if !outcome.done {
                return Err(Failure::Configuration(outcome.message));
            }
            output::print(format!("{}\n", outcome.message).as_bytes())?;
        }
        Ok(())
    }
}
