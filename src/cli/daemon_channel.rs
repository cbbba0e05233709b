//! The way to a running daemon on which a command knows who answers.
//!
//! The user of the process that listens is known from the start, but programs that the daemon
//! runs have the same user. So a command that may read the daemon's cookie exchanges challenges
//! first, for each request: it sends nothing to a process that does not know the cookie, and
//! believes no answer without a proof. The cookie itself is never sent. Where there is none, as
//! after a stop, no process of that user gets a request (`unproven_daemon.rs` has what it is
//! believed in).

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use axum::http::{HeaderName, Method, StatusCode};

use crate::cli::terminal_text::{visible_line, visible_path};
use crate::daemon::control::cookie::read_cookie;
use crate::daemon::control::proof::{
    BodyDigest, CHALLENGE_HEADER, Challenge, Challenges, CookieKey, EXCHANGE_TIMEOUT,
    HANDSHAKE_PATH, PROOF_HEADER, Statement,
};
use crate::daemon::control::protocol::{ErrorBody, Introduction, ServerProcess, SocketIdentity};
use crate::net::unix_client::{UnixClient, UnixClientError, UnixConnection, UnixResponse};
use crate::platform::entropy::{EntropyError, SystemEntropy};
use crate::platform::file_identity::is_same_file;
use crate::platform::pid_namespace::NamespacedProcess;

/// The path of what a daemon says of itself, which is shown to people and decides nothing.
pub(super) const INFO_PATH: &str = "/daemon";

/// The way to the daemon at one socket.
pub(super) struct DaemonChannel {
    client: UnixClient,
    /// The ledger of the configuration, where the command knows it.
    expected: Option<PathBuf>,
}

/// A request and its response.
pub(super) struct DaemonResponse {
    pub(super) response: UnixResponse,
    /// The ledger that the daemon has proven to write; none without a cookie.
    pub(super) proven_ledger: Option<PathBuf>,
    /// Why the process that answered may be another one than the daemon: it gets no other
    /// request than that for information.
    pub(super) doubt: Option<ChannelError>,
}

/// The reason why there is no answer. Except after [`ChannelError::UnprovenAnswer`], the
/// request was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// There is no connection, or it failed.
    #[error(transparent)]
    Client(#[from] UnixClientError),
    /// The process that listens does not answer the handshake.
    #[error(
        "the process that listens there does not answer; hint: find it with `fuser -v {}`, and \
         restart it if it is rekeyd, or else stop it",
        socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
    },
    /// The process that listens refuses the handshake.
    #[error("{reason}")]
    Refused {
        /// The status of its response.
        status: StatusCode,
        /// What it says.
        reason: String,
    },
    /// The process that listens does not know the cookie.
    #[error(
        "the process that listens there does not know the cookie of the rekeyd that writes {}, and \
         got nothing; hint: find it with `fuser -v {}` and stop it; rekeyd then makes its socket \
         again",
        visible_path(ledger), socket.display()
    )]
    Impostor {
        /// The ledger that it names.
        ledger: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// There is no cookie by which the process that listens could prove itself.
    #[error(
        "the process that listens there cannot prove that it is the rekeyd that writes {}: no \
         cookie of a running rekeyd is there; hint: find the process with `fuser -v {}`, and restart \
         it if it is rekeyd, or else stop it",
        visible_path(ledger), socket.display()
    )]
    NoCookie {
        /// The ledger that it names.
        ledger: PathBuf,
        /// The socket.
        socket: PathBuf,
        /// Its process id, unless it passes on what another process says.
        process: Option<u32>,
    },
    /// The process that listens proves to write another ledger than the expected one. Any
    /// process of its user can.
    #[error(
        "the process that listens there writes the ledger {}, not {}, and proves nothing else: it \
         may be another process than rekeyd; hint: find it with `fuser -v {}` and restart it if it \
         is rekeyd, or add `--ledger {}` if you mean that ledger",
        visible_path(ledger), expected.display(), socket.display(), visible_path(ledger)
    )]
    OtherLedger {
        /// The ledger that it names.
        ledger: PathBuf,
        /// That of the configuration, or of the command.
        expected: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// Another socket is in the place of the daemon's, or another process listens on it.
    #[error(
        "another process replaced the socket of rekeyd, and passes on what it gets; hint: find it \
         with `fuser -v {}` and stop it; rekeyd then makes its socket again",
        socket.display()
    )]
    Replaced {
        /// The socket.
        socket: PathBuf,
    },
    /// The answer is not the daemon's.
    #[error("the answer has no proof that it is from rekeyd")]
    UnprovenAnswer,
    /// The response is none of a handshake.
    #[error("unexpected response: {0}")]
    Unexpected(#[from] serde_json::Error),
    /// The system returns no random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// What a command and the process that listens know of each other.
enum Acquaintance {
    /// Their users, and this one has no right to the cookie, or trusts root.
    ByUser,
    /// The cookie.
    ByCookie(Box<Introduced>),
    /// Nothing, since there is no cookie.
    None {
        /// The ledger that the process names.
        ledger: PathBuf,
        /// Its process id, unless it passes on what another process says.
        process: Option<u32>,
    },
}

/// What a command proves a request with.
struct Introduced {
    ledger: PathBuf,
    key: CookieKey,
    challenges: Challenges,
    /// Whether the ledger is another one than the expected one, for which any process of the
    /// daemon's user could have made a cookie.
    is_other_ledger: bool,
}

/// A cookie, and whether it is that of the expected ledger.
struct FoundCookie {
    key: CookieKey,
    is_expected: bool,
}

impl ChannelError {
    /// Returns whether the daemon may have got the request.
    pub(super) const fn was_sent(&self) -> bool {
        match self {
            Self::Client(UnixClientError::Transfer(_) | UnixClientError::TooLong { .. })
            | Self::UnprovenAnswer => true,
            Self::Client(_)
            | Self::Silent { .. }
            | Self::Refused { .. }
            | Self::Impostor { .. }
            | Self::NoCookie { .. }
            | Self::OtherLedger { .. }
            | Self::Replaced { .. }
            | Self::Unexpected(_)
            | Self::Entropy(_) => false,
        }
    }

    /// Returns whether a process listens that has no time now.
    pub(super) fn is_busy(&self) -> bool {
        match self {
            Self::Client(UnixClientError::Transfer(_)) | Self::Silent { .. } => true,
            Self::Refused { status, .. } => *status == StatusCode::SERVICE_UNAVAILABLE,
            Self::Client(_)
            | Self::Impostor { .. }
            | Self::NoCookie { .. }
            | Self::OtherLedger { .. }
            | Self::Replaced { .. }
            | Self::UnprovenAnswer
            | Self::Unexpected(_)
            | Self::Entropy(_) => false,
        }
    }
}

impl DaemonChannel {
    /// Returns the way to the daemon that `client` reaches.
    pub(super) const fn new(client: UnixClient, expected: Option<PathBuf>) -> Self {
        Self { client, expected }
    }

    /// Returns the path of the socket.
    pub(super) fn socket(&self) -> &Path {
        self.client.socket()
    }

    /// Sends a request over a connection of its own. A process that proves nothing gets only
    /// that for information.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub(super) async fn send(
        &self,
        method: &Method,
        path: &str,
        body: String,
    ) -> Result<DaemonResponse, ChannelError> {
        let (mut connection, acquaintance) = self.meet().await?;
        let doubt = match self.doubt(&acquaintance) {
            Some(doubt) if path != INFO_PATH => return Err(doubt),
            doubt => doubt,
        };
        let Acquaintance::ByCookie(introduced) = acquaintance else {
            let response = connection.send(method, path, None, body).await?;
            return Ok(DaemonResponse {
                response,
                proven_ledger: None,
                doubt,
            });
        };
        let Introduced {
            ledger,
            key,
            challenges,
            ..
        } = *introduced;
        let digest = BodyDigest::of(body.as_bytes());
        let proof = key.prove(&Statement::Request { method, path }, &challenges, &digest);
        let header = (HeaderName::from_static(PROOF_HEADER), proof);
        let response = connection.send(method, path, Some(header), body).await?;
        check_proof(&key, method, path, &challenges, &response)
            .then_some(DaemonResponse {
                response,
                proven_ledger: Some(ledger),
                doubt,
            })
            .ok_or(ChannelError::UnprovenAnswer)
    }

    /// Connects, and has the process that listens introduce itself, within
    /// [`EXCHANGE_TIMEOUT`].
    async fn meet(&self) -> Result<(UnixConnection, Acquaintance), ChannelError> {
        let meeting = async {
            let mut connection = self.client.connect().await?;
            let acquaintance = self.introduce(&mut connection).await?;
            Ok((connection, acquaintance))
        };
        let met = tokio::time::timeout(EXCHANGE_TIMEOUT, meeting).await;
        met.unwrap_or_else(|_| Err(self.silence()))
    }

    /// Returns the error of a process that does not answer.
    pub(super) fn silence(&self) -> ChannelError {
        ChannelError::Silent {
            socket: self.client.socket().to_owned(),
        }
    }

    /// Returns why the process that listens may be another one than the daemon.
    fn doubt(&self, acquaintance: &Acquaintance) -> Option<ChannelError> {
        let socket = self.client.socket().to_owned();
        match acquaintance {
            Acquaintance::ByUser => None,
            Acquaintance::None { ledger, process } => Some(ChannelError::NoCookie {
                ledger: ledger.clone(),
                socket,
                process: *process,
            }),
            Acquaintance::ByCookie(introduced) => {
                let expected = self.expected.clone();
                let expected = expected.filter(|_| introduced.is_other_ledger)?;
                Some(ChannelError::OtherLedger {
                    ledger: introduced.ledger.clone(),
                    expected,
                    socket,
                })
            }
        }
    }

    /// Has the daemon prove that it knows the cookie, if this process may read that. Without a
    /// cookie, only a process of root's is believed.
    async fn introduce(
        &self,
        connection: &mut UnixConnection,
    ) -> Result<Acquaintance, ChannelError> {
        let own = rustix::process::geteuid().as_raw();
        let server = connection.server_user();
        if own != 0 && own != server {
            return Ok(Acquaintance::ByUser);
        }
        let challenge = Challenge::draw(&SystemEntropy::new())?;
        let response = shake_hands(connection, &challenge).await?;
        let introduction: Introduction = serde_json::from_slice(&response.body)?;
        let ledger = PathBuf::from(&introduction.ledger);
        let socket = self.client.socket();
        let impostor = || ChannelError::Impostor {
            ledger: ledger.clone(),
            socket: socket.to_owned(),
        };
        let is_its_own = |introduction: &Introduction| {
            is_socket(socket, introduction.socket) && is_server(connection, introduction.process)
        };
        let Some(FoundCookie { key, is_expected }) = self.find_cookie(&ledger, connection) else {
            // A process that names a ledger without a cookie must not pass for the daemon whose
            // cookie is here.
            let own_cookie = self.expected.as_deref();
            return match own_cookie.and_then(|it| read_cookie(it, server)) {
                Some(_) => Err(impostor()),
                None if server == 0 => Ok(Acquaintance::ByUser),
                None => Ok(Acquaintance::None {
                    ledger,
                    process: is_its_own(&introduction).then_some(introduction.process.id),
                }),
            };
        };
        let of_daemon = introduction.challenge.as_deref().and_then(Challenge::parse);
        let challenges = Challenges {
            of_command: challenge,
            of_daemon: of_daemon.ok_or_else(impostor)?,
        };
        if !check_proof(&key, &Method::GET, HANDSHAKE_PATH, &challenges, &response) {
            return Err(impostor());
        }
        if !is_its_own(&introduction) {
            return Err(ChannelError::Replaced {
                socket: socket.to_owned(),
            });
        }
        let is_root_among_others = own == 0 && server != 0;
        Ok(Acquaintance::ByCookie(Box::new(Introduced {
            is_other_ledger: is_root_among_others && !is_expected && self.expected.is_some(),
            ledger,
            key,
            challenges,
        })))
    }

    /// Returns the cookie of a daemon that says to write `ledger`. It belongs to the user of the
    /// process that listens: another user could name any file.
    fn find_cookie(&self, ledger: &Path, connection: &UnixConnection) -> Option<FoundCookie> {
        let owner = connection.server_user();
        let expected = self.expected.as_deref();
        let expected = expected.filter(|expected| is_same_file(expected, ledger));
        let known = expected.and_then(|expected| read_cookie(expected, owner));
        // An impostor could name another path of the same ledger, or have other mounts, with a
        // cookie of its own.
        let is_known_place = owner != 0 && expected.is_some_and(has_folder);
        let elsewhere = || {
            let found = read_cookie(ledger, owner);
            found.or_else(|| cookie_in_mounts(ledger, connection))
        };
        let key = match known {
            None if !is_known_place => elsewhere(),
            known => known,
        };
        key.map(|key| FoundCookie {
            key,
            is_expected: expected.is_some(),
        })
    }
}

/// Returns the cookie beside a ledger where the process that listens has other mounts, as in a
/// container, into which root can look.
fn cookie_in_mounts(ledger: &Path, connection: &UnixConnection) -> Option<CookieKey> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let process = connection.server_process()?;
    let root = PathBuf::from(format!("/proc/{process}/root"));
    let ledger = root.join(ledger.strip_prefix("/").ok()?);
    read_cookie(&ledger, connection.server_user())
}

fn has_folder(ledger: &Path) -> bool {
    ledger.parent().is_some_and(Path::is_dir)
}

/// Sends a challenge to the process that listens, and returns its response.
async fn shake_hands(
    connection: &mut UnixConnection,
    challenge: &Challenge,
) -> Result<UnixResponse, ChannelError> {
    let header = HeaderName::from_static(CHALLENGE_HEADER);
    let header = Some((header, challenge.as_str().to_owned()));
    let response = connection
        .send_for_short(&Method::GET, HANDSHAKE_PATH, header)
        .await?;
    let status = response.status;
    if status != StatusCode::OK {
        let reason = refusal(status, &response.body);
        return Err(ChannelError::Refused { status, reason });
    }
    Ok(response)
}

/// Returns whether a response has the daemon's proof.
fn check_proof(
    key: &CookieKey,
    method: &Method,
    path: &str,
    challenges: &Challenges,
    response: &UnixResponse,
) -> bool {
    let statement = Statement::Response {
        method,
        path,
        status: response.status,
    };
    let proven = key.verify(&statement, challenges, &response.headers);
    proven == Some(BodyDigest::of(&response.body))
}

/// Returns whether the socket at `path` is the one that the daemon has made.
fn is_socket(path: &Path, made: SocketIdentity) -> bool {
    path.metadata().is_ok_and(|found| {
        let SocketIdentity { device, inode } = made;
        (found.dev(), found.ino()) == (device, inode)
    })
}

/// Returns whether the process that listens is the one that the daemon says to be: a process
/// that passes requests on is another one. One that this process does not see, because it is
/// in another container, is not compared.
fn is_server(connection: &UnixConnection, process: ServerProcess) -> bool {
    let seen = connection
        .server_process()
        .and_then(|seen| u32::try_from(seen).ok());
    let stated = NamespacedProcess {
        process: process.id,
        namespace: process.namespace,
    };
    seen.is_none_or(|seen| seen == 0 || stated.is_seen_as(seen))
}

/// Returns the reason for which the daemon refuses a request, as a line for a terminal.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> String {
    let error = serde_json::from_slice::<ErrorBody>(body);
    error.map_or_else(
        |_| format!("HTTP status {status}"),
        |body| visible_line(&body.error),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::redact::is_printable;

    /// A process names a path that would begin a line of its own, and act on the terminal.
    #[test]
    fn text_of_another_process_is_one_line() {
        let ledger = || PathBuf::from("/x\nerror: all is lost\u{9b}2J\u{202e}\r");
        let socket = || PathBuf::from("/run/rekeyd/control.sock");
        let body = serde_json::json!({"error": ledger()}).to_string();
        let status = StatusCode::FORBIDDEN;
        for error in [
            ChannelError::Impostor {
                ledger: ledger(),
                socket: socket(),
            },
            ChannelError::NoCookie {
                ledger: ledger(),
                socket: socket(),
                process: None,
            },
            ChannelError::OtherLedger {
                ledger: ledger(),
                expected: "/var/lib/rekeyd/ledger.db".into(),
                socket: socket(),
            },
            ChannelError::Refused {
                status,
                reason: refusal(status, body.as_bytes()),
            },
        ] {
            let text = error.to_string();
            assert!(text.contains("/x\u{fffd}error: all is lost"), "{text}");
            assert!(text.chars().all(is_printable), "{text:?}");
        }
    }
}
