//! `rekeyd run`: the daemon.

use std::sync::Arc;

use crate::cli::host::{self, Look};
use crate::cli::{Cli, Failure, environment, load};
use crate::config;
use crate::core::settings::Settings;
use crate::daemon::{service, start};
use crate::engine::Course;

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Write a ledger that was last written on another machine, which has stopped for good
    #[arg(long)]
    take_over: bool,
}

impl Run {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        if self.take_over {
            let settings = cli.settings()?;
            start::take_over(&settings, "rekeyd run")?;
        }
        run(cli).await
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let (settings, ahead) = cli.settings_and_ledger()?;
    tell_what_the_host_may_repair(&settings);
    let started = start::start(
        &settings,
        Cli::sources(&settings),
        "rekeyd run",
        Course::Daemon,
        ahead,
    )
    .await?;
    if settings.keys.is_empty() {
        tracing::warn!(
            "no key is configured in {}: nothing will be rotated",
            cli.config.display()
        );
    }
    // Behind the start, which it would hold up where there are many sinks.
    look_at_sinks(settings);
    let file = cli.config.clone();
    let read = move || {
        let settings = load(&file, &environment()).map_err(|failure| failure.to_string())?;
        tell_what_the_host_may_repair(&settings);
        look_at_sinks(Arc::clone(&settings));
        let sources = Cli::sources(&settings);
        Ok((settings, sources))
    };
    Ok(service::run(started, Arc::new(read)).await?)
}

/// Shows what is wrong outside the configuration, but for its sinks.
fn tell_what_the_host_may_repair(settings: &Settings) {
    for problem in config::host_problems(settings, &environment()) {
        tracing::error!("{problem}");
    }
}

/// Shows what is wrong with the sinks, beside the work: one on a file system
/// that hangs must not hold it up.
fn look_at_sinks(settings: Arc<Settings>) {
    drop(tokio::spawn(async move {
        let mut problems = host::sinks(&settings, Look::Local).await;
        problems.extend(host::notifiers(&settings, Look::Local).await);
        for problem in problems {
            tracing::error!("{problem}");
        }
    }));
}
