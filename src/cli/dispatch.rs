//! The dispatch of commands that change something: to a running daemon through
//! its control socket, or without one to this process, under the ledger's lock.

use std::path::Path;

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::daemon_options::{CommandTarget, DaemonOptions};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::service_view;
use crate::config::settings::Settings;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, DaemonInfo, ErrorBody};
use crate::daemon::{event_loop, runtime};
use crate::engine::RunMode;
use crate::net::client::build_unix_client;
use crate::platform::file_identity::is_same_file;

/// Executes `request`, and prints its outcomes.
pub(crate) async fn execute(
    options: &GlobalOptions,
    daemon_options: &DaemonOptions,
    request: ControlRequest,
) -> Result<(), Failure> {
    let settings = match daemon_options.target(options).await? {
        CommandTarget::File(settings) => settings,
        CommandTarget::Daemon(daemon) => return report_results(&daemon.send(&request).await?),
    };
    match find_daemon(daemon_options, &settings).await? {
        Some(daemon) => {
            daemon.warn_if_config_is_stale(&settings);
            report_results(&daemon.send(&request).await?)
        }
        None => {
            // Files of root's would lock the service out.
            service_view::enter(options, false)?;
            let command = format!("rekeyd {}", request.verb());
            let sources = credential_sources(&settings);
            let runtime = runtime::start(&settings, sources, &command, RunMode::Command).await?;
            report_results(
                &event_loop::run_request(runtime, without_no_wait(request), current_operator())
                    .await?,
            )
        }
    }
}

/// Returns the request without `no_wait`: without a daemon no process would
/// continue the rotation.
fn without_no_wait(request: ControlRequest) -> ControlRequest {
    match request {
        ControlRequest::Rotate {
            keys,
            all,
            revoke_previous_now,
            replace,
            reason,
            no_wait: _,
        } => ControlRequest::Rotate {
            keys,
            all,
            revoke_previous_now,
            replace,
            reason,
            no_wait: false,
        },
        other @ (ControlRequest::Revoke { .. }
        | ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::Adopt { .. }
        | ControlRequest::AdoptFromSinks { .. }
        | ControlRequest::Pause { .. }
        | ControlRequest::Resume { .. }
        | ControlRequest::Reload) => other,
    }
}

/// Returns the name of the user for the event log.
fn current_operator() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

fn report_results(response: &ControlResponse) -> Result<(), Failure> {
    let mut failed = false;
    for outcome in &response.outcomes {
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

/// Returns the daemon that writes the ledger of `settings`, if it is running.
/// One whose socket the command names counts whatever it writes.
async fn find_daemon(
    options: &DaemonOptions,
    settings: &Settings,
) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect_configured(settings).await?;
    if let Some(socket) = &options.socket {
        let none = || Failure::Other(format!("no rekeyd listens at {}", socket.display()));
        return daemon.ok_or_else(none).map(Some);
    }
    // Another ledger means that the socket is that of another daemon.
    Ok(daemon.filter(|daemon| daemon.writes_ledger(&settings.ledger)))
}

/// Returns the daemon that writes the ledger of `settings`, or that has loaded
/// this file while it named another ledger, a change that the daemon then
/// refuses.
pub(crate) async fn find_daemon_to_reload(
    settings: &Settings,
) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect_configured(settings).await?;
    let is_affected = |daemon: &DaemonClient| {
        let file = &daemon.info.configuration.file;
        daemon.writes_ledger(&settings.ledger) || is_same_file(Path::new(file), &settings.file)
    };
    Ok(daemon.filter(is_affected))
}

/// Connects to the daemon at the control socket of `settings`, whichever ledger
/// it writes.
async fn connect_configured(settings: &Settings) -> Result<Option<DaemonClient>, Failure> {
    match &settings.control.socket {
        Some(socket) => connect(socket).await,
        None => Ok(None),
    }
}

/// Connects to the daemon at a control socket, if one listens there.
pub(super) async fn connect(socket: &Path) -> Result<Option<DaemonClient>, Failure> {
    if let Err(error) = std::os::unix::net::UnixStream::connect(socket) {
        use std::io::ErrorKind as E;
        let kind = error.kind();
        return if matches!(kind, E::NotFound | E::ConnectionRefused) {
            // No daemon was started, or it has ended.
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
    let client = build_unix_client(socket).map_err(|error| Failure::Other(error.to_string()))?;
    let info = async {
        let response = client.get("http://rekeyd/daemon").send().await?;
        response.bytes().await
    };
    let info = info.await.map_err(|error| connect_error(socket, &error))?;
    let info: DaemonInfo =
        serde_json::from_slice(&info).map_err(|error| connect_error(socket, &error))?;
    Ok(Some(DaemonClient { client, info }))
}

fn connect_error(socket: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "cannot ask the rekeyd that listens at {}: {error}",
        socket.display()
    ))
}

impl DaemonClient {
    pub(super) fn writes_ledger(&self, ledger: &Path) -> bool {
        is_same_file(Path::new(&self.info.ledger), ledger)
    }

    /// Returns the ledger that it writes.
    pub(super) fn ledger(&self) -> &Path {
        Path::new(&self.info.ledger)
    }

    /// Returns the configuration file that it has loaded.
    pub(super) fn configuration_file(&self) -> &Path {
        Path::new(&self.info.configuration.file)
    }

    /// Returns the path and the text of the configuration that it has loaded.
    pub(super) async fn configuration(&self) -> Result<(String, String), Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "the running rekeyd does not show the configuration that it has loaded: {error}"
            ))
        };
        let request = self.client.get("http://rekeyd/configuration").send();
        let response = request
            .await
            .map_err(|error| failed(&error.without_url()))?;
        let status = response.status();
        let text = response.text().await;
        let text = text.map_err(|error| failed(&error.without_url()))?;
        if status.is_success() {
            return Ok((self.info.configuration.file.clone(), text));
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Err(failed(&body.error)),
            Err(_) => Err(failed(&format!("HTTP status {status}"))),
        }
    }

    /// Warns a person who has edited the file without a reload.
    fn warn_if_config_is_stale(&self, settings: &Settings) {
        let config = &self.info.configuration;
        if config.sha256 != settings.digest {
            output::report_warning(&format!(
                "the running rekeyd took {} before it was what it is now; `rekeyd reload` has it \
                 take {}",
                config.file,
                settings.file.display()
            ));
        }
    }

    /// Sends a request, and waits for its response.
    pub(crate) async fn send(&self, request: &ControlRequest) -> Result<ControlResponse, Failure> {
        let no_answer = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "the running rekeyd did not answer ({error}); `rekeyd status` shows what became \
                 of it"
            ))
        };
        let url = format!("http://rekeyd/{}", request.verb());
        let result = self.client.post(url).body(request.body()).send().await;
        let response = result.map_err(|error| no_answer(&error.without_url()))?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| no_answer(&error.without_url()))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| no_answer(&error));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(Failure::Other(body.error)),
            Err(_) => Err(no_answer(&format!("HTTP status {status}"))),
        }
    }
}
