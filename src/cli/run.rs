//! `rekeyd run`: the daemon.

use crate::cli::{Cli, Failure};
use crate::config;
use crate::core::time;
use crate::daemon::{service, start};
use crate::engine::Course;

pub(crate) async fn run(cli: &Cli) -> Result<(), Failure> {
    let settings = cli.settings()?;
    for problem in config::host_problems(&settings) {
        tracing::error!("{problem}");
    }
    let started = start::start(
        &settings,
        Cli::sources(&settings),
        "rekeyd run",
        Course::Daemon,
    )
    .await?;
    let keys = settings.keys.len();
    if keys == 0 {
        tracing::warn!(
            "no key is configured in {}: nothing will be rotated",
            cli.config.display()
        );
    }
    tracing::info!(
        keys,
        ledger = %settings.ledger.display(),
        provider = %settings.provider.base_url,
        "rekeyd {} started at {}",
        env!("CARGO_PKG_VERSION"),
        time::to_text(started.clock.now()),
    );
    Ok(service::run(started).await?)
}
