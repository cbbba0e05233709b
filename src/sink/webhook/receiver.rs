//! How a sink knows who receives its secrets: by the receiver's certificate, or on this host
//! by its user.
//!
//! When a receiver on loopback stops, any user of the host can listen on its port, accept
//! every request, and keep each secret. A certificate prevents that, and so does the user who
//! accepts the connection.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use tokio::time::Instant;
use url::Host;

use super::options::WebhookTarget;
use crate::core::os_error;
use crate::net::receiver_connection::{ReceiverConnection, ReceiverEndpoint, ReceiverError};
use crate::net::target::sanitized_url;
use crate::net::tcp_table;
use crate::platform::path_walk::{self, TrustedPaths, Weakness, WeaknessKind};
use crate::platform::users;
use crate::sink::{Destination, SinkProblem, SinkProblemKind};

/// How a request reaches its receiver.
#[derive(Debug)]
pub(super) enum Transport {
    /// By the HTTP client: the receiver has a certificate, or need not be known.
    HttpClient,
    /// By a connection whose other end belongs to a known user.
    KnownUser(KnownReceiver),
}

/// A receiver on this host whose user is known.
#[derive(Debug)]
pub(super) struct KnownReceiver {
    endpoint: ReceiverEndpoint,
    /// The users that it may be.
    users: Vec<u32>,
    /// Those users, for people.
    expected: String,
}

/// Returns how requests reach the receiver. Blocks.
///
/// # Errors
/// If nothing says whose the receiver is, that user does not exist, or another user could
/// exchange the socket.
pub(super) fn choose_transport(
    target: &WebhookTarget,
    trusted_paths: &TrustedPaths,
) -> Result<Transport, SinkProblem> {
    if target.url.scheme() == "https" || target.unauthenticated_receiver {
        return Ok(Transport::HttpClient);
    }
    let owner = target.owner.as_deref().map(find_owner).transpose()?;
    let Some(socket) = &target.socket else {
        let Some(owner) = owner else {
            return Err(unknown_receiver(target));
        };
        return Ok(Transport::KnownUser(KnownReceiver {
            endpoint: ReceiverEndpoint::Loopback(target.url.clone()),
            users: vec![owner],
            expected: users::describe_user(owner),
        }));
    };
    let own = rustix::process::geteuid().as_raw();
    let (users, expected) = match owner {
        Some(owner) => (vec![owner], users::describe_user(owner)),
        None => (vec![0, own], root_or(own)),
    };
    check_socket(socket, &users, trusted_paths)?;
    Ok(Transport::KnownUser(KnownReceiver {
        endpoint: ReceiverEndpoint::Socket(socket.clone()),
        users,
        expected,
    }))
}

fn root_or(own: u32) -> String {
    if own == 0 {
        users::describe_user(0)
    } else {
        format!("root or {}", users::describe_user(own))
    }
}

fn find_owner(owner: &str) -> Result<u32, SinkProblem> {
    let user = users::find_user(owner)
        .map_err(|error| SinkProblem::host(format!("cannot use owner: {error}")))?
        .as_raw();
    if path_walk::is_unmapped(user) {
        let message = format!(
            "cannot use owner: this user namespace shows every user that it has no number for as \
             {}; hint: use another owner, or run rekeyd in the user namespace of the host",
            users::describe_user(user)
        );
        return Err(SinkProblem::host(message));
    }
    Ok(user)
}

/// Checks what leads to a socket, as far as that exists.
fn check_socket(
    socket: &Path,
    users: &[u32],
    trusted_paths: &TrustedPaths,
) -> Result<(), SinkProblem> {
    let problem = |text: String| Err(SinkProblem::host(text));
    let place = socket.display();
    let walked = match path_walk::walk_to_file(socket, &trusted_paths.and_users(users)) {
        Ok(walked) => walked,
        // A service makes the folder of its socket when it starts.
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => {
            let reason = os_error::describe(&error.into());
            return problem(format!("cannot look at {place}: {reason}"));
        }
    };
    if let Some(weakness) = walked.weaknesses.first() {
        let hint = owner_hint(weakness)
            .unwrap_or_else(|| weakness.hint_for(&users::name_or_number(users[0])));
        return problem(format!(
            "{weakness}, so another user could exchange {place}; hint: {hint}"
        ));
    }
    match walked.stat() {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Socket => problem(format!(
            "{place} is not a socket; hint: set url to the socket on which the receiver listens"
        )),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns the line that names the user who owns a part of a socket's path, as a service owns
/// the folder of its socket.
fn owner_hint(weakness: &Weakness) -> Option<String> {
    let WeaknessKind::Owner(user) = weakness.kind else {
        return None;
    };
    let name = users::user_name(user).unwrap_or_else(|| user.to_string());
    Some(format!(
        "set owner = \"{name}\" if the receiver runs as {}, or {}",
        users::describe_user(user),
        weakness.hint()
    ))
}

/// Returns the problem of http on loopback that names no user, with the line to add.
fn unknown_receiver(target: &WebhookTarget) -> SinkProblem {
    let url = target.redacted_url();
    let hint = match present_listener(target) {
        Some(user) => {
            let name = users::user_name(user).unwrap_or_else(|| user.to_string());
            format!(
                "add owner = \"{name}\" if the receiver runs as {}, who listens there now",
                users::describe_user(user)
            )
        }
        None => "add owner = \"USER\", with the user that the receiver runs as".to_owned(),
    };
    SinkProblem::host(format!(
        "nothing says whose the receiver at {url} is, and when it does not run, any user of this \
         host can take its place; hint: {hint}, or unauthenticated-receiver = true for one in a \
         container"
    ))
}

/// Returns the user who listens at the URL now.
fn present_listener(target: &WebhookTarget) -> Option<u32> {
    let port = target.url.port_or_known_default()?;
    let addresses = match target.url.host()? {
        Host::Ipv4(address) => vec![address.into()],
        Host::Ipv6(address) => vec![address.into()],
        Host::Domain(_) => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
    };
    let mut addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
    addresses.find_map(|address| tcp_table::listening_user(address).ok()?)
}

impl WebhookTarget {
    /// Returns the URL for messages and for the ledger: without its query.
    pub(super) fn redacted_url(&self) -> String {
        match &self.socket {
            None => sanitized_url(&self.url),
            Some(socket) => format!("unix:{}:{}", socket.display(), self.url.path()),
        }
    }

    /// Returns where its deliveries and preflights are counted.
    pub(super) fn destination(&self) -> Destination {
        match &self.socket {
            None => Destination::from_url(&self.url),
            Some(socket) => Destination::Endpoint {
                scheme: "unix".to_owned(),
                host: socket.display().to_string(),
                port: 0,
            },
        }
    }
}

impl KnownReceiver {
    /// Connects, and checks who accepts the connection.
    ///
    /// # Errors
    /// Why nothing would be delivered.
    pub(super) async fn check(&self, timeout: Duration) -> Result<(), SinkProblem> {
        let deadline = Instant::now() + timeout;
        let checked = self.endpoint.check(&self.users, deadline).await;
        checked.map_err(|error| self.explain(&error))
    }

    /// Connects to the right receiver.
    ///
    /// # Errors
    /// Why nothing was sent.
    pub(super) async fn connect(
        &self,
        deadline: Instant,
    ) -> Result<ReceiverConnection, SinkProblem> {
        let connected = self.endpoint.connect(&self.users, deadline).await;
        connected.map_err(|error| self.explain(&error))
    }

    fn explain(&self, error: &ReceiverError) -> SinkProblem {
        let kind = match error {
            ReceiverError::OtherUser { .. } | ReceiverError::Unreadable { .. } => {
                SinkProblemKind::Host
            }
            ReceiverError::Unreachable { .. } | ReceiverError::NotSeen { .. } => {
                SinkProblemKind::Unreachable
            }
        };
        let message = Explanation { known: self, error }.to_string();
        SinkProblem { kind, message }
    }
}

/// An error with what to do now.
struct Explanation<'a> {
    known: &'a KnownReceiver,
    error: &'a ReceiverError,
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            ReceiverError::OtherUser { place, user } => {
                let name = users::user_name(*user).unwrap_or_else(|| user.to_string());
                write!(
                    formatter,
                    "the process that answers at {place} belongs to {}, not to {}; nothing was \
                     sent; hint: find out which program listens there; only if it is the \
                     receiver, set owner = \"{name}\"",
                    users::describe_user(*user),
                    self.known.expected
                )
            }
            ReceiverError::NotSeen { .. } => write!(
                formatter,
                "{}; nothing was sent; hint: see whether the receiver is busy; one in a container \
                 or in another network namespace needs unauthenticated-receiver = true",
                self.error
            ),
            ReceiverError::Unreachable { source, .. }
                if source.kind() == io::ErrorKind::NotFound =>
            {
                write!(formatter, "{}; hint: start the receiver", self.error)
            }
            ReceiverError::Unreachable { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    formatter,
                    "{}; hint: let rekeyd's user enter the folder and write to the socket",
                    self.error
                )
            }
            ReceiverError::Unreachable { .. } | ReceiverError::Unreadable { .. } => {
                write!(formatter, "{}", self.error)
            }
        }
    }
}
