//! The loops of `run`, `once` and `rotate`: the same engine, another end.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::core::duration;
use crate::core::names::KeyName;
use crate::core::problem::problem_of;
use crate::core::record::KeyState;
use crate::core::rotation::Phase;
use crate::core::time;
use crate::daemon::asking::{Asking, Next};
use crate::daemon::control::desk::Job;
use crate::daemon::control::wire::{Answer, Request};
use crate::daemon::reload::ReadAnew;
use crate::daemon::signals::Asked;
use crate::daemon::start::Started;
use crate::daemon::wake::Wake;
use crate::engine::Engine;
use crate::ledger::LedgerError;

/// How long a key waits whose rotation was given up at the end of a command:
/// the next run of a timer must not make another credential at once.
const PAUSE_AFTER_GIVING_UP: Duration = Duration::from_secs(3_600);

/// How long a daemon that was asked to stop goes on delivering.
const LAST_DELIVERIES: Duration = Duration::from_secs(20);

/// How long the steps that run then may take to end, until that is told anew.
const LAST_STEPS: Duration = Duration::from_secs(40);

/// How often it is told that they still run.
const STEPS_TOLD: Duration = Duration::from_secs(10);

/// How long a command that ends waits to revoke what it gave up.
const LAST_REVOCATIONS: Duration = Duration::from_secs(30);

/// How long a command that ends waits for people to be told: for one that
/// takes its time, and a little more.
const LAST_NOTICES: Duration = Duration::from_secs(45);

/// Why a loop could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The scheduler that wakes the loop.
    #[error("cannot start the scheduler: {0}")]
    Scheduler(#[from] tokio_cron_scheduler::JobSchedulerError),
    /// The metrics.
    #[error("cannot set the metrics up: {0}")]
    Metrics(#[from] prometheus::Error),
    /// It is another user's ledger.
    #[error("{0}")]
    AnothersLedger(String),
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
/// configuration read anew, and the control socket is served.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run(mut started: Started, read: ReadAnew) -> Result<(), ServiceError> {
    let mut asked = Asking::of_daemon(read);
    asked.listen(&started).await;
    // Whoever reads this can ask it for something.
    tracing::info!(
        keys = started.settings.keys.len(),
        ledger = %started.settings.ledger.display(),
        provider = %started.settings.provider.base_url,
        "rekeyd {} started at {}",
        env!("CARGO_PKG_VERSION"),
        time::to_text(started.clock.now()),
    );
    started.carriers.deliver_to(&started.settings.notify);
    let ended = drive(&mut started, None, &mut asked, |_, _| false).await?;
    tell_the_end(ended);
    Ok(())
}

/// Rotates by schedule for `limit` at most.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(mut started: Started, limit: Option<Duration>) -> Result<(), ServiceError> {
    started.carriers.deliver_to(&started.settings.notify);
    let ended = drive(&mut started, limit, &mut Asking::default(), |_, _| false).await?;
    tell_the_end(ended);
    Ok(())
}

fn tell_the_end(ended: Ended) {
    let why = match ended {
        Ended::TimeOver => "stopped: its time is over",
        Ended::Stopped | Ended::Done => "stopped",
    };
    tracing::info!("{why}; what is open is settled at the next start");
}

/// Works until nothing is due and nothing is open, for `limit` at most. What
/// is open then is given up.
///
/// # Errors
/// See [`ServiceError`].
pub async fn once(mut started: Started, limit: Duration) -> Result<(Engine, Ended), ServiceError> {
    let at_rest = |engine: &Engine, _: &Asking| engine.is_at_rest();
    let ended = drive(&mut started, Some(limit), &mut Asking::default(), at_rest).await?;
    finish(&mut started, &not_delivered(ended, limit)).await?;
    let Started {
        mut engine,
        carriers,
        settings,
        ..
    } = started;
    engine.tell_what_is_wrong().await;
    carriers.deliver_owed(&settings.notify, LAST_NOTICES).await;
    Ok((engine, ended))
}

/// Does what a running daemon would do by `request`, and ends when it is
/// answered. A rotation that is open then is given up.
///
/// # Errors
/// See [`ServiceError`].
pub async fn perform(
    mut started: Started,
    request: Request,
    by: String,
) -> Result<Answer, ServiceError> {
    let (reply, mut answer) = oneshot::channel();
    let rotates = matches!(request, Request::Rotate { .. });
    let mut asked = Asking::default();
    let job = Job { request, by, reply };
    asked.desk.take(job, &mut started.engine).await;
    let over = |engine: &Engine, asked: &Asking| engine.at_work() == 0 && asked.desk.is_empty();
    let ended = drive(&mut started, None, &mut asked, over).await?;
    if rotates {
        let why = match ended {
            Ended::Done | Ended::TimeOver => "not delivered before the command ended",
            Ended::Stopped => "not delivered before a signal ended the command",
        };
        finish(&mut started, why).await?;
    }
    Ok(answer.try_recv().unwrap_or_default())
}

/// Wakes and works until `over`, a signal or the end of the time.
async fn drive(
    started: &mut Started,
    limit: Option<Duration>,
    asked: &mut Asking,
    over: impl Fn(&Engine, &Asking) -> bool,
) -> Result<Ended, ServiceError> {
    let mut wake = Wake::start(started.course, started.clock.clone()).await?;
    let begun = Instant::now();
    asked.ready();
    let ended = loop {
        started.engine.start_due();
        asked.answer(&mut started.engine);
        if over(&started.engine, asked) {
            break Ended::Done;
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break Ended::TimeOver;
        }
        tokio::select! {
            biased;
            signal = started.asked.recv() => match signal {
                Some(Asked::Reload) => asked.read_anew(None),
                Some(Asked::Stop) | None => break Ended::Stopped,
            },
            next = asked.next() => match next {
                Next::Job(job) => asked.desk.take(job, &mut started.engine).await,
                Next::Configuration(read) => asked.take(*read, started).await,
                Next::Page(wanted) => asked.show(wanted, started),
            },
            _ = started.engine.finish_some(), if started.engine.at_work() > 0 => {}
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
    if ended == Ended::Stopped && asked.stopping(LAST_DELIVERIES + LAST_STEPS) {
        deliver_last(engine, asked, &mut wake).await;
    }
    finish_steps(engine, asked).await;
    asked.finish(engine, ended).await;
    Ok(ended)
}

/// Delivers what this process alone knows the secrets of, for a while: what it
/// ends with is stranded, and costs a credential.
async fn deliver_last(engine: &mut Engine, asked: &mut Asking, wake: &mut Wake) {
    engine.begin_nothing();
    let begun = Instant::now();
    while engine.holds_secrets() && begun.elapsed() < LAST_DELIVERIES {
        engine.start_due();
        asked.answer(engine);
        tokio::select! {
            biased;
            _ = engine.finish_some(), if engine.at_work() > 0 => {}
            () = wake.next() => {}
        }
    }
}

/// Lets the steps that run end, each within its own time. The service manager is
/// told again and again that it goes on: what it does not hear of it ends.
async fn finish_steps(engine: &mut Engine, asked: &mut Asking) {
    let mut stopped = std::pin::pin!(engine.stop());
    while tokio::time::timeout(STEPS_TOLD, &mut stopped)
        .await
        .is_err()
    {
        asked.still_stopping(LAST_STEPS);
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
async fn finish(started: &mut Started, why: &str) -> Result<(), ServiceError> {
    let engine = &mut started.engine;
    engine.give_up_open(why, PAUSE_AFTER_GIVING_UP).await?;
    engine.revoke_orphans(LAST_REVOCATIONS).await;
    Ok(())
}

/// The configured keys that are not in order, in the order of their names, and
/// how each stands, for commands that end with an exit code.
pub fn failing(engine: &Engine) -> impl Iterator<Item = (&KeyName, Option<&KeyState>)> {
    let now = engine.now();
    let is_failing = move |state: &KeyState| {
        let mut live = state.live.iter();
        problem_of(state).is_some()
            || live.any(|rotation| rotation.phase == Phase::Stranded)
            || state.retry_at.is_some_and(|at| at > now)
    };
    let keys = engine.configured_states();
    keys.filter(move |(_, state)| state.is_none_or(is_failing))
}
