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
const STALL: Duration = Duration::from_secs(1);

/// With so many threads that hang, no further one is begun: what they wait for
/// does not come back sooner, and others need threads too.
const MOST_STUCK: usize = 16;

/// With so much waiting a second thread is worth waking.
const MUCH: usize = 64;

type Look = Box<dyn FnOnce() + Send>;

/// What waits in this process, and the threads that do it.
static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    waiting: VecDeque::new(),
    hands: [Hand {
        thread: 0,
        since: None,
    }; 2],
    stuck: 0,
});

struct Queue {
    waiting: VecDeque<Look>,
    /// Who takes from it; the second one only if there is much.
    hands: [Hand; 2],
    /// How many threads hang that others have replaced.
    stuck: usize,
}

#[derive(Clone, Copy)]
struct Hand {
    /// The number of its thread: an earlier one that comes back from where it
    /// hung does nothing more.
    thread: u64,
    /// Since when that thread does what it does; none if there is none.
    since: Option<Instant>,
}

/// Has `work` done aside; it stands in line from now on. None if it is not done
/// within `limit` of now, or panicked.
pub(crate) fn aside<T: Send + 'static>(
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
    queue().take_in(Box::new(look));
    async move {
        // Nearly every one is done by the time that it is waited for.
        if let Ok(answer) = answer.try_recv() {
            return Some(answer);
        }
        let answered = async {
            loop {
                match tokio::time::timeout(STALL, &mut answer).await {
                    Ok(answered) => break answered.ok(),
                    Err(_) => queue().see_to_it(),
                }
            }
        };
        tokio::time::timeout_at(end, answered).await.ok().flatten()
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    // No work is done while it is held.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hand {
    fn is_stalled(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= STALL)
    }
}

impl Queue {
    fn take_in(&mut self, look: Look) {
        self.waiting.push_back(look);
        self.see_to_it();
        if self.stuck >= MOST_STUCK && self.hands.iter().all(Hand::is_stalled) {
            // Whoever waits hears at once that it is not done.
            self.waiting.clear();
        }
    }

    /// Has as many threads take from it as what waits is worth, unless they do.
    fn see_to_it(&mut self) {
        for (number, hand) in self.hands.iter_mut().enumerate() {
            let goes_on = hand.since.is_some() && !hand.is_stalled();
            if self.waiting.len() <= number * MUCH || goes_on {
                continue;
            }
            if hand.is_stalled() {
                if self.stuck >= MOST_STUCK {
                    continue;
                }
                self.stuck += 1;
                if self.stuck == MOST_STUCK {
                    tracing::error!(
                        "{MOST_STUCK} looks at files do not come back, so none is begun until \
                         one does; see whether a file system hangs"
                    );
                }
            }
            hand.thread += 1;
            hand.since = Some(Instant::now());
            let thread = hand.thread;
            tokio::task::spawn_blocking(move || {
                while let Some(look) = next(number, thread) {
                    // Whoever waits for one that panics hears that it is not done.
                    let _ = std::panic::catch_unwind(AssertUnwindSafe(look));
                }
            });
        }
    }
}

/// What that thread of a hand does next.
fn next(hand: usize, thread: u64) -> Option<Look> {
    let mut queue = queue();
    if queue.hands[hand].thread != thread {
        queue.stuck -= 1;
        return None;
    }
    let next = queue.waiting.pop_front();
    queue.hands[hand].since = next.is_some().then(Instant::now);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn what_hangs_holds_up_nothing_behind_it() {
        let (release, hang) = mpsc::channel::<()>();
        let stuck = tokio::spawn(aside(Duration::from_secs(60), move || hang.recv().is_err()));
        tokio::task::yield_now().await;
        let mut looks = tokio::task::JoinSet::new();
        for number in 0..100 {
            looks.spawn(aside(Duration::from_secs(30), move || number));
        }
        let mut done = looks.join_all().await;
        done.sort_unstable();
        assert_eq!(done, (0..100).map(Some).collect::<Vec<_>>());
        drop(release);
        assert_eq!(stuck.await.unwrap(), Some(true));
    }

    #[tokio::test]
    async fn what_takes_too_long_is_not_waited_for() {
        let (release, hang) = mpsc::channel::<()>();
        let stuck = aside(Duration::from_millis(10), move || hang.recv());
        assert!(stuck.await.is_none());
        drop(release);
        assert_eq!(aside(Duration::from_secs(30), || 1).await, Some(1));
    }

    #[test]
    fn where_much_hangs_nothing_more_is_begun() {
        let hangs = Hand {
            thread: 1,
            since: Instant::now().checked_sub(2 * STALL),
        };
        let mut queue = Queue {
            waiting: VecDeque::new(),
            hands: [hangs; 2],
            stuck: MOST_STUCK,
        };
        let (waits, answer) = mpsc::channel::<()>();
        // No thread could be had for it here.
        queue.take_in(Box::new(move || drop(waits)));
        assert_eq!(answer.recv(), Err(mpsc::RecvError), "it is let go at once");
        assert_eq!(queue.hands.map(|hand| hand.thread), [1, 1]);
    }

    #[tokio::test]
    async fn what_panics_harms_nobody() {
        let panicked = aside(Duration::from_secs(30), || {
            panic!("a look panics, as it should")
        });
        assert_eq!(panicked.await, None::<()>);
        assert_eq!(aside(Duration::from_secs(30), || 1).await, Some(1));
    }
}
