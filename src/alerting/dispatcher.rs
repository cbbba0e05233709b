//! Sends notifications in the background: one worker for each channel, one
//! notification at a time, in order. A worker retries a failed notification,
//! also in a later process, until its maximum age. One that the receiver refuses
//! for itself does not hold up those behind it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alerting::channel::target::{ChannelTarget, ClockFn, NotifySettings};
use crate::alerting::channel::{Channel, ChannelError};
use crate::alerting::channel_states::ChannelStates;
use crate::alerting::outbox::OutboxSignal;
use crate::core::duration;
use crate::core::notification::{ChannelId, NOTIFICATION_MAX_AGE, Notification, retry_delay};
use crate::core::plural::counted;
use crate::core::time;
use crate::ledger::{FailedAttempt, Ledger, NextNotification, PendingNotification};
use crate::platform::clock::Clock;
use crate::platform::machine;

/// The longest sleep of a worker with a pending notification, since the clock
/// may be set in the meantime.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// The shortest sleep of a worker, whatever its clock says.
const MIN_SLEEP: Duration = Duration::from_millis(100);

/// The time for which an ending process retries failed notifications.
const FINAL_RETRY_WINDOW: Duration = Duration::from_secs(10);

/// The number of notifications that a receiver refuses in a row, each for itself, before the
/// others wait as well: it may refuse all of them.
const MAX_REFUSALS: u32 = 3;

/// The workers of this process, which stop on drop.
pub(crate) struct NotificationDispatcher {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    outbox_signal: watch::Receiver<OutboxSignal>,
    states: Arc<ChannelStates>,
    workers: BTreeMap<ChannelId, (Arc<dyn ChannelTarget>, JoinSet<()>)>,
}

/// Sends the notifications of one channel.
struct ChannelWorker {
    channel: Arc<dyn Channel>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    host: String,
    states: Arc<ChannelStates>,
    /// The outbox row whose notification was sent but could not be recorded.
    unrecorded_row: Option<i64>,
    /// The number of notifications that the receiver refused since it accepted one.
    refusals: u32,
    /// When the next is sent, after the receiver refused several.
    paused_until: Option<Timestamp>,
}

/// The end of a pass over the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DispatchProgress {
    /// No notification is pending.
    Drained,
    /// The next one is retried at this time.
    RetryAt(Timestamp),
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterFailure {
    /// The next notification is sent.
    Continue,
    /// Nothing is sent before this time.
    RetryAt(Timestamp),
}

impl NotificationDispatcher {
    /// Returns a dispatcher without channels.
    pub(crate) const fn new(
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        signal: watch::Receiver<OutboxSignal>,
        states: Arc<ChannelStates>,
    ) -> Self {
        Self {
            ledger,
            clock,
            outbox_signal: signal,
            states,
            workers: BTreeMap::new(),
        }
    }

    /// Replaces the channels. Workers of unchanged channels continue undisturbed.
    pub(crate) fn set_channels(&mut self, channels: &[NotifySettings]) {
        let is_unchanged = |id: &ChannelId, target: &Arc<dyn ChannelTarget>| {
            let mut channels = channels.iter();
            channels
                .any(|other| other.subscription.channel == *id && other.target.is_same(&**target))
        };
        self.workers
            .retain(|id, (target, _)| is_unchanged(id, target));
        let names = channels
            .iter()
            .map(|settings| (settings.subscription.channel.clone(), settings.name.clone()));
        self.states.set_channels(names.collect());
        for settings in channels {
            let id = &settings.subscription.channel;
            if self.workers.contains_key(id) {
                continue;
            }
            let worker = self.new_worker(settings);
            let mut task = JoinSet::new();
            task.spawn(worker.run(self.outbox_signal.clone()));
            self.workers
                .insert(id.clone(), (Arc::clone(&settings.target), task));
        }
    }

    /// Sends what is pending for these channels, for `limit` at most, when the
    /// process ends.
    pub(crate) async fn flush_pending(&self, channels: &[NotifySettings], limit: Duration) {
        let mut passes = JoinSet::new();
        for settings in channels {
            let direct = self.outbox_signal.borrow().direct.clone();
            passes.spawn(self.new_worker(settings).flush(direct));
        }
        let finished = async { while passes.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!(
                "not all notifications could be sent in time; the next run sends the rest"
            );
        }
    }

    fn new_worker(&self, settings: &NotifySettings) -> ChannelWorker {
        let clock = Arc::clone(&self.clock);
        let now: ClockFn = Arc::new(move || clock.now());
        ChannelWorker {
            channel: settings.build(now),
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            host: machine::hostname(),
            states: Arc::clone(&self.states),
            unrecorded_row: None,
            refusals: 0,
            paused_until: None,
        }
    }
}

impl ChannelWorker {
    /// Sends notifications until the dispatcher is dropped.
    async fn run(mut self, mut signal: watch::Receiver<OutboxSignal>) {
        let mut sent_count = 0;
        let mut accepted_tests = signal.borrow().accepted_tests;
        loop {
            let latest = signal.borrow_and_update().clone();
            if latest.accepted_tests != accepted_tests {
                accepted_tests = latest.accepted_tests;
                self.paused_until = None;
                self.refusals = 0;
            }
            let direct_notifications = latest.direct;
            for (notification, recipients) in direct_notifications.into_iter().skip(sent_count) {
                sent_count += 1;
                if recipients.contains(self.channel.id()) {
                    self.send_bypassing_ledger(&notification).await;
                }
            }
            let wait = match self.send_pending().await {
                DispatchProgress::Drained => None,
                DispatchProgress::RetryAt(at) => {
                    let delay = time::until(self.clock.now(), at);
                    Some(delay.clamp(MIN_SLEEP, MAX_SLEEP))
                }
            };
            let changed = signal.changed();
            let is_closed = match wait {
                None => changed.await.is_err(),
                Some(delay) => match tokio::time::timeout(delay, changed).await {
                    Ok(changed) => changed.is_err(),
                    Err(_) => false,
                },
            };
            if is_closed {
                return;
            }
        }
    }

    /// Sends the notifications that bypass the ledger, and what is pending, until nothing
    /// is or the next retry is too late.
    async fn flush(mut self, direct: Vec<(Notification, Vec<ChannelId>)>) {
        for (notification, recipients) in direct {
            if recipients.contains(self.channel.id()) {
                self.send_bypassing_ledger(&notification).await;
            }
        }
        let end = time::after(self.clock.now(), FINAL_RETRY_WINDOW);
        while let DispatchProgress::RetryAt(at) = self.send_pending().await {
            if at > end {
                return;
            }
            let delay = time::until(self.clock.now(), at);
            tokio::time::sleep(delay.max(MIN_SLEEP)).await;
        }
    }

    /// Sends a notification about the ledger itself, which the ledger cannot
    /// hold: it is lost if the process ends first.
    async fn send_bypassing_ledger(&self, notification: &Notification) {
        let mut attempt = 0;
        let mut total_delay = Duration::ZERO;
        while let Err(error) = self.channel.send(notification, &self.host).await {
            attempt += 1;
            let delay = delay_after(attempt, &error);
            total_delay += delay;
            if total_delay > NOTIFICATION_MAX_AGE {
                tracing::error!(
                    notifier = %self.channel.id(),
                    "cannot notify {} for a day: {error}; gave up: {}",
                    self.channel.id(), notification.text
                );
                return;
            }
            tracing::warn!(
                notifier = %self.channel.id(), attempt,
                "cannot notify {}: {error}; retrying in {}",
                self.channel.id(), duration::to_human_text(delay)
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// Sends what is pending, and shows how the channel stands then.
    async fn send_pending(&mut self) -> DispatchProgress {
        let progress = self.send_until_failure().await;
        let id = self.channel.id();
        match self.ledger.channel_state(id).await {
            Ok(state) => self.states.update(id, state),
            Err(error) => tracing::debug!(%error, "cannot read the state of {id}"),
        }
        progress
    }

    /// Sends what is pending, in order, until the channel fails.
    async fn send_until_failure(&mut self) -> DispatchProgress {
        let id = self.channel.id().clone();
        loop {
            let now = self.clock.now();
            let retry_later = DispatchProgress::RetryAt(time::after(now, MAX_SLEEP));
            if let Some(at) = self.paused_until.filter(|at| *at > now) {
                return DispatchProgress::RetryAt(at);
            }
            let pending = match self.ledger.next_notification(&id, now).await {
                Ok(NextNotification::Send(pending)) => pending,
                Ok(NextNotification::None) => return DispatchProgress::Drained,
                Ok(NextNotification::Wait(at)) => return DispatchProgress::RetryAt(at),
                Err(error) => {
                    tracing::debug!(%error, "cannot read the pending notifications of {id}");
                    return retry_later;
                }
            };
            if self.unrecorded_row != Some(pending.row_id) {
                if let Err(error) = self.channel.send(&pending.notification, &self.host).await {
                    match self.retry_or_give_up(&pending, error).await {
                        Some(AfterFailure::Continue) => continue,
                        Some(AfterFailure::RetryAt(at)) => return DispatchProgress::RetryAt(at),
                        None => return retry_later,
                    }
                }
                self.unrecorded_row = Some(pending.row_id);
                self.refusals = 0;
            }
            let recorded = self
                .ledger
                .record_notification_sent(&id, pending.row_id, self.clock.now())
                .await;
            if let Err(error) = recorded {
                tracing::debug!(%error, "cannot record that {id} was notified");
                return retry_later;
            }
            // Logged after the commit: this notification is not sent again.
            tracing::info!(notifier = %id, "notified {id}: {}", pending.notification.text);
        }
    }

    /// Schedules the next attempt, or gives up. Returns `None` if that cannot
    /// be recorded.
    async fn retry_or_give_up(
        &mut self,
        pending: &PendingNotification,
        error: ChannelError,
    ) -> Option<AfterFailure> {
        let id = self.channel.id().clone();
        let now = self.clock.now();
        let attempt = pending.attempts.saturating_add(1);
        let delay = delay_after(attempt, &error);
        let retry_at = time::next_whole_second(time::after(now, delay));
        let is_refused = error.is_refusal;
        let limit = time::before(now, NOTIFICATION_MAX_AGE);
        let is_too_old = pending.notification.created_at < limit;
        if !is_too_old {
            tracing::warn!(
                notifier = %id, attempt, retry_at = time::to_text(retry_at),
                "cannot notify {id}: {error}; retrying in {}", duration::to_human_text(delay)
            );
        }
        let failed = FailedAttempt {
            retry_at,
            error: error.message.clone(),
            is_refused,
        };
        let recorded = self
            .ledger
            .record_notification_failure(&id, pending.row_id, failed);
        recorded.await.ok()?;
        if is_too_old {
            let ended = self
                .ledger
                .abandon_notifications(&id, limit, now)
                .await
                .ok()?;
            if ended.abandoned > 0 {
                tracing::error!(
                    notifier = %id,
                    "cannot notify {id} for a day: {error}; gave up {}, and continuing with newer \
                     ones",
                    counted(ended.abandoned, "notification")
                );
            }
            if ended.renewed > 0 {
                tracing::error!(
                    notifier = %id,
                    "cannot notify {id} for a day: {error}; {} of problems that last waiting for it",
                    counted(ended.renewed, "notification")
                );
            } else {
                return Some(AfterFailure::Continue);
            }
        }
        Some(self.after_failure(is_refused, retry_at))
    }

    /// Returns whether the next notification is sent at once: the receiver may have refused
    /// this one for itself.
    fn after_failure(&mut self, is_refused: bool, retry_at: Timestamp) -> AfterFailure {
        if !is_refused {
            return AfterFailure::RetryAt(retry_at);
        }
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals < MAX_REFUSALS {
            return AfterFailure::Continue;
        }
        let pause = retry_delay(self.refusals - MAX_REFUSALS + 1);
        let until = time::next_whole_second(time::after(self.clock.now(), pause));
        self.paused_until = Some(until);
        AfterFailure::RetryAt(until)
    }
}

/// Returns the delay after a failed attempt: the back-off, or the pause that the receiver
/// asks for.
fn delay_after(attempt: u32, error: &ChannelError) -> Duration {
    retry_delay(attempt).max(error.retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests;
