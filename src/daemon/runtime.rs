//! The start of a process that writes the ledger, from the configuration to a
//! ready engine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::alerting::channel_states::ChannelStates;
use crate::alerting::dispatcher::NotificationDispatcher;
use crate::config;
use crate::config::settings::{KeySettings, Settings};
use crate::core::active_credential::ActiveCredential;
use crate::core::decide::key_names::Rename;
use crate::core::notification::EventKind;
use crate::daemon::crash_report::record_last_crash;
use crate::daemon::error::ServiceError;
use crate::daemon::key_names;
use crate::daemon::ledger_access::{check_command, check_worker};
use crate::daemon::ledger_credentials::LedgerCredentials;
use crate::daemon::metrics::instrumented_provider::InstrumentedProvider;
use crate::daemon::metrics::registry::Metrics;
use crate::daemon::own_files;
use crate::daemon::temp_cleanup::{self, CleanupDeadline};
use crate::engine::conditions::Conditions;
use crate::engine::observer::ChangeObserver;
use crate::engine::{Engine, ManagedKey, RunMode, Services};
use crate::ledger::{
    self, ConfigurationIdentity, HostIdentity, Ledger, LedgerError, LedgerIdentity, LedgerOptions,
    RestoreSource, RestoredLedger, SnapshotTarget, WriterDriver, WriterLock,
};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::entropy::{Entropy, SystemEntropy};
use crate::platform::path_walk::{self, PathTrust};
use crate::platform::signals::{self, SignalAction};
use crate::platform::{crash, descriptor_limit, machine, process, users, zones};
use crate::provider::Provider;
use crate::provider::failover::{AdminCredentialSources, FailoverProvider};
use crate::provider::openai::OpenAiProvider;
use crate::sink::Sink;
use crate::sink::protected_files::ProtectedFiles;
use crate::sink::target::SinkServices;

/// An engine over the ledger that this process writes.
pub struct Runtime {
    /// The engine.
    pub engine: Engine,
    /// The clock that the engine reads.
    pub clock: Arc<dyn Clock>,
    /// How long this process works on its keys.
    pub(crate) run_mode: RunMode,
    /// The signals since before the ledger was opened.
    pub(crate) signals: UnboundedReceiver<SignalAction>,
    /// The configuration in force.
    pub(crate) settings: Arc<Settings>,
    /// Since when it is.
    pub(crate) loaded_at: Timestamp,
    pub(crate) context: ProcessContext,
    /// The provider in force.
    pub(crate) provider: ProviderStack,
    /// Sends notifications.
    pub(crate) dispatcher: NotificationDispatcher,
}

/// The parts of a process that a reload does not replace.
pub(crate) struct ProcessContext {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    entropy: Arc<SystemEntropy>,
    conditions: Arc<Conditions>,
    active_credential: ActiveCredential,
    pub(crate) metrics: Option<Arc<Metrics>>,
    channel_states: Arc<ChannelStates>,
    /// Whether alerts are raised and sent. A command reports to the person who runs it.
    can_notify: bool,
}

/// How long the ledger's disk may take to close it, without the last snapshot.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns how long a process waits for the last snapshot of the ledger: a timer's for that
/// of a million rotations, and one that somebody stops or waits for not as long.
const fn snapshot_timeout(run_mode: RunMode) -> Duration {
    match run_mode {
        RunMode::Once => Duration::from_secs(30),
        RunMode::Daemon | RunMode::Command | RunMode::Proposal => Duration::from_secs(3),
    }
}

/// The provider, with failover between credentials and with metrics.
pub(crate) type ProviderStack = Arc<FailoverProvider<InstrumentedProvider<OpenAiProvider>>>;

/// Locks and opens the ledger, and builds an engine over it. `command`
/// identifies this process to others that find the ledger locked.
///
/// # Errors
/// If the ledger belongs to another user, is locked by another process, or
/// cannot be opened, or if signal handlers cannot be installed.
pub async fn start(
    settings: &Arc<Settings>,
    sources: AdminCredentialSources,
    command: &str,
    run_mode: RunMode,
) -> Result<Runtime, ServiceError> {
    let permission = match run_mode {
        RunMode::Daemon | RunMode::Once => check_worker(settings),
        RunMode::Command | RunMode::Proposal => check_command(settings),
    };
    explain_refusal(permission, settings)?;
    let signal_actions = signals::listen()?;
    if run_mode == RunMode::Daemon {
        descriptor_limit::raise();
    }
    own_files::narrow_own_folders(settings);
    if matches!(run_mode, RunMode::Daemon | RunMode::Once) {
        own_files::report_open_folder(settings);
    }
    if run_mode != RunMode::Proposal {
        own_files::narrow_own_secrets(settings);
    }
    hide_private_paths(settings);
    if run_mode == RunMode::Daemon && machine::id().is_none() {
        tracing::warn!(
            "this host has no machine id, so rekeyd cannot notice another host that writes a copy \
             of the ledger; hint: run `systemd-machine-id-setup`, or mount the host's \
             /etc/machine-id into the container"
        );
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let lock = WriterLock::acquire(&settings.ledger, command)?;
    crash::set_folder(&settings.ledger);
    let ledger = open_ledger(lock, settings, run_mode, clock.now())?;
    let renames = key_names::renames(settings, &ledger.recorded_names().await?)?;
    // A proposal changes nothing.
    if !renames.is_empty() && run_mode != RunMode::Proposal {
        for Rename { from, to } in &renames {
            tracing::info!(key = %to, "{to}: renamed from {from}");
        }
        ledger.rename_keys(renames, clock.now()).await?;
    }
    let channel_states: Arc<ChannelStates> = Arc::default();
    let context = ProcessContext {
        ledger,
        clock: Arc::clone(&clock),
        entropy: Arc::new(SystemEntropy::new()),
        conditions: Arc::default(),
        active_credential: ActiveCredential::new(),
        // Nothing reads the metrics of a short-lived process.
        metrics: match run_mode {
            RunMode::Daemon => Some(Arc::new(Metrics::new(
                Arc::clone(&channel_states),
                clock.now(),
            )?)),
            RunMode::Once | RunMode::Command | RunMode::Proposal => None,
        },
        channel_states,
        can_notify: match run_mode {
            RunMode::Daemon | RunMode::Once => true,
            RunMode::Command | RunMode::Proposal => false,
        },
    };
    context.add_counters(settings);
    let crash = if run_mode.is_command() {
        None
    } else {
        record_last_crash(&settings.ledger, &context.ledger, clock.as_ref()).await
    };
    let (services, provider) = context.build_services(settings, sources);
    // One thread reads the ledger while another one searches for files.
    let managed_keys = context.managed_keys(settings);
    let opening = Engine::open(services, managed_keys, run_mode);
    let deadline = CleanupDeadline::starting_now();
    let mut engine = if run_mode == RunMode::Proposal {
        opening.await?
    } else {
        let cleanup = temp_cleanup::remove_stale_temps(settings, None, deadline);
        let (opened, ()) = tokio::join!(opening, cleanup);
        let engine = opened?;
        let removed = engine.unconfigured_sinks();
        temp_cleanup::remove_stale_temps_of_removed_sinks(settings, removed, deadline).await;
        engine
    };
    if let Some(crash) = crash {
        crash.notify(&mut engine);
    }
    let outbox = engine.subscribe_outbox();
    let dispatcher = NotificationDispatcher::new(
        context.ledger.clone(),
        Arc::clone(&clock),
        outbox,
        Arc::clone(&context.channel_states),
    );
    Ok(Runtime {
        dispatcher,
        engine,
        loaded_at: clock.now(),
        clock,
        run_mode,
        signals: signal_actions,
        settings: Arc::clone(settings),
        context,
        provider,
    })
}

/// Hides rekeyd's state and secrets from the programs that this process starts, and keeps their
/// modes.
pub(super) fn hide_private_paths(settings: &Settings) {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let credentials = credentials.filter(|folder| folder.is_absolute());
    let paths = config::private_paths(settings, credentials.as_deref());
    process::hide_from_programs(paths);
    own_files::watch_own_files(settings);
}

impl Runtime {
    /// Closes the ledger at an orderly end, so that it is one file, and returns the engine,
    /// which can only be read from then on.
    pub(crate) async fn close(self) -> Engine {
        let Self {
            engine,
            dispatcher,
            context,
            run_mode,
            ..
        } = self;
        let timeout = CLOSE_TIMEOUT + snapshot_timeout(run_mode);
        // Its workers read the outbox.
        drop(dispatcher);
        if tokio::time::timeout(timeout, context.ledger.close())
            .await
            .is_err()
        {
            tracing::warn!(
                "the ledger's disk does not respond; the next start completes the last \
                writes"
            );
        }
        engine
    }
}

impl ProcessContext {
    /// Returns a handle of the ledger's writer.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// Has the counters of the configured keys exist from now on, where somebody may read them.
    pub(crate) fn add_counters(&self, settings: &Settings) {
        if let Some(metrics) = &self.metrics {
            metrics.add_keys(&settings.keys);
        }
    }

    /// Builds the services that all keys share under these settings.
    pub(crate) fn build_services(
        &self,
        settings: &Settings,
        sources: AdminCredentialSources,
    ) -> (Services, ProviderStack) {
        let provider = InstrumentedProvider {
            inner: OpenAiProvider::new(&settings.provider, self.active_credential.clone()),
            metrics: self.metrics.clone(),
        };
        let provider = FailoverProvider::new(provider, self.active_credential.clone(), sources);
        let recorded = LedgerCredentials {
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
        };
        let provider = Arc::new(provider.with_ledger(Arc::new(recorded)));
        let services = Services {
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy) as Arc<dyn Entropy>,
            max_in_flight: settings.provider.max_in_flight,
            reconcile_every: settings.provider.reconcile_every,
            conditions: Arc::clone(&self.conditions),
            observer: match &self.metrics {
                Some(metrics) => Arc::clone(metrics) as Arc<dyn ChangeObserver>,
                None => Arc::new(()),
            },
            // What a person did is news to others; the next `run` or `once` sends it.
            subscriptions: Arc::new(if self.can_notify {
                settings.subscriptions()
            } else {
                settings.subscriptions().only(EventKind::Operator)
            }),
            find_zone: zones::find,
        };
        (services, provider)
    }

    /// Returns the configured keys with their sinks.
    pub(crate) fn managed_keys(&self, settings: &Settings) -> Vec<ManagedKey> {
        let keys = settings.keys.iter().map(|key| ManagedKey {
            name: key.name.clone(),
            scope: key.scope.clone(),
            policy: key.policy.clone(),
            sinks: build_sinks(
                key,
                &self.clock,
                &self.active_credential,
                &settings.protected_files,
            ),
        });
        keys.collect()
    }
}

/// Binds a ledger that was last written on another host to this one.
///
/// # Errors
/// If the ledger belongs to another user, is locked by another process, or
/// cannot be opened.
pub fn take_over(settings: &Settings, command: &str) -> Result<(), ServiceError> {
    explain_refusal(check_command(settings), settings)?;
    let lock = WriterLock::acquire(&settings.ledger, command)?;
    let options = ledger_options(settings, true);
    Ok(ledger::prepare(lock, &options, SystemClock.now())?)
}

/// Locks and opens the ledger for a command that needs no engine.
///
/// # Errors
/// If the ledger belongs to another user, is locked by another process, or
/// cannot be opened.
pub fn open_ledger_alone(settings: &Settings, command: &str) -> Result<Ledger, ServiceError> {
    explain_refusal(check_command(settings), settings)?;
    let lock = WriterLock::acquire(&settings.ledger, command)?;
    let now = SystemClock.now();
    Ok(open_ledger(lock, settings, RunMode::Command, now)?)
}

/// Replaces the ledger by a copy of `source`.
///
/// # Errors
/// If the ledger belongs to another user or is locked by another process, or if `source`
/// cannot be used.
pub fn restore(
    settings: &Settings,
    source: &RestoreSource,
) -> Result<RestoredLedger, ServiceError> {
    explain_refusal(check_command(settings), settings)?;
    let lock = WriterLock::acquire(&settings.ledger, "rekeyd restore")?;
    let (identity, host) = (ledger_identity(settings), machine::id());
    let now = SystemClock.now();
    Ok(ledger::restore(
        &lock,
        source,
        &identity,
        host.as_deref(),
        now,
    )?)
}

/// Replaces the refusal of root's by the error that the ledger has a writer, if
/// it has one: no other command would start a second.
fn explain_refusal(
    permission: Result<(), ServiceError>,
    settings: &Settings,
) -> Result<(), ServiceError> {
    if let Err(ServiceError::WrongLedgerOwner(_)) = &permission {
        WriterLock::check_free(&settings.ledger)?;
    }
    permission
}

fn open_ledger(
    lock: WriterLock,
    settings: &Settings,
    run_mode: RunMode,
    now: Timestamp,
) -> Result<Ledger, LedgerError> {
    let mut options = ledger_options(settings, false);
    options.checks_pages = run_mode == RunMode::Daemon;
    // A proposal changes nothing.
    let snapshot = settings.snapshot.as_ref();
    let snapshot = snapshot.filter(|_| run_mode != RunMode::Proposal);
    options.snapshot = snapshot.map(|snapshot| SnapshotTarget {
        path: snapshot.path.clone(),
        makes_folder: snapshot.is_named,
        close_timeout: snapshot_timeout(run_mode),
        now: || SystemClock.now(),
        find_weakness: |folder| {
            let walked = path_walk::walk_to_folder(folder, &PathTrust::default())?;
            let own = users::name_or_number(rustix::process::geteuid().as_raw());
            let first = walked.weaknesses.first();
            Ok(first.map(|weakness| format!("{weakness}; hint: {}", weakness.remedy(&own))))
        },
    });
    options.wal_pages = match run_mode {
        RunMode::Daemon => None,
        RunMode::Once | RunMode::Command | RunMode::Proposal => Some(ledger::SHORT_WAL_PAGES),
    };
    Ledger::open(lock, &options, now, WriterDriver::Thread)
}

/// Returns the options of this host; `can_take_over` includes a ledger of
/// another host.
fn ledger_options(settings: &Settings, can_take_over: bool) -> LedgerOptions {
    LedgerOptions {
        host: HostIdentity {
            id: machine::id(),
            can_take_over,
        },
        configuration: configuration_identity(settings),
        ..LedgerOptions::new(ledger_identity(settings))
    }
}

/// Returns the provider and the organization that the ledger has to belong to.
#[must_use]
pub fn ledger_identity(settings: &Settings) -> LedgerIdentity {
    LedgerIdentity {
        provider: settings
            .provider
            .base_url
            .to_string()
            .trim_end_matches('/')
            .to_owned(),
        organization: settings.provider.organization.clone().unwrap_or_default(),
    }
}

/// Returns the configuration with which the ledger is opened.
#[must_use]
pub fn configuration_identity(settings: &Settings) -> ConfigurationIdentity {
    ConfigurationIdentity {
        file: Some(settings.file.clone()),
        names_ledger: settings.is_ledger_named,
    }
}

/// Builds the sinks of a key, which write none of the `protected` files by another name.
/// `credential` holds the credential in use, which a sink of type `self` replaces.
#[must_use]
pub fn build_sinks(
    key: &KeySettings,
    clock: &Arc<dyn Clock>,
    credential: &ActiveCredential,
    protected: &Arc<ProtectedFiles>,
) -> Vec<(Arc<dyn Sink>, bool)> {
    let clock = Arc::clone(clock);
    let services = SinkServices {
        now: Arc::new(move || clock.now()),
        active_credential: credential.clone(),
        protected_files: Arc::clone(protected),
    };
    let sinks = key.sinks.iter();
    sinks
        .map(|sink| (sink.build(&services), sink.required))
        .collect()
}
