//! The dispatch of commands that change something: to a running daemon through
//! its control socket, or without one to this process, under the ledger's lock.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use crate::cli::context::{GlobalOptions, credential_sources, find_key};
use crate::cli::daemon_client::{ANSWER_TIMEOUT, DaemonAddress, DaemonClient, connect};
use crate::cli::daemon_options::{CommandTarget, DaemonOptions};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::preflight;
use crate::cli::service_view;
use crate::cli::unproven_daemon::UnprovenDaemon;
use crate::cli::wait_notes::WaitNotes;
use crate::config::DEFAULT_FILE;
use crate::config::settings::Settings;
use crate::core::first_few::join_few;
use crate::core::{duration, time};
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, Wait};
use crate::daemon::{event_loop, runtime};
use crate::engine::RunMode;
use crate::ledger::{LedgerError, LedgerReader, SnapshotReason, WriterLock};
use crate::platform::file_identity::is_same_file;

/// What answers at a control socket.
pub(super) enum SocketAnswer {
    /// A daemon.
    Daemon(Box<DaemonClient>),
    /// It may be another process than the daemon.
    Unproven(Box<UnprovenDaemon>),
    /// Nothing, or nothing that a command may ask.
    None,
}

impl SocketAnswer {
    fn new(asked: Result<Option<DaemonClient>, Failure>) -> Self {
        match asked {
            Ok(Some(daemon)) => Self::Daemon(Box::new(daemon)),
            Err(Failure::Unproven(unproven)) => Self::Unproven(unproven),
            Ok(None) | Err(_) => Self::None,
        }
    }

    /// Returns the damage of the ledger of `settings` that the daemon that writes it has found.
    pub(super) fn ledger_damage(&self, settings: &Settings) -> Option<&str> {
        let ledger = &settings.ledger;
        match self {
            Self::Daemon(daemon) if daemon.writes_ledger(ledger) => daemon.ledger_damage(),
            Self::Unproven(unproven) => {
                let report = unproven.damage_report(ledger);
                report.map(|report| report.damage)
            }
            Self::Daemon(_) | Self::None => None,
        }
    }
}

/// Executes `request`, and prints its outcomes.
pub(crate) async fn execute(
    options: &GlobalOptions,
    daemon_options: &DaemonOptions,
    request: ControlRequest,
) -> Result<(), Failure> {
    report_results(&send(options, daemon_options, request).await?)
}

/// Executes `request`, and returns its outcomes.
pub(crate) async fn send(
    options: &GlobalOptions,
    daemon_options: &DaemonOptions,
    request: ControlRequest,
) -> Result<ControlResponse, Failure> {
    send_within(options, daemon_options, request, None).await
}

/// Executes `request`, and returns its outcomes, or a failure once it has waited for `limit`:
/// then a running daemon goes on with the request, and without one this process abandons it.
pub(crate) async fn send_within(
    options: &GlobalOptions,
    daemon_options: &DaemonOptions,
    request: ControlRequest,
    limit: Option<Duration>,
) -> Result<ControlResponse, Failure> {
    let settings = match daemon_options.target(options).await? {
        CommandTarget::File(settings) => settings,
        CommandTarget::Daemon(daemon) => return ask_daemon(&daemon, &request, limit).await,
    };
    match find_daemon(daemon_options, &settings).await? {
        Some(daemon) => {
            daemon.warn_if_config_is_stale(&settings);
            ask_daemon(&daemon, &request, limit).await
        }
        None => {
            // Files of root's would lock the service out.
            service_view::enter_to_work(options)?;
            output::report_note(&service_view::note_onlooker(&settings).unwrap_or_default());
            let command = format!("rekeyd {}", request.verb());
            refuse_unknown_keys(&request, &settings)?;
            let sources = credential_sources(&settings);
            let runtime = runtime::start(&settings, sources, &command, run_mode(&request)).await?;
            output::report_note(&own_work_note(&request, &settings.ledger));
            let request = without_no_wait(request);
            let mut notes = WaitNotes::start();
            let reporter = Box::new(move |waits: Vec<Wait>| notes.show(&waits, ""));
            let operator = current_operator();
            Ok(event_loop::run_request(runtime, request, operator, limit, reporter).await?)
        }
    }
}

/// Sends a request to a running daemon, and waits for its response for `limit` at most.
async fn ask_daemon(
    daemon: &DaemonClient,
    request: &ControlRequest,
    limit: Option<Duration>,
) -> Result<ControlResponse, Failure> {
    let Some(limit) = limit else {
        return daemon.send(request).await;
    };
    match tokio::time::timeout(limit, daemon.send(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let waits = daemon.waits(&request.subjects()).await;
            Err(Failure::Other(describe_unfinished(
                request,
                &waits.unwrap_or_default(),
                limit,
            )))
        }
    }
}

/// Says which parts of a request a running daemon has not finished in time, and goes on with.
fn describe_unfinished(request: &ControlRequest, waits: &[Wait], limit: Duration) -> String {
    let limit = duration::to_text(limit);
    let mut unfinished: BTreeMap<&str, String> = BTreeMap::new();
    for Wait { about, awaits } in waits {
        unfinished.insert(about, format!("{about} ({awaits})"));
    }
    let subjects = request.subjects();
    if unfinished.is_empty() {
        // The daemon did not say.
        let names = subjects.iter();
        unfinished.extend(names.map(|name| (name.as_str(), name.clone())));
    }
    let status = match unfinished.keys().collect::<Vec<_>>().as_slice() {
        [name] => format!("`rekeyd status {name}`"),
        _ => "`rekeyd status`".to_owned(),
    };
    if unfinished.is_empty() {
        return format!(
            "not finished within {limit}; the running rekeyd goes on; hint: follow it with {status}"
        );
    }
    format!(
        "not finished within {limit}: {}; the running rekeyd goes on with that, and another \
         `rekeyd {}` is not needed; hint: follow it with {status}",
        join_few(unfinished.values()),
        request.verb()
    )
}

/// Returns how the engine executes a request without a daemon.
const fn run_mode(request: &ControlRequest) -> RunMode {
    match request {
        ControlRequest::AdoptFromSinks { apply: false, .. } => RunMode::Proposal,
        ControlRequest::AdoptFromSinks { apply: true, .. }
        | ControlRequest::Rotate { .. }
        | ControlRequest::Pause { .. }
        | ControlRequest::Resume { .. }
        | ControlRequest::Revoke { .. }
        | ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::Adopt { .. }
        | ControlRequest::Retire { .. }
        | ControlRequest::Prune { .. }
        | ControlRequest::LogLevel { .. }
        | ControlRequest::ChannelTested { .. }
        | ControlRequest::UseCredential { .. }
        | ControlRequest::Reload => RunMode::Command,
    }
}

/// Refuses a request of which no key is configured, before it opens the ledger or sends
/// anything.
fn refuse_unknown_keys(request: &ControlRequest, settings: &Settings) -> Result<(), Failure> {
    let keys = match request {
        ControlRequest::Rotate { keys, .. }
        | ControlRequest::Pause { keys, .. }
        | ControlRequest::Resume { keys, .. } => keys.as_slice(),
        ControlRequest::Adopt { key, .. } => std::slice::from_ref(key),
        ControlRequest::Revoke { .. }
        | ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::AdoptFromSinks { .. }
        // A key that is not configured any more can be retired.
        | ControlRequest::Retire { .. }
        | ControlRequest::Prune { .. }
        | ControlRequest::LogLevel { .. }
        | ControlRequest::ChannelTested { .. }
        | ControlRequest::UseCredential { .. }
        | ControlRequest::Reload => return Ok(()),
    };
    let mut failures = Vec::new();
    for key in keys {
        match find_key(settings, key) {
            Ok(_) => return Ok(()),
            Err(failure) => failures.push(failure),
        }
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// Says that no daemon does what is requested, and what therefore waits for one.
fn own_work_note(request: &ControlRequest, ledger: &Path) -> String {
    let work = match request {
        ControlRequest::Rotate { no_wait: true, .. } => {
            "rotates and waits, despite --no-wait; the next `rekeyd run` or `rekeyd once` ends the \
             overlap"
        }
        ControlRequest::Rotate {
            revoke_previous_within: Some(_),
            ..
        } => "rotates and waits until the older credentials are revoked",
        ControlRequest::Rotate { .. } => {
            "rotates; the next `rekeyd run` or `rekeyd once` ends the overlap"
        }
        ControlRequest::Revoke { .. }
        | ControlRequest::Adopt { .. }
        | ControlRequest::AdoptFromSinks { .. }
        | ControlRequest::Retire { now: true, .. } => "sends its requests to the provider itself",
        ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::Pause { .. }
        | ControlRequest::Resume { .. }
        | ControlRequest::Retire { .. } => {
            "writes the ledger; the next `rekeyd run` or `rekeyd once` acts on it"
        }
        ControlRequest::Prune { .. }
        | ControlRequest::LogLevel { .. }
        | ControlRequest::ChannelTested { .. }
        | ControlRequest::UseCredential { .. }
        | ControlRequest::Reload => return String::new(),
    };
    let ledger = ledger.display();
    format!("no rekeyd is running with the ledger {ledger}, so this command {work}")
}

/// Returns the request without `no_wait`: without a daemon no process would
/// continue the rotation.
fn without_no_wait(mut request: ControlRequest) -> ControlRequest {
    if let ControlRequest::Rotate { no_wait, .. } = &mut request {
        *no_wait = false;
    }
    request
}

/// Returns the name of the user for the event log.
pub(super) fn current_operator() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}

pub(crate) fn report_results(response: &ControlResponse) -> Result<(), Failure> {
    let mut failed = false;
    for outcome in &response.outcomes {
        if outcome.done {
            output::print_message(&outcome.message)?;
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

/// Returns the daemon that writes the ledger of `settings`, if it is running.
/// One whose socket the command names counts whatever it writes.
pub(super) async fn find_daemon(
    options: &DaemonOptions,
    settings: &Settings,
) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect_configured(settings).await;
    if let Some(socket) = &options.socket {
        let none = || Failure::Other(format!("no rekeyd is running at {}", socket.display()));
        return daemon?.ok_or_else(none).map(Some);
    }
    let is_named = options.ledger.is_some() || names_daemon(settings);
    let is_meant = |daemon: &DaemonClient| {
        if daemon.writes_ledger(&settings.ledger) {
            return is_named || is_same_file(daemon.configuration_file(), &settings.file);
        }
        // Else the socket is that of another daemon.
        options.ledger.is_none() && daemon.uses_earlier_ledger(settings)
    };
    or_recorded(daemon, is_meant, settings, options.ledger.is_some()).await
}

/// Returns the daemon at the configured socket if it is meant, or else the one that writes
/// the ledger and named its socket in the lock file: the file may name another one since the
/// daemon loaded it.
async fn or_recorded(
    configured: Result<Option<DaemonClient>, Failure>,
    is_meant: impl Fn(&DaemonClient) -> bool,
    settings: &Settings,
    is_ledger_named: bool,
) -> Result<Option<DaemonClient>, Failure> {
    let configured = configured.map(|daemon| daemon.filter(is_meant));
    if let Ok(Some(_)) = configured {
        return configured;
    }
    match connect_recorded(settings, is_ledger_named).await {
        Some(daemon) => Ok(Some(daemon)),
        None => configured,
    }
}

/// Connects to the daemon at the socket that the ledger's lock file names. It counts if it
/// runs with this very file, or if the command names its ledger.
async fn connect_recorded(settings: &Settings, is_ledger_named: bool) -> Option<DaemonClient> {
    let socket = WriterLock::recorded_socket(&settings.ledger)?;
    let connecting = connect(DaemonAddress {
        socket: &socket,
        ledger: Some(&settings.ledger),
        trusts_folder: false,
    });
    let connecting = tokio::time::timeout(ANSWER_TIMEOUT, connecting).await;
    let daemon = connecting.ok()?.ok()??;
    let is_meant = is_ledger_named || is_same_file(daemon.configuration_file(), &settings.file);
    (is_meant && daemon.writes_ledger(&settings.ledger)).then_some(daemon)
}

/// Returns the configuration that the daemon which writes the ledger has loaded; without one,
/// that in the file. Warns if the two differ.
pub(super) async fn running_settings(
    daemon_options: &DaemonOptions,
    options: &GlobalOptions,
) -> Result<Arc<Settings>, Failure> {
    let settings = daemon_options.settings(options).await?;
    let Some(daemon) = find_writer(daemon_options, &settings).await else {
        return Ok(settings);
    };
    daemon.warn_if_config_is_stale(&settings);
    if daemon.has_loaded(&settings) {
        return Ok(settings);
    }
    daemon_options.loaded_settings(&daemon).await
}

/// What the daemon that writes a ledger has loaded.
pub(super) enum LoadedSettings {
    /// What the file has.
    AsInFile,
    /// Another configuration.
    Other(Arc<Settings>),
}

/// Returns what the daemon which writes the ledger of `settings` has loaded, if there is one.
pub(super) async fn loaded_settings(
    daemon_options: &DaemonOptions,
    settings: &Settings,
) -> Result<Option<LoadedSettings>, Failure> {
    match find_writer(daemon_options, settings).await {
        Some(daemon) if daemon.has_loaded(settings) => Ok(Some(LoadedSettings::AsInFile)),
        Some(daemon) => {
            let loaded = daemon_options.loaded_settings(&daemon).await?;
            Ok(Some(LoadedSettings::Other(loaded)))
        }
        None => Ok(None),
    }
}

/// Returns the daemon that writes the ledger of `settings`, if it answers in time and is not
/// in doubt. Warns about a doubt.
async fn find_writer(daemon_options: &DaemonOptions, settings: &Settings) -> Option<DaemonClient> {
    let finding = find_daemon(daemon_options, settings);
    let found = tokio::time::timeout(ANSWER_TIMEOUT, finding).await;
    let daemon = found.ok()?.ok()??;
    if let Some(doubt) = daemon.doubt() {
        output::report_warning(doubt);
        return None;
    }
    Some(daemon)
}

/// Returns what answers at the control socket of `settings`, whichever ledger it writes;
/// nothing if it does not answer in time, or may not be asked.
pub(super) async fn ask_configured(settings: &Settings) -> SocketAnswer {
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, connect_configured(settings)).await;
    SocketAnswer::new(asked.unwrap_or(Ok(None)))
}

/// As [`ask_configured`], or the daemon that writes the ledger of `settings` at another socket.
pub(super) async fn ask_writer(settings: &Settings) -> SocketAnswer {
    let is_writer = |daemon: &DaemonClient| daemon.writes_ledger(&settings.ledger);
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, connect_configured(settings)).await;
    let asked = asked.unwrap_or(Ok(None));
    SocketAnswer::new(or_recorded(asked, is_writer, settings, false).await)
}

/// The configuration of which a command speaks.
pub(super) struct ShownSettings {
    /// That of the running daemon, or else the one in the file.
    pub(super) settings: Arc<Settings>,
    /// Whether the daemon has loaded the file in its present form; none if no daemon answers.
    pub(super) is_loaded: Option<bool>,
}

/// Returns the configuration that the running daemon has loaded, where that is not the one of
/// `settings`: what follows from the file is not what the daemon does. Warns then.
pub(super) async fn shown_settings(
    options: &DaemonOptions,
    settings: Arc<Settings>,
) -> ShownSettings {
    let finding = tokio::time::timeout(ANSWER_TIMEOUT, find_daemon(options, &settings)).await;
    let found = finding.ok().and_then(Result::ok).flatten();
    let Some(daemon) = found.filter(|daemon| daemon.doubt().is_none()) else {
        return ShownSettings {
            settings,
            is_loaded: None,
        };
    };
    daemon.warn_if_config_is_stale(&settings);
    if daemon.has_loaded(&settings) {
        return ShownSettings {
            settings,
            is_loaded: Some(true),
        };
    }
    let loaded = options.loaded_settings(&daemon).await;
    ShownSettings {
        // The warning says that the file is not what the daemon does.
        settings: loaded.unwrap_or(settings),
        is_loaded: Some(false),
    }
}

/// Opens the ledger of `settings` for reading; none if there is none. A user who may not
/// read the file gets a copy from the running daemon, or else the snapshot that the last one
/// left.
pub(super) async fn open_ledger(
    options: &DaemonOptions,
    settings: &Settings,
) -> Result<Option<LedgerReader>, Failure> {
    let error = match LedgerReader::open_existing(&settings.ledger) {
        Ok(reader) => return Ok(reader),
        // There is none yet.
        Err(error) if preflight::is_made_by_unit(settings, &error) => return Ok(None),
        Err(error) => error,
    };
    let access = accessat(CWD, &settings.ledger, Access::READ_OK, AtFlags::EACCESS);
    if access != Err(Errno::ACCESS) {
        return Err(error.into());
    }
    match find_daemon(options, settings).await {
        Ok(Some(daemon)) => {
            let copy = daemon.ledger_copy().await;
            copy.or_else(|failure| snapshot_instead(settings, failure))
                .map(Some)
        }
        Ok(None) => open_snapshot(settings, SnapshotReason::NoDaemon).map(Some).ok_or_else(|| {
            Failure::Other(format!(
                "{error}; hint: run this as root or as the owner of the ledger, or start rekeyd, \
                 which shows it to the group of its socket"
            ))
        }),
        Err(busy @ Failure::Busy(_)) => snapshot_instead(settings, busy).map(Some),
        Err(error) => Err(error),
    }
}

/// Opens the snapshot where the running daemon sends no copy of its ledger, and warns why.
///
/// # Errors
/// That of the copy, if there is no snapshot.
fn snapshot_instead(settings: &Settings, failure: Failure) -> Result<LedgerReader, Failure> {
    match open_snapshot(settings, SnapshotReason::NotSent) {
        Some(reader) => {
            output::report_warning(&failure.to_string());
            Ok(reader)
        }
        None => Err(failure),
    }
}

/// Opens the snapshot of the ledger of `settings`, if there is one that this user may read.
fn open_snapshot(settings: &Settings, reason: SnapshotReason) -> Option<LedgerReader> {
    let snapshot = settings.snapshot.as_ref()?;
    let opened = LedgerReader::open_snapshot(&snapshot.path, reason);
    let failed = |error: &LedgerError| tracing::debug!(%error, "cannot read the snapshot");
    opened.inspect_err(failed).ok()
}

/// Returns the line that says of when a ledger is, if it is a snapshot.
pub(super) fn as_of_line(reader: &LedgerReader, settings: &Settings) -> Option<String> {
    let (at, reason) = reader.as_of()?;
    let at = time::to_text(at);
    let why = match (reason, &settings.control.socket) {
        (SnapshotReason::NotSent, _) => "rekeyd did not send its ledger",
        (SnapshotReason::NoDaemon, Some(_)) => "rekeyd is not running",
        (SnapshotReason::NoDaemon, None) => "rekeyd has no control socket",
    };
    Some(format!("as of {at} (snapshot; {why})"))
}

/// Says of when a ledger is, if it is a snapshot: where the output is data, and not text for
/// people.
pub(super) fn note_as_of(reader: &LedgerReader, settings: &Settings) {
    output::report_note(&as_of_line(reader, settings).unwrap_or_default());
}

/// Returns the daemon that writes the ledger of `settings`, or that has loaded
/// this file while it named another ledger, a change that the daemon then
/// refuses.
pub(crate) async fn find_daemon_to_reload(
    settings: &Settings,
) -> Result<Option<DaemonClient>, Failure> {
    let daemon = connect_configured(settings).await;
    let is_affected = |daemon: &DaemonClient| {
        let file = daemon.configuration_file();
        (names_daemon(settings) && daemon.writes_ledger(&settings.ledger))
            || is_same_file(file, &settings.file)
    };
    or_recorded(daemon, is_affected, settings, false).await
}

/// Returns whether the ledger and the socket of `settings` are those of its own daemon. The
/// default ones are only for the default file: with another file, the daemon that uses them
/// may be that of another organization.
pub(super) fn names_daemon(settings: &Settings) -> bool {
    settings.control.is_named || settings.file == Path::new(DEFAULT_FILE)
}

/// Connects to the daemon at the control socket of `settings`, whichever ledger
/// it writes.
async fn connect_configured(settings: &Settings) -> Result<Option<DaemonClient>, Failure> {
    match &settings.control.socket {
        Some(socket) => {
            let address = DaemonAddress {
                socket,
                ledger: Some(&settings.ledger),
                trusts_folder: false,
            };
            connect(address).await
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::context::read_environment;
    use crate::config;

    #[test]
    fn the_default_paths_count_only_for_the_default_file() {
        for (file, tables, expected) in [
            (DEFAULT_FILE, "", true),
            ("/srv/other.toml", "", false),
            ("/srv/other.toml", "[control]\nadmins = []\n", false),
            (
                "/srv/other.toml",
                "[ledger]\npath = \"/srv/ledger.db\"\n",
                true,
            ),
            (
                "/srv/other.toml",
                "[control]\nsocket = \"/srv/socket\"\n",
                true,
            ),
        ] {
            let text = format!("[provider]\ncredential-file = \"/srv/admin-key\"\n{tables}");
            let settings = config::parse(Path::new(file), &text, &read_environment());
            let settings = settings.unwrap_or_else(|problems| panic!("{problems:?}"));
            assert_eq!(names_daemon(&settings), expected, "{file} {tables}");
        }
    }
}
