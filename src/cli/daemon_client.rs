//! The client of a running daemon: its control socket, as commands use it.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use axum::http::Method;

use crate::cli::daemon_channel::{ChannelError, DaemonChannel, DaemonResponse, INFO_PATH, refusal};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::terminal_text::visible_line;
use crate::cli::unproven_daemon::UnprovenDaemon;
use crate::cli::wait_notes::WaitNotes;
use crate::config::settings::Settings;
use crate::core::os_error;
use crate::daemon::control::protocol::{
    ControlRequest, ControlResponse, DaemonInfo, ErrorBody, Wait,
};
use crate::ledger::{LedgerReader, WriterLock};
use crate::net::unix_client::{UnixClient, UnixClientError};
use crate::platform::file_identity::is_same_file;
use crate::platform::path_walk::{self, PathTrust};
use crate::platform::users::{describe_user, name_or_number};

/// The interval at which a waiting command asks what it waits for.
const WAIT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a running daemon has to answer a question.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a daemon has to say what it is: longer than a connection may wait for a place. A
/// process that never answers holds up no command.
const INFO_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a daemon has for its configuration or a copy of its ledger.
const COPY_TIMEOUT: Duration = Duration::from_secs(90);

/// A running daemon that writes the ledger of a configuration.
pub(crate) struct DaemonClient {
    channel: Box<DaemonChannel>,
    info: DaemonInfo,
    /// Why it may be another process than the daemon.
    doubt: Option<String>,
}

/// Where a daemon listens, and whose it may be.
pub(super) struct DaemonAddress<'a> {
    /// The control socket.
    pub(super) socket: &'a Path,
    /// The ledger that the daemon writes.
    pub(super) ledger: Option<&'a Path>,
    /// Whether the daemon may be the owner of the socket's folder: the command names the
    /// socket, or does not know the ledger.
    pub(super) trusts_folder: bool,
}

impl DaemonAddress<'_> {
    /// Returns the users that the daemon may be: root, the user of this process, and the
    /// owner of the ledger.
    fn trusted_users(&self) -> Vec<u32> {
        let folder = std::path::absolute(self.socket);
        let folder = folder.and_then(|socket| parent(&socket).metadata());
        let folder = folder.ok().filter(|_| self.trusts_folder);
        let ledger = self.ledger.and_then(|ledger| {
            // Who only looks may not enter its folder, which belongs to the same user.
            let found = ledger.metadata().or_else(|_| parent(ledger).metadata());
            found.ok()
        });
        let own = rustix::process::geteuid().as_raw();
        let owners = [ledger, folder].into_iter().flatten();
        [0, own]
            .into_iter()
            .chain(owners.map(|found| found.uid()))
            .collect()
    }

    /// Returns the user that the daemon should be.
    fn owner_name(&self) -> String {
        let folder = self
            .ledger
            .map(parent)
            .and_then(|folder| folder.metadata().ok());
        folder.map_or_else(|| "root".to_owned(), |folder| name_or_number(folder.uid()))
    }

    /// Returns why other users could have put the socket there, if they could.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn untrusted_folder(&self) -> std::io::Result<Option<String>> {
        let socket = std::path::absolute(self.socket)?;
        let trust = PathTrust {
            users: &self.trusted_users(),
            ..PathTrust::default()
        };
        let walked = path_walk::walk_to_folder(parent(&socket), &trust)?;
        Ok(walked.weaknesses.first().map(|part| {
            format!(
                "cannot trust the control socket {}: {part}; hint: {}, or set [control] socket to \
                 a path in another folder",
                self.socket.display(),
                part.remedy(&self.owner_name())
            )
        }))
    }
}

/// Returns the folder of `path`.
fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Connects to the daemon at an address, if one listens there. Nothing is sent to the process
/// of another user.
pub(super) async fn connect(address: DaemonAddress<'_>) -> Result<Option<DaemonClient>, Failure> {
    let socket = address.socket;
    // Without a socket, there is nothing to trust.
    let untrusted = match socket.symlink_metadata() {
        Ok(_) => address.untrusted_folder(),
        Err(error) => Err(error),
    };
    match untrusted {
        Ok(None) => {}
        Ok(Some(problem)) => return Err(Failure::Other(problem)),
        Err(error) => return no_daemon(socket, &error),
    }
    let client = UnixClient::new(socket, address.trusted_users());
    let expected = address.ledger.map(Path::to_owned);
    let channel = Box::new(DaemonChannel::new(client, expected));
    let asking = channel.send(&Method::GET, INFO_PATH, String::new());
    let asked = tokio::time::timeout(INFO_TIMEOUT, asking).await;
    let answer = match asked.unwrap_or_else(|_| Err(channel.silence())) {
        Ok(answer) => answer,
        Err(ChannelError::Client(UnixClientError::Connect(error))) => {
            return no_daemon(socket, &error);
        }
        Err(ChannelError::Client(UnixClientError::UntrustedServer { user })) => {
            return Err(Failure::Other(format!(
                "cannot trust the process that listens on {}: it belongs to {}, and neither to \
                 root nor to the owner of the ledger; hint: find it with `fuser -v {}`, and stop it",
                socket.display(),
                describe_user(user),
                socket.display()
            )));
        }
        Err(error) => return Err(channel_failure(socket, &error)),
    };
    let (status, body) = (answer.response.status, answer.response.body);
    if !status.is_success() {
        let reason = refusal(status, &body);
        return Err(channel_failure(
            socket,
            &ChannelError::Refused { status, reason },
        ));
    }
    let info: DaemonInfo = serde_json::from_slice(&body)
        .map_err(|error| connect_error(socket, &unexpected(&error)))?;
    let info = visible_info(info);
    if let Some(doubt @ ChannelError::NoCookie { process, .. }) = &answer.doubt {
        let doubt = connect_error(socket, doubt).to_string();
        let unproven = UnprovenDaemon::new(&doubt, info, *process);
        return Err(Failure::Unproven(Box::new(unproven)));
    }
    // One that names two ledgers would be known by the cookie of one, and trusted with the other.
    let proven = answer.proven_ledger.as_deref();
    if proven.is_some_and(|proven| proven != Path::new(&info.ledger)) {
        return Err(connect_error(socket, &"it names two ledgers"));
    }
    let doubt = answer.doubt.map(|doubt| doubt.to_string());
    Ok(Some(DaemonClient {
        channel,
        info,
        doubt,
    }))
}

/// Returns what a daemon says of itself, with the texts that people see within a line as a
/// terminal shows them. Its problems may have several lines.
fn visible_info(info: DaemonInfo) -> DaemonInfo {
    let waits = info.waits.into_iter().map(|wait| Wait {
        about: visible_line(&wait.about),
        awaits: visible_line(&wait.awaits),
    });
    DaemonInfo {
        version: visible_line(&info.version),
        metrics: info.metrics.map(|text| visible_line(&text)),
        waits: waits.collect(),
        ..info
    }
}

/// Returns the failure of a request that the daemon did not get.
fn channel_failure(socket: &Path, error: &ChannelError) -> Failure {
    let failure = connect_error(socket, error);
    if let Failure::Other(text) = &failure
        && error.is_busy()
    {
        return Failure::Busy(text.clone());
    }
    failure
}

/// Returns whether the error of a connection means that there is no daemon.
fn no_daemon(socket: &Path, error: &std::io::Error) -> Result<Option<DaemonClient>, Failure> {
    let kind = error.kind();
    if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
        // No daemon was started, or it has ended.
        Ok(None)
    } else if kind == ErrorKind::PermissionDenied {
        Err(Failure::Other(format!(
            "cannot connect to rekeyd at {}: permission denied; hint: run this as root, as \
             rekeyd's user, or as a member of the socket's group",
            socket.display()
        )))
    } else {
        Err(connect_error(socket, &os_error::describe(error)))
    }
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
        let answer = self.get("/configuration", COPY_TIMEOUT).await;
        let DaemonResponse { response, .. } = answer.map_err(|error| failed(&error))?;
        if response.status.is_success() {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            return Ok((self.info.configuration.file.clone(), text));
        }
        Err(failed(&refusal(response.status, &response.body)))
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
        let answer = self.get("/ledger", COPY_TIMEOUT).await;
        let DaemonResponse { response, .. } = answer.map_err(|error| failed(&error))?;
        if response.status.is_success() {
            return Ok(LedgerReader::of_copy(self.ledger(), &response.body)?);
        }
        Err(failed(&refusal(response.status, &response.body)))
    }

    /// Asks a question whose answer is yes or a reason.
    ///
    /// # Errors
    /// With the reason.
    pub(super) async fn probe(&self, path: &str) -> Result<(), Failure> {
        if let Some(doubt) = self.doubt() {
            return Err(Failure::Other(doubt.to_owned()));
        }
        let answer = self.get(path, COPY_TIMEOUT).await;
        let answer = answer.map_err(|error| channel_failure(self.channel.socket(), &error))?;
        let response = answer.response;
        if response.status.is_success() {
            return Ok(());
        }
        // A problem may have several lines.
        let reason = match serde_json::from_slice::<ErrorBody>(&response.body) {
            Ok(body) => visible_line(&body.error.replace('\n', " ")),
            Err(_) => refusal(response.status, &response.body),
        };
        Err(Failure::Other(reason))
    }

    async fn get(&self, path: &str, limit: Duration) -> Result<DaemonResponse, ChannelError> {
        let asking = self.channel.send(&Method::GET, path, String::new());
        let asked = tokio::time::timeout(limit, asking).await;
        asked.unwrap_or_else(|_| Err(self.channel.silence()))
    }

    /// Returns why it may be another process than the daemon, if it may: it gets no request.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
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
                visible_line(&config.file),
                settings.file.display()
            ));
        } else {
            let since = config.loaded_at.as_ref().map_or_else(
                || "since the running rekeyd loaded it".to_owned(),
                |at| {
                    let at = visible_line(at);
                    format!("since {at}, when the running rekeyd loaded it")
                },
            );
            output::report_warning(&format!(
                "{} has changed {since}, and was not taken; hint: run `rekeyd reload` to apply it",
                settings.file.display()
            ));
        }
    }

    /// Returns what requests about these subjects wait for, or all requests if there are
    /// none; nothing if the daemon does not say.
    pub(super) async fn waits(&self, subjects: &[String]) -> Option<Vec<Wait>> {
        let info = self.get(INFO_PATH, ANSWER_TIMEOUT).await.ok()?;
        let info = serde_json::from_slice::<DaemonInfo>(&info.response.body).ok()?;
        let mut waits = visible_info(info).waits;
        if !subjects.is_empty() {
            waits.retain(|wait| subjects.contains(&wait.about));
        }
        Some(waits)
    }

    /// Shows the person at the terminal what a request waits for.
    async fn show_waits(&self, subjects: &[String]) -> Infallible {
        let mut notes = WaitNotes::start();
        loop {
            tokio::time::sleep(WAIT_INTERVAL).await;
            let waits = self.waits(subjects).await.unwrap_or_default();
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
        let path = format!("/{}", request.verb());
        let subjects = request.subjects();
        let answer = tokio::select! {
            biased;
            answer = self.channel.send(&Method::POST, &path, request.body()) => answer,
            never = self.show_waits(&subjects) => match never {},
        };
        let DaemonResponse { response, .. } = answer.map_err(|error| match error.was_sent() {
            true => no_answer(&error),
            false => channel_failure(self.channel.socket(), &error),
        })?;
        let (status, body) = (response.status, response.body);
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| no_answer(&unexpected(&error)));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            // A path that leads elsewhere by now also hides the cookie.
            Ok(body) => {
                let reason = visible_line(&body.error);
                Err(Failure::Other(match self.ledger_damage() {
                    Some(damage) => format!("{damage}; {reason}"),
                    None => reason,
                }))
            }
            Err(_) => Err(no_answer(&format!("HTTP status {status}"))),
        }
    }
}
