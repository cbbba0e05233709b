//! `rekeyd status --live` and `--ready`: the questions of a container's probes, and of a
//! `HEALTHCHECK`.
//!
//! Both ask the running daemon alone. They open no ledger and judge no key: a receiver that
//! fails must not get the daemon restarted.

use std::time::Duration;

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::{CommandTarget, DaemonOptions};
use crate::cli::dispatch::find_daemon;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::core::duration;

/// The time limit of a probe, with the search for the daemon. Its answers do not wait for the
/// daemon's event loop.
const PROBE_TIMEOUT: Duration = Duration::from_secs(8);

/// What a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    /// Whether the daemon is alive.
    Live,
    /// Whether it rotates keys.
    Ready,
}

impl Probe {
    /// Returns the route that answers it.
    const fn path(self) -> &'static str {
        match self {
            Self::Live => "/live",
            Self::Ready => "/ready",
        }
    }

    /// Asks the running daemon, and prints `ok`.
    ///
    /// # Errors
    /// With the reason, if no daemon answers in time, or the answer is no.
    pub(super) async fn run(
        self,
        options: &GlobalOptions,
        daemon: &DaemonOptions,
    ) -> Result<(), Failure> {
        let asked = tokio::time::timeout(PROBE_TIMEOUT, self.ask(options, daemon)).await;
        asked.unwrap_or_else(|_| {
            let limit = duration::to_text(PROBE_TIMEOUT);
            Err(Failure::Other(format!(
                "rekeyd did not answer within {limit}"
            )))
        })?;
        output::print(b"ok\n")
    }

    async fn ask(self, options: &GlobalOptions, daemon: &DaemonOptions) -> Result<(), Failure> {
        let found = match daemon.target(options).await? {
            CommandTarget::Daemon(found) => *found,
            CommandTarget::File(settings) => match find_daemon(daemon, &settings).await? {
                Some(found) => found,
                None if settings.control.socket.is_none() => {
                    return Err(Failure::Other(
                        "rekeyd has no control socket that it could be asked at; hint: set \
                         [control] socket, or probe /healthz and /readyz of [metrics] listen"
                            .to_owned(),
                    ));
                }
                None => {
                    let ledger = settings.ledger.display();
                    return Err(Failure::Other(format!(
                        "no rekeyd is running with the ledger {ledger}"
                    )));
                }
            },
        };
        found.probe(self.path()).await
    }
}
