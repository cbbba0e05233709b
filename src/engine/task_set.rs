//! The running tasks of the engine, and how long those that have ended wait for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

/// Tasks that run beside the engine.
pub(super) struct TaskSet<T> {
    running: JoinSet<T>,
    ended: Arc<EndedTasks>,
}

/// When each task ended whose result was not taken yet, the earliest first.
#[derive(Default)]
struct EndedTasks(Mutex<VecDeque<Instant>>);

/// Notes the end of its task, also of one that panics, when it is dropped.
struct EndMark(Arc<EndedTasks>);

impl<T: Send + 'static> TaskSet<T> {
    pub(super) fn new() -> Self {
        Self {
            running: JoinSet::new(),
            ended: Arc::default(),
        }
    }

    /// Starts a task.
    pub(super) fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) {
        let mark = EndMark(Arc::clone(&self.ended));
        self.running.spawn(async move {
            let _mark = mark;
            task.await
        });
    }

    /// Waits for the next task to end, and returns its result; none if no task is running.
    /// Cancel safe.
    pub(super) async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        let result = self.running.join_next().await;
        self.note_taken(result)
    }

    /// Returns the result of a task that has ended, if there is one.
    pub(super) fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        let result = self.running.try_join_next();
        self.note_taken(result)
    }

    /// Returns the number of tasks whose result was not taken yet.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Returns whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Returns when the first of the tasks ended whose result was not taken yet.
    pub(super) fn first_untaken(&self) -> Option<Instant> {
        self.ended.lock().front().copied()
    }

    fn note_taken<R>(&self, result: Option<R>) -> Option<R> {
        if result.is_some() {
            self.ended.lock().pop_front();
        }
        result
    }
}

impl EndedTasks {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EndMark {
    fn drop(&mut self) {
        self.0.lock().push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn results_that_were_not_taken_have_their_age() {
        let mut tasks = TaskSet::new();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        tasks.spawn(tokio::time::sleep(second));
        tasks.spawn(async move {
            tokio::time::sleep(second * 2).await;
            panic!("a task that panics has ended as well");
        });
        tasks.spawn(std::future::pending());
        assert_eq!(tasks.first_untaken(), None, "all are running");
        tokio::time::sleep(second * 5).await;
        assert_eq!(tasks.first_untaken(), Some(start + second));
        assert!(tasks.join_next().await.unwrap().is_ok());
        assert_eq!(tasks.first_untaken(), Some(start + second * 2));
        assert!(tasks.try_join_next().unwrap().is_err());
        assert_eq!(tasks.first_untaken(), None);
        assert_eq!(tasks.len(), 1);
    }
}
