//! One request: the injected fault, the work and the response.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use tokio::sync::watch;

use crate::core::scope::Scope;
use crate::net::http_server;
use crate::sandbox::authorization::{ADMIN_SCOPE, MODELS_SCOPE, authorize};
use crate::sandbox::fault::{Fault, FaultKind};
use crate::sandbox::key_format::random_fraction;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::reply::{ApiReply, proxy_block_page};
use crate::sandbox::state::sandbox_state::SandboxState;
use crate::sandbox::store;

/// The state that all requests share.
pub(super) struct SandboxApp {
    state: Mutex<SandboxState>,
    state_file: Option<PathBuf>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<HashMap<(ApiOperation, Option<Scope>), u64>>,
    pub(super) late_create_delay: Duration,
    pub(super) slow_reply_delay: Duration,
    /// Becomes true when the sandbox stops.
    pub(super) stopped: watch::Receiver<bool>,
}

/// How the work of a request is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WorkMode {
    Normal,
    /// A list is the one from before the last change.
    StaleList,
    /// A service account is created without its key.
    WithoutKey,
}

impl SandboxApp {
    pub(super) fn new(
        state: SandboxState,
        state_file: Option<PathBuf>,
        stopped: watch::Receiver<bool>,
        (late_create_delay, slow_reply_delay): (Duration, Duration),
    ) -> Self {
        Self {
            state: Mutex::new(state),
            state_file,
            faults: Mutex::default(),
            requests: Mutex::default(),
            late_create_delay,
            slow_reply_delay,
            stopped,
        }
    }

    /// Locks the state for reading: a change through it is not saved.
    pub(super) fn lock_state(&self) -> MutexGuard<'_, SandboxState> {
        lock(&self.state)
    }

    /// Changes the state, and saves it to the file.
    pub(super) fn update<T>(&self, work: impl FnOnce(&mut SandboxState) -> T) -> T {
        let mut state = lock(&self.state);
        let result = work(&mut state);
        if let Some(file) = &self.state_file
            && let Err(error) = store::save(file, &state)
        {
            tracing::warn!("{error}; the change is lost when the sandbox stops");
        }
        result
    }

    pub(super) fn set_faults(&self, faults: Vec<Fault>) {
        *lock(&self.faults) = faults;
    }

    /// Returns the number of requests for `operation`, answered or not; with a scope, of
    /// those in it.
    pub(super) fn requests(&self, operation: ApiOperation, scope: Option<&Scope>) -> u64 {
        let requests = lock(&self.requests);
        let counted = requests.iter().filter(|((counted, counted_scope), _)| {
            *counted == operation && (scope.is_none() || scope == counted_scope.as_ref())
        });
        counted.map(|(_, count)| count).sum()
    }

    /// Handles one request with `work`, whose error is a response as well.
    pub(super) async fn respond<W>(
        self: &Arc<Self>,
        request: ApiRequest,
        headers: &HeaderMap,
        work: W,
    ) -> Response
    where
        W: FnOnce(&mut SandboxState, WorkMode) -> Result<ApiReply, ApiReply> + Send + 'static,
    {
        let operation = request.operation;
        let place = (operation, request.scope.clone());
        *lock(&self.requests).entry(place).or_default() += 1;
        let secret = bearer_token(headers);
        let authorized_work = move |state: &mut SandboxState, mode: WorkMode| {
            authorize(state, operation, secret.as_deref())
                .and_then(|()| work(state, mode))
                .unwrap_or_else(|refusal| refusal)
        };
        let Some(kind) = self.select_fault(&request) else {
            return self
                .update(|state| authorized_work(state, WorkMode::Normal))
                .into_response();
        };
        tracing::debug!(
            operation = operation.as_str(),
            fault = kind.as_str(),
            "injecting a fault"
        );
        match kind {
            FaultKind::DropBefore => http_server::hang_up(),
            FaultKind::DropAfter => {
                self.update(|state| authorized_work(state, WorkMode::Normal));
                http_server::hang_up()
            }
            FaultKind::ErrorBefore => ApiReply::server_error().into_response(),
            FaultKind::ErrorAfter => {
                self.update(|state| authorized_work(state, WorkMode::Normal));
                ApiReply::server_error().into_response()
            }
            FaultKind::RateLimit => ApiReply::rate_limited().into_response(),
            FaultKind::Quota => ApiReply::quota_exhausted().into_response(),
            FaultKind::Refused => ApiReply::organization_refused().into_response(),
            FaultKind::Hang => {
                self.update(|state| authorized_work(state, WorkMode::Normal));
                self.wait_until_stopped().await;
                http_server::hang_up()
            }
            FaultKind::Slow => {
                let reply = self.update(|state| authorized_work(state, WorkMode::Normal));
                tokio::time::sleep(self.slow_reply_delay).await;
                reply.into_response()
            }
            FaultKind::Garbage => self
                .update(|state| authorized_work(state, WorkMode::Normal))
                .into_truncated(),
            FaultKind::Html => proxy_block_page(),
            FaultKind::Scope => {
                let scope = match operation {
                    ApiOperation::Verify => MODELS_SCOPE,
                    ApiOperation::Create
                    | ApiOperation::List
                    | ApiOperation::Retrieve
                    | ApiOperation::Delete
                    | ApiOperation::Update
                    | ApiOperation::Project => ADMIN_SCOPE,
                };
                ApiReply::lacks_scope(StatusCode::UNAUTHORIZED, scope).into_response()
            }
            FaultKind::Forbidden => ApiReply::forbidden().into_response(),
            FaultKind::NoKey => self
                .update(|state| authorized_work(state, WorkMode::WithoutKey))
                .into_response(),
            FaultKind::NoAccountKey => {
                self.update(|state| authorized_work(state, WorkMode::WithoutKey));
                ApiReply::server_error().into_response()
            }
            FaultKind::StaleList => self
                .update(|state| authorized_work(state, WorkMode::StaleList))
                .into_response(),
            FaultKind::Late => {
                let app = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(app.late_create_delay).await;
                    app.update(|state| authorized_work(state, WorkMode::Normal));
                });
                http_server::hang_up()
            }
        }
    }

    /// Selects the first of the faults that hits this request.
    fn select_fault(&self, request: &ApiRequest) -> Option<FaultKind> {
        lock(&self.faults)
            .iter()
            .filter(|fault| fault.applies_to(request))
            .find(|fault| random_fraction() < fault.probability)
            .map(|fault| fault.kind)
    }

    async fn wait_until_stopped(&self) {
        // An error means that the sandbox was dropped.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// Returns the secret that a request presents.
pub(super) fn bearer_token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
