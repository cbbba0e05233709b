//! `rekeyd sandbox`: the local Admin API.
use crate::cli::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct SandboxCommand {}

impl SandboxCommand {
    pub(crate) async fn go(&self) -> Result<(), Failure> {
        Ok(())
    }
}
