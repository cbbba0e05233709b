//! A local Admin API that injects faults.
//!
//! It behaves like the real one as far as that is known (`state`, `routes`), and
//! fails on request ([`Fault`]), so that rekeyd can be rehearsed against it
//! without an account. It must not store anything real: it keeps its secrets in
//! plain text, with [`SandboxOptions::state_file`] also on disk.
//!
//! Beside it are the [`receiver`] of webhooks and the environment of the demo.
//! All of it is behind the cargo feature `demo`.

mod authorization;
mod behaviour;
pub(crate) mod demo;
mod fault;
mod fault_syntax;
mod key_format;
mod live;
mod manual;
mod objects;
mod operation;
mod policy;
mod project_access;
mod project_option;
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

pub use crate::sandbox::behaviour::{PropagationDelays, Support};
pub use crate::sandbox::fault::{Fault, FaultKind};
pub use crate::sandbox::fault_syntax::FaultError;
pub use crate::sandbox::key_format::DEFAULT_ADMIN_KEY;
pub use crate::sandbox::live::{KeyOwner, LiveKey, LiveProjectKey};
pub use crate::sandbox::operation::ApiOperation;
pub use crate::sandbox::policy::{PolicyError, PolicyRule, ProjectPolicy};
pub use crate::sandbox::project_option::{DEFAULT_PROJECT, ProjectOption, ProjectOptionError};
pub use crate::sandbox::state::admin_keys::ADMIN_KEY_NAME;

use crate::core::ids::ProjectId;
use crate::core::os_error;
use crate::core::scope::Scope;
use crate::core::secret::Secret;
use crate::net::http_server::{self, ConnectionLimits};
use crate::sandbox::server::SandboxApp;
use crate::sandbox::state::sandbox_state::SandboxState;
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
    /// The file that keeps its projects, accounts and keys over a restart: JSON with the
    /// secrets, mode 0600. Without it the process loses them.
    pub state_file: Option<PathBuf>,
    /// The projects that it has from the start; by default [`DEFAULT_PROJECT`].
    pub projects: Vec<ProjectOption>,
    /// The rules of its projects, which must exist.
    pub policies: Vec<ProjectPolicy>,
    /// Whether a key that a service account owns can be deleted.
    pub account_key_deletion: Support,
    /// Whether a project's key can be updated.
    pub key_update: Support,
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
    /// A policy names a project that it does not have.
    #[error("there is no project {0} for a policy; hint: create it with --project {0}")]
    UnknownProject(ProjectId),
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin_key: None,
            state_file: None,
            projects: vec![ProjectOption::new(DEFAULT_PROJECT)],
            policies: Vec::new(),
            account_key_deletion: Support::default(),
            key_update: Support::default(),
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
        let admin_key = options.admin_key.clone();
        let admin_key = admin_key.unwrap_or_else(|| DEFAULT_ADMIN_KEY.to_owned());
        let state = first_state(&options, &admin_key)?;
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

    /// Lists every live admin key, oldest first, with its own.
    #[must_use]
    pub fn live_keys(&self) -> Vec<LiveKey> {
        self.app.lock_state().live_admin_keys()
    }

    /// Whether a request with `secret` is authenticated now. The secret of an archived
    /// project is not.
    #[must_use]
    pub fn accepts(&self, secret: &str) -> bool {
        self.app.lock_state().accepts(secret)
    }

    /// Replaces all faults from the next request on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        self.app.set_faults(faults);
    }

    /// Returns the number of requests for `operation`, answered or not.
    #[must_use]
    pub fn requests(&self, operation: ApiOperation) -> u64 {
        self.app.requests(operation, None)
    }

    /// Returns the number of requests for `operation` in `scope`, answered or not.
    #[must_use]
    pub fn requests_in(&self, scope: &Scope, operation: ApiOperation) -> u64 {
        self.app.requests(operation, Some(scope))
    }
}

/// Returns the state that the options describe.
fn first_state(options: &SandboxOptions, admin_key: &str) -> Result<SandboxState, SandboxError> {
    let mut state = match &options.state_file {
        Some(path) => store::load(path)?,
        None => SandboxState::default(),
    };
    state.delays = options.delays;
    state.account_key_deletion = options.account_key_deletion;
    state.key_update = options.key_update;
    state.ensure_admin_key(admin_key.to_owned());
    for project in &options.projects {
        state.ensure_project(project);
    }
    for policy in &options.policies {
        if !state.add_rule(policy.project.as_str(), policy.rule) {
            return Err(SandboxError::UnknownProject(policy.project.clone()));
        }
    }
    Ok(state)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The server has ended already if the runtime was dropped first.
        let _ = self.stop.send(true);
    }
}
