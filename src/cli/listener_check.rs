//! Checks the places at which a daemon listens, also while one runs: another process may
//! have taken one of them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::daemon_client::{DaemonAddress, DaemonClient};
use crate::config::Problem;
use crate::config::settings::Settings;
use crate::core::condition::ListenerProblem;
use crate::core::os_error;
use crate::daemon::control::socket_file::{ControlListenError, check_path};
use crate::ledger::{LedgerReader, WriterLock};

/// Lists the problems of the control socket and of the address of the metrics. `daemon` is
/// the one that answers at the socket, whichever ledger it writes.
pub(super) async fn check_listeners(
    settings: &Settings,
    daemon: Option<&DaemonClient>,
) -> Vec<Problem> {
    let own = daemon.filter(|daemon| daemon.writes_ledger(&settings.ledger));
    let is_running = own.is_some() || WriterLock::holder(&settings.ledger).is_some();
    let socket = check_socket(settings, daemon, own.is_some(), is_running).await;
    let metrics = check_metrics(settings, own, is_running);
    let problems = [("control.socket", socket), ("metrics.listen", metrics)];
    let problems = problems.into_iter().filter_map(|(location, message)| {
        let message = message?;
        Some(Problem::for_host(
            &settings.file,
            location.to_owned(),
            message,
        ))
    });
    problems.collect()
}

async fn check_socket(
    settings: &Settings,
    daemon: Option<&DaemonClient>,
    is_answering: bool,
    is_running: bool,
) -> Option<String> {
    let path = settings.control.socket.as_deref()?;
    let folder = path.parent()?;
    // Service managers make folders below /run at the start of a service.
    let is_made_at_start = folder.starts_with("/run") && folder != Path::new("/run");
    let address = DaemonAddress {
        socket: path,
        ledger: Some(&settings.ledger),
        trusts_folder: false,
    };
    if let Ok(Some(problem)) = address.untrusted_folder() {
        return Some(problem);
    }
    let error = check_path(path).await.err()?;
    match &error {
        ControlListenError::FolderNotFound { .. } if is_made_at_start => None,
        ControlListenError::FolderNotFound { .. } => Some(format!(
            "folder {} does not exist; hint: create it",
            folder.display()
        )),
        ControlListenError::InUse { .. } if is_answering => None,
        ControlListenError::InUse { .. } => match daemon {
            Some(other) => Some(format!(
                "the rekeyd with the ledger {1} (process {0}) listens on {2}; hint: give each \
                 rekeyd its own [control] socket",
                other.process(),
                other.ledger().display(),
                path.display()
            )),
            // It may be the daemon's own, which does not answer; the ledger has what it knows.
            None if is_running => recorded_problem(settings, ListenerProblem::ControlSocket),
            None => Some(error.to_string()),
        },
        // Only the daemon's own user needs the right.
        ControlListenError::Io { source, .. }
            if source.kind() == ErrorKind::PermissionDenied
                && (is_made_at_start || !is_daemon_user(settings)) =>
        {
            None
        }
        ControlListenError::NoSocket { .. }
        | ControlListenError::OpenToOthers { .. }
        | ControlListenError::Io { .. } => Some(error.to_string()),
    }
}

fn check_metrics(
    settings: &Settings,
    own: Option<&DaemonClient>,
    is_running: bool,
) -> Option<String> {
    let address = settings.metrics?;
    let error = TcpListener::bind(address).err()?;
    let problem = format!(
        "cannot serve metrics at {address}: {}",
        os_error::describe(&error)
    );
    match own {
        // The address in the file may be a new one that overlaps that of the daemon.
        Some(daemon) => {
            let served = daemon.metrics().and_then(|text| text.parse().ok());
            let is_served = served.is_some_and(|at: SocketAddr| at.port() == address.port());
            (!is_served).then_some(problem)
        }
        // A daemon that cannot be asked says it in the ledger.
        None if is_running => recorded_problem(settings, ListenerProblem::Metrics),
        None => Some(problem),
    }
}

/// Returns the problem that the running daemon has recorded, if this user can read it.
fn recorded_problem(settings: &Settings, listener: ListenerProblem) -> Option<String> {
    let reader = LedgerReader::open_untouched(&settings.ledger).ok()??;
    let snapshot = reader.snapshot().ok()?;
    snapshot.listener_problem(listener).ok()?
}

/// Returns whether this process has the rights of the daemon, whose user owns the ledger's
/// folder.
fn is_daemon_user(settings: &Settings) -> bool {
    let folder = settings.ledger.parent().map(Path::metadata);
    folder.is_some_and(|found| {
        found.is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw())
    })
}
