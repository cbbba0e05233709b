//! The way to a running daemon on which a command knows who answers.
//!
//! The user of the process that listens is known from the start, but programs that the daemon
//! runs have the same user. So a command that may read the daemon's cookie exchanges challenges
//! first, for each request: it sends nothing to a process that does not know the cookie, and
//! believes no answer without a proof. The cookie itself is never sent.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use axum::http::{HeaderName, Method, StatusCode};

use crate::daemon::control::cookie::read_cookie;
use crate::daemon::control::proof::{
    BodyDigest, CHALLENGE_HEADER, Challenge, Challenges, CookieKey, HANDSHAKE_PATH, PROOF_HEADER,
    Statement,
};
use crate::daemon::control::protocol::{ErrorBody, Introduction, SocketIdentity};
use crate::net::unix_client::{UnixClient, UnixClientError, UnixConnection, UnixResponse};
use crate::platform::entropy::{EntropyError, SystemEntropy};
use crate::platform::file_identity::is_same_file;

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
}

/// The reason why there is no answer. Except after [`ChannelError::UnprovenAnswer`], the
/// request was not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChannelError {
    /// There is no connection, or it failed.
    #[error(transparent)]
    Client(#[from] UnixClientError),
    /// The process that listens refuses the handshake.
    #[error("{0}")]
    Refused(String),
    /// The process that listens does not know the cookie.
    #[error(
        "the process that listens there does not know the cookie of the rekeyd that writes {}, and \
         got nothing; hint: find it with `fuser -v {}` and stop it; rekeyd then makes its socket \
         again",
        ledger.display(), socket.display()
    )]
    Impostor {
        /// The ledger that it names.
        ledger: PathBuf,
        /// The socket.
        socket: PathBuf,
    },
    /// Another socket is in the place of the daemon's.
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

/// What a command proves a request with.
struct Introduced {
    ledger: PathBuf,
    key: CookieKey,
    challenges: Challenges,
}

impl ChannelError {
    /// Returns whether the daemon may have got the request.
    pub(super) const fn was_sent(&self) -> bool {
        match self {
            Self::Client(UnixClientError::Transfer(_) | UnixClientError::TooLong)
            | Self::UnprovenAnswer => true,
            Self::Client(_)
            | Self::Refused(_)
            | Self::Impostor { .. }
            | Self::Replaced { .. }
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

    /// Sends a request over a connection of its own.
    ///
    /// # Errors
    /// See [`ChannelError`].
    pub(super) async fn send(
        &self,
        method: &Method,
        path: &str,
        body: String,
    ) -> Result<DaemonResponse, ChannelError> {
        let mut connection = self.client.connect().await?;
        let Some(introduced) = self.introduce(&mut connection).await? else {
            let response = connection.send(method, path, None, body).await?;
            return Ok(DaemonResponse {
                response,
                proven_ledger: None,
            });
        };
        let Introduced {
            ledger,
            key,
            challenges,
        } = introduced;
        let digest = BodyDigest::of(body.as_bytes());
        let proof = key.prove(&Statement::Request { method, path }, &challenges, &digest);
        let header = (HeaderName::from_static(PROOF_HEADER), proof);
        let response = connection.send(method, path, Some(header), body).await?;
        check_proof(&key, method, path, &challenges, &response)
            .then_some(DaemonResponse {
                response,
                proven_ledger: Some(ledger),
            })
            .ok_or(ChannelError::UnprovenAnswer)
    }

    /// Has the daemon prove that it knows the cookie. None if this process may not read that,
    /// or there is none: the daemon then knows this one by its user alone.
    async fn introduce(
        &self,
        connection: &mut UnixConnection,
    ) -> Result<Option<Introduced>, ChannelError> {
        let own = rustix::process::geteuid().as_raw();
        if own != 0 && own != connection.server_user() {
            return Ok(None);
        }
        let challenge = Challenge::draw(&SystemEntropy::new())?;
        let header = HeaderName::from_static(CHALLENGE_HEADER);
        let header = Some((header, challenge.as_str().to_owned()));
        let response = connection
            .send(&Method::GET, HANDSHAKE_PATH, header, String::new())
            .await?;
        if response.status != StatusCode::OK {
            return Err(ChannelError::Refused(refusal(
                response.status,
                &response.body,
            )));
        }
        let introduction: Introduction = serde_json::from_slice(&response.body)?;
        let ledger = PathBuf::from(&introduction.ledger);
        let socket = self.client.socket();
        let impostor = || ChannelError::Impostor {
            ledger: ledger.clone(),
            socket: socket.to_owned(),
        };
        let Some(key) = self.find_cookie(&ledger, connection) else {
            // A process that names a ledger without a cookie must not pass for the daemon whose
            // cookie is here.
            let own_cookie = self.expected.as_deref();
            let own_cookie = own_cookie.and_then(|it| read_cookie(it, connection.server_user()));
            return own_cookie.map_or(Ok(None), |_| Err(impostor()));
        };
        let of_daemon = introduction.challenge.as_deref().and_then(Challenge::parse);
        let challenges = Challenges {
            of_command: challenge,
            of_daemon: of_daemon.ok_or_else(impostor)?,
        };
        if !check_proof(&key, &Method::GET, HANDSHAKE_PATH, &challenges, &response) {
            return Err(impostor());
        }
        if !is_socket(socket, introduction.socket) {
            return Err(ChannelError::Replaced {
                socket: socket.to_owned(),
            });
        }
        Ok(Some(Introduced {
            ledger,
            key,
            challenges,
        }))
    }

    /// Returns the cookie of a daemon that says to write `ledger`. It belongs to the user of the
    /// process that listens: another user could name any file.
    fn find_cookie(&self, ledger: &Path, connection: &UnixConnection) -> Option<CookieKey> {
        let owner = connection.server_user();
        // An impostor could name another path of the same ledger, with a cookie of its own.
        let expected = self.expected.as_deref();
        let expected = expected.filter(|expected| is_same_file(expected, ledger));
        let known = expected.and_then(|expected| read_cookie(expected, owner));
        let found = known.or_else(|| read_cookie(ledger, owner));
        if found.is_some() || !rustix::process::geteuid().is_root() {
            return found;
        }
        // The daemon may have other mounts, as in a container, into which root can look.
        let process = connection.server_process()?;
        let root = PathBuf::from(format!("/proc/{process}/root"));
        read_cookie(&root.join(ledger.strip_prefix("/").ok()?), owner)
    }
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

/// Returns the reason for which the daemon refuses a request.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> String {
    let error = serde_json::from_slice::<ErrorBody>(body);
    error.map_or_else(|_| format!("HTTP status {status}"), |body| body.error)
}
