//! `rekeyd sandbox`: the local Admin API.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::{Failure, output};
use crate::core::duration;
use crate::daemon::signals;
use crate::host::secret_file::{self, Checks};
use crate::sandbox::{DEFAULT_ADMIN_KEY, Fault, Options, Sandbox};

#[derive(Debug, clap::Args)]
pub(crate) struct SandboxCommand {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// The admin key that is accepted from the beginning; a well-known one if none is given
    #[arg(long, value_name = "SECRET", conflicts_with = "admin_key_file")]
    admin_key: Option<String>,
    /// A file with that admin key
    #[arg(long, value_name = "FILE")]
    admin_key_file: Option<PathBuf>,
    /// Keeps its keys in this file over a restart, with their secrets
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// OPERATION:KIND:PROBABILITY, such as create:drop-after:0.5; may be repeated
    #[arg(long = "fault", value_name = "OP:KIND:PROBABILITY")]
    faults: Vec<Fault>,
    /// How long until a new key works and a deleted one does not
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    propagation: Duration,
}

impl SandboxCommand {
    pub(crate) async fn go(&self) -> Result<(), Failure> {
        let admin_key = match (&self.admin_key, &self.admin_key_file) {
            (Some(secret), _) => secret.clone(),
            (None, Some(path)) => secret_file::read(path, Checks::Full)
                .map_err(Failure::Other)?
                .expose()
                .to_owned(),
            (None, None) => DEFAULT_ADMIN_KEY.to_owned(),
        };
        let well_known = admin_key == DEFAULT_ADMIN_KEY;
        let sandbox = Sandbox::start(Options {
            listen: self.listen,
            admin_key,
            state: self.state.clone(),
            faults: self.faults.clone(),
            propagation: self.propagation,
        })
        .await
        .map_err(Failure::Other)?;
        let mut text = format!("base-url = \"{}\"\n", sandbox.base_url());
        if well_known {
            text.push_str(&format!(
                "its admin key, which opens nothing else: {DEFAULT_ADMIN_KEY}\n"
            ));
        }
        output::print(text.as_bytes())?;
        signals::listen()?.recv().await;
        Ok(())
    }
}
