//! The loops of `run`, `once` and `rotate`: the same engine, another end.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::core::duration;
use crate::core::health::last_error;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::state::KeyState;
use crate::core::time;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse};
use crate::daemon::control::tracker::IncomingRequest;
use crate::daemon::error::ServiceError;
use crate::daemon::inbox::{Inbox, InboxEvent};
use crate::daemon::reload::ConfigReader;
use crate::daemon::runtime::Runtime;
use crate::daemon::signals::SignalAction;
use crate::daemon::ticker::Ticker;
use crate::engine::Engine;

/// How long a key waits whose rotation was given up at the end of a command:
/// the next run of a timer must not make another credential at once.
const ABANDONED_ROTATION_BACKOFF: Duration = time::HOUR;

/// How long a daemon that was asked to stop goes on delivering.
const DELIVERY_GRACE: Duration = Duration::from_secs(20);

/// How long the steps that run then may take to end, until that is told anew.
const STEP_GRACE: Duration = Duration::from_secs(40);

/// How often it is told that they still run.
const STOP_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);

/// How long a command that ends waits to revoke what it gave up.
const REVOCATION_GRACE: Duration = Duration::from_secs(30);

/// How long a command that ends waits for people to be told: for one that
/// takes its time, and a little more.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(45);

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that did not end by itself has to say so"]
pub enum ExitReason {
    /// What was waited for has happened.
    Done,
    /// A signal asked for the end.
    Signaled,
    /// The time was over.
    TimedOut,
}

/// Rotates by schedule until a signal asks for the end. SIGHUP has the
/// configuration read anew, and the control socket is served.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_daemon(mut started: Runtime, read: ConfigReader) -> Result<(), ServiceError> {
    let mut asked = Inbox::for_daemon(read);
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
    started.dispatcher.set_channels(&started.settings.notify);
    let ended = run_until(&mut started, None, &mut asked, |_, _| false).await?;
    log_exit(ended);
    Ok(())
}

/// Rotates by schedule for `limit` at most.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(mut started: Runtime, limit: Option<Duration>) -> Result<(), ServiceError> {
    started.dispatcher.set_channels(&started.settings.notify);
    let ended = run_until(&mut started, limit, &mut Inbox::default(), |_, _| false).await?;
    log_exit(ended);
    Ok(())
}

fn log_exit(ended: ExitReason) {
    let why = match ended {
        ExitReason::TimedOut => "stopped: its time is over",
        ExitReason::Signaled | ExitReason::Done => "stopped",
    };
    tracing::info!("{why}; what is open is settled at the next start");
}

/// Works until nothing is due and nothing is open, for `limit` at most. What
/// is open then is given up.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_once(
    mut started: Runtime,
    limit: Duration,
) -> Result<(Engine, ExitReason), ServiceError> {
    let at_rest = |engine: &Engine, _: &Inbox| engine.is_idle();
    let ended = run_until(&mut started, Some(limit), &mut Inbox::default(), at_rest).await?;
    abandon_open_rotations(&mut started, &undelivered_reason(ended, limit)).await?;
    let Runtime {
        mut engine,
        dispatcher: carriers,
        settings,
        ..
    } = started;
    engine.notify_before_exit().await;
    carriers
        .flush_pending(&settings.notify, NOTIFICATION_GRACE)
        .await;
    Ok((engine, ended))
}

/// Does what a running daemon would do by `request`, and ends when it is
/// answered. A rotation that is open then is given up.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_request(
    mut started: Runtime,
    request: ControlRequest,
    by: String,
) -> Result<ControlResponse, ServiceError> {
    let (reply, mut answer) = oneshot::channel();
    let rotates = matches!(request, ControlRequest::Rotate { .. });
    let mut asked = Inbox::default();
    let job = IncomingRequest {
        request,
        requested_by: by,
        reply,
    };
    asked.tracker.submit(job, &mut started.engine).await;
    let over =
        |engine: &Engine, asked: &Inbox| engine.active_tasks() == 0 && asked.tracker.is_empty();
    let ended = run_until(&mut started, None, &mut asked, over).await?;
    if rotates {
        let why = match ended {
            ExitReason::Done | ExitReason::TimedOut => "not delivered before the command ended",
            ExitReason::Signaled => "not delivered before a signal ended the command",
        };
        abandon_open_rotations(&mut started, why).await?;
    }
    Ok(answer.try_recv().unwrap_or_default())
}

/// Wakes and works until `over`, a signal or the end of the time.
async fn run_until(
    started: &mut Runtime,
    limit: Option<Duration>,
    asked: &mut Inbox,
    over: impl Fn(&Engine, &Inbox) -> bool,
) -> Result<ExitReason, ServiceError> {
    let mut wake = Ticker::start(started.run_mode, started.clock.clone()).await?;
    let begun = Instant::now();
    asked.ready();
    let ended = loop {
        started.engine.start_due();
        asked.publish_progress(&mut started.engine);
        if over(&started.engine, asked) {
            break ExitReason::Done;
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break ExitReason::TimedOut;
        }
        tokio::select! {
            biased;
            signal = started.signals.recv() => match signal {
                Some(SignalAction::Reload) => asked.start_reload(None),
                Some(SignalAction::Stop) | None => break ExitReason::Signaled,
            },
            next = asked.next() => match next {
                InboxEvent::Request(job) => asked.tracker.submit(job, &mut started.engine).await,
                InboxEvent::ConfigRead(read) => asked.apply_config(*read, started).await,
                InboxEvent::PageRequest(wanted) => asked.reply_page(wanted, started),
            },
            _ = started.engine.process_completions(), if started.engine.active_tasks() > 0 => {}
            () = wake.tick() => {}
        }
    };
    let engine = &mut started.engine;
    if engine.active_tasks() > 0 {
        tracing::info!(
            at_work = engine.active_tasks(),
            "finishing the steps that are running"
        );
    }
    if ended == ExitReason::Signaled && asked.stopping(DELIVERY_GRACE + STEP_GRACE) {
        drain_deliveries(engine, asked, &mut wake).await;
    }
    finish_steps(engine, asked).await;
    let unanswered = match ended {
        ExitReason::Signaled => "a signal ended rekeyd before it was done",
        ExitReason::Done | ExitReason::TimedOut => "not done before rekeyd ended",
    };
    asked.shut_down(engine, unanswered).await;
    Ok(ended)
}

/// Delivers what this process alone knows the secrets of, for a while: what it
/// ends with is stranded, and costs a credential.
async fn drain_deliveries(engine: &mut Engine, asked: &mut Inbox, wake: &mut Ticker) {
    engine.drain();
    let begun = Instant::now();
    while engine.has_pending_secrets() && begun.elapsed() < DELIVERY_GRACE {
        engine.start_due();
        asked.publish_progress(engine);
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            () = wake.tick() => {}
        }
    }
}

/// Lets the steps that run end, each within its own time. The service manager is
/// told again and again that it goes on: what it does not hear of it ends.
async fn finish_steps(engine: &mut Engine, asked: &mut Inbox) {
    let mut stopped = std::pin::pin!(engine.stop());
    while tokio::time::timeout(STOP_EXTENSION_INTERVAL, &mut stopped)
        .await
        .is_err()
    {
        asked.extend_stop_timeout(STEP_GRACE);
    }
}

/// Why a rotation that is still open when a command ends was not delivered.
fn undelivered_reason(ended: ExitReason, limit: Duration) -> String {
    match ended {
        ExitReason::Done => "not delivered before the command ended".to_owned(),
        ExitReason::Signaled => "not delivered before a signal ended the command".to_owned(),
        ExitReason::TimedOut => format!("not delivered within {}", duration::to_text(limit)),
    }
}

/// Gives up what is open, and revokes at once what no sink can hold.
async fn abandon_open_rotations(started: &mut Runtime, why: &str) -> Result<(), ServiceError> {
    let engine = &mut started.engine;
    engine
        .abandon_open_rotations(why, ABANDONED_ROTATION_BACKOFF)
        .await?;
    engine.revoke_orphans(REVOCATION_GRACE).await;
    Ok(())
}

/// The configured keys that are not in order, in the order of their names, and
/// how each stands, for commands that end with an exit code.
pub fn failing_keys(engine: &Engine) -> impl Iterator<Item = (&KeyName, Option<&KeyState>)> {
    let now = engine.now();
    let is_failing = move |state: &KeyState| {
        let mut live = state.live.iter();
        last_error(state).is_some()
            || live.any(|rotation| rotation.phase == Phase::Stranded)
            || state.retry_at.is_some_and(|at| at > now)
    };
    let keys = engine.configured_states();
    keys.filter(move |(_, state)| state.is_none_or(is_failing))
}
