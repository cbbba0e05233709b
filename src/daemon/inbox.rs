//! The events of a running process besides the engine's: requests from the
//! control socket or its own command line, and configurations that were read. A
//! daemon also reports its state to the service manager. Nothing that is only read
//! passes through here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::core::time;
use crate::daemon::admin_key::{AdminKeyChanges, GivenCredential, TriedCredential};
use crate::daemon::config_changes::ending_changes;
use crate::daemon::config_watch::{ConfigWatch, SeenConfig};
use crate::daemon::control::authorization::ControlGroups;
use crate::daemon::control::log_level;
use crate::daemon::control::protocol::{
    CONFIGURATION, ConfigInfo, ControlRequest, ControlResponse, DaemonInfo, RequestOutcome,
    SentSecret, Wait,
};
use crate::daemon::control::server::ControlConfig;
use crate::daemon::control::tracker::{FinishedRequest, IncomingRequest, RequestTracker};
use crate::daemon::heartbeat::Heartbeat;
use crate::daemon::listeners::Listeners;
use crate::daemon::probes::Probes;
use crate::daemon::reload::{self, ConfigReader, ReadConfig};
use crate::daemon::runtime::Runtime;
use crate::daemon::service_manager::ServiceManager;
use crate::engine::Engine;
use crate::platform::{run_blocking, zones};

/// The sources of a process's events, and its servers.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) tracker: RequestTracker,
    config_reader: Option<ConfigReader>,
    /// The configuration that is being read.
    config_reads: JoinSet<ReadConfig>,
    /// Whether the configuration file has changed.
    config_watch: ConfigWatch,
    /// The changed configuration that is being read although nobody asked for it.
    changed_config_reads: JoinSet<ReadConfig>,
    /// Callers that wait for the outcome of the reload.
    reload_replies: Vec<oneshot::Sender<ControlResponse>>,
    /// The requests whose callers get the responses once readers see what they say.
    finished_requests: Vec<FinishedRequest>,
    requests: Option<mpsc::UnboundedReceiver<IncomingRequest>>,
    heartbeat: Heartbeat,
    admin_key: AdminKeyChanges,
    /// Set in a daemon alone.
    listeners: Option<Listeners>,
    /// Set in a daemon alone.
    service_manager: Option<ServiceManager>,
    /// Shows what a command waits for, or `rekeyd once`.
    wait_reporter: Option<WaitReporter>,
    /// Whether that is what the engine waits for, and not what callers wait for.
    reports_engine: bool,
    /// The time zones of the schedules, while they are read again.
    zone_reads: JoinSet<Vec<TimeZone>>,
    zones_read_at: Option<Instant>,
    /// Held by the thread that reads them, which may hang.
    zone_reader: Arc<()>,
}

/// The interval at which the time zones are read again.
const ZONE_INTERVAL: Duration = Duration::from_secs(60);

/// The time limit of reading them.
const ZONE_TIMEOUT: Duration = Duration::from_secs(30);

/// Shows what callers wait for.
pub(crate) type WaitReporter = Box<dyn FnMut(Vec<Wait>)>;

/// An event for the event loop.
pub(crate) enum InboxEvent {
    Request(IncomingRequest),
    ConfigRead(Box<ReadConfig>),
    /// The configuration file was seen.
    ConfigSeen(SeenConfig),
    /// A configuration that was read because it has changed.
    ChangedConfigRead(Box<ReadConfig>),
    LogLevelChanged,
    /// The time zones of the schedules, as this host has them now.
    ZonesRead(Vec<TimeZone>),
    CredentialGiven(GivenCredential),
    CredentialTried(TriedCredential),
}

impl Inbox {
    /// Returns the inbox of a daemon, which reads its configuration with
    /// `read`.
    pub(crate) fn for_daemon(read_config: ConfigReader, runtime: &Runtime) -> Self {
        let (requests, incoming_requests) = mpsc::unbounded_channel();
        let heartbeat = Heartbeat::default();
        let probes = Probes {
            heartbeat: heartbeat.clone(),
            conditions: Arc::clone(&runtime.engine.services().conditions),
            view: runtime.engine.shared_view(),
        };
        Self {
            config_reader: Some(read_config),
            requests: Some(incoming_requests),
            listeners: Some(Listeners::new(requests, probes, runtime)),
            heartbeat,
            service_manager: Some(ServiceManager::from_env()),
            ..Self::default()
        }
    }

    /// Returns the inbox of a command, which shows `wait_reporter` what it waits for.
    pub(crate) fn for_command(wait_reporter: WaitReporter) -> Self {
        Self {
            wait_reporter: Some(wait_reporter),
            ..Self::default()
        }
    }

    /// Returns the inbox of a process that has no caller and ends when nothing is due, which
    /// shows `wait_reporter` what it waits for.
    pub(crate) fn for_once(wait_reporter: WaitReporter) -> Self {
        Self {
            reports_engine: true,
            ..Self::for_command(wait_reporter)
        }
    }

    /// Listens on the configured places, and no longer at others. The daemon continues
    /// without a place that it cannot take, since keys must rotate nevertheless.
    pub(crate) async fn listen(&mut self, runtime: &mut Runtime) {
        if let Some(listeners) = &mut self.listeners {
            listeners.listen(runtime, control_config).await;
            listeners.set_config(control_config(runtime));
        }
    }

    /// Looks whether the daemon still listens where it should.
    pub(crate) async fn check_listeners(&mut self, runtime: &mut Runtime) {
        if let Some(listeners) = &mut self.listeners {
            listeners.check(runtime, control_config).await;
        }
    }

    /// Reads the time zones of the schedules again, if that is due: the host may have newer
    /// tzdata than at the start.
    pub(crate) fn check_zones(&mut self, engine: &Engine) {
        let Some(read_at) = self.zones_read_at else {
            self.zones_read_at = Some(Instant::now());
            return;
        };
        let is_reading = Arc::strong_count(&self.zone_reader) > 1;
        if !self.is_daemon() || is_reading || read_at.elapsed() < ZONE_INTERVAL {
            return;
        }
        self.zones_read_at = Some(Instant::now());
        let names = engine.zone_names();
        let reader = Arc::clone(&self.zone_reader);
        self.zone_reads.spawn(async move {
            let describe = || "reading the time zones".to_owned();
            let reading = run_blocking(describe, ZONE_TIMEOUT, move || {
                let zones = zones::read_again(&names);
                drop(reader);
                zones
            });
            // Without an answer, the schedules keep the zones that they have.
            reading.await.unwrap_or_default()
        });
    }

    /// Reads the configuration again. Drops a read in progress, whose result
    /// may be older than this request.
    pub(crate) fn start_reload(&mut self, reply: Option<oneshot::Sender<ControlResponse>>) {
        let Some(read_config) = &self.config_reader else {
            tracing::warn!("ignoring SIGHUP: only `rekeyd run` reloads its configuration");
            return;
        };
        if let Some(manager) = &mut self.service_manager {
            manager.reloading();
        }
        self.reload_replies.extend(reply);
        // A read that has ended and was not handled yet is dropped as well.
        self.changed_config_reads = JoinSet::new();
        self.config_reads = JoinSet::new();
        self.config_reads
            .spawn(reload::read_config(Arc::clone(read_config)));
    }

    /// Returns the next event. Cancel safe.
    pub(crate) async fn next(&mut self) -> InboxEvent {
        loop {
            tokio::select! {
                biased;
                incoming = recv_or_pending(&mut self.requests) => match incoming {
                    IncomingRequest { request: ControlRequest::Reload, reply, .. } => self.start_reload(Some(reply)),
                    IncomingRequest { request: ControlRequest::LogLevel { level, span }, reply, .. } => {
                        // The caller may have disconnected.
                        let _ = reply.send(log_level::set(&level, span.as_deref()));
                        return InboxEvent::LogLevelChanged;
                    }
                    IncomingRequest { request: ControlRequest::UseCredential { secret, file }, reply, .. } => {
                        let SentSecret(secret) = secret;
                        return InboxEvent::CredentialGiven(GivenCredential { secret, file, reply });
                    }
                    incoming => return InboxEvent::Request(incoming),
                },
                Some(read) = self.config_reads.join_next() => {
                    // An error means that a newer reload aborted it.
                    if let Ok(read) = read {
                        return InboxEvent::ConfigRead(Box::new(read));
                    }
                }
                Some(read) = self.zone_reads.join_next() => {
                    if let Ok(zones) = read {
                        return InboxEvent::ZonesRead(zones);
                    }
                }
                seen = self.config_watch.seen() => return InboxEvent::ConfigSeen(seen),
                Some(read) = self.changed_config_reads.join_next() => {
                    // An error means that a reload took its place.
                    if let Ok(read) = read {
                        return InboxEvent::ChangedConfigRead(Box::new(read));
                    }
                }
                tried = self.admin_key.next() => return InboxEvent::CredentialTried(tried),
                () = log_level::end_in_time() => {}
            }
        }
    }

    /// Checks whether the configuration file has changed, in a daemon.
    pub(crate) fn check_config_file(&mut self, runtime: &Runtime) {
        if self.is_daemon() {
            self.config_watch.check(&runtime.settings);
        }
    }

    /// Shows whether the configuration file that was seen has changed. Reads it if it is
    /// complete, in a daemon that takes it by itself.
    pub(crate) fn note_config(&mut self, seen: SeenConfig, runtime: &Runtime) {
        if !self.config_reads.is_empty() {
            // The next check compares with what a person has reloaded.
            return;
        }
        runtime.observe_config_file(seen.is_changed);
        let loaded = runtime.settings.stamp;
        if runtime.settings.control.reload_on_change
            && self.config_watch.note(seen.stamp, loaded, Instant::now())
            && let Some(read_config) = &self.config_reader
        {
            self.changed_config_reads
                .spawn(reload::read_config(Arc::clone(read_config)));
        }
    }

    /// Applies a changed configuration by itself if it ends nothing; else it waits for a
    /// person. People are notified of one that is not in use then.
    pub(crate) async fn apply_changed_config(&mut self, read: ReadConfig, runtime: &mut Runtime) {
        if let Ok((settings, _)) = &read.result {
            if settings.digest == runtime.settings.digest {
                return runtime.forget_configuration_problem().await;
            }
            let ending = ending_changes(&runtime.settings, settings);
            if !ending.is_empty() {
                runtime.let_configuration_wait(settings, &ending).await;
                return runtime.engine.notify_of_configuration();
            }
        }
        self.apply_config(read, runtime).await;
        runtime.engine.notify_of_configuration();
    }

    /// Tries an admin key that a person gives.
    pub(crate) fn try_credential(&mut self, given: GivenCredential, runtime: &Runtime) {
        let provider = Arc::clone(&runtime.provider);
        self.admin_key.try_given(given, provider);
    }

    /// Continues with another admin key, if the one that was tried was taken.
    pub(crate) fn settle_credential(&mut self, tried: TriedCredential, engine: &mut Engine) {
        if tried.is_taken {
            engine.use_other_admin_key();
        }
        self.finished_requests.extend(tried.answer);
    }

    /// Checks whether the file with the admin key has changed, in a daemon.
    pub(crate) fn check_admin_key_file(&mut self, runtime: &Runtime) {
        if self.is_daemon() && runtime.engine.can_send_requests() {
            self.admin_key.check_file(&runtime.provider);
        }
    }

    /// Applies a configuration that was read, if it is valid, and replies to
    /// the callers that requested the reload.
    pub(crate) async fn apply_config(&mut self, read: ReadConfig, runtime: &mut Runtime) {
        let ReadConfig {
            result,
            credential_problem,
            unseen_credential,
        } = read;
        let result = runtime.apply_reload(result).await;
        if result.is_ok() {
            self.listen(runtime).await;
        }
        self.ready();
        let file = runtime.settings.file.display();
        let is_taken = result.is_ok();
        let mut message = match result {
            Ok(removed) if removed.is_empty() => format!("reloaded {file}"),
            Ok(removed) => format!(
                "reloaded {file}; no longer rotating: {}{}",
                join_few(&removed),
                describe_unmanaged(&runtime.engine.unmanaged_keys(&removed))
            ),
            Err(error) => error.to_string(),
        };
        if is_taken && let Some(listeners) = &self.listeners {
            for problem in listeners.problems() {
                message.push_str(&format!("; but {problem}"));
            }
        }
        if is_taken && let Some(unseen) = unseen_credential {
            message.push_str(&format!("; {unseen}"));
        }
        let outcome = |about: &str, done, message| RequestOutcome {
            about: about.to_owned(),
            done,
            message,
            shared_with: Vec::new(),
            consequences: Vec::new(),
            name: None,
        };
        let mut outcomes = vec![outcome(CONFIGURATION, is_taken, message)];
        if let Some(problem) = credential_problem.filter(|_| is_taken) {
            let message = format!(
                "the configuration is applied, but the admin key cannot be read: {problem}"
            );
            outcomes.push(outcome("admin key", false, message));
        }
        let callers = self.reload_replies.drain(..);
        self.finished_requests.extend(callers.map(|caller| {
            let outcomes = outcomes.clone();
            (caller, ControlResponse { outcomes })
        }));
    }

    /// Reports to the service manager that the daemon is ready.
    pub(crate) fn ready(&mut self) {
        if let Some(manager) = &mut self.service_manager {
            manager.ready();
        }
    }

    /// Reports that the process stops within `span`. Returns false if it is not
    /// a daemon.
    pub(crate) fn stopping(&mut self, span: Duration) -> bool {
        if let Some(manager) = &mut self.service_manager {
            manager.stopping(span);
        }
        self.service_manager.is_some()
    }

    /// Refuses the requests that nothing takes any more, and each later one at once: their
    /// callers need not wait until the process has ended.
    pub(crate) fn refuse_requests(&mut self) {
        // The server answers for a request whose sender of the reply is gone.
        self.requests = None;
        self.reload_replies.clear();
        self.admin_key = AdminKeyChanges::default();
    }

    /// Returns whether the process is a daemon.
    pub(crate) const fn is_daemon(&self) -> bool {
        self.service_manager.is_some()
    }

    /// Reports that stopping takes up to `span` from now on.
    pub(crate) fn extend_stop_timeout(&mut self, span: Duration) {
        if let Some(manager) = &mut self.service_manager {
            manager.extend_stop_timeout(span);
        }
    }

    /// Reports the state of the engine, and then replies to finished requests: whoever has
    /// a reply reads no state from before it. Called once in each iteration of the loop.
    pub(crate) fn publish_progress(&mut self, engine: &mut Engine) {
        let keeps_pace = engine.keeps_pace();
        if keeps_pace {
            self.heartbeat.beat();
        }
        self.tracker.collect_outcomes(engine);
        let problem = engine.active_conditions().into_iter().next();
        let problem = problem.map(|active| active.problem);
        if let Some(manager) = &mut self.service_manager {
            if keeps_pace {
                manager.ping_watchdog();
            }
            manager.set_status(status_line(engine, problem.as_deref()));
        }
        if let Some(listeners) = &self.listeners {
            let damage = engine.ledger_damage();
            listeners.show_progress(problem, damage, self.tracker.waits(engine));
        } else if let Some(report) = &mut self.wait_reporter {
            report(if self.reports_engine {
                engine_waits(engine)
            } else {
                self.tracker.waits(engine)
            });
        }
        self.tracker.reply_finished();
        for (caller, response) in self.finished_requests.drain(..) {
            // The caller may have disconnected.
            let _ = caller.send(response);
        }
    }

    /// Replies to the requests that are still open with the text `unanswered`,
    /// and stops the servers.
    pub(crate) async fn shut_down(&mut self, engine: &mut Engine, unanswered: &str) {
        self.tracker.close(engine, unanswered);
        self.refuse_requests();
        self.finished_requests.clear();
        if let Some(listeners) = &mut self.listeners {
            listeners.shut_down(engine).await;
        }
    }
}

/// Returns what the engine waits for.
fn engine_waits(engine: &Engine) -> Vec<Wait> {
    let waits = engine.awaited_by_all().into_iter();
    let about = |key: Option<&KeyName>| key.map_or("rekeyd once", |key| key.as_str()).to_owned();
    let waits = waits.map(|(key, awaits)| Wait {
        about: about(key),
        awaits,
    });
    waits.collect()
}

/// Describes the state of the engine in one line.
fn status_line(engine: &Engine, problem: Option<&str>) -> String {
    if let Some(problem) = problem {
        return format!("problem: {problem}");
    }
    // The service manager shows one line.
    let rejected = engine.configuration_problem();
    if let Some(problem) = rejected.and_then(|problem| problem.lines().next()) {
        return format!("problem: {problem}");
    }
    let next = engine.next_rotation();
    let next = next.map(|(key, at)| format!("next rotation: {key} at {}", time::to_text(at)));
    let parts = [
        summarize_keys(engine.unhealthy(), "is failing", "are failing"),
        summarize_keys(engine.rotating(), "is being rotated", "are being rotated"),
        next,
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "no rotation is planned".to_owned()
    } else {
        parts.join("; ")
    }
}

/// Describes the first of `keys`, the number of the others, and their state.
fn summarize_keys(keys: &BTreeSet<KeyName>, singular: &str, plural: &str) -> Option<String> {
    let first = keys.first()?;
    Some(match keys.len() - 1 {
        0 => format!("{first} {singular}"),
        others => format!("{first} and {others} more {plural}"),
    })
}

/// Receives the next message; pending for ever without a channel.
async fn recv_or_pending<T>(incoming: &mut Option<mpsc::UnboundedReceiver<T>>) -> T {
    match incoming {
        Some(receiver) => match receiver.recv().await {
            Some(next) => next,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn control_config(runtime: &Runtime) -> ControlConfig {
    let settings = &runtime.settings;
    ControlConfig {
        groups: ControlGroups {
            admins: settings.control.admins.clone(),
            super_admins: settings.control.super_admins.clone().unwrap_or_default(),
        },
        info: DaemonInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            ledger: settings.ledger.display().to_string(),
            configuration: ConfigInfo {
                file: settings.file.display().to_string(),
                sha256: settings.digest.clone(),
                loaded_at: Some(time::to_text(runtime.loaded_at)),
            },
            problem: None,
            ledger_damage: None,
            metrics: None,
            waits: Vec::new(),
        },
        text: settings.text.clone(),
    }
}

/// Says that removed keys have live credentials, and what ends them.
fn describe_unmanaged(keys: &[KeyName]) -> String {
    match keys {
        [] => String::new(),
        [key] => format!(
            "; its credential stays alive; hint: end it with `rekeyd retire {key}`, or add was = \
             \"{key}\" to the key that takes its place"
        ),
        keys => format!(
            "; the credentials of {} stay alive; hint: end those of each key with `rekeyd retire \
             KEY`, or add `was` to the keys that take their places",
            join_few(keys)
        ),
    }
}
