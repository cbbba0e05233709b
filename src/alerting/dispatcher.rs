//! Delivers notices, beside everything else: one carrier for each who is told,
//! one notice at a time, in order. What cannot be delivered is tried again,
//! also by a later process, until it is given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::alerting::channel::target::{ChannelTarget, ClockFn, NotifySettings};
use crate::alerting::channel::{Channel, ChannelError};
use crate::alerting::outbox::OutboxSignal;
use crate::core::notification::{ChannelId, NOTIFICATION_MAX_AGE, Notification, retry_delay};
use crate::core::policy::plausible_retry;
use crate::core::time;
use crate::ledger::Ledger;
use crate::platform::clock::Clock;
use crate::platform::machine;

/// The longest that a carrier with something to deliver sleeps: the clock may
/// have been set meanwhile.
const MAX_SLEEP: Duration = Duration::from_secs(60);

/// A carrier does not turn faster than this, whatever its clock says.
const MIN_SLEEP: Duration = Duration::from_millis(100);

/// For so long a process that ends tries again what failed.
const FINAL_RETRY_WINDOW: Duration = Duration::from_secs(10);

/// Everybody who delivers notices in this process. Dropped, they stop.
pub(crate) struct NotificationDispatcher {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    outbox_signal: watch::Receiver<OutboxSignal>,
    workers: BTreeMap<ChannelId, (Arc<dyn ChannelTarget>, JoinSet<()>)>,
}

/// Delivers to one who is told.
struct ChannelWorker {
    channel: Arc<dyn Channel>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    host: String,
    /// What was delivered and could not be recorded.
    unrecorded_row: Option<i64>,
}

/// How a round of deliveries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DispatchProgress {
    /// Nothing is owed.
    Drained,
    /// Something is, and is tried again then.
    RetryAt(Timestamp),
}

impl NotificationDispatcher {
    /// Nobody delivers yet.
    pub(crate) const fn new(
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        posted: watch::Receiver<OutboxSignal>,
    ) -> Self {
        Self {
            ledger,
            clock,
            outbox_signal: posted,
            workers: BTreeMap::new(),
        }
    }

    /// Delivers to these from now on. Who is delivered to already is not
    /// disturbed.
    pub(crate) fn set_channels(&mut self, wanted: &[NotifySettings]) {
        let stays = |id: &ChannelId, target: &Arc<dyn ChannelTarget>| {
            let mut wanted = wanted.iter();
            wanted.any(|one| one.subscription.channel == *id && one.target.is_same(&**target))
        };
        self.workers.retain(|id, (target, _)| stays(id, target));
        for settings in wanted {
            let id = &settings.subscription.channel;
            if self.workers.contains_key(id) {
                continue;
            }
            let carrier = self.new_worker(settings);
            let mut task = JoinSet::new();
            task.spawn(carrier.run(self.outbox_signal.clone()));
            self.workers
                .insert(id.clone(), (Arc::clone(&settings.target), task));
        }
    }

    /// Delivers what is owed to these, for `limit` at most: of a process that
    /// ends.
    pub(crate) async fn flush_pending(&self, wanted: &[NotifySettings], limit: Duration) {
        let mut rounds = JoinSet::new();
        for settings in wanted {
            rounds.spawn(self.new_worker(settings).flush());
        }
        let finished = async { while rounds.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("not everybody could be told in time; the next run goes on with that");
        }
    }

    fn new_worker(&self, settings: &NotifySettings) -> ChannelWorker {
        let clock = Arc::clone(&self.clock);
        let now: ClockFn = Arc::new(move || clock.now());
        ChannelWorker {
            channel: settings.build(&now),
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            host: machine::hostname(),
            unrecorded_row: None,
        }
    }
}

impl ChannelWorker {
    /// Delivers for as long as the process lives.
    async fn run(mut self, mut posted: watch::Receiver<OutboxSignal>) {
        let mut direct = 0;
        loop {
            let waiting = posted.borrow_and_update().direct.clone();
            for (notice, to) in waiting.into_iter().skip(direct) {
                direct += 1;
                if to.contains(self.channel.id()) {
                    self.send_bypassing_ledger(&notice).await;
                }
            }
            let wait = match self.send_pending().await {
                DispatchProgress::Drained => None,
                DispatchProgress::RetryAt(at) => {
                    let span = time::until(self.clock.now(), at);
                    Some(span.clamp(MIN_SLEEP, MAX_SLEEP))
                }
            };
            let news = posted.changed();
            let gone = match wait {
                None => news.await.is_err(),
                Some(span) => match tokio::time::timeout(span, news).await {
                    Ok(news) => news.is_err(),
                    Err(_) => false,
                },
            };
            if gone {
                return;
            }
        }
    }

    /// Delivers what is owed until nothing is, or the next try is too far away.
    async fn flush(mut self) {
        let end = time::after(self.clock.now(), FINAL_RETRY_WINDOW);
        while let DispatchProgress::RetryAt(at) = self.send_pending().await {
            if at > end {
                return;
            }
            let span = time::until(self.clock.now(), at);
            tokio::time::sleep(span.max(MIN_SLEEP)).await;
        }
    }

    /// What is wrong with the ledger cannot stand there: what is not delivered
    /// before the process ends is not told.
    async fn send_bypassing_ledger(&self, notice: &Notification) {
        let mut attempt = 0;
        let mut waited = Duration::ZERO;
        while let Err(error) = self.channel.send(notice, &self.host).await {
            attempt += 1;
            let pause = retry_delay(attempt);
            waited += pause;
            if waited > NOTIFICATION_MAX_AGE {
                tracing::error!(notifier = %self.channel.id(), "gave up telling: {}", notice.text);
                return;
            }
            tracing::warn!(notifier = %self.channel.id(), attempt, "{error}; trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Delivers what is owed, in order, until something cannot be delivered.
    async fn send_pending(&mut self) -> DispatchProgress {
        let id = self.channel.id().clone();
        loop {
            let now = self.clock.now();
            let later = DispatchProgress::RetryAt(time::after(now, MAX_SLEEP));
            let owed = match self.ledger.next_notification(&id).await {
                Ok(Some(owed)) => owed,
                Ok(None) => return DispatchProgress::Drained,
                Err(error) => {
                    tracing::debug!(%error, "cannot ask the ledger what {id} is to be told");
                    return later;
                }
            };
            if let Some(at) = plausible_retry(owed.retry_at, now).filter(|at| *at > now) {
                return DispatchProgress::RetryAt(at);
            }
            if self.unrecorded_row != Some(owed.row_id) {
                if let Err(error) = self.channel.send(&owed.notification, &self.host).await {
                    return self.retry_or_give_up(&owed, error).await.unwrap_or(later);
                }
                self.unrecorded_row = Some(owed.row_id);
            }
            let told = self
                .ledger
                .record_notification_sent(&id, owed.row_id, self.clock.now())
                .await;
            if let Err(error) = told {
                tracing::debug!(%error, "cannot record that {id} was told");
                return later;
            }
            // Whoever reads this can rely on its not being told again.
            tracing::info!(notifier = %id, "told {id}: {}", owed.notification.text);
        }
    }

    /// Plans the next try, or gives up. None if that cannot be recorded.
    async fn retry_or_give_up(
        &self,
        owed: &crate::ledger::PendingNotification,
        error: ChannelError,
    ) -> Option<DispatchProgress> {
        let id = self.channel.id();
        let now = self.clock.now();
        let limit = time::before(now, NOTIFICATION_MAX_AGE);
        if owed.notification.created_at < limit {
            let count = self
                .ledger
                .abandon_notifications(id, limit, now)
                .await
                .ok()?;
            tracing::error!(
                notifier = %id,
                "{id} could not be told for a day: {error}; {count} notices were given up, and \
                 what is newer is tried on"
            );
            return Some(DispatchProgress::RetryAt(now));
        }
        let attempt = owed.attempts.saturating_add(1);
        let retry_at = time::whole_seconds(time::after(now, retry_delay(attempt)));
        tracing::warn!(
            notifier = %id, attempt, retry_at = time::to_text(retry_at),
            "{id} was not told: {error}; trying again at {}", time::to_text(retry_at)
        );
        let noted =
            self.ledger
                .record_notification_failure(id, owed.row_id, retry_at, error.message);
        noted.await.ok()?;
        Some(DispatchProgress::RetryAt(retry_at))
    }
}

#[cfg(test)]
mod tests;
