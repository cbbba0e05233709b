//! File work on blocking threads, with a timeout, since file systems may hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::core::duration;

/// The failure of blocking work. `work` describes the work, such as `reading
/// /etc/key`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockingError {
    /// It did not end in time.
    #[error(
        "{work} did not finish within {}; hint: check whether its file system hangs",
        duration::to_text(*limit)
    )]
    TimedOut {
        /// The work.
        work: String,
        /// The time it had.
        limit: Duration,
    },
    /// It panicked.
    #[error("{work} failed because of a bug in rekeyd; hint: report it")]
    Panicked {
        /// The work.
        work: String,
    },
    /// It was not started: all threads of its pool hang.
    #[error("{work} did not start, because {threads} earlier file operations hang")]
    Exhausted {
        /// The work.
        work: String,
        /// The number of threads of the pool.
        threads: usize,
    },
}

/// Runs `work` on a blocking thread and waits for at most `limit`. `describe`
/// names the work for an error.
///
/// # Errors
/// If the work did not end in time, or panicked.
pub(crate) async fn run_blocking<T: Send + 'static>(
    describe: impl FnOnce() -> String,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    run_until(describe, limit, Instant::now() + limit, work).await
}

async fn run_until<T: Send + 'static>(
    describe: impl FnOnce() -> String,
    limit: Duration,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BlockingError> {
    let task = tokio::task::spawn_blocking(work);
    match timeout_at(deadline, task).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(BlockingError::Panicked { work: describe() }),
        Err(_) => Err(BlockingError::TimedOut {
            work: describe(),
            limit,
        }),
    }
}

/// A pool of few threads for checks of thousands of files: a file system that
/// hangs occupies no more than these.
#[derive(Debug)]
pub(crate) struct BlockingPool {
    threads: usize,
    /// A thread that hangs keeps its permit.
    permits: Arc<Semaphore>,
    /// Whether work was rejected since a thread was last free.
    is_exhausted: AtomicBool,
}

impl BlockingPool {
    /// Returns a pool of `threads` threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            permits: Arc::new(Semaphore::new(threads)),
            is_exhausted: AtomicBool::new(false),
        }
    }

    /// Runs `work` as [`run_blocking`] does, once a thread is free within
    /// `limit`. After a rejection it rejects at once until a thread is free
    /// again.
    ///
    /// # Errors
    /// As [`run_blocking`]; also if all threads hang.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        describe: impl FnOnce() -> String,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let deadline = Instant::now() + limit;
        let permit = if self.is_exhausted.load(Ordering::Relaxed) {
            Arc::clone(&self.permits).try_acquire_owned().ok()
        } else {
            let acquired = timeout_at(deadline, Arc::clone(&self.permits).acquire_owned()).await;
            // The semaphore is never closed.
            acquired.ok().and_then(Result::ok)
        };
        let Some(permit) = permit else {
            if !self.is_exhausted.swap(true, Ordering::Relaxed) {
                tracing::error!(
                    "{} file operations hang; no further one starts until one of them ends; \
                     hint: check whether a file system hangs",
                    self.threads
                );
            }
            return Err(BlockingError::Exhausted {
                work: describe(),
                threads: self.threads,
            });
        };
        self.is_exhausted.store(false, Ordering::Relaxed);
        run_until(describe, limit, deadline, move || {
            let result = work();
            drop(permit);
            result
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    use tokio::task::JoinSet;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);
    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn panicking_work_is_an_error_and_frees_its_thread() {
        let pool = BlockingPool::new(1);
        let panicked = pool.run(
            || "it".to_owned(),
            LONG,
            || panic!("work panics, as it should"),
        );
        let error = panicked.await.map(|(): ()| ()).unwrap_err();
        assert_eq!(
            error,
            BlockingError::Panicked {
                work: "it".to_owned()
            }
        );
        assert_eq!(pool.run(|| "it".to_owned(), LONG, || 1).await, Ok(1));
    }

    #[tokio::test]
    async fn hung_work_delays_nothing_else() {
        let pool = Arc::new(BlockingPool::new(2));
        let (release, hang) = mpsc::channel::<()>();
        let hung = pool
            .run(|| "it".to_owned(), SHORT, move || hang.recv())
            .await;
        let limit = SHORT;
        let work = "it".to_owned();
        assert_eq!(hung, Err(BlockingError::TimedOut { work, limit }));
        let mut others = JoinSet::new();
        for number in 0..100 {
            let pool = Arc::clone(&pool);
            others.spawn(async move { pool.run(|| "it".to_owned(), LONG, move || number).await });
        }
        let mut results = others.join_all().await;
        results.sort_unstable_by_key(|number| number.clone().ok());
        assert_eq!(results, (0..100).map(Ok).collect::<Vec<_>>());
        drop(release);
    }

    #[tokio::test]
    async fn work_is_rejected_while_all_threads_hang() {
        const THREADS: usize = 3;
        let pool = Arc::new(BlockingPool::new(THREADS));
        let started = Arc::new(AtomicUsize::new(0));
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let mut hung = JoinSet::new();
        for _ in 0..5 * THREADS {
            let (pool, started, hang) =
                (Arc::clone(&pool), Arc::clone(&started), Arc::clone(&hang));
            hung.spawn(async move {
                let work = move || {
                    started.fetch_add(1, Ordering::SeqCst);
                    hang.lock().map(|hang| hang.recv().is_err()).is_ok()
                };
                pool.run(|| "it".to_owned(), SHORT, work).await.is_err()
            });
        }
        assert!(hung.join_all().await.into_iter().all(|failed| failed));
        let work = "one more".to_owned();
        let threads = THREADS;
        // Immediately, whatever the limit is.
        let rejected = pool.run(|| "one more".to_owned(), LONG, || 1);
        let rejected = timeout(LONG / 2, rejected).await.unwrap();
        assert_eq!(rejected, Err(BlockingError::Exhausted { work, threads }));
        assert_eq!(started.load(Ordering::SeqCst), THREADS);
        drop(release);
        while pool.permits.available_permits() < THREADS {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.run(|| "it".to_owned(), LONG, || 1).await, Ok(1));
    }
}
