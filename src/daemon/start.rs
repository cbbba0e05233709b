//! From the configuration to an engine that is ready: the order in which a
//! writing process starts.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::secret::CredentialCell;
use crate::core::settings::{FileTarget, KeySettings, Settings, SinkSettings, SinkTarget};
use crate::daemon::as_user::refuse_root;
use crate::daemon::carriers::Carriers;
use crate::daemon::credential::{Sources, WithCredential};
use crate::daemon::metrics::counts::Metrics;
use crate::daemon::metrics::metered::Metered;
use crate::daemon::service::ServiceError;
use crate::daemon::signals::{self, Asked};
use crate::engine::chance::{Chance, HostChance};
use crate::engine::clock::{Clock, HostClock};
use crate::engine::condition::Conditions;
use crate::engine::observe::Observer;
use crate::engine::{Course, Engine, ManagedKey, Parts};
use crate::host::{look, machine, zones};
use crate::ledger::{self, Ahead, Driver, Identity, Ledger, LedgerError, WriterLock};
use crate::provider::Provider;
use crate::provider::openai::OpenAi;
use crate::sink::Sink;
use crate::sink::command::CommandSink;
use crate::sink::file::FileSink;
use crate::sink::own_credential::OwnCredential;
use crate::sink::webhook::WebhookSink;

/// How long a look for what was left beside all files may take.
const LOOK: Duration = Duration::from_secs(2);

/// How long their removal may take, of all of them together.
const REMOVALS: Duration = Duration::from_secs(10);

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
    refuse_root(&settings.ledger, std::env::args()).map_err(ServiceError::AnothersLedger)?;
    let asked = signals::listen()?;
    let clock: Arc<dyn Clock> = Arc::new(HostClock);
    let lock = WriterLock::take(&settings.ledger, command)?;
    let known = ahead.and_then(Ahead::states);
    let connection = ledger::open(&settings.ledger, &identity(settings), clock.now())?;
    ledger::settle_machine(
        &connection,
        &settings.ledger,
        machine::id().as_deref(),
        false,
    )?;
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
    let (opened, ()) = tokio::join!(opened, remove_leftovers(settings, None));
    let engine = opened?;
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
    refuse_root(&settings.ledger, std::env::args()).map_err(ServiceError::AnothersLedger)?;
    let _lock = WriterLock::take(&settings.ledger, command)?;
    let connection = ledger::open(&settings.ledger, &identity(settings), HostClock.now())?;
    let ours = machine::id();
    Ok(ledger::settle_machine(
        &connection,
        &settings.ledger,
        ours.as_deref(),
        true,
    )?)
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

/// Removes the secrets that an earlier process left half written beside the
/// files of sinks. Those of `before` are left alone: one of them may be being
/// written now.
pub(crate) async fn remove_leftovers(settings: &Settings, before: Option<&Settings>) {
    let before = before.into_iter().flat_map(files);
    let before: HashSet<_> = before.map(|(_, _, target)| written(target)).collect();
    let files: Vec<_> = files(settings)
        .filter(|(_, _, target)| !before.contains(written(target)))
        .collect();
    let absent = absent(files.iter().map(|(_, _, target)| *target)).await;
    let mut removals = JoinSet::new();
    for ((key, sink, target), _) in files.into_iter().zip(absent).filter(|(_, absent)| !absent) {
        let (key, sink, target) = (key.name.clone(), Arc::clone(sink), Arc::clone(target));
        removals.spawn(async move {
            let removed = FileSink::new(&sink, &target).remove_leftover().await;
            tell_of_leftover(&key, &sink, &target, removed);
        });
    }
    // What hangs must not keep all else from being begun.
    let all = async { while removals.join_next().await.is_some() {} };
    if tokio::time::timeout(REMOVALS, all).await.is_err() {
        tracing::error!(
            "whether an earlier process left a secret half written beside {} files could not be \
             seen within {}; see whether a file system hangs",
            removals.len(),
            duration::to_text(REMOVALS)
        );
    }
}

fn tell_of_leftover(
    key: &KeyName,
    sink: &SinkSettings,
    target: &FileTarget,
    removed: Result<bool, String>,
) {
    match removed {
        Ok(true) => tracing::warn!(%key, sink = %sink.id,
            "removed what an earlier process left half written beside {}", target.path.display()),
        Ok(false) => {}
        Err(error) => tracing::error!(%key, sink = %sink.id, "{error}"),
    }
}

fn written(target: &FileTarget) -> &OsStr {
    target.path.as_os_str()
}

/// Beside which of `targets` certainly nothing was left: one look at each, all
/// of them together, since that is how it is nearly always. What hangs is left
/// to the careful way.
async fn absent(targets: impl Iterator<Item = &Arc<FileTarget>>) -> Vec<bool> {
    let leftovers: Vec<_> = targets.map(FileSink::leftover_of).collect();
    let none = vec![false; leftovers.len()];
    let look = move || {
        let is_absent = |path: &PathBuf| {
            let found = path.symlink_metadata();
            found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
        };
        leftovers.iter().map(is_absent).collect()
    };
    look::aside(LOOK, look).await.unwrap_or(none)
}

/// A file that a sink of a key writes.
type File<'s> = (&'s KeySettings, &'s Arc<SinkSettings>, &'s Arc<FileTarget>);

/// Every file that a sink writes.
fn files(settings: &Settings) -> impl Iterator<Item = File<'_>> {
    settings.keys.iter().flat_map(|key| {
        key.sinks.iter().filter_map(move |sink| match &sink.target {
            SinkTarget::File(target) | SinkTarget::Own(target) => Some((key, sink, target)),
            SinkTarget::Webhook(_) | SinkTarget::Command(_) => None,
        })
    })
}
