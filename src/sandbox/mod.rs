//! A local Admin API that injects faults.
//!
//! It behaves like the real one as far as that is known (`state`, `routes`) and
//! fails on request ([`Fault`]), so that rekeyd can be rehearsed against it
//! without an account. It must not store anything real: it keeps its secrets in
//! plain text, with [`SandboxOptions::state_file`] also on disk.
//!
//! Beside it are the [`receiver`] of webhooks and the environment of the demo.
//! All of it is behind the cargo feature `demo`.

pub(crate) mod demo;
mod fault;
mod key_format;
pub mod receiver;
mod reply;
mod routes;
mod server;
mod state;
pub mod store;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

pub use crate::sandbox::fault::{ApiOperation, Fault, FaultError, FaultKind};
pub use crate::sandbox::key_format::DEFAULT_ADMIN_KEY;
pub use crate::sandbox::state::{ADMIN_KEY_NAME, PropagationDelays};

use crate::core::os_error;
use crate::core::secret::Secret;
use crate::net::http_server::{self, ConnectionLimits};
use crate::sandbox::server::SandboxApp;
use crate::sandbox::state::SandboxState;
use crate::sandbox::store::StateFileError;

/// The limit of connections, more than any rehearsal opens.
const MAX_CONNECTIONS: usize = 1024;

/// The options of a sandbox.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The admin key that it accepts from the start; by default
    /// [`DEFAULT_ADMIN_KEY`].
    pub admin_key: Option<String>,
    /// The file that keeps its keys over a restart: JSON with their secrets,
    /// mode 0600. Without it the process loses them.
    pub state_file: Option<PathBuf>,
    /// The faults that are injected.
    pub faults: Vec<Fault>,
    /// The delays until a change affects the acceptance of secrets.
    pub delays: PropagationDelays,
    /// The delay of a create that was hit by a [`FaultKind::Late`].
    pub late_create_delay: Duration,
    /// The delay of a [`FaultKind::Slow`] response.
    pub slow_reply_delay: Duration,
}

/// A running sandbox, which stops on drop.
pub struct Sandbox {
    app: Arc<SandboxApp>,
    address: SocketAddr,
    base_url: Url,
    admin_key: String,
    stop: watch::Sender<bool>,
}

/// A key that is alive in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveKey {
    /// Its id.
    pub id: String,
    /// Its name; [`ADMIN_KEY_NAME`] for the one from the start.
    pub name: String,
}

/// The error of a sandbox that does not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address cannot be bound.
    #[error(
        "cannot listen on {address}: {}; hint: choose another address with --listen",
        os_error::describe(source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The file with its keys cannot be read or written.
    #[error(transparent)]
    State(#[from] StateFileError),
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin_key: None,
            state_file: None,
            faults: Vec::new(),
            delays: PropagationDelays::default(),
            late_create_delay: Duration::from_secs(3),
            slow_reply_delay: Duration::from_secs(2),
        }
    }
}

impl Sandbox {
    /// Binds and serves on the current tokio runtime.
    ///
    /// # Errors
    /// [`SandboxError`].
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let mut state = match &options.state_file {
            Some(path) => store::load(path)?,
            None => SandboxState::default(),
        };
        state.delays = options.delays;
        let admin_key = options
            .admin_key
            .unwrap_or_else(|| DEFAULT_ADMIN_KEY.to_owned());
        state.ensure_key(admin_key.clone());
        if let Some(path) = &options.state_file {
            store::save(path, &state)?;
        }

        let listen_error = |source| SandboxError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let base_url = Url::parse(&format!("http://{address}/v1"))
            .map_err(|error| listen_error(io::Error::other(error)))?;
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(SandboxApp::new(
            state,
            options.state_file,
            stopped.clone(),
            (options.late_create_delay, options.slow_reply_delay),
        ));
        app.set_faults(options.faults);
        tokio::spawn(http_server::serve(
            listener,
            ConnectionLimits::new(MAX_CONNECTIONS),
            routes::router(Arc::clone(&app)),
            (),
            stopped,
        ));
        Ok(Self {
            app,
            address,
            base_url,
            admin_key,
            stop,
        })
    }

    /// Returns the address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the value for `base-url`, such as `http://127.0.0.1:8787/v1`.
    #[must_use]
    pub fn base_url(&self) -> Url {
        self.base_url.clone()
    }

    /// Returns the admin key that it accepts from the start, for a client in
    /// this process. While the returned secret lives, it is redacted in the
    /// output of this process.
    #[must_use]
    pub fn admin_key(&self) -> Secret {
        Secret::new(self.admin_key.clone())
    }

    /// Lists every live key, oldest first, with its own admin key.
    #[must_use]
    pub fn live_keys(&self) -> Vec<LiveKey> {
        self.app
            .lock_state()
            .live_keys()
            .into_iter()
            .map(|key| LiveKey {
                id: key.id,
                name: key.name,
            })
            .collect()
    }

    /// Whether it accepts a request with `secret` now.
    #[must_use]
    pub fn accepts(&self, secret: &str) -> bool {
        self.app.lock_state().accepts(secret)
    }

    /// Replaces all faults from the next request on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.app.set_faults(faults);
    }

    /// Creates a key like a person on the provider's page. Returns its id and
    /// its secret.
    #[must_use]
    pub fn create_manually(&self, name: &str) -> (String, String) {
        let key = self.app.update(|state| state.create(name.to_owned(), None));
        let secret = SandboxState::secret_of(&key);
        (key.id, secret)
    }

    /// Deletes a key like a person on the provider's page. Returns false if
    /// there is none.
    pub fn delete_manually(&self, id: &str) -> bool {
        self.app.update(|state| state.delete(id))
    }

    /// Returns the number of requests for `operation`, answered or not.
    #[must_use]
    pub fn requests(&self, operation: ApiOperation) -> u64 {
        self.app.requests(operation)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The server has ended already if the runtime was dropped first.
        let _ = self.stop.send(true);
    }
}
