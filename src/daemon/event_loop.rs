//! The event loop of `run`, `once` and commands: the same engine, with another
//! condition for its end.

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

/// How long a key waits whose rotation was abandoned at the end of a command:
/// the next run of a timer must not create another credential at once.
const ABANDONED_ROTATION_BACKOFF: Duration = time::HOUR;

/// How long a daemon that stops goes on delivering.
const DELIVERY_GRACE: Duration = Duration::from_secs(20);

/// How long the steps that still run then may take, before the stop timeout is
/// extended again.
const STEP_GRACE: Duration = Duration::from_secs(40);

/// How often the stop timeout is extended while steps run.
const STOP_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);

/// How long a command that ends waits for the revocation of what it abandoned.
const REVOCATION_GRACE: Duration = Duration::from_secs(30);

/// How long a command that ends waits for notifications: the timeout of one
/// delivery, and a little more.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(45);

/// How a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that did not end by itself has to say so"]
pub enum ExitReason {
    /// Everything is done.
    Done,
    /// A signal.
    Signaled,
    /// The time limit.
    TimedOut,
}

/// Rotates by schedule until a signal stops it. SIGHUP reloads the
/// configuration, and the control socket and the metrics are served.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_daemon(mut runtime: Runtime, read: ConfigReader) -> Result<(), ServiceError> {
    let mut inbox = Inbox::for_daemon(read);
    inbox.listen(&runtime).await;
    // Logged once the servers listen, so that a reader can send a request.
    tracing::info!(
        keys = runtime.settings.keys.len(),
        ledger = %runtime.settings.ledger.display(),
        provider = %runtime.settings.provider.base_url,
        "rekeyd {} started at {}",
        env!("CARGO_PKG_VERSION"),
        time::to_text(runtime.clock.now()),
    );
    runtime.dispatcher.set_channels(&runtime.settings.notify);
    let ended = run_until(&mut runtime, None, &mut inbox, |_, _| false).await?;
    log_exit(ended);
    Ok(())
}

/// Rotates by schedule for `limit` at most.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(mut runtime: Runtime, limit: Option<Duration>) -> Result<(), ServiceError> {
    runtime.dispatcher.set_channels(&runtime.settings.notify);
    let ended = run_until(&mut runtime, limit, &mut Inbox::default(), |_, _| false).await?;
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

/// Works until nothing is due and no rotation is open, for `limit` at most. A
/// rotation that is open then is abandoned.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_once(
    mut runtime: Runtime,
    limit: Duration,
) -> Result<(Engine, ExitReason), ServiceError> {
    let is_idle = |engine: &Engine, _: &Inbox| engine.is_idle();
    let ended = run_until(&mut runtime, Some(limit), &mut Inbox::default(), is_idle).await?;
    abandon_open_rotations(&mut runtime, &undelivered_reason(ended, limit)).await?;
    let Runtime {
        mut engine,
        dispatcher,
        settings,
        ..
    } = runtime;
    engine.notify_before_exit().await;
    dispatcher
        .flush_pending(&settings.notify, NOTIFICATION_GRACE)
        .await;
    Ok((engine, ended))
}

/// Executes `request` as a running daemon would, and returns its response. A
/// rotation that is open then is abandoned.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_request(
    mut runtime: Runtime,
    request: ControlRequest,
    requested_by: String,
) -> Result<ControlResponse, ServiceError> {
    let (reply, mut answer) = oneshot::channel();
    let rotates = matches!(request, ControlRequest::Rotate { .. });
    let mut inbox = Inbox::default();
    let job = IncomingRequest {
        request,
        requested_by,
        reply,
    };
    inbox.tracker.submit(job, &mut runtime.engine).await;
    let is_over =
        |engine: &Engine, inbox: &Inbox| engine.active_tasks() == 0 && inbox.tracker.is_empty();
    let ended = run_until(&mut runtime, None, &mut inbox, is_over).await?;
    if rotates {
        let why = match ended {
            ExitReason::Done | ExitReason::TimedOut => "not delivered before the command ended",
            ExitReason::Signaled => "not delivered before a signal ended the command",
        };
        abandon_open_rotations(&mut runtime, why).await?;
    }
    Ok(answer.try_recv().unwrap_or_default())
}

/// Runs the event loop until `over`, a signal or the time limit.
async fn run_until(
    runtime: &mut Runtime,
    limit: Option<Duration>,
    inbox: &mut Inbox,
    is_over: impl Fn(&Engine, &Inbox) -> bool,
) -> Result<ExitReason, ServiceError> {
    let mut ticker = Ticker::start(runtime.run_mode, runtime.clock.clone()).await?;
    let begun = Instant::now();
    inbox.ready();
    let ended = loop {
        runtime.engine.start_due();
        inbox.publish_progress(&mut runtime.engine);
        if is_over(&runtime.engine, inbox) {
            break ExitReason::Done;
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break ExitReason::TimedOut;
        }
        tokio::select! {
            biased;
            signal = runtime.signals.recv() => match signal {
                Some(SignalAction::Reload) => inbox.start_reload(None),
                Some(SignalAction::Stop) | None => break ExitReason::Signaled,
            },
            next = inbox.next() => match next {
                InboxEvent::Request(job) => inbox.tracker.submit(job, &mut runtime.engine).await,
                InboxEvent::ConfigRead(read) => inbox.apply_config(*read, runtime).await,
                InboxEvent::PageRequest(wanted) => inbox.reply_page(wanted, runtime),
            },
            _ = runtime.engine.process_completions(), if runtime.engine.active_tasks() > 0 => {}
            () = ticker.tick() => {}
        }
    };
    let engine = &mut runtime.engine;
    if engine.active_tasks() > 0 {
        tracing::info!(
            at_work = engine.active_tasks(),
            "finishing the steps that are running"
        );
    }
    if ended == ExitReason::Signaled && inbox.stopping(DELIVERY_GRACE + STEP_GRACE) {
        drain_deliveries(engine, inbox, &mut ticker).await;
        engine.drop_deliveries();
    }
    finish_steps(engine, inbox).await;
    let unanswered = match ended {
        ExitReason::Signaled => "a signal ended rekeyd before it was done",
        ExitReason::Done | ExitReason::TimedOut => "not done before rekeyd ended",
    };
    inbox.shut_down(engine, unanswered).await;
    Ok(ended)
}

/// Goes on delivering for a while: a secret that is still in memory at the end
/// is lost, and its rotation is stranded.
async fn drain_deliveries(engine: &mut Engine, inbox: &mut Inbox, ticker: &mut Ticker) {
    engine.drain();
    let begun = Instant::now();
    while engine.has_pending_secrets() && begun.elapsed() < DELIVERY_GRACE {
        engine.start_due();
        inbox.publish_progress(engine);
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            () = ticker.tick() => {}
        }
    }
}

/// Waits for the steps that run, each of which has its own timeout, and extends
/// the stop timeout meanwhile: the service manager would kill the process.
async fn finish_steps(engine: &mut Engine, inbox: &mut Inbox) {
    let mut stopped = std::pin::pin!(engine.stop());
    while tokio::time::timeout(STOP_EXTENSION_INTERVAL, &mut stopped)
        .await
        .is_err()
    {
        inbox.extend_stop_timeout(STEP_GRACE);
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

/// Abandons open rotations, and revokes at once what no sink can hold.
async fn abandon_open_rotations(runtime: &mut Runtime, why: &str) -> Result<(), ServiceError> {
    let engine = &mut runtime.engine;
    engine
        .abandon_open_rotations(why, ABANDONED_ROTATION_BACKOFF)
        .await?;
    engine.revoke_orphans(REVOCATION_GRACE).await;
    Ok(())
}

/// The configured keys that are failing and their states, in the order of their
/// names: for the exit code of a command.
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
