//! A local Admin API that behaves like the real one, to rehearse against: the
//! four operations with their own state, and faults on request.
//!
//! It keeps secrets in memory and in its state file, so that a rehearsal can
//! check what was delivered. It is for loopback, and for nothing real.

mod fault;
mod routes;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use fault::{Fault, Kind, Operation};
use state::State;

/// The admin key that a sandbox accepts where none is given. Anybody may know
/// it: it opens nothing but sandboxes.
pub const DEFAULT_ADMIN_KEY: &str = "sk-admin-sandbox-0000000000000000000000000000000000000000000000000T3BlbkFJ0000000000000000000000000000000000000000000000000000000000";

/// How a sandbox is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The admin key it accepts from the beginning.
    pub admin_key: String,
    /// Where its keys are kept over a restart.
    pub state: Option<PathBuf>,
    /// Its faults.
    pub faults: Vec<Fault>,
    /// How long until a new key works and a deleted one does not.
    pub propagation: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin_key: DEFAULT_ADMIN_KEY.to_owned(),
            state: None,
            faults: Vec::new(),
            propagation: Duration::ZERO,
        }
    }
}

/// A running sandbox; it stops when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Shared(…)")
    }
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that happens now, if one does.
    pub(crate) fn fault(&self, operation: Operation) -> Option<Kind> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        faults
            .iter()
            .filter(|fault| fault.operation.is_none_or(|wanted| wanted == operation))
            .find(|fault| state.dice() < fault.probability)
            .map(|fault| fault.kind)
    }
}

impl Sandbox {
    /// Begins to serve on the current runtime.
    ///
    /// # Errors
    /// The address is taken or the state file cannot be used, in words.
    pub async fn start(options: Options) -> Result<Self, String> {
        let listener = TcpListener::bind(options.listen)
            .await
            .map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let mut state = State::load(options.state, options.propagation)?;
        state.ensure("sandbox-owner", &options.admin_key)?;
        let faults = Mutex::new(options.faults);
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            faults,
        });
        let router = routes::router(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!("the sandbox stopped: {error}");
            }
        });
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    /// The base URL for `[provider] base-url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Id and name of every live key, oldest first.
    #[must_use]
    pub fn live(&self) -> Vec<(String, String)> {
        self.shared
            .state()
            .live()
            .map(|key| (key.id.clone(), key.name.clone()))
            .collect()
    }

    /// Whether the API would accept this secret now.
    #[must_use]
    pub fn accepts(&self, secret: &str) -> bool {
        self.shared.state().accepts(secret)
    }

    /// Other faults from now on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        *self
            .shared
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.server.abort();
    }
}
