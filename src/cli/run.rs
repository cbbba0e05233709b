//! `rekeyd run`: the daemon.

use std::sync::Arc;

use crate::cli::context::{GlobalOptions, credential_sources, read_environment};
use crate::cli::failure::Failure;
use crate::cli::preflight::{self, CheckLevel, DeliveryRecords};
use crate::config;
use crate::config::settings::Settings;
use crate::daemon::reload::ReloadError;
use crate::daemon::{event_loop, runtime};
use crate::engine::RunMode;
use crate::ledger::Ledger;

#[derive(Debug, clap::Args)]
pub(crate) struct RunCommand {
    /// Take over the ledger of another machine, on which rekeyd has stopped for good
    #[arg(long)]
    take_over: bool,
}

impl RunCommand {
    pub(crate) async fn run(
        &self,
        options: &GlobalOptions,
        settings: Arc<Settings>,
    ) -> Result<(), Failure> {
        if self.take_over {
            runtime::take_over(&settings, "rekeyd run")?;
        }
        run_daemon(options, settings).await
    }
}

async fn run_daemon(options: &GlobalOptions, settings: Arc<Settings>) -> Result<(), Failure> {
    log_host_problems(&settings);
    let runtime = runtime::start(
        &settings,
        credential_sources(&settings),
        "rekeyd run",
        RunMode::Daemon,
    )
    .await?;
    if settings.keys.is_empty() {
        tracing::warn!(
            "no keys are configured in {}; nothing will be rotated",
            options.config.display()
        );
    }
    // After the start, which many sinks would delay.
    let ledger = runtime.context.ledger();
    spawn_sink_checks(settings, ledger.clone());
    let file = options.config.clone();
    let read_config = move || {
        let settings = match config::load(&file, &read_environment()) {
            Ok(settings) => Arc::new(settings),
            Err(problems) => return Err(ReloadError::Invalid { problems }),
        };
        log_host_problems(&settings);
        spawn_sink_checks(Arc::clone(&settings), ledger.clone());
        let sources = credential_sources(&settings);
        Ok((settings, sources))
    };
    Ok(event_loop::run_daemon(runtime, Arc::new(read_config)).await?)
}

/// Logs the problems of this host except those of sinks.
fn log_host_problems(settings: &Settings) {
    for problem in config::host_problems(settings, &read_environment()) {
        tracing::error!("{problem}");
    }
}

/// Logs the problems of the sinks from a task of its own: a file system that
/// hangs must not delay the work.
fn spawn_sink_checks(settings: Arc<Settings>, ledger: Ledger) {
    drop(tokio::spawn(async move {
        let records = DeliveryRecords::Writer(ledger);
        let level = CheckLevel::Local;
        let mut problems = preflight::check_sinks(&settings, level, None, records).await;
        problems.extend(preflight::check_channels(&settings, CheckLevel::Local).await);
        for problem in problems {
            tracing::error!("{problem}");
        }
    }));
}
