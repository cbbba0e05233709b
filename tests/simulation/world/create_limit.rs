//! A limit of the rate of creates that comes and goes, and the checks of what is sent while
//! it holds.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::time;

use super::SimWorld;
use crate::scenario::PERIOD;

/// How long after the start of each period a number of creates is allowed in each window.
const RATE_LIMITED: Duration = Duration::from_secs(5 * 60);

/// How long after the start of each period no create is allowed.
const REFUSED: Duration = Duration::from_secs(12 * 60);

/// The window of the limit.
const WINDOW: Duration = Duration::from_secs(60);

/// The number of creates that a window allows.
const CREATES_PER_WINDOW: usize = 20;

/// The shortest pause after a refusal that asks for none.
const SHORTEST_PAUSE: Duration = Duration::from_secs(2);

/// More refused creates than any period needs: each of its five windows and the time without
/// creates begins with those that are on their way, eight at most, and every further one is a
/// probe.
const MAX_REFUSED: usize = 80;

/// The creates of one process, as the limit sees them.
#[derive(Debug, Default)]
pub(super) struct CreateLimiter {
    process: u64,
    /// The number of the present window, and the creates that it has allowed.
    window: (u64, usize),
    /// The number of the present period, and the creates that were refused in it.
    refused: (u64, usize),
    /// The answer to the latest refusal, and the end of the pause after it.
    closed: Option<(Timestamp, Timestamp)>,
    /// The number of creates that were sent after that answer and have none yet.
    probes: usize,
}

/// A create on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentCreate {
    process: u64,
    /// The refusal after which it was sent.
    after: Option<(Timestamp, Timestamp)>,
}

impl SimWorld {
    /// Checks a create that is sent now: none is sent during a pause, and one at a time after
    /// it.
    pub(crate) fn begin_create(&self, process: u64) -> SentCreate {
        let now = self.true_now();
        let mut state = self.state();
        let limiter = &mut state.create_limiter;
        if limiter.process != process {
            // A new process knows of no refusal.
            limiter.process = process;
            (limiter.closed, limiter.probes) = (None, 0);
        }
        let after = limiter.closed;
        let sent = SentCreate { process, after };
        let Some((answered_at, until)) = after.filter(|(answered_at, _)| *answered_at < now) else {
            return sent;
        };
        limiter.probes += 1;
        let is_only_probe = limiter.probes == 1;
        if now < until {
            state.record_violation(format!(
                "a create is sent at {now}, although one was refused at {answered_at} until {until}"
            ));
        }
        if !is_only_probe {
            state.record_violation(format!("two probes are on their way at {now}"));
        }
        sent
    }

    /// Returns the pause that the provider asks for if it refuses a create now, none if it
    /// allows it. The pause may be missing.
    pub(crate) fn refuse_create(&self, sent: SentCreate) -> Option<Option<Duration>> {
        let (now, elapsed) = (self.true_now(), self.elapsed());
        let mut state = self.state();
        let limiter = &mut state.create_limiter;
        let refusal = if self.scenario.limits_creates {
            limiter.refusal(elapsed)
        } else {
            None
        };
        if limiter.process != sent.process {
            return refusal;
        }
        let Some(pause) = refusal else {
            if sent.after.is_some() && sent.after == limiter.closed {
                (limiter.closed, limiter.probes) = (None, 0);
            }
            return None;
        };
        let until = time::after(now, pause.unwrap_or_default().max(SHORTEST_PAUSE));
        let until = limiter
            .closed
            .map_or(until, |(_, before)| before.max(until));
        limiter.closed = Some((now, until));
        limiter.probes = 0;
        let count = limiter.count_refusal(elapsed);
        if count > MAX_REFUSED {
            state.record_violation(format!("{count} creates are refused in one period"));
        }
        refusal
    }
}

impl CreateLimiter {
    /// Returns the refusal of a create at this time, or counts it.
    fn refusal(&mut self, elapsed: Duration) -> Option<Option<Duration>> {
        let (seconds, window) = (elapsed.as_secs(), WINDOW.as_secs());
        let in_period = Duration::from_secs(seconds % PERIOD.as_secs());
        if in_period >= REFUSED {
            return None;
        }
        if in_period >= RATE_LIMITED {
            return Some(None);
        }
        let number = seconds / window;
        if self.window.0 != number {
            self.window = (number, 0);
        }
        if self.window.1 == CREATES_PER_WINDOW {
            return Some(Some(Duration::from_secs(window - seconds % window)));
        }
        self.window.1 += 1;
        None
    }

    /// Returns the number of refusals in this period.
    fn count_refusal(&mut self, elapsed: Duration) -> usize {
        let period = elapsed.as_secs() / PERIOD.as_secs();
        if self.refused.0 != period {
            self.refused = (period, 0);
        }
        self.refused.1 += 1;
        self.refused.1
    }
}
