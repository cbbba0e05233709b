//! One process of the daemon: the engine, its services and its keys.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;
use rekeyd::alerting::outbox::OutboxSignal;
use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::core::ids::{KeyName, SinkId};
use rekeyd::core::notification::{ChannelId, EventKind};
use rekeyd::core::policy::KeyPolicy;
use rekeyd::core::schedule::Schedule;
use rekeyd::core::scope::Scope;
use rekeyd::core::subscriptions::{Subscription, Subscriptions};
use rekeyd::engine::conditions::Conditions;
use rekeyd::engine::{Engine, ManagedKey, RunMode, Services};
use rekeyd::ledger::{self, Ledger, LedgerIdentity, LedgerOptions, NextNotification, WriterDriver};
use rekeyd::platform::clock::Clock;
use rekeyd::provider::failover::FailoverProvider;
use rekeyd::sink::Sink;
use rekeyd::sink::self_credential::SelfCredentialSink;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::provider::{SelfCredentialFile, SimProvider};
use crate::rng::{SeededRng, SimEntropy};
use crate::scenario::{KeySpec, PERIOD, SCHEDULE, SinkKind, SinkSpec};
use crate::sink::{SimDisk, SimSink};
use crate::world::SimWorld;

/// The number of credentials of one key that may live at once.
pub(crate) const MAX_LIVE_CREDENTIALS: usize = 6;

thread_local! {
    /// Parsing takes as long as a rotation.
    static PARSED_SCHEDULE: Schedule = Schedule::parse(SCHEDULE, TimeZone::UTC).unwrap();
}

/// The parts of a process that stay the same under another configuration.
pub(super) struct SimProcess {
    world: Arc<SimWorld>,
    number: u64,
    pub(super) services: Services,
    active_credential: ActiveCredential,
    /// Sends the notifications, and stops with the process.
    notifications: JoinSet<()>,
}

impl SimProcess {
    /// Starts a process; none if it cannot start.
    pub(super) async fn start(
        world: &Arc<SimWorld>,
        number: u64,
        seed: u64,
    ) -> Option<(Engine, Self)> {
        create_ledger(world);
        let active_credential = ActiveCredential::new();
        let mut process = Self {
            world: Arc::clone(world),
            number,
            services: services(world, number, seed, &active_credential),
            active_credential,
            notifications: JoinSet::new(),
        };
        let services = process.services.clone();
        let engine = Engine::open(services, process.managed_keys(), RunMode::Daemon).await;
        let engine = engine.inspect_err(|error| {
            world.log_trace(format!("the process cannot start: {error}"));
        });
        let engine = engine.ok()?;
        let sending = send_notifications(
            Arc::clone(world),
            process.services.ledger.clone(),
            engine.subscribe_outbox(),
        );
        process.notifications.spawn(sending);
        Some((engine, process))
    }

    /// Returns the keys of the present configuration.
    pub(super) fn managed_keys(&self) -> Vec<ManagedKey> {
        let keys = self.world.configuration();
        keys.iter().map(|key| self.managed_key(key)).collect()
    }

    fn managed_key(&self, key: &KeySpec) -> ManagedKey {
        let schedule = PARSED_SCHEDULE.with(Schedule::clone);
        let sinks = key
            .sinks
            .iter()
            .map(|sink| (self.sink(key, sink), sink.required));
        ManagedKey {
            name: key_name(key.name),
            scope: Scope::AdminKeys,
            policy: Arc::new(KeyPolicy {
                overlap: key.overlap,
                max_creates_per_day: 1_000,
                max_live_credentials: MAX_LIVE_CREDENTIALS,
                max_revoke_delay: self.world.scenario.max_revoke_delay,
                ..KeyPolicy::new(schedule)
            }),
            sinks: sinks.collect(),
        }
    }

    fn sink(&self, key: &KeySpec, spec: &SinkSpec) -> Arc<dyn Sink> {
        let sink: Arc<dyn Sink> = Arc::new(SimSink {
            world: Arc::clone(&self.world),
            process: self.number,
            id: SinkId {
                name: spec.name.to_owned(),
                target: format!("{:?}:{}", spec.kind, spec.name),
            },
            location: (key.name.to_owned(), spec.name.to_owned()),
            kind: spec.kind,
        });
        match spec.kind {
            SinkKind::SelfCredential => Arc::new(SelfCredentialSink::new(
                sink,
                self.active_credential.clone(),
            )),
            SinkKind::File
            | SinkKind::NotifiedFile
            | SinkKind::Webhook
            | SinkKind::HangingWebhook => sink,
        }
    }
}

/// Sends each notification to a receiver that accepts it.
async fn send_notifications(
    world: Arc<SimWorld>,
    ledger: Ledger,
    mut signal: watch::Receiver<OutboxSignal>,
) {
    let channel = channel();
    while signal.changed().await.is_ok() {
        while let Ok(NextNotification::Send(pending)) =
            ledger.next_notification(&channel, world.now()).await
        {
            let sent = ledger
                .record_notification_sent(&channel, pending.row_id, world.now())
                .await;
            if sent.is_err() {
                break;
            }
        }
    }
}

fn channel() -> ChannelId {
    ChannelId::new("command:/bin/page".to_owned())
}

pub(super) fn key_name(key: &str) -> KeyName {
    KeyName::new(key).unwrap()
}

/// Writes an empty ledger if there is none.
pub(crate) fn create_ledger(world: &SimWorld) {
    world.install_empty_ledger(|path| {
        ledger::prepare_unlocked(path, &ledger_options(), world.start_time).unwrap();
    });
}

/// Returns the options of a ledger that need not survive a power failure.
fn ledger_options() -> LedgerOptions {
    let identity = LedgerIdentity {
        provider: "https://example.com/v1".to_owned(),
        organization: String::new(),
    };
    LedgerOptions {
        is_synced: false,
        ..LedgerOptions::new(identity)
    }
}

fn services(
    world: &Arc<SimWorld>,
    number: u64,
    seed: u64,
    active_credential: &ActiveCredential,
) -> Services {
    let provider = SimProvider {
        world: Arc::clone(world),
        process: number,
        active_credential: active_credential.clone(),
    };
    let provider = FailoverProvider::new(
        provider,
        active_credential.clone(),
        SelfCredentialFile(Arc::clone(world)),
    );
    Services {
        provider: Arc::new(provider),
        ledger: open_ledger(world, number),
        clock: Arc::clone(world) as Arc<dyn Clock>,
        entropy: Arc::new(SimEntropy(Mutex::new(SeededRng(seed)))),
        max_in_flight: 8,
        reconcile_every: if world.scenario.shows_ends {
            PERIOD / 4
        } else {
            PERIOD * 3
        },
        conditions: Arc::new(Conditions::default()),
        observer: Arc::new(()),
        subscriptions: Arc::new(subscriptions()),
        find_zone: |name| TimeZone::get(name).ok(),
    }
}

fn open_ledger(world: &Arc<SimWorld>, number: u64) -> Ledger {
    let disk = SimDisk {
        world: Arc::clone(world),
        process: number,
        fault: Mutex::new(None),
    };
    let driver = WriterDriver::TaskWithFaults(Arc::new(disk));
    Ledger::open_unlocked(&world.ledger_path(), &ledger_options(), world.now(), driver).unwrap()
}

/// Returns a subscription to every lasting problem.
fn subscriptions() -> Subscriptions {
    let once = [
        EventKind::Rotated,
        EventKind::Lookalike,
        EventKind::Operator,
    ];
    let mut on = BTreeSet::from(EventKind::ALL);
    on.retain(|kind| !once.contains(kind));
    Subscriptions::new(vec![Subscription {
        channel: channel(),
        on,
        keys: None,
        remind_every: None,
    }])
}
