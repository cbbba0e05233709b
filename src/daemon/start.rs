//! From the configuration to an engine that is ready: the order in which a
//! writing process starts.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::core::secret::CredentialCell;
use crate::core::settings::{KeySettings, Settings, SinkTarget};
use crate::daemon::credential::{Sources, WithCredential};
use crate::daemon::service::ServiceError;
use crate::daemon::signals::{self, Asked};
use crate::engine::chance::HostChance;
use crate::engine::clock::{Clock, HostClock};
use crate::engine::condition::Conditions;
use crate::engine::{Course, Engine, ManagedKey, Parts};
use crate::host::machine;
use crate::ledger::{self, Driver, Identity, Ledger, LedgerError, WriterLock};
use crate::provider::openai::OpenAi;
use crate::sink::Sink;
use crate::sink::file::FileSink;
use crate::sink::own_credential::OwnCredential;
use crate::sink::webhook::WebhookSink;

/// An engine, and the lock that makes this process the ledger's writer.
pub struct Started {
    /// The engine.
    pub engine: Engine,
    /// The clock that the engine goes by.
    pub clock: Arc<dyn Clock>,
    /// What signals ask for: heard from before anything was begun.
    pub(crate) asked: UnboundedReceiver<Asked>,
    _lock: WriterLock,
}

/// Becomes the ledger's writer and reads how everything stands. `command` is
/// what this process tells others of itself.
///
/// # Errors
/// The ledger is held by another process, or cannot be opened; signals cannot
/// be heard.
pub async fn start(
    settings: &Settings,
    sources: Sources,
    command: &str,
    course: Course,
) -> Result<Started, ServiceError> {
    let asked = signals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(HostClock);
    let lock = WriterLock::take(&settings.ledger, command)?;
    let connection = ledger::open(&settings.ledger, &identity(settings), clock.now())?;
    ledger::settle_machine(
        &connection,
        &settings.ledger,
        machine::id().as_deref(),
        false,
    )?;
    let ledger = Ledger::start(connection, Driver::Thread).map_err(|error| LedgerError::Open {
        path: settings.ledger.clone(),
        why: format!("no thread for its writer: {error}"),
    })?;
    let cell = CredentialCell::new();
    let provider = OpenAi::new(&settings.provider, cell.clone());
    let provider = WithCredential::new(provider, cell.clone(), sources);
    let parts = Parts {
        provider: Arc::new(provider),
        ledger,
        clock: Arc::clone(&clock),
        chance: Arc::new(HostChance::new()),
        max_in_flight: settings.provider.max_in_flight,
        sweep_every: settings.provider.sweep_every,
        conditions: Conditions::default(),
    };
    let mut managed = Vec::new();
    for key in &settings.keys {
        managed.push(manage(key, &clock, &cell).await);
    }
    let engine = Engine::open(parts, managed, course).await?;
    Ok(Started {
        engine,
        clock,
        asked,
        _lock: lock,
    })
}

/// Makes a ledger that was last written on another machine this one's.
///
/// # Errors
/// The ledger is held by another process, or cannot be opened.
pub fn take_over(settings: &Settings, command: &str) -> Result<(), LedgerError> {
    let _lock = WriterLock::take(&settings.ledger, command)?;
    let connection = ledger::open(&settings.ledger, &identity(settings), HostClock.now())?;
    let ours = machine::id();
    ledger::settle_machine(&connection, &settings.ledger, ours.as_deref(), true)
}

/// Whose ledger the configuration wants.
#[must_use]
pub fn identity(settings: &Settings) -> Identity {
    Identity {
        provider: settings
            .provider
            .base_url
            .to_string()
            .trim_end_matches('/')
            .to_owned(),
        organization: settings.provider.organization.clone().unwrap_or_default(),
    }
}

/// The sinks of a key, ready to take secrets. `cell` holds the credential in
/// use, which a sink of type "self" replaces.
#[must_use]
pub fn sinks(
    key: &KeySettings,
    clock: &Arc<dyn Clock>,
    cell: &CredentialCell,
) -> Vec<(Arc<dyn Sink>, bool)> {
    let ready = key.sinks.iter().map(|sink| {
        let made: Arc<dyn Sink> = match &sink.target {
            SinkTarget::File(target) => Arc::new(FileSink::new(sink, target)),
            SinkTarget::Own(target) => {
                let file = Arc::new(FileSink::new(sink, target));
                Arc::new(OwnCredential::new(file, cell.clone()))
            }
            SinkTarget::Webhook(target) => {
                let clock = Arc::clone(clock);
                let now = Arc::new(move || -> Timestamp { clock.now() });
                Arc::new(WebhookSink::new(sink, target, now))
            }
        };
        (made, sink.required)
    });
    ready.collect()
}

async fn manage(key: &KeySettings, clock: &Arc<dyn Clock>, cell: &CredentialCell) -> ManagedKey {
    for sink in &key.sinks {
        if let SinkTarget::File(target) | SinkTarget::Own(target) = &sink.target {
            // A secret that an earlier process left half way.
            match FileSink::new(sink, target).remove_leftover().await {
                Ok(true) => tracing::warn!(key = %key.name, sink = %sink.id,
                    "removed what an earlier process left half written beside {}",
                    target.path.display()),
                Ok(false) => {}
                Err(error) => tracing::error!(key = %key.name, sink = %sink.id, "{error}"),
            }
        }
    }
    ManagedKey {
        name: key.name.clone(),
        policy: key.policy.clone(),
        sinks: sinks(key, clock, cell),
    }
}
