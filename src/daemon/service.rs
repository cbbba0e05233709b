//! The loops of `run`, `once` and `rotate`: the same engine, another end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::rotation::Phase;
use crate::core::settings::Settings;
use crate::daemon::credential::Sources;
use crate::daemon::reload::{self, ReadAnew};
use crate::daemon::signals::Asked;
use crate::daemon::start::Started;
use crate::daemon::wake::Wake;
use crate::engine::order::{self, Order};
use crate::engine::{Engine, Wish};
use crate::ledger::LedgerError;

/// How long a key waits whose rotation was given up at the end of a command:
/// the next run of a timer must not make another credential at once.
const PAUSE_AFTER_GIVING_UP: Duration = Duration::from_secs(3_600);

/// How long a command that ends waits to revoke what it gave up.
const LAST_REVOCATIONS: Duration = Duration::from_secs(30);

/// How long an order may take: a few requests with their timeouts.
const ORDER_LIMIT: Duration = Duration::from_secs(300);

/// Why a loop could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The scheduler that wakes the loop.
    #[error("cannot start the scheduler: {0}")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// Signals.
    #[error("cannot listen for signals: {0}")]
    Signals(#[from] std::io::Error),
}

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that did not end by itself has to say so"]
pub enum Ended {
    /// What was waited for has happened.
    Done,
    /// A signal asked for the end.
    Stopped,
    /// The time was over.
    TimeOver,
}

/// Rotates by schedule until a signal asks for the end. SIGHUP has the
/// configuration read anew.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run(started: Started, read: ReadAnew) -> Result<(), ServiceError> {
    rotate_until_the_end(started, None, Some(read)).await
}

/// Rotates by schedule for `limit` at most.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(started: Started, limit: Option<Duration>) -> Result<(), ServiceError> {
    rotate_until_the_end(started, limit, None).await
}

async fn rotate_until_the_end(
    mut started: Started,
    limit: Option<Duration>,
    read: Option<ReadAnew>,
) -> Result<(), ServiceError> {
    let why = match drive(&mut started, limit, read, |_| false).await? {
        Ended::TimeOver => "stopped: its time is over",
        Ended::Stopped | Ended::Done => "stopped",
    };
    tracing::info!("{why}; what is open is settled at the next start");
    Ok(())
}

/// Works until nothing is due and nothing is open, for `limit` at most. What
/// is open then is given up.
///
/// # Errors
/// See [`ServiceError`].
pub async fn once(mut started: Started, limit: Duration) -> Result<(Engine, Ended), ServiceError> {
    let ended = drive(&mut started, Some(limit), None, Engine::is_at_rest).await?;
    let engine = finish(started, &not_delivered(ended, limit)).await?;
    Ok((engine, ended))
}

/// Rotates `keys` now, and works until each is delivered or has failed, for
/// `limit` at most. What is open then is given up. True for each key that was
/// rotated.
///
/// # Errors
/// See [`ServiceError`].
pub async fn rotate(
    mut started: Started,
    keys: &[KeyName],
    wish: &Wish,
    limit: Duration,
) -> Result<Vec<(KeyName, Result<(), String>)>, ServiceError> {
    let sequence =
        |engine: &Engine, key: &KeyName| engine.state(key).map_or(0, |state| state.sequence);
    let before: Vec<u64> = keys
        .iter()
        .map(|key| sequence(&started.engine, key))
        .collect();
    for key in keys {
        started.engine.wish(key, wish.clone());
    }
    let over = |engine: &Engine| {
        engine.at_work() == 0
            && keys.iter().all(|key| {
                // What cannot even be begun is told, and not waited for.
                (!engine.is_wished(key) || !engine.problems().is_empty())
                    && engine
                        .state(key)
                        .is_some_and(|state| state.open().is_none())
            })
    };
    let ended = drive(&mut started, Some(limit), None, over).await?;
    let why = not_delivered(ended, limit);
    let engine = finish(started, &why).await?;
    let told = keys.iter().zip(before).map(|(key, before)| {
        let state = engine.state(key);
        let current = state.and_then(|state| state.current());
        let of_all = engine.problems().into_iter().next();
        let problem = of_all
            .map(|(_, problem)| problem)
            .or_else(|| state.and_then(|state| state.problem.clone()));
        let outcome = match current {
            Some(current) if current.sequence > before => Ok(()),
            Some(_) | None => Err(problem.unwrap_or_else(|| why.clone())),
        };
        (key.clone(), outcome)
    });
    Ok(told.collect())
}

/// Has one order obeyed, and tells what became of it.
///
/// # Errors
/// See [`ServiceError`].
pub async fn obey(
    started: Started,
    key: &KeyName,
    order: Order,
) -> Result<Result<String, String>, ServiceError> {
    let told = obey_all(started, std::slice::from_ref(key), &order).await?;
    Ok(told
        .into_iter()
        .next()
        .unwrap_or_else(|| Err(not_done(Ended::Done))))
}

/// Has one order obeyed for each of `keys`, and tells what became of each.
///
/// # Errors
/// See [`ServiceError`].
pub async fn obey_all(
    mut started: Started,
    keys: &[KeyName],
    order: &Order,
) -> Result<Vec<Result<String, String>>, ServiceError> {
    let mut answers = Vec::new();
    for key in keys {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let order = order.clone();
        let known = started.engine.order(key, order::Asked { order, reply });
        answers.push((key, known, answer));
    }
    let over = |engine: &Engine| {
        engine.at_work() == 0
            && answers
                .iter()
                .all(|(_, known, answer)| !known || !answer.is_empty())
    };
    let ended = drive(&mut started, Some(ORDER_LIMIT), None, over).await?;
    let told = answers.into_iter().map(|(key, known, mut answer)| {
        if known {
            answer.try_recv().unwrap_or_else(|_| Err(not_done(ended)))
        } else {
            Err(format!(
                "no key {key} is configured, and none is in the ledger"
            ))
        }
    });
    Ok(told.collect())
}

/// Wakes and works until `over`, a signal or the end of the time.
async fn drive(
    started: &mut Started,
    limit: Option<Duration>,
    read: Option<ReadAnew>,
    over: impl Fn(&Engine) -> bool,
) -> Result<Ended, ServiceError> {
    let mut wake = Wake::start(started.clock.clone()).await?;
    let begun = Instant::now();
    let mut readings = Readings::new(read);
    let ended = loop {
        started.engine.start_due();
        if over(&started.engine) {
            break Ended::Done;
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break Ended::TimeOver;
        }
        tokio::select! {
            biased;
            signal = started.asked.recv() => match signal {
                Some(Asked::Reload) => readings.begin(),
                Some(Asked::Stop) | None => break Ended::Stopped,
            },
            settings = readings.next() => {
                // It is told where it stands.
                let _ = started.take(settings).await;
            }
            _ = started.engine.finish_one(), if started.engine.at_work() > 0 => {}
            () = wake.next() => {}
        }
    };
    let engine = &mut started.engine;
    if engine.at_work() > 0 {
        tracing::info!(
            at_work = engine.at_work(),
            "finishing the steps that are running"
        );
    }
    engine.stop().await;
    Ok(ended)
}

/// The configurations that are being read.
struct Readings {
    read: Option<ReadAnew>,
    running: JoinSet<Result<(Settings, Sources), String>>,
}

impl Readings {
    fn new(read: Option<ReadAnew>) -> Self {
        Self {
            read,
            running: JoinSet::new(),
        }
    }

    /// Begins to read. What is being read already may be older than the wish.
    fn begin(&mut self) {
        let Some(read) = &self.read else {
            tracing::warn!("SIGHUP: only `rekeyd run` reads its configuration anew");
            return;
        };
        self.running.abort_all();
        self.running.spawn(reload::read(Arc::clone(read)));
    }

    /// Waits for what was read last. Safe to drop and call again.
    async fn next(&mut self) -> Result<(Settings, Sources), String> {
        loop {
            match self.running.join_next().await {
                Some(Ok(read)) => return read,
                // Aborted, since a newer one is being read.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// Why an order was not obeyed.
fn not_done(ended: Ended) -> String {
    match ended {
        Ended::Done | Ended::Stopped => "a signal ended the command before it was done".to_owned(),
        Ended::TimeOver => format!("not done within {}", duration::to_text(ORDER_LIMIT)),
    }
}

/// Why a rotation that is still open when a command ends was not delivered.
fn not_delivered(ended: Ended, limit: Duration) -> String {
    match ended {
        Ended::Done => "not delivered before the command ended".to_owned(),
        Ended::Stopped => "not delivered before a signal ended the command".to_owned(),
        Ended::TimeOver => format!("not delivered within {}", duration::to_text(limit)),
    }
}

/// Gives up what is open, and revokes at once what no sink can hold.
async fn finish(mut started: Started, why: &str) -> Result<Engine, ServiceError> {
    let engine = &mut started.engine;
    engine.give_up_open(why, PAUSE_AFTER_GIVING_UP).await?;
    engine.revoke_orphans(LAST_REVOCATIONS).await;
    Ok(started.engine)
}

/// Whether a key is in order, for commands that end with an exit code.
#[must_use]
pub fn is_failing(engine: &Engine, key: &KeyName) -> bool {
    engine.state(key).is_none_or(|state| {
        state.problem.is_some()
            || state
                .live
                .iter()
                .any(|rotation| rotation.phase == Phase::Stranded)
            || state.retry_at.is_some_and(|at| at > engine.now())
    })
}
