//! The commands that change something: by the control socket of a running
//! daemon, and without one by their own work under the ledger's lock.

use std::path::Path;

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::settings::Settings;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, DaemonInfo, ErrorBody};
use crate::daemon::{event_loop, runtime};
use crate::engine::RunMode;
use crate::net::client::build_unix_client;

/// Has `request` done, and prints what became of it.
pub(crate) async fn execute(
    options: &GlobalOptions,
    request: ControlRequest,
) -> Result<(), Failure> {
    let settings = options.load_settings()?;
    match find_daemon(&settings).await? {
        Some(daemon) => {
            daemon.warn_if_config_is_stale(&settings);
            report_results(&daemon.send(&request).await?)
        }
        None => {
            let command = format!("rekeyd {}", request.verb());
            let sources = credential_sources(&settings);
            let started = runtime::start(&settings, sources, &command, RunMode::Command).await?;
            report_results(
                &event_loop::run_request(started, without_no_wait(request), current_operator())
                    .await?,
            )
        }
    }
}

/// Without a daemon there is nobody who would go on.
fn without_no_wait(request: ControlRequest) -> ControlRequest {
    match request {
        ControlRequest::Rotate {
            keys,
            all,
            revoke_previous_now,
            reason,
            no_wait: _,
        } => ControlRequest::Rotate {
            keys,
            all,
            revoke_previous_now,
            reason,
            no_wait: false,
        },
        other @ (ControlRequest::Revoke { .. }
        | ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::Adopt { .. }
        | ControlRequest::Pause { .. }
        | ControlRequest::Resume { .. }
        | ControlRequest::Reload) => other,
    }
}

/// Who asks, as the event log keeps it.
fn current_operator() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

fn report_results(answer: &ControlResponse) -> Result<(), Failure> {
    let mut failed = false;
    for outcome in &answer.outcomes {
        if outcome.done {
            output::print(format!("{}\n", outcome.message).as_bytes())?;
        } else {
            failed = true;
            output::report_error(&outcome.message);
        }
    }
    if failed {
        Err(Failure::Reported)
    } else {
        Ok(())
    }
}

/// A running daemon that writes the ledger of a configuration.
pub(crate) struct DaemonClient {
    client: reqwest::Client,
    info: DaemonInfo,
}

/// The daemon that writes the ledger of `settings`, if one is there to be
/// asked.
pub(crate) async fn find_daemon(settings: &Settings) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect(settings).await?;
    // Else it is the socket of another organization's daemon.
    Ok(daemon.filter(|daemon| daemon.writes_ledger(&settings.ledger)))
}

/// The daemon that writes the ledger of `settings`, or has taken that file when
/// it named another: which it then refuses to change.
pub(crate) async fn find_daemon_to_reload(
    settings: &Settings,
) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect(settings).await?;
    let is_meant = |daemon: &DaemonClient| {
        let file = &daemon.info.configuration.file;
        daemon.writes_ledger(&settings.ledger) || Path::new(file) == settings.file
    };
    Ok(daemon.filter(is_meant))
}

/// The daemon at the control socket of `settings`, whoever's it is.
async fn connect(settings: &Settings) -> Result<Option<DaemonClient>, Failure> {
    let Some(socket) = &settings.control.socket else {
        return Ok(None);
    };
    if let Err(error) = std::os::unix::net::UnixStream::connect(socket) {
        use std::io::ErrorKind as E;
        let kind = error.kind();
        return if matches!(kind, E::NotFound | E::ConnectionRefused) {
            // Nobody, or somebody who is gone.
            Ok(None)
        } else if kind == E::PermissionDenied {
            Err(Failure::Other(format!(
                "cannot ask the rekeyd that listens at {}: {error}; ask as root, as its user, or \
                 as a member of the socket's group",
                socket.display()
            )))
        } else {
            Err(connect_error(socket, &error))
        };
    }
    let client = build_unix_client(socket).map_err(Failure::Other)?;
    let about = async {
        let answer = client.get("http://rekeyd/daemon").send().await?;
        answer.bytes().await
    };
    let about = about.await.map_err(|error| connect_error(socket, &error))?;
    let about: DaemonInfo =
        serde_json::from_slice(&about).map_err(|error| connect_error(socket, &error))?;
    Ok(Some(DaemonClient {
        client,
        info: about,
    }))
}

fn connect_error(socket: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "cannot ask the rekeyd that listens at {}: {error}",
        socket.display()
    ))
}

impl DaemonClient {
    fn writes_ledger(&self, ledger: &Path) -> bool {
        Path::new(&self.info.ledger) == ledger
    }

    /// A person who has edited the file may think that it counts already.
    fn warn_if_config_is_stale(&self, settings: &Settings) {
        let theirs = &self.info.configuration;
        if theirs.sha256 != settings.digest {
            output::report_warning(&format!(
                "the running rekeyd took {} before it was what it is now; `rekeyd reload` has it \
                 take {}",
                theirs.file,
                settings.file.display()
            ));
        }
    }

    /// Asks for something, and waits until it is answered.
    pub(crate) async fn send(&self, request: &ControlRequest) -> Result<ControlResponse, Failure> {
        let lost = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "the running rekeyd did not answer ({error}); `rekeyd status` shows what became \
                 of it"
            ))
        };
        let url = format!("http://rekeyd/{}", request.verb());
        let sent = self.client.post(url).body(request.body()).send().await;
        let reply = sent.map_err(|error| lost(&error.without_url()))?;
        let status = reply.status();
        let body = reply
            .bytes()
            .await
            .map_err(|error| lost(&error.without_url()))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| lost(&error));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(refusal) => Err(Failure::Other(refusal.error)),
            Err(_) => Err(lost(&format!("HTTP status {status}"))),
        }
    }
}
