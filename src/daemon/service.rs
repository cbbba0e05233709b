//! The loops of `run`, `once` and `rotate`: the same engine, another end.

use std::time::{Duration, Instant};

use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::rotation::Phase;
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

/// Rotates by schedule until a signal asks for the end.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run(started: Started) -> Result<(), ServiceError> {
    run_for(started, None).await
}

/// As [`run`], for `limit` at most.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(mut started: Started, limit: Option<Duration>) -> Result<(), ServiceError> {
    let why = match drive(&mut started, limit, |_| false).await? {
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
    let ended = drive(&mut started, Some(limit), Engine::is_at_rest).await?;
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
    let ended = drive(&mut started, Some(limit), over).await?;
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
    mut started: Started,
    key: &KeyName,
    order: Order,
) -> Result<Result<String, String>, ServiceError> {
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    if !started.engine.order(key, order::Asked { order, reply }) {
        return Ok(Err(format!(
            "no key {key} is configured, and none is in the ledger"
        )));
    }
    let over = |engine: &Engine| engine.at_work() == 0 && !answer.is_empty();
    let ended = drive(&mut started, Some(ORDER_LIMIT), over).await?;
    Ok(answer.try_recv().unwrap_or_else(|_| Err(not_done(ended))))
}

/// Wakes and works until `over`, a signal or the end of the time.
async fn drive(
    started: &mut Started,
    limit: Option<Duration>,
    over: impl Fn(&Engine) -> bool,
) -> Result<Ended, ServiceError> {
    let mut wake = Wake::start(started.clock.clone()).await?;
    let begun = Instant::now();
    let (engine, asked) = (&mut started.engine, &mut started.asked);
    let ended = loop {
        engine.start_due();
        if over(engine) {
            break Ended::Done;
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break Ended::TimeOver;
        }
        tokio::select! {
            biased;
            signal = asked.recv() => match signal {
                Some(Asked::Reload) => tracing::warn!(
                    "SIGHUP: the configuration is read at start; restart rekeyd to change it"
                ),
                Some(Asked::Stop) | None => break Ended::Stopped,
            },
            _ = engine.finish_one(), if engine.at_work() > 0 => {}
            () = wake.next() => {}
        }
    };
    if engine.at_work() > 0 {
        tracing::info!(
            at_work = engine.at_work(),
            "finishing the steps that are running"
        );
    }
    engine.stop().await;
    Ok(ended)
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
