//! Looks at files, on a thread aside: a file system may hang.
//!
//! One thread does all that is asked for at the same time, and a second one
//! helps with much, since a look is shorter than waking a thread for it, and
//! ten thousand files at once would cost five hundred threads. What hangs does
//! not hold up what waits behind it: another thread goes on with that.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// A look that takes longer hangs, or its disk is so slow that a second thread
/// does no harm.
const HANG_THRESHOLD: Duration = Duration::from_secs(1);

/// With so many threads that hang, no further one is begun: what they wait for
/// does not come back sooner, and others need threads too.
const MAX_HUNG_THREADS: usize = 16;

/// With so much waiting a second thread is worth waking.
const SECOND_WORKER_QUEUE_LEN: usize = 64;

type BlockingTask = Box<dyn FnOnce() + Send>;

/// What waits in this process, and the threads that do it.
static POOL: Mutex<BlockingPool> = Mutex::new(BlockingPool {
    pending: VecDeque::new(),
    workers: [PoolWorker {
        generation: 0,
        busy_since: None,
    }; 2],
    hung_threads: 0,
});

struct BlockingPool {
    pending: VecDeque<BlockingTask>,
    /// Who takes from it; the second one only if there is much.
    workers: [PoolWorker; 2],
    /// How many threads hang that others have replaced.
    hung_threads: usize,
}

#[derive(Clone, Copy)]
struct PoolWorker {
    /// The number of its thread: an earlier one that comes back from where it
    /// hung does nothing more.
    generation: u64,
    /// Since when that thread does what it does; none if there is none.
    busy_since: Option<Instant>,
}

/// Has `work` done aside; it stands in line from now on. None if it is not done
/// within `limit` of now, or panicked.
pub(crate) fn run<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Option<T>> + Send + 'static {
    let end = tokio::time::Instant::now() + limit;
    let (reply, mut answer) = oneshot::channel();
    let look = move || {
        // Nobody waits for it any more: it stood behind something that hung.
        if !reply.is_closed() {
            let _ = reply.send(work());
        }
    };
    lock_pool().submit(Box::new(look));
    async move {
        // Nearly every one is done by the time that it is waited for.
        if let Ok(answer) = answer.try_recv() {
            return Some(answer);
        }
        let answered = async {
            loop {
                match tokio::time::timeout(HANG_THRESHOLD, &mut answer).await {
                    Ok(answered) => break answered.ok(),
                    Err(_) => lock_pool().ensure_workers(),
                }
            }
        };
        tokio::time::timeout_at(end, answered).await.ok().flatten()
    }
}

fn lock_pool() -> MutexGuard<'static, BlockingPool> {
    // No work is done while it is held.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PoolWorker {
    fn is_hung(&self) -> bool {
        self.busy_since
            .is_some_and(|since| since.elapsed() >= HANG_THRESHOLD)
    }
}

impl BlockingPool {
    fn submit(&mut self, look: BlockingTask) {
        self.pending.push_back(look);
        self.ensure_workers();
        if self.hung_threads >= MAX_HUNG_THREADS && self.workers.iter().all(PoolWorker::is_hung) {
            // Whoever waits hears at once that it is not done.
            self.pending.clear();
        }
    }

    /// Has as many threads take from it as what waits is worth, unless they do.
    fn ensure_workers(&mut self) {
        for (number, hand) in self.workers.iter_mut().enumerate() {
            let goes_on = hand.busy_since.is_some() && !hand.is_hung();
            if self.pending.len() <= number * SECOND_WORKER_QUEUE_LEN || goes_on {
                continue;
            }
            if hand.is_hung() {
                if self.hung_threads >= MAX_HUNG_THREADS {
                    continue;
                }
                self.hung_threads += 1;
                if self.hung_threads == MAX_HUNG_THREADS {
                    tracing::error!(
                        "{MAX_HUNG_THREADS} looks at files do not come back, so none is begun until \
                         one does; see whether a file system hangs"
                    );
                }
            }
            hand.generation += 1;
            hand.busy_since = Some(Instant::now());
            let thread = hand.generation;
            tokio::task::spawn_blocking(move || {
                while let Some(look) = next_task(number, thread) {
                    // Whoever waits for one that panics hears that it is not done.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(look));
                }
            });
        }
    }
}

/// What that thread of a hand does next.
fn next_task(hand: usize, thread: u64) -> Option<BlockingTask> {
    let mut queue = lock_pool();
    if queue.workers[hand].generation != thread {
        queue.hung_threads -= 1;
        return None;
    }
    let next = queue.pending.pop_front();
    queue.workers[hand].busy_since = next.is_some().then(Instant::now);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn hung_task_does_not_block_later_tasks() {
        let (release, hang) = mpsc::channel::<()>();
        let stuck = tokio::spawn(run(Duration::from_secs(60), move || hang.recv().is_err()));
        tokio::task::yield_now().await;
        let mut looks = tokio::task::JoinSet::new();
        for number in 0..100 {
            looks.spawn(run(Duration::from_secs(30), move || number));
        }
        let mut done = looks.join_all().await;
        done.sort_unstable();
        assert_eq!(done, (0..100).map(Some).collect::<Vec<_>>());
        drop(release);
        assert_eq!(stuck.await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn task_past_its_limit_returns_none() {
        let (release, hang) = mpsc::channel::<()>();
        let stuck = run(Duration::from_millis(10), move || hang.recv());
        assert!(stuck.await.is_none());
        drop(release);
        assert_eq!(run(Duration::from_secs(30), || 1).await, Some(1));
    }

    #[test]
    fn tasks_are_dropped_at_the_limit_of_hung_threads() {
        let hangs = PoolWorker {
            generation: 1,
            busy_since: Instant::now().checked_sub(2 * HANG_THRESHOLD),
        };
        let mut queue = BlockingPool {
            pending: VecDeque::new(),
            workers: [hangs; 2],
            hung_threads: MAX_HUNG_THREADS,
        };
        let (waits, answer) = mpsc::channel::<()>();
        // No thread could be had for it here.
        queue.submit(Box::new(move || drop(waits)));
        assert_eq!(answer.recv(), Err(mpsc::RecvError), "it is let go at once");
        assert_eq!(queue.workers.map(|hand| hand.generation), [1, 1]);
    }

    #[tokio::test]
    async fn panicking_task_leaves_the_pool_usable() {
        let panicked = run(Duration::from_secs(30), || {
            panic!("a look panics, as it should")
        });
        assert_eq!(panicked.await, None::<()>);
        assert_eq!(run(Duration::from_secs(30), || 1).await, Some(1));
    }
}
