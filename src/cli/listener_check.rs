//! Checks the places at which a daemon listens, also while one runs: another process may
//! have taken one of them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::cli::daemon_client::{DaemonAddress, DaemonClient};
use crate::cli::dispatch::SocketAnswer;
use crate::config::Problem;
use crate::config::settings::{MetricsAddress, Settings};
use crate::core::condition::ListenerProblem;
use crate::core::os_error;
use crate::daemon::listeners::CONTROL_OPTION;
use crate::daemon::metrics::server::METRICS_OPTION;
use crate::daemon::socket_file::{SocketListenError, SocketPlace, check_place};
use crate::ledger::{LedgerReader, WriterLock};
use crate::platform::path_walk;
use crate::platform::users::name_or_number;

/// Lists the problems of the control socket and of the address of the metrics. `answer` is
/// what answers at the socket, whichever ledger it writes.
pub(super) async fn check_listeners(settings: &Settings, answer: &SocketAnswer) -> Vec<Problem> {
    let own = match answer {
        SocketAnswer::Daemon(daemon) if daemon.writes_ledger(&settings.ledger) => Some(&**daemon),
        SocketAnswer::Daemon(_) | SocketAnswer::Unproven(_) | SocketAnswer::None => None,
    };
    let is_running = own.is_some() || WriterLock::holder(&settings.ledger).is_some();
    let socket = check_socket(settings, answer, own.is_some(), is_running).await;
    let metrics = check_metrics(settings, own, is_running).await;
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
    answer: &SocketAnswer,
    is_answering: bool,
    is_running: bool,
) -> Option<String> {
    let path = settings.control.socket.as_deref()?;
    let address = DaemonAddress {
        socket: path,
        ledger: Some(&settings.ledger),
        trusts_folder: false,
    };
    if let Ok(Some(problem)) = address.untrusted_folder() {
        return Some(problem);
    }
    let place = SocketPlace {
        path: path.to_owned(),
        option: CONTROL_OPTION,
    };
    let error = check_place(&place).await.err()?;
    if !matches!(error, SocketListenError::InUse { .. }) {
        return describe_obstacle(&error, settings);
    }
    match answer {
        _ if is_answering => None,
        SocketAnswer::Daemon(other) => Some(format!(
            "the rekeyd with the ledger {1} (process {0}) listens on {2}; hint: give each \
             rekeyd its own [control] socket",
            other.process(),
            other.ledger().display(),
            path.display()
        )),
        // It may be the daemon's own, which does not answer; the ledger has what it knows.
        SocketAnswer::None if is_running => {
            recorded_problem(settings, ListenerProblem::ControlSocket)
        }
        SocketAnswer::Unproven(unproven) => Some(unproven.to_string()),
        SocketAnswer::None => Some(error.to_string()),
    }
}

/// Returns what keeps a daemon from a socket, unless the start of its service changes that.
fn describe_obstacle(error: &SocketListenError, settings: &Settings) -> Option<String> {
    // Service managers make folders below /run at the start of a service.
    let is_made_at_start = |place: &SocketPlace| {
        let folder = place.path.parent();
        folder.is_some_and(|folder| folder.starts_with("/run") && folder != Path::new("/run"))
    };
    match error {
        SocketListenError::FolderNotFound { place } if is_made_at_start(place) => None,
        SocketListenError::FolderNotFound { place } => Some(format!(
            "folder {} does not exist; hint: create it",
            place.path.parent().unwrap_or(Path::new("/")).display()
        )),
        // Only the daemon's own user needs the right.
        SocketListenError::Io { source, place }
            if source.kind() == ErrorKind::PermissionDenied
                && (is_made_at_start(place) || !is_daemon_user(settings)) =>
        {
            None
        }
        SocketListenError::NoSocket { .. }
        | SocketListenError::Link { .. }
        | SocketListenError::ForeignSocket { .. }
        | SocketListenError::InUse { .. }
        | SocketListenError::OpenToOthers { .. }
        | SocketListenError::Io { .. } => Some(error.to_string()),
    }
}

async fn check_metrics(
    settings: &Settings,
    own: Option<&DaemonClient>,
    is_running: bool,
) -> Option<String> {
    let address = settings.metrics.as_ref()?;
    let problem = match address {
        // The service manager passes it to the daemon alone, which reports if it has none.
        MetricsAddress::ServiceManager => match own {
            Some(daemon) if daemon.metrics().is_none() => {
                return recorded_problem(settings, ListenerProblem::Metrics);
            }
            _ => return None,
        },
        MetricsAddress::Tcp(address) => {
            let error = TcpListener::bind(address).err()?;
            format!(
                "cannot serve metrics at {address}: {}",
                os_error::describe(&error)
            )
        }
        MetricsAddress::Socket(path) => {
            let place = SocketPlace {
                path: path.clone(),
                option: METRICS_OPTION,
            };
            if let Some(problem) = describe_exchange(path, settings) {
                return Some(problem);
            }
            let error = check_place(&place).await.err()?;
            describe_obstacle(&error, settings)?
        }
    };
    match own {
        // The address in the file may be a new one that overlaps that of the daemon.
        Some(daemon) => (!is_served(daemon, address)).then_some(problem),
        // A daemon that cannot be asked says it in the ledger.
        None if is_running => recorded_problem(settings, ListenerProblem::Metrics),
        None => Some(problem),
    }
}

/// Returns who could answer in the place of the daemon, by what leads to its socket.
fn describe_exchange(socket: &Path, settings: &Settings) -> Option<String> {
    let owner = settings.ledger.parent()?.metadata().ok();
    let users: Vec<u32> = owner.map(|folder| folder.uid()).into_iter().collect();
    let owner_name = users
        .first()
        .copied()
        .map_or_else(|| "root".to_owned(), name_or_number);
    let trusted_paths = settings.protected_files.trusted_paths();
    let walked = path_walk::walk_to_file(socket, &trusted_paths.and_users(&users)).ok()?;
    let weakness = walked.weaknesses.first()?;
    let hint = weakness.hint_for(&owner_name);
    let socket = socket.display();
    Some(format!(
        "{weakness}, so another user could exchange {socket}; hint: {hint}"
    ))
}

/// Whether the daemon serves its metrics at an address, or at one that overlaps it.
fn is_served(daemon: &DaemonClient, address: &MetricsAddress) -> bool {
    let Some(served) = daemon.metrics() else {
        return false;
    };
    match address {
        MetricsAddress::Tcp(address) => {
            let served = served.parse::<SocketAddr>();
            served.is_ok_and(|served| served.port() == address.port())
        }
        MetricsAddress::Socket(_) | MetricsAddress::ServiceManager => served == address.to_string(),
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
