//! The client of a running daemon: its control socket, as commands use it.

use std::path::Path;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::settings::Settings;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, DaemonInfo, ErrorBody};
use crate::net::client::build_unix_client;
use crate::platform::file_identity::is_same_file;

/// A running daemon that writes the ledger of a configuration.
pub(crate) struct DaemonClient {
    client: reqwest::Client,
    info: DaemonInfo,
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

    /// Returns what the daemon reports to be wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        self.info.problem.clone()
    }

    /// Returns its process id.
    pub(super) const fn process(&self) -> u32 {
        self.info.process
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
    pub(super) fn warn_if_config_is_stale(&self, settings: &Settings) {
        let config = &self.info.configuration;
        if config.sha256 == settings.digest {
            return;
        }
        let (loaded, named) = (Path::new(&config.file), &settings.file);
        if !is_same_file(loaded, named) && loaded != named {
            output::report_warning(&format!(
                "the running rekeyd works with {}, and not with {}",
                config.file,
                settings.file.display()
            ));
        } else {
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
