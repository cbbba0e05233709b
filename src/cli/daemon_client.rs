//! The client of a running daemon: its control socket, as commands use it.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::wait_notes::WaitNotes;
use crate::config::settings::Settings;
use crate::core::os_error;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, DaemonInfo, ErrorBody};
use crate::ledger::{LedgerReader, WriterLock};
use crate::net::client::build_unix_client;
use crate::net::error_text;
use crate::platform::file_identity::is_same_file;

/// The interval at which a waiting command asks what it waits for.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a running daemon has to answer a question.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

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
                "cannot connect to rekeyd at {}: permission denied; hint: run this as root, as \
                 rekeyd's user, or as a member of the socket's group",
                socket.display()
            )))
        } else {
            Err(connect_error(socket, &os_error::describe(&error)))
        };
    }
    let client = build_unix_client(socket).map_err(|error| Failure::Other(error.to_string()))?;
    let info = async {
        let response = client.get("http://rekeyd/daemon").send().await?;
        response.bytes().await
    };
    let info = info
        .await
        .map_err(|error| connect_error(socket, &error_text::explain(error)))?;
    let info: DaemonInfo = serde_json::from_slice(&info)
        .map_err(|error| connect_error(socket, &unexpected(&error)))?;
    Ok(Some(DaemonClient { client, info }))
}

fn connect_error(socket: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "cannot connect to rekeyd at {}: {error}",
        socket.display()
    ))
}

/// Describes a response that is not what a rekeyd of this version sends.
fn unexpected(error: &serde_json::Error) -> String {
    format!("unexpected response: {error}")
}

impl DaemonClient {
    pub(super) fn writes_ledger(&self, ledger: &Path) -> bool {
        is_same_file(Path::new(&self.info.ledger), ledger)
    }

    /// Returns whether it runs with the file of `settings`, which names another ledger
    /// since, and no other process writes that.
    pub(super) fn uses_earlier_ledger(&self, settings: &Settings) -> bool {
        is_same_file(self.configuration_file(), &settings.file)
            && !self.writes_ledger(&settings.ledger)
            && WriterLock::holder(&settings.ledger).is_none()
    }

    /// Returns what the daemon reports to be wrong with it.
    pub(super) fn problem(&self) -> Option<String> {
        self.info.problem.clone()
    }

    /// Returns the damage of its ledger's files that the daemon has found.
    pub(super) fn ledger_damage(&self) -> Option<&str> {
        self.info.ledger_damage.as_deref()
    }

    /// Returns the address at which it serves its metrics.
    pub(super) fn metrics(&self) -> Option<&str> {
        self.info.metrics.as_deref()
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
                "cannot read the configuration of the running rekeyd: {error}"
            ))
        };
        let request = self.client.get("http://rekeyd/configuration").send();
        let response = request
            .await
            .map_err(|error| failed(&error_text::explain(error)))?;
        let status = response.status();
        let text = response.text().await;
        let text = text.map_err(|error| failed(&error_text::explain(error)))?;
        if status.is_success() {
            return Ok((self.info.configuration.file.clone(), text));
        }
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Err(failed(&body.error)),
            Err(_) => Err(failed(&format!("HTTP status {status}"))),
        }
    }

    /// Whether the daemon has loaded the file in its present form.
    pub(super) fn has_loaded(&self, settings: &Settings) -> bool {
        self.info.configuration.sha256 == settings.digest
    }

    /// Returns a copy of the ledger that it writes.
    pub(super) async fn ledger_copy(&self) -> Result<LedgerReader, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "cannot read the ledger of the running rekeyd: {error}"
            ))
        };
        let request = self.client.get("http://rekeyd/ledger").send();
        let response = request
            .await
            .map_err(|error| failed(&error_text::explain(error)))?;
        let status = response.status();
        let content = response.bytes().await;
        let content = content.map_err(|error| failed(&error_text::explain(error)))?;
        if status.is_success() {
            return Ok(LedgerReader::of_copy(self.ledger(), &content)?);
        }
        match serde_json::from_slice::<ErrorBody>(&content) {
            Ok(body) => Err(failed(&body.error)),
            Err(_) => Err(failed(&format!("HTTP status {status}"))),
        }
    }

    /// Warns a person who has edited the file without a reload.
    pub(super) fn warn_if_config_is_stale(&self, settings: &Settings) {
        let config = &self.info.configuration;
        if self.has_loaded(settings) {
            return;
        }
        let (loaded, named) = (Path::new(&config.file), &settings.file);
        if !is_same_file(loaded, named) && loaded != named {
            output::report_warning(&format!(
                "the running rekeyd uses the configuration {}, not {}",
                config.file,
                settings.file.display()
            ));
        } else {
            output::report_warning(&format!(
                "{} changed since the running rekeyd loaded it; hint: run `rekeyd reload` to apply \
                 it",
                settings.file.display()
            ));
        }
    }

    /// Shows the person at the terminal what a request waits for.
    async fn show_waits(&self, subjects: &[String]) -> Infallible {
        let mut notes = WaitNotes::start();
        loop {
            tokio::time::sleep(WAIT_INTERVAL).await;
            let info = async {
                let response = self.client.get("http://rekeyd/daemon").send().await?;
                response.bytes().await
            };
            let info = tokio::time::timeout(ANSWER_TIMEOUT, info).await;
            let info = info.ok().and_then(Result::ok);
            let info = info.and_then(|info| serde_json::from_slice::<DaemonInfo>(&info).ok());
            let mut waits = info.map(|info| info.waits).unwrap_or_default();
            if !subjects.is_empty() {
                waits.retain(|wait| subjects.contains(&wait.about));
            }
            let daemon = format!("the running rekeyd (process {}) to respond", self.process());
            notes.show(&waits, &daemon);
        }
    }

    /// Sends a request, and waits for its response.
    pub(crate) async fn send(&self, request: &ControlRequest) -> Result<ControlResponse, Failure> {
        let no_answer = |error: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "lost contact with the running rekeyd: {error}; hint: `rekeyd status` shows \
                 whether it did what was requested"
            ))
        };
        let url = format!("http://rekeyd/{}", request.verb());
        let subjects = request.subjects();
        let sending = async {
            let response = self.client.post(url).body(request.body()).send().await?;
            Ok((response.status(), response.bytes().await?))
        };
        let answer: Result<_, reqwest::Error> = tokio::select! {
            biased;
            answer = sending => answer,
            never = self.show_waits(&subjects) => match never {},
        };
        let (status, body) = answer.map_err(|error| no_answer(&error_text::explain(error)))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| no_answer(&unexpected(&error)));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(Failure::Other(body.error)),
            Err(_) => Err(no_answer(&format!("HTTP status {status}"))),
        }
    }
}
