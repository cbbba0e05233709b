//! The event loop of `run`, `once` and commands: one engine, with a different
//! end condition for each.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::condition::FAILURE_GRACE_PERIOD;
use crate::core::duration;
use crate::core::health::most_urgent_error;
use crate::core::ids::KeyName;
use crate::core::lifecycle::Phase;
use crate::core::state::KeyState;
use crate::core::time;
use crate::daemon::control::authorization::VerifiedPeer;
use crate::daemon::control::channel_test;
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, Wait};
use crate::daemon::control::pruning;
use crate::daemon::control::tracker::IncomingRequest;
use crate::daemon::error::ServiceError;
use crate::daemon::inbox::{Inbox, InboxEvent};
use crate::daemon::own_files;
use crate::daemon::reload::ConfigReader;
use crate::daemon::runtime::Runtime;
use crate::daemon::ticker::Ticker;
use crate::engine::Engine;
use crate::platform::signals::SignalAction;

/// The backoff of a key whose rotation was abandoned at the end of a command:
/// the next run of a timer must not create another credential at once.
const ABANDONED_ROTATION_BACKOFF: Duration = time::HOUR;

/// The time for which a stopping daemon still delivers.
const DELIVERY_GRACE: Duration = Duration::from_secs(20);

/// The time after its limit for which a loop waits for an open rotation.
const OPEN_ROTATION_GRACE: Duration = Duration::from_secs(30);

/// The time for which a command still delivers when its time is over.
const COMMAND_DELIVERY_GRACE: Duration = Duration::from_secs(2);

/// The time for the steps that then still run, before the stop timeout is
/// extended again.
const STEP_GRACE: Duration = Duration::from_secs(40);

/// The interval of these extensions.
const STOP_EXTENSION_INTERVAL: Duration = Duration::from_secs(10);

/// The time for which an ending command waits for the revocation of the
/// credentials that it abandoned.
const REVOCATION_GRACE: Duration = Duration::from_secs(30);

/// The time for which an ending command waits for notifications: the timeout of
/// one delivery, and a little more.
const NOTIFICATION_GRACE: Duration = Duration::from_secs(45);

/// The reason why a loop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a command that did not end by itself has to report it"]
pub enum ExitReason {
    /// All work is done.
    Done,
    /// A signal was received.
    Signaled,
    /// The time limit has passed.
    TimedOut,
    /// Nothing can be done before a person has ended a condition.
    Blocked,
}

/// Decides when `once` ends.
#[derive(Default)]
struct OnceEnd {
    /// Since when it is blocked.
    blocked_since: Option<Instant>,
}

impl OnceEnd {
    /// Returns why it ends now, if it does. A condition that only a person ends may still
    /// end for a while, as when a file is just being written; one that lasts until the
    /// process ends does not.
    fn reason(&mut self, engine: &Engine) -> Option<ExitReason> {
        if engine.is_idle() {
            return Some(ExitReason::Done);
        }
        if !engine.is_blocked() {
            self.blocked_since = None;
            return None;
        }
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let is_over = !engine.can_send_requests() || since.elapsed() >= FAILURE_GRACE_PERIOD;
        is_over.then_some(ExitReason::Blocked)
    }
}

/// Rotates by schedule until a signal stops it. Serves the control socket and
/// the metrics, and reloads the configuration on SIGHUP.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_daemon(mut runtime: Runtime, read: ConfigReader) -> Result<(), ServiceError> {
    let mut inbox = Inbox::for_daemon(read, &runtime);
    inbox.listen(&mut runtime).await;
    // Logged once the servers listen, so that a reader can send a request.
    tracing::info!(
        keys = runtime.settings.keys.len(),
        ledger = %runtime.settings.ledger.display(),
        provider = %runtime.settings.provider.base_url,
        "rekeyd {} started with {}",
        env!("CARGO_PKG_VERSION"),
        runtime.settings.file.display(),
    );
    runtime.dispatcher.set_channels(&runtime.settings.notify);
    // Without a limit and an end of its own only a signal ends the loop.
    let signaled = tokio::select! {
        signaled = run_until(&mut runtime, None, &mut inbox, |_, _| None) => signaled?,
        () = own_files::keep_modes() => ExitReason::Done,
    };
    reply_unfinished(&mut runtime, &mut inbox, signaled).await;
    tracing::info!("stopped; the next start continues any open work");
    runtime.close().await;
    Ok(())
}

/// Rotates by schedule for `limit`, and until no rotation is open then. Shows the engine to
/// `observe` at each pass.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_for(
    mut runtime: Runtime,
    limit: Option<Duration>,
    observe: impl Fn(&Engine),
) -> Result<(), ServiceError> {
    runtime.dispatcher.set_channels(&runtime.settings.notify);
    let started_at = Instant::now();
    let end_reason = |engine: &Engine, _: &Inbox| {
        observe(engine);
        let is_over = limit.is_some_and(|limit| started_at.elapsed() >= limit);
        let is_done = is_over && engine.rotating().is_empty() && engine.active_tasks() == 0;
        is_done.then_some(ExitReason::Done)
    };
    let last = limit.map(|limit| limit + OPEN_ROTATION_GRACE);
    let mut inbox = Inbox::default();
    let exit_reason = run_until(&mut runtime, last, &mut inbox, end_reason).await?;
    reply_unfinished(&mut runtime, &mut inbox, exit_reason).await;
    match (exit_reason, limit) {
        (ExitReason::Signaled, _) | (_, None) => tracing::info!("stopped"),
        (ExitReason::Done | ExitReason::TimedOut | ExitReason::Blocked, Some(limit)) => {
            tracing::info!("stopped after {}", duration::to_text(limit));
        }
    }
    runtime.close().await;
    Ok(())
}

/// Works until nothing is due and no rotation is open, or nothing can be done before a
/// person has ended a condition, for `limit` at most. Shows `wait_reporter` each second what
/// it waits for. Abandons a rotation that is still open at the end.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_once(
    mut runtime: Runtime,
    limit: Duration,
    wait_reporter: Box<dyn FnMut(Vec<Wait>)>,
) -> Result<(Engine, ExitReason), ServiceError> {
    let mut end = OnceEnd::default();
    let end_reason = |engine: &Engine, _: &Inbox| end.reason(engine);
    let mut inbox = Inbox::for_once(wait_reporter);
    let exit_reason = run_until(&mut runtime, Some(limit), &mut inbox, end_reason).await?;
    abandon_open_rotations(&mut runtime, &undelivered_reason(exit_reason, limit)).await?;
    reply_unfinished(&mut runtime, &mut inbox, exit_reason).await;
    runtime.engine.notify_before_exit().await;
    runtime
        .dispatcher
        .flush_pending(&runtime.settings.notify, NOTIFICATION_GRACE)
        .await;
    let engine = runtime.close().await;
    Ok((engine, exit_reason))
}

/// Executes `request` as a running daemon would, for `limit` at most, and returns its
/// response. Shows `wait_reporter` each second what it waits for.
/// Abandons a rotation that is still open then.
///
/// # Errors
/// See [`ServiceError`].
pub async fn run_request(
    mut runtime: Runtime,
    request: ControlRequest,
    requested_by: String,
    limit: Option<Duration>,
    wait_reporter: Box<dyn FnMut(Vec<Wait>)>,
) -> Result<ControlResponse, ServiceError> {
    let (reply, mut response) = oneshot::channel();
    let is_rotation = matches!(request, ControlRequest::Rotate { .. });
    let mut inbox = Inbox::for_command(wait_reporter);
    let incoming = IncomingRequest {
        request,
        // Whoever opened the ledger could write it as well.
        author: VerifiedPeer {
            name: requested_by,
            authority: Authority::Full,
        },
        reply,
    };
    inbox.tracker.submit(incoming, &mut runtime.engine).await;
    let end_reason = |engine: &Engine, inbox: &Inbox| {
        let is_done = engine.active_tasks() == 0 && inbox.tracker.is_empty();
        is_done.then_some(ExitReason::Done)
    };
    let exit_reason = run_until(&mut runtime, limit, &mut inbox, end_reason).await?;
    // Without a limit, none can pass.
    let reason = undelivered_reason(exit_reason, limit.unwrap_or_default());
    if is_rotation {
        abandon_open_rotations(&mut runtime, &reason).await?;
    }
    // An answer says what follows, which an abandoned rotation changes.
    if exit_reason == ExitReason::TimedOut {
        inbox.shut_down(&mut runtime.engine, &reason).await;
    } else {
        reply_unfinished(&mut runtime, &mut inbox, exit_reason).await;
    }
    runtime.close().await;
    Ok(response.try_recv().unwrap_or_default())
}

/// Runs the event loop until `end_reason` returns one, a signal or the time limit. The
/// requests that are open then wait for [`reply_unfinished`].
async fn run_until(
    runtime: &mut Runtime,
    limit: Option<Duration>,
    inbox: &mut Inbox,
    mut end_reason: impl FnMut(&Engine, &Inbox) -> Option<ExitReason>,
) -> Result<ExitReason, ServiceError> {
    let mut ticker = Ticker::start(runtime.run_mode, runtime.clock.clone()).await?;
    let started_at = Instant::now();
    inbox.ready();
    let exit_reason = loop {
        runtime.engine.start_due();
        inbox.check_listeners(runtime).await;
        inbox.check_zones(&runtime.engine);
        inbox.check_admin_key_file(runtime);
        inbox.check_config_file(runtime);
        inbox.publish_progress(&mut runtime.engine);
        #[cfg(debug_assertions)]
        panic_for_test(&runtime.engine);
        if let Some(reason) = end_reason(&runtime.engine, inbox) {
            break reason;
        }
        if limit.is_some_and(|limit| started_at.elapsed() >= limit) {
            break ExitReason::TimedOut;
        }
        // What is read, and what callers ask for, never delays a signal or the engine's work.
        tokio::select! {
            biased;
            signal = runtime.signals.recv() => match signal {
                Some(SignalAction::Reload) => inbox.start_reload(None),
                Some(SignalAction::Stop) | None => break ExitReason::Signaled,
            },
            _ = runtime.engine.process_completions(), if runtime.engine.active_tasks() > 0 => {}
            () = ticker.tick() => runtime.engine.check_ledger(),
            next = inbox.next() => match next {
                InboxEvent::Request(incoming) if pruning::is_prune(&incoming.request) => {
                    pruning::start(incoming, runtime.context.ledger(), runtime.clock.now());
                }
                InboxEvent::Request(incoming) if channel_test::is_channel_test(&incoming.request) => {
                    let dispatcher = runtime.engine.outbox_waker();
                    channel_test::start(incoming, runtime.context.ledger(), dispatcher, runtime.clock.now());
                }
                InboxEvent::Request(incoming) => inbox.tracker.submit(incoming, &mut runtime.engine).await,
                InboxEvent::ConfigRead(read) => inbox.apply_config(*read, runtime).await,
                InboxEvent::ConfigSeen(seen) => inbox.note_config(seen, runtime),
                InboxEvent::ChangedConfigRead(read) => inbox.apply_changed_config(*read, runtime).await,
                InboxEvent::CredentialGiven(given) => inbox.try_credential(given, runtime),
                InboxEvent::CredentialTried(tried) => inbox.settle_credential(tried, &mut runtime.engine),
                InboxEvent::LogLevelChanged => runtime.engine.log_decisions_again(),
                InboxEvent::ZonesRead(zones) => replace_zones(&mut runtime.engine, &zones),
            },
        }
    };
    let engine = &mut runtime.engine;
    if engine.active_tasks() > 0 {
        tracing::info!(
            running = engine.active_tasks(),
            "finishing the running steps"
        );
    }
    if exit_reason == ExitReason::Signaled && inbox.stopping(DELIVERY_GRACE + STEP_GRACE) {
        inbox.refuse_requests();
        drain_deliveries(engine, inbox, &mut ticker).await;
        engine.drop_deliveries();
    }
    if exit_reason == ExitReason::Done || inbox.is_daemon() {
        finish_steps(engine, inbox).await;
    } else {
        stop_command(engine).await;
    }
    if !runtime.run_mode.is_command() {
        engine.record_end().await;
    }
    Ok(exit_reason)
}

/// Has the schedules follow the time zones of this host, which newer tzdata may have changed.
fn replace_zones(engine: &mut Engine, zones: &[TimeZone]) {
    for name in engine.replace_zones(zones) {
        tracing::info!("the time zone {name} has changed on this host; its schedules follow it");
    }
}

/// Panics with the text that a test of the panic hook sets, once the admin key was used. A
/// release does not have this.
#[cfg(debug_assertions)]
fn panic_for_test(engine: &Engine) {
    if let Ok(text) = std::env::var("REKEYD_TEST_PANIC")
        && engine.reconciled_at().is_some()
    {
        std::panic::panic_any(text);
    }
}

/// Replies to the requests that are still open, and stops the servers.
async fn reply_unfinished(runtime: &mut Runtime, inbox: &mut Inbox, exit_reason: ExitReason) {
    let unanswered = match exit_reason {
        ExitReason::Signaled => "a signal stopped rekeyd before it finished",
        ExitReason::Done | ExitReason::TimedOut | ExitReason::Blocked => {
            "rekeyd stopped before it finished"
        }
    };
    inbox.shut_down(&mut runtime.engine, unanswered).await;
}

/// Continues deliveries for a while: a secret that is still in memory when the
/// process ends is lost, and its rotation is stranded. Those that have failed and wait for
/// their next attempt keep nobody waiting.
async fn drain_deliveries(engine: &mut Engine, inbox: &mut Inbox, ticker: &mut Ticker) {
    engine.drain();
    let started_at = Instant::now();
    while engine.has_deliverable_secrets() && started_at.elapsed() < DELIVERY_GRACE {
        engine.start_due();
        inbox.publish_progress(engine);
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            () = ticker.tick() => {}
        }
    }
}

/// Ends the work of a command whose time is over, or that got a signal: a receiver that
/// never answers must not hold it up.
async fn stop_command(engine: &mut Engine) {
    if tokio::time::timeout(COMMAND_DELIVERY_GRACE, engine.stop())
        .await
        .is_err()
    {
        engine.drop_deliveries();
        engine.stop().await;
    }
}

/// Waits for the running steps, each of which has its own timeout. Extends the
/// stop timeout meanwhile, since the service manager would kill the process.
async fn finish_steps(engine: &mut Engine, inbox: &mut Inbox) {
    let mut stopped = std::pin::pin!(engine.stop());
    while tokio::time::timeout(STOP_EXTENSION_INTERVAL, &mut stopped)
        .await
        .is_err()
    {
        inbox.extend_stop_timeout(STEP_GRACE);
    }
}

/// Returns the reason for the rotations that are still open when a command
/// ends.
fn undelivered_reason(exit_reason: ExitReason, limit: Duration) -> String {
    match exit_reason {
        ExitReason::Done | ExitReason::Blocked => "the command ended".to_owned(),
        ExitReason::Signaled => "a signal stopped the command".to_owned(),
        ExitReason::TimedOut => {
            let limit = duration::to_text(limit);
            format!("the time limit of {limit} passed")
        }
    }
}

/// Abandons open rotations, and revokes at once the credentials that no sink
/// can hold.
async fn abandon_open_rotations(runtime: &mut Runtime, reason: &str) -> Result<(), ServiceError> {
    let engine = &mut runtime.engine;
    engine
        .abandon_open_rotations(reason, ABANDONED_ROTATION_BACKOFF)
        .await?;
    engine.revoke_orphans(REVOCATION_GRACE).await;
    Ok(())
}

/// Returns the configured keys that are failing with their states, ordered by
/// name, for the exit code of a command.
pub fn failing_keys(engine: &Engine) -> impl Iterator<Item = (&KeyName, Option<&KeyState>)> {
    let now = engine.now();
    let is_failing = move |state: &KeyState| {
        let mut live = state.live.iter();
        most_urgent_error(state).is_some()
            || live.any(|rotation| rotation.phase == Phase::Stranded)
            || state.retry_at.is_some_and(|at| at > now)
    };
    let keys = engine.configured_states();
    keys.filter(move |(_, state)| state.is_none_or(is_failing))
}
