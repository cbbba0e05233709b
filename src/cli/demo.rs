//! `rekeyd demo`.
use crate::cli::{Cli, Failure};

#[derive(Debug, clap::Args)]
pub(crate) struct Demo {}

impl Demo {
    pub(crate) fn go(&self, _: &Cli) -> Result<(), Failure> {
        Ok(())
    }
}
