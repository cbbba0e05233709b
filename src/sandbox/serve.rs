//! One request: whether a fault strikes, the work, the answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use tokio::sync::watch;

use crate::sandbox::fault::{Fault, FaultKind, Operation};
use crate::sandbox::line::Line;
use crate::sandbox::reply::{Reply, page_of_a_proxy};
use crate::sandbox::shape::random_fraction;
use crate::sandbox::state::State;
use crate::sandbox::store;

/// What all requests share.
pub(super) struct App {
    state: Mutex<State>,
    file: Option<PathBuf>,
    faults: Mutex<Vec<Fault>>,
    requests: Mutex<[u64; Operation::ALL.len()]>,
    pub(super) late_after: Duration,
    pub(super) slow_for: Duration,
    /// Becomes true when the sandbox stops.
    pub(super) stopped: watch::Receiver<bool>,
}

impl App {
    pub(super) fn new(
        state: State,
        file: Option<PathBuf>,
        stopped: watch::Receiver<bool>,
        (late_after, slow_for): (Duration, Duration),
    ) -> Self {
        Self {
            state: Mutex::new(state),
            file,
            faults: Mutex::default(),
            requests: Mutex::default(),
            late_after,
            slow_for,
            stopped,
        }
    }

    /// The state, for a look. No change made through this is kept in the file.
    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Changes the state and keeps it.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        let outcome = work(&mut state);
        if let Some(file) = &self.file
            && let Err(error) = store::save(file, &state)
        {
            tracing::warn!("{error}; what changed is forgotten at the next start");
        }
        outcome
    }

    pub(super) fn set_faults(&self, faults: Vec<Fault>) {
        *lock(&self.faults) = faults;
    }

    /// How many requests for `operation` have come, answered or not.
    pub(super) fn requests(&self, operation: Operation) -> u64 {
        lock(&self.requests)[operation as usize]
    }

    /// Does one request with `work`, whose second argument says whether the
    /// list is to be stale.
    pub(super) async fn answer<W>(
        self: &Arc<Self>,
        operation: Operation,
        line: &Line,
        headers: &HeaderMap,
        work: W,
    ) -> Response
    where
        W: FnOnce(&mut State, bool) -> Reply + Send + 'static,
    {
        lock(&self.requests)[operation as usize] += 1;
        let secret = bearer(headers);
        let job = move |state: &mut State, stale: bool| match secret {
            Some(secret) if state.authorize(&secret) => work(state, stale),
            Some(_) | None => Reply::bad_key(),
        };
        let Some(kind) = self.strikes(operation) else {
            return self.change(|state| job(state, false)).into_response();
        };
        tracing::debug!(
            operation = operation.as_str(),
            fault = kind.as_str(),
            "a fault strikes"
        );
        match kind {
            FaultKind::DropBefore => cut(line),
            FaultKind::DropAfter => {
                self.change(|state| job(state, false));
                cut(line)
            }
            FaultKind::ErrorBefore => Reply::server_error().into_response(),
            FaultKind::ErrorAfter => {
                self.change(|state| job(state, false));
                Reply::server_error().into_response()
            }
            FaultKind::RateLimit => Reply::rate_limited().into_response(),
            FaultKind::Hang => {
                self.change(|state| job(state, false));
                self.until_stopped().await;
                cut(line)
            }
            FaultKind::Slow => {
                let reply = self.change(|state| job(state, false));
                tokio::time::sleep(self.slow_for).await;
                reply.into_response()
            }
            FaultKind::Garbage => self.change(|state| job(state, false)).into_garbage(),
            FaultKind::Html => page_of_a_proxy(),
            FaultKind::Scope => Reply::missing_scope().into_response(),
            FaultKind::StaleList => self.change(|state| job(state, true)).into_response(),
            FaultKind::Late => {
                let app = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(app.late_after).await;
                    app.change(|state| job(state, false));
                });
                cut(line)
            }
        }
    }

    /// The first fault that strikes this time.
    fn strikes(&self, operation: Operation) -> Option<FaultKind> {
        lock(&self.faults)
            .iter()
            .filter(|fault| fault.concerns(operation))
            .find(|fault| random_fraction() < fault.probability)
            .map(|fault| fault.kind)
    }

    async fn until_stopped(&self) {
        // An error means that the sandbox is gone, which is the same.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// An answer that is never seen: the connection ends instead.
fn cut(line: &Line) -> Response {
    line.cut();
    Response::default()
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(value.strip_prefix("Bearer ")?.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
