//! Wakes the event loop: in a daemon by tokio-cron-scheduler each second, and
//! by a monotonic sleep in case the scheduler is silent; in a command by a
//! sleep alone, since most commands end within the first second.
//!
//! The scheduler has no other role (docs/design/decisions/tick-source.md). It
//! freezes time zones, and after the wall clock was set back it is silent until
//! the former time is reached again. So other code computes what is due, and
//! the ticker replaces the job after such a step.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::engine::RunMode;
use crate::platform::clock::{Clock, ClockJump, ClockReading};

/// The interval at which the loop checks what is due.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// The longest sleep of the loop while the scheduler is silent.
pub(crate) const MAX_SLEEP: Duration = Duration::from_secs(30);

/// Wakes the event loop.
pub enum Ticker {
    /// A tick of the scheduler.
    Cron(CronTicker),
    /// A sleep.
    Interval,
}

impl Ticker {
    /// Starts the ticker for this mode.
    ///
    /// # Errors
    /// If the scheduler cannot be started.
    pub async fn start(
        run_mode: RunMode,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, JobSchedulerError> {
        Ok(match run_mode {
            RunMode::Daemon => Self::Cron(CronTicker::start(clock).await?),
            RunMode::Once | RunMode::Command | RunMode::Proposal => Self::Interval,
        })
    }

    /// Waits until the loop should check what is due. Cancel safe.
    pub async fn tick(&mut self) {
        match self {
            Self::Cron(ticker) => ticker.tick().await,
            Self::Interval => tokio::time::sleep(TICK_INTERVAL).await,
        }
    }
}

/// The scheduler with its one job.
pub struct CronTicker {
    scheduler: JobScheduler,
    job_id: uuid::Uuid,
    ticks: Arc<Notify>,
    clock: Arc<dyn Clock>,
    last_reading: ClockReading,
}

impl CronTicker {
    async fn start(clock: Arc<dyn Clock>) -> Result<Self, JobSchedulerError> {
        let ticks = Arc::new(Notify::new());
        let scheduler = JobScheduler::new().await?;
        let job_id = scheduler.add(tick_job(&ticks)?).await?;
        scheduler.start().await?;
        let last_reading = ClockReading::read(clock.as_ref());
        Ok(Self {
            scheduler,
            job_id,
            ticks,
            clock,
            last_reading,
        })
    }

    async fn tick(&mut self) {
        tokio::select! {
            biased;
            () = self.ticks.notified() => {}
            () = tokio::time::sleep(MAX_SLEEP) => {}
        }
        if self.has_stepped_back() {
            self.replace_job();
        }
    }

    /// Whether the wall clock was set back since the last call.
    fn has_stepped_back(&mut self) -> bool {
        let now = ClockReading::read(self.clock.as_ref());
        let previous = std::mem::replace(&mut self.last_reading, now);
        matches!(previous.jump_until(now), Some(ClockJump::Backward(_)))
    }

    /// Replaces the job in a task of its own, since [`CronTicker::tick`] may be
    /// dropped between the removal and the addition.
    fn replace_job(&mut self) {
        let job = match tick_job(&self.ticks) {
            Ok(job) => job,
            Err(error) => return log_replace_failure(&error),
        };
        let former_id = std::mem::replace(&mut self.job_id, job.guid());
        let scheduler = self.scheduler.clone();
        drop(tokio::spawn(async move {
            let removed = scheduler.remove(&former_id).await;
            let added = scheduler.add(job).await.map(drop);
            if let Err(error) = removed.and(added) {
                log_replace_failure(&error);
            }
        }));
    }
}

fn log_replace_failure(error: &JobSchedulerError) {
    tracing::warn!(%error, "the clock was set back and the scheduler cannot be reset; checking \
        every {} s instead", MAX_SLEEP.as_secs());
}

/// Creates the one job, whose body cannot fail and cannot block.
fn tick_job(ticks: &Arc<Notify>) -> Result<Job, JobSchedulerError> {
    let ticks = Arc::clone(ticks);
    Job::new("* * * * * *", move |_, _| ticks.notify_one())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use jiff::Timestamp;

    use super::*;
    use crate::core::time;

    /// A clock that a test sets back.
    #[derive(Default)]
    struct SetBackClock(AtomicBool);

    impl Clock for SetBackClock {
        fn now(&self) -> Timestamp {
            let offset = u64::from(self.0.load(Ordering::Relaxed)) * 3_600;
            time::before(Timestamp::UNIX_EPOCH, Duration::from_secs(offset))
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn tick_may_be_dropped_while_the_job_is_replaced() {
        let clock = Arc::new(SetBackClock::default());
        let mut ticker = Ticker::start(RunMode::Daemon, Arc::clone(&clock) as Arc<dyn Clock>)
            .await
            .unwrap();
        ticker.tick().await;
        clock.0.store(true, Ordering::Relaxed);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            // The other branch is always ready, so that the tick is dropped.
            tokio::select! {
                biased;
                () = ticker.tick() => {}
                () = tokio::task::yield_now() => {}
            }
        }
        // The scheduler ticks within a second; the sleep would take 30 s.
        let tick = tokio::time::timeout(MAX_SLEEP / 2, ticker.tick());
        assert!(tick.await.is_ok());
    }
}
