//! From the configuration to an engine that is ready: the order in which a
//! writing process starts.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::core::secret::CredentialCell;
use crate::core::settings::{KeySettings, Settings, SinkTarget};
use crate::daemon::as_user::refuse_root;
use crate::daemon::carriers::Carriers;
use crate::daemon::credential::{Sources, WithCredential};
use crate::daemon::leftovers;
use crate::daemon::metrics::counts::Metrics;
use crate::daemon::metrics::metered::Metered;
use crate::daemon::service::ServiceError;
use crate::daemon::signals::{self, Asked};
use crate::engine::chance::{Chance, HostChance};
use crate::engine::clock::{Clock, HostClock};
use crate::engine::condition::Conditions;
use crate::engine::observe::Observer;
use crate::engine::{Course, Engine, ManagedKey, Parts};
use crate::host::{machine, zones};
use crate::ledger::{self, Ahead, Driver, Identity, Ledger, LedgerError, Machine, WriterLock};
use crate::provider::Provider;
use crate::provider::openai::OpenAi;
use crate::sink::Sink;
use crate::sink::command::CommandSink;
use crate::sink::file::FileSink;
use crate::sink::own_credential::OwnCredential;
use crate::sink::webhook::WebhookSink;

/// An engine, and the lock that makes this process the ledger's writer.
pub struct Started {
    /// The engine.
    pub engine: Engine,
    /// The clock that the engine goes by.
    pub clock: Arc<dyn Clock>,
    /// How this process goes about its keys.
    pub(crate) course: Course,
    /// What signals ask for: heard from before anything was begun.
    pub(crate) asked: UnboundedReceiver<Asked>,
    /// The configuration that is in force.
    pub(crate) settings: Arc<Settings>,
    pub(crate) common: Common,
    /// Who delivers notices.
    pub(crate) carriers: Carriers,
    _lock: WriterLock,
}

/// What stays the same for as long as the process lives.
pub(crate) struct Common {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    chance: Arc<HostChance>,
    conditions: Arc<Conditions>,
    cell: CredentialCell,
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// Whether people are told what is wrong: by hand, one is there.
    tells: bool,
}

/// The provider, asked with the credential in use.
pub(crate) type Asking = Arc<WithCredential<Metered<OpenAi>>>;

/// Becomes the ledger's writer and reads how everything stands. `command` is
/// what this process tells others of itself, and `ahead` what was read of the
/// ledger already.
///
/// # Errors
/// The ledger is another user's, is held by another process, or cannot be
/// opened; signals cannot be heard.
pub async fn start(
    settings: &Arc<Settings>,
    sources: Sources,
    command: &str,
    course: Course,
    ahead: Option<Ahead>,
) -> Result<Started, ServiceError> {
    refuse_root(&settings.ledger, std::env::args_os()).map_err(ServiceError::AnothersLedger)?;
    let asked = signals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(HostClock);
    let lock = WriterLock::take(&settings.ledger, command)?;
    let known = ahead.and_then(Ahead::states);
    let connection = open(settings, clock.now(), false)?;
    if course != Course::Daemon {
        ledger::keep_log_short(&connection)?;
    }
    let ledger = Ledger::start(connection, Driver::Thread).map_err(|error| LedgerError::Open {
        path: settings.ledger.clone(),
        why: format!("no thread for its writer: {error}"),
    })?;
    let common = Common {
        ledger,
        clock: Arc::clone(&clock),
        chance: Arc::new(HostChance::new()),
        conditions: Arc::default(),
        cell: CredentialCell::new(),
        // Only a daemon lives long enough to be read.
        metrics: match course {
            Course::Daemon => Some(Arc::new(Metrics::new()?)),
            Course::Once | Course::ByHand => None,
        },
        tells: match course {
            Course::Daemon | Course::Once => true,
            Course::ByHand => false,
        },
    };
    let (parts, _) = common.parts(settings, sources);
    // While one thread reads the ledger another can look at the files.
    let managed = common.managed(settings);
    let opened = async {
        match known {
            Some(states) => Engine::open_knowing(states, parts, managed, course).await,
            None => Engine::open(parts, managed, course).await,
        }
    };
    let (opened, ()) = tokio::join!(opened, leftovers::remove(settings, None));
    let engine = opened?;
    leftovers::remove_forgotten(engine.forgotten_sinks()).await;
    let posted = engine.posted();
    Ok(Started {
        carriers: Carriers::new(common.ledger.clone(), Arc::clone(&clock), posted),
        engine,
        clock,
        course,
        asked,
        settings: Arc::clone(settings),
        common,
        _lock: lock,
    })
}

impl Common {
    /// What all keys share under these settings.
    pub(crate) fn parts(&self, settings: &Settings, sources: Sources) -> (Parts, Asking) {
        let provider = Metered {
            inner: OpenAi::new(&settings.provider, self.cell.clone()),
            metrics: self.metrics.clone(),
        };
        let provider = Arc::new(WithCredential::new(provider, self.cell.clone(), sources));
        let parts = Parts {
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            chance: Arc::clone(&self.chance) as Arc<dyn Chance>,
            max_in_flight: settings.provider.max_in_flight,
            sweep_every: settings.provider.sweep_every,
            conditions: Arc::clone(&self.conditions),
            observer: match &self.metrics {
                Some(metrics) => Arc::clone(metrics) as Arc<dyn Observer>,
                None => Arc::new(()),
            },
            audience: if self.tells {
                Arc::new(settings.audience())
            } else {
                Arc::default()
            },
            zone: zones::look_up,
        };
        (parts, provider)
    }

    /// The keys, with their sinks ready to take secrets.
    pub(crate) fn managed(&self, settings: &Settings) -> Vec<ManagedKey> {
        let keys = settings.keys.iter().map(|key| ManagedKey {
            name: key.name.clone(),
            policy: key.policy.clone(),
            sinks: sinks(key, &self.clock, &self.cell),
        });
        keys.collect()
    }
}

/// Makes a ledger that was last written on another machine this one's.
///
/// # Errors
/// The ledger is another user's, is held by another process, or cannot be
/// opened.
pub fn take_over(settings: &Settings, command: &str) -> Result<(), ServiceError> {
    refuse_root(&settings.ledger, std::env::args_os()).map_err(ServiceError::AnothersLedger)?;
    let _lock = WriterLock::take(&settings.ledger, command)?;
    open(settings, HostClock.now(), true)?;
    Ok(())
}

fn open(
    settings: &Settings,
    now: Timestamp,
    takes_over: bool,
) -> Result<rusqlite::Connection, LedgerError> {
    let machine = Machine {
        id: machine::id(),
        takes_over,
    };
    ledger::open_on(&settings.ledger, &identity(settings), &machine, now)
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
            SinkTarget::Command(target) => Arc::new(CommandSink::new(sink, target)),
        };
        (made, sink.required)
    });
    ready.collect()
}
