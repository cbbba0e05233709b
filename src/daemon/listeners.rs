//! The places at which a daemon listens: its control socket and its metrics.
//!
//! Keys rotate without them, so a place that cannot be taken ends nothing: it is tried again
//! each second, `rekeyd status` shows it meanwhile, and people are notified if it lasts. A reload leaves a server at its
//! former place until the new place is taken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::config::settings::MetricsAddress;
use crate::core::condition::ListenerProblem;
use crate::core::os_error;
use crate::daemon::control::cookie::OwnerCookie;
use crate::daemon::control::protocol::Wait;
use crate::daemon::control::server::{ControlConfig, ControlServer, DaemonProgress};
use crate::daemon::control::tracker::IncomingRequest;
use crate::daemon::metrics::access::AccessRule;
use crate::daemon::metrics::server::{MetricsListenError, MetricsServer, Pages};
use crate::daemon::probes::Probes;
use crate::daemon::runtime::Runtime;
use crate::daemon::socket_file::{SocketListenError, SocketOwner, SocketPlace};
use crate::engine::Engine;
use crate::platform::entropy::SystemEntropy;

/// The option that names the control socket, for people.
pub(crate) const CONTROL_OPTION: &str = "[control] socket";

/// The interval at which the places are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The servers of a daemon.
pub(crate) struct Listeners {
    requests: mpsc::UnboundedSender<IncomingRequest>,
    control: Option<ControlServer>,
    /// The cookie of the ledger's owner, once there is a control socket.
    cookie: Option<Arc<OwnerCookie>>,
    /// Whether the problem of the cookie was logged.
    has_cookie_problem: bool,
    probes: Arc<Probes>,
    /// The pages of the metrics; none if they are not kept.
    pages: Option<Arc<Pages>>,
    metrics: Option<MetricsServer>,
    problems: BTreeMap<ListenerProblem, String>,
    /// The control socket that the lock file names.
    recorded_socket: Option<PathBuf>,
    /// What the ledger has of the problems; none before the first record.
    recorded: Option<BTreeMap<ListenerProblem, String>>,
    checked_at: Option<Instant>,
}

impl Listeners {
    /// Returns servers that listen nowhere yet.
    pub(crate) fn new(
        requests: mpsc::UnboundedSender<IncomingRequest>,
        probes: Probes,
        runtime: &Runtime,
    ) -> Self {
        let (probes, clock) = (Arc::new(probes), &runtime.clock);
        let metrics = runtime.context.metrics.as_ref();
        let pages = metrics.map(|metrics| {
            let (metrics, clock) = (Arc::clone(metrics), Arc::clone(clock));
            Arc::new(Pages::new(metrics, Arc::clone(&probes), clock))
        });
        Self {
            requests,
            control: None,
            cookie: None,
            has_cookie_problem: false,
            probes,
            pages,
            metrics: None,
            problems: BTreeMap::new(),
            recorded_socket: None,
            recorded: None,
            checked_at: None,
        }
    }

    /// Looks at the places again, if that is due.
    pub(crate) async fn check(
        &mut self,
        runtime: &mut Runtime,
        config: fn(&Runtime) -> ControlConfig,
    ) {
        if self
            .checked_at
            .is_none_or(|at| at.elapsed() >= CHECK_INTERVAL)
        {
            self.listen(runtime, config).await;
        }
    }

    /// Listens on the configured places, and no longer at others.
    pub(crate) async fn listen(
        &mut self,
        runtime: &mut Runtime,
        config: fn(&Runtime) -> ControlConfig,
    ) {
        self.listen_control(runtime, config).await;
        self.record_socket(runtime);
        self.listen_metrics(runtime).await;
        self.checked_at = Some(Instant::now());
        if self.recorded.as_ref() != Some(&self.problems) {
            self.record(&mut runtime.engine).await;
        }
    }

    /// Records the problems, and then logs each change, so that a reader of the log finds
    /// it in the ledger.
    async fn record(&mut self, engine: &mut Engine) {
        let recorded = self.recorded.replace(self.problems.clone());
        let recorded = recorded.unwrap_or_default();
        engine.set_listener_problems(self.problems.clone()).await;
        for listener in ListenerProblem::ALL {
            let problem = self.problems.get(&listener);
            match (recorded.get(&listener), problem) {
                (former, Some(problem)) if former != Some(problem) => tracing::warn!("{problem}"),
                (Some(_), None) => {
                    tracing::info!("listening on the {} again", listener.noun());
                }
                _ => {}
            }
        }
    }

    async fn listen_control(&mut self, runtime: &Runtime, config: fn(&Runtime) -> ControlConfig) {
        let configured = runtime.settings.control.socket.as_deref();
        let Some(path) = configured else {
            self.control = None;
            return self.set_problem(ListenerProblem::ControlSocket, None);
        };
        // Before anybody can connect.
        self.keep_cookie(&runtime.settings.ledger);
        let is_at = |server: &&ControlServer| server.socket().path() == path;
        let mut replaced = false;
        if let Some(server) = self.control.as_ref().filter(is_at) {
            match server.socket().owner() {
                SocketOwner::ThisServer => {
                    return self.set_problem(ListenerProblem::ControlSocket, None);
                }
                // It is taken back once nobody listens there.
                SocketOwner::Other => replaced = true,
                SocketOwner::Absent => tracing::warn!(
                    "the control socket {} was removed; creating it again",
                    path.display()
                ),
            }
        }
        let (requests, ledger) = (self.requests.clone(), runtime.context.ledger());
        let metrics = runtime.context.metrics.as_ref();
        let refused = metrics.map(|metrics| metrics.control_refusals());
        let (probes, config) = (Arc::clone(&self.probes), config(runtime));
        let place = SocketPlace {
            path: path.to_owned(),
            option: CONTROL_OPTION,
        };
        match ControlServer::listen(&place, requests, ledger, probes, config, refused).await {
            Ok(server) => {
                server.set_cookie(self.cookie.clone());
                self.control = Some(server);
                self.set_problem(ListenerProblem::ControlSocket, None);
            }
            Err(SocketListenError::InUse { .. }) if replaced => {
                let problem = format!(
                    "another process replaced the control socket {0}, and listens there; hint: \
                     find it with `fuser -v {0}` and stop it, and give each rekeyd its own [control] \
                     socket",
                    path.display()
                );
                self.set_problem(ListenerProblem::ControlSocket, Some(problem));
            }
            Err(error) => {
                let former = self.control.as_ref().filter(|server| !is_at(server));
                let instead = former.map_or_else(
                    || "no command can reach this daemon".to_owned(),
                    |server| {
                        format!(
                            "rekeyd still listens on {}",
                            server.socket().path().display()
                        )
                    },
                );
                let problem = format!("{error}; until then, {instead}");
                self.set_problem(ListenerProblem::ControlSocket, Some(problem));
            }
        }
    }

    /// Writes the cookie of the ledger's owner, unless it is in its place. Without it, root
    /// and the groups can still use the socket.
    fn keep_cookie(&mut self, ledger: &Path) {
        let is_in_place = |cookie: &Arc<OwnerCookie>| cookie.is_in_place();
        if self.cookie.as_ref().is_some_and(is_in_place) {
            return;
        }
        // The former one is taken from the server before another file has its name.
        self.cookie = None;
        match OwnerCookie::create(ledger, &SystemEntropy::new()) {
            Ok(cookie) => {
                self.cookie = Some(Arc::new(cookie));
                self.has_cookie_problem = false;
            }
            Err(error) if !self.has_cookie_problem => {
                self.has_cookie_problem = true;
                tracing::warn!(
                    "cannot write the cookie {}.cookie: {}; until then, the owner of the ledger may \
                     only look on the control socket",
                    ledger.display(),
                    os_error::describe(&error)
                );
            }
            Err(_) => {}
        }
        if let Some(server) = &self.control {
            server.set_cookie(self.cookie.clone());
        }
    }

    /// Replaces the configuration that the control socket shows.
    pub(crate) fn set_config(&self, config: ControlConfig) {
        if let Some(server) = &self.control {
            server.set_config(config);
        }
    }

    /// Records in the lock file where commands reach this process, whatever the file names
    /// since.
    fn record_socket(&mut self, runtime: &Runtime) {
        let control = self.control.as_ref();
        let path = control.map(|control| control.socket().path());
        let path = path.and_then(|path| std::path::absolute(path).ok());
        if self.recorded_socket != path {
            self.recorded_socket.clone_from(&path);
            runtime.context.ledger().record_socket(path);
        }
    }

    async fn listen_metrics(&mut self, runtime: &Runtime) {
        let configured = runtime.settings.metrics.as_ref();
        let rule = AccessRule {
            access: runtime.settings.metrics_access.clone(),
            trusted_paths: runtime.settings.trusted_paths().clone(),
        };
        // Also one that stays at its former address follows the configuration.
        if let Some(server) = &self.metrics {
            server.set_rule(rule.clone());
        }
        let is_served =
            |server: &MetricsServer| configured == Some(server.address()) && server.is_reachable();
        if self.metrics.as_ref().is_some_and(is_served) {
            return self.set_problem(ListenerProblem::Metrics, None);
        }
        let Some((address, pages)) = configured.zip(self.pages.clone()) else {
            if let Some(server) = self.metrics.take() {
                server.shut_down().await;
            }
            return self.set_problem(ListenerProblem::Metrics, None);
        };
        match self.replace_metrics(address, &rule, &pages).await {
            Ok(()) => self.set_problem(ListenerProblem::Metrics, None),
            Err(error) => {
                let former = self.metrics.as_ref().filter(|server| server.is_reachable());
                let instead = former.map_or_else(
                    || "running without metrics".to_owned(),
                    |server| format!("still serving metrics at {}", server.address()),
                );
                self.set_problem(
                    ListenerProblem::Metrics,
                    Some(format!("{error}; {instead}")),
                );
            }
        }
    }

    /// Listens on `address` in the place of the former one, which may overlap it.
    async fn replace_metrics(
        &mut self,
        address: &MetricsAddress,
        rule: &AccessRule,
        pages: &Arc<Pages>,
    ) -> Result<(), MetricsListenError> {
        let listen = async |address: &MetricsAddress| {
            MetricsServer::listen(address, rule.clone(), Arc::clone(pages)).await
        };
        let former = self.metrics.as_ref().map(MetricsServer::address).cloned();
        match listen(address).await {
            Ok(server) => {
                if let Some(former) = self.metrics.replace(server) {
                    former.shut_down().await;
                }
                Ok(())
            }
            Err(error) => {
                let Some(former) = former.filter(|former| overlaps(former, address)) else {
                    return Err(error);
                };
                if let Some(server) = self.metrics.take() {
                    server.shut_down().await;
                }
                let listened = listen(address).await;
                match listened {
                    Ok(server) => {
                        self.metrics = Some(server);
                        Ok(())
                    }
                    Err(error) => {
                        let again = listen(&former).await;
                        self.metrics = again.ok();
                        Err(error)
                    }
                }
            }
        }
    }

    fn set_problem(&mut self, listener: ListenerProblem, problem: Option<String>) {
        match problem {
            Some(problem) => self.problems.insert(listener, problem),
            None => self.problems.remove(&listener),
        };
    }

    /// Returns the problems.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &str> {
        self.problems.values().map(String::as_str)
    }

    /// Sets the problem of the daemon, the damage of its ledger, and what callers wait for,
    /// that the control socket shows.
    pub(crate) fn show_progress(
        &self,
        problem: Option<String>,
        ledger_damage: Option<String>,
        waits: Vec<Wait>,
    ) {
        if let Some(server) = &self.control {
            let problem = problem.or_else(|| self.problems().next().map(str::to_owned));
            let metrics = self.metrics.as_ref().filter(|server| server.is_reachable());
            let metrics = metrics.map(MetricsServer::address);
            server.set_progress(DaemonProgress {
                problem,
                ledger_damage,
                metrics: metrics.map(|address| address.to_string()),
                waits,
            });
        }
    }

    /// Stops, and clears what the ledger has of the problems.
    pub(crate) async fn shut_down(&mut self, engine: &Engine) {
        for listener in std::mem::take(&mut self.problems).into_keys() {
            engine.forget_listener_problem(listener).await;
        }
        if let Some(server) = self.control.take() {
            server.shut_down().await;
        }
        self.cookie = None;
        self.metrics = None;
    }
}

/// Whether a server at `former` may keep one from `address`.
fn overlaps(former: &MetricsAddress, address: &MetricsAddress) -> bool {
    match (former, address) {
        (MetricsAddress::Tcp(former), MetricsAddress::Tcp(address)) => {
            former.port() == address.port()
        }
        _ => false,
    }
}
