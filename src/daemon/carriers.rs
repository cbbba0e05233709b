//! Delivers notices, beside everything else: one carrier for each who is told,
//! one notice at a time, in order. What cannot be delivered is tried again,
//! also by a later process, until it is given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::core::notice::{GIVEN_UP_AFTER, Notice, NotifierId, pause};
use crate::core::policy::believed;
use crate::core::settings::{NotifySettings, NotifyTarget};
use crate::core::time;
use crate::engine::clock::Clock;
use crate::engine::post::Posted;
use crate::host::machine;
use crate::ledger::Ledger;
use crate::notify::{self, Notifier, Now};

/// The longest that a carrier with something to deliver sleeps: the clock may
/// have been set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A carrier does not turn faster than this, whatever its clock says.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

/// For so long a process that ends tries again what failed.
const LAST_TRIES: Duration = Duration::from_secs(10);

/// Everybody who delivers notices in this process. Dropped, they stop.
pub(crate) struct Carriers {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    posted: watch::Receiver<Posted>,
    running: BTreeMap<NotifierId, (NotifyTarget, JoinSet<()>)>,
}

/// Delivers to one who is told.
struct Carrier {
    notifier: Arc<dyn Notifier>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    host: String,
    /// What was delivered and could not be recorded.
    unrecorded: Option<i64>,
}

/// How a round of deliveries ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Nothing is owed.
    Done,
    /// Something is, and is tried again then.
    Later(Timestamp),
}

impl Carriers {
    /// Nobody delivers yet.
    pub(crate) const fn new(
        ledger: Ledger,
        clock: Arc<dyn Clock>,
        posted: watch::Receiver<Posted>,
    ) -> Self {
        Self {
            ledger,
            clock,
            posted,
            running: BTreeMap::new(),
        }
    }

    /// Delivers to these from now on. Who is delivered to already is not
    /// disturbed.
    pub(crate) fn deliver_to(&mut self, wanted: &[NotifySettings]) {
        let stays = |id: &NotifierId, target: &NotifyTarget| {
            let mut wanted = wanted.iter();
            wanted.any(|one| one.listener.id == *id && one.target == *target)
        };
        self.running.retain(|id, (target, _)| stays(id, target));
        for settings in wanted {
            let id = &settings.listener.id;
            if self.running.contains_key(id) {
                continue;
            }
            let carrier = self.carrier(settings);
            let mut task = JoinSet::new();
            task.spawn(carrier.carry(self.posted.clone()));
            self.running
                .insert(id.clone(), (settings.target.clone(), task));
        }
    }

    /// Delivers what is owed to these, for `limit` at most: of a process that
    /// ends.
    pub(crate) async fn deliver_owed(&self, wanted: &[NotifySettings], limit: Duration) {
        let mut rounds = JoinSet::new();
        for settings in wanted {
            rounds.spawn(self.carrier(settings).finish());
        }
        let finished = async { while rounds.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("not everybody could be told in time; the next run goes on with that");
        }
    }

    fn carrier(&self, settings: &NotifySettings) -> Carrier {
        let clock = Arc::clone(&self.clock);
        let now: Now = Arc::new(move || clock.now());
        Carrier {
            notifier: notify::of(settings, &now),
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock),
            host: machine::name(),
            unrecorded: None,
        }
    }
}

impl Carrier {
    /// Delivers for as long as the process lives.
    async fn carry(mut self, mut posted: watch::Receiver<Posted>) {
        let mut direct = 0;
        loop {
            let waiting = posted.borrow_and_update().direct.clone();
            for (notice, to) in waiting.into_iter().skip(direct) {
                direct += 1;
                if to.contains(self.notifier.id()) {
                    self.tell_directly(&notice).await;
                }
            }
            let wait = match self.round().await {
                Round::Done => None,
                Round::Later(at) => {
                    let span = time::until(self.clock.now(), at);
                    Some(span.clamp(SHORTEST_SLEEP, LONGEST_SLEEP))
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
    async fn finish(mut self) {
        let end = time::after(self.clock.now(), LAST_TRIES);
        while let Round::Later(at) = self.round().await {
            if at > end {
                return;
            }
            let span = time::until(self.clock.now(), at);
            tokio::time::sleep(span.max(SHORTEST_SLEEP)).await;
        }
    }

    /// What is wrong with the ledger cannot stand there: what is not delivered
    /// before the process ends is not told.
    async fn tell_directly(&self, notice: &Notice) {
        let mut attempt = 0;
        let mut waited = Duration::ZERO;
        while let Err(error) = self.notifier.tell(notice, &self.host).await {
            attempt += 1;
            let pause = pause(attempt);
            waited += pause;
            if waited > GIVEN_UP_AFTER {
                tracing::error!(notifier = %self.notifier.id(), "gave up telling: {}", notice.text);
                return;
            }
            tracing::warn!(notifier = %self.notifier.id(), attempt, "{error}; trying again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Delivers what is owed, in order, until something cannot be delivered.
    async fn round(&mut self) -> Round {
        let id = self.notifier.id().clone();
        loop {
            let now = self.clock.now();
            let later = Round::Later(time::after(now, LONGEST_SLEEP));
            let owed = match self.ledger.owed(&id).await {
                Ok(Some(owed)) => owed,
                Ok(None) => return Round::Done,
                Err(error) => {
                    tracing::debug!(%error, "cannot ask the ledger what {id} is to be told");
                    return later;
                }
            };
            if let Some(at) = believed(owed.retry_at, now).filter(|at| *at > now) {
                return Round::Later(at);
            }
            if self.unrecorded != Some(owed.row) {
                if let Err(error) = self.notifier.tell(&owed.notice, &self.host).await {
                    return self.not_told(&owed, &error).await.unwrap_or(later);
                }
                self.unrecorded = Some(owed.row);
            }
            let told = self.ledger.told(&id, owed.row, self.clock.now()).await;
            if let Err(error) = told {
                tracing::debug!(%error, "cannot record that {id} was told");
                return later;
            }
            // Whoever reads this can rely on its not being told again.
            tracing::info!(notifier = %id, "told {id}: {}", owed.notice.text);
        }
    }

    /// Plans the next try, or gives up. None if that cannot be recorded.
    async fn not_told(&self, owed: &crate::ledger::Owed, error: &str) -> Option<Round> {
        let id = self.notifier.id();
        let now = self.clock.now();
        let limit = time::before(now, GIVEN_UP_AFTER);
        if owed.notice.at < limit {
            let count = self.ledger.give_up_telling(id, limit, now).await.ok()?;
            tracing::error!(
                notifier = %id,
                "{id} could not be told for a day: {error}; {count} notices were given up, and \
                 what is newer is tried on"
            );
            return Some(Round::Later(now));
        }
        let attempt = owed.attempts.saturating_add(1);
        let retry_at = time::whole_seconds(time::after(now, pause(attempt)));
        tracing::warn!(
            notifier = %id, attempt, retry_at = time::to_text(retry_at),
            "{id} was not told: {error}; trying again at {}", time::to_text(retry_at)
        );
        let noted = self
            .ledger
            .not_told(id, owed.row, retry_at, error.to_owned());
        noted.await.ok()?;
        Some(Round::Later(retry_at))
    }
}

#[cfg(test)]
mod tests;
