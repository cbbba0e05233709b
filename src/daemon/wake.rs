//! What wakes the loop: in a daemon tokio-cron-scheduler each second, and a
//! monotonic sleep for when the scheduler is silent; in a process that lives
//! for one run a sleep alone: it has mostly ended before the first second.
//!
//! The scheduler is asked for nothing else. It freezes time zones, and after
//! the wall clock was set back it says nothing until the old time is reached
//! again; so what is due is computed elsewhere, and a step back is seen here
//! and answered with a new job.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};

use crate::engine::Course;
use crate::engine::clock::{Clock, Moment, Parted};

/// What is due is looked at so often.
const SECOND: Duration = Duration::from_secs(1);

/// The longest that the loop sleeps when the scheduler says nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Wakes the loop.
pub enum Wake {
    /// By the scheduler.
    Scheduled(Scheduled),
    /// By a sleep.
    EachSecond,
}

impl Wake {
    /// Begins to wake.
    ///
    /// # Errors
    /// The scheduler cannot be started.
    pub async fn start(course: Course, clock: Arc<dyn Clock>) -> Result<Self, JobSchedulerError> {
        Ok(match course {
            Course::Daemon => Self::Scheduled(Scheduled::start(clock).await?),
            Course::Once | Course::ByHand => Self::EachSecond,
        })
    }

    /// Returns when the loop should look at what is due. Safe to drop and call
    /// again.
    pub async fn next(&mut self) {
        match self {
            Self::Scheduled(scheduled) => scheduled.next().await,
            Self::EachSecond => tokio::time::sleep(SECOND).await,
        }
    }
}

/// The scheduler with its one job.
pub struct Scheduled {
    scheduler: JobScheduler,
    job: uuid::Uuid,
    ticks: Arc<Notify>,
    clock: Arc<dyn Clock>,
    seen: Moment,
}

impl Scheduled {
    async fn start(clock: Arc<dyn Clock>) -> Result<Self, JobSchedulerError> {
        let ticks = Arc::new(Notify::new());
        let scheduler = JobScheduler::new().await?;
        let job = scheduler.add(each_second(&ticks)?).await?;
        scheduler.start().await?;
        let seen = Moment::of(clock.as_ref());
        Ok(Self {
            scheduler,
            job,
            ticks,
            clock,
            seen,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            biased;
            () = self.ticks.notified() => {}
            () = tokio::time::sleep(LONGEST_SLEEP) => {}
        }
        if self.stepped_back() {
            self.rearm();
        }
    }

    /// Whether the wall clock was set back since the last look.
    fn stepped_back(&mut self) -> bool {
        let now = Moment::of(self.clock.as_ref());
        let before = std::mem::replace(&mut self.seen, now);
        before.parted(now) == Some(Parted::Back)
    }

    /// Sets the job anew, in a task of its own: whoever waits for
    /// [`Scheduled::next`] may drop it between the removal and the new job.
    fn rearm(&mut self) {
        let job = match each_second(&self.ticks) {
            Ok(job) => job,
            Err(error) => return tell(&error),
        };
        let former = std::mem::replace(&mut self.job, job.guid());
        let scheduler = self.scheduler.clone();
        drop(tokio::spawn(async move {
            let removed = scheduler.remove(&former).await;
            let added = scheduler.add(job).await.map(drop);
            if let Err(error) = removed.and(added) {
                tell(&error);
            }
        }));
    }
}

fn tell(error: &JobSchedulerError) {
    tracing::warn!(%error, "the clock was set back and the scheduler cannot be set anew; \
        looking every {} s", LONGEST_SLEEP.as_secs());
}

/// The one job: its body cannot fail and cannot last.
fn each_second(ticks: &Arc<Notify>) -> Result<Job, JobSchedulerError> {
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

    /// A clock that is set back when it is told to.
    #[derive(Default)]
    struct SetBack(AtomicBool);

    impl Clock for SetBack {
        fn now(&self) -> Timestamp {
            let back = u64::from(self.0.load(Ordering::Relaxed)) * 3_600;
            time::before(Timestamp::UNIX_EPOCH, Duration::from_secs(back))
        }

        fn monotonic(&self) -> Duration {
            Duration::ZERO
        }
    }

    #[tokio::test]
    async fn it_may_be_dropped_while_the_scheduler_is_set_anew() {
        let clock = Arc::new(SetBack::default());
        let mut wake = Wake::start(Course::Daemon, Arc::clone(&clock) as Arc<dyn Clock>)
            .await
            .unwrap();
        wake.next().await;
        clock.0.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            // Something else is always ready first.
            tokio::select! {
                biased;
                () = wake.next() => {}
                () = tokio::task::yield_now() => {}
            }
        }
        // A second would do; the sleep comes after 30 s.
        let tick = tokio::time::timeout(LONGEST_SLEEP / 2, wake.next());
        assert!(tick.await.is_ok());
    }
}
