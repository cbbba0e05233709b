//! Gates: whether requests of one class may be sent in one scope, after the provider
//! limited or refused them.
//!
//! A gate that closes lets nothing pass until its pause is over, and then one request, the
//! probe. Each success lets more requests pass at once: one, two, four and so on.
//! Deliberately not here: which work a gate holds back ([`crate::engine`]).

use std::time::Duration;

use jiff::Timestamp;

use crate::core::backoff::Backoff;
use crate::core::condition::Condition;
use crate::core::time;

/// A class of requests, which the provider limits apart from the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestClass {
    /// A request that creates a credential.
    Create,
    /// A request that only reads.
    Read,
    /// A request that deletes a credential.
    Delete,
}

/// Why a gate closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateCause {
    /// The provider limits the rate of these requests.
    RateLimit,
    /// The organization or the project has used up what it may spend.
    Quota,
    /// The organization or the project refuses every create.
    Refused,
}

impl GateCause {
    /// Returns the condition of a scope whose gate for `class` this cause closed.
    #[must_use]
    pub const fn condition(self, class: RequestClass) -> Condition {
        match (class, self) {
            (RequestClass::Create, Self::RateLimit) => Condition::CreateLimit,
            (RequestClass::Create, Self::Quota) => Condition::Quota,
            (RequestClass::Create, Self::Refused) => Condition::CreateRefusal,
            // What holds up requests that create nothing passes as a limit does.
            (RequestClass::Read, _) => Condition::ReadLimit,
            (RequestClass::Delete, _) => Condition::DeleteLimit,
        }
    }

    /// Returns the pause before the `attempt`th probe, counted from 1, unless the provider
    /// asks for a longer one.
    const fn backoff(self) -> Backoff {
        match self {
            Self::RateLimit => Backoff(&[2, 5, 15, 30, 60, 300]),
            // A person must act.
            Self::Quota | Self::Refused => Backoff(&[60, 300, 900, 3_600]),
        }
    }
}

/// A request that passed a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// How often the gate had closed.
    generation: u64,
    /// Whether it is one of those that a gate lets pass which is not open.
    is_counted: bool,
}

impl Pass {
    /// Returns whether the gate did not close between the two.
    #[must_use]
    pub const fn is_same_time(self, other: Self) -> bool {
        self.generation == other.generation
    }
}

/// What a refused request does to its gate.
#[derive(Debug, Clone, Copy)]
pub struct Closing {
    /// Why the gate closes.
    pub cause: GateCause,
    /// The pause that the provider asks for.
    pub pause: Option<Duration>,
    /// How far the pause is lengthened, from 0 to 1, so that several hosts do not all send
    /// their probes at once.
    pub jitter: f64,
}

/// The gate of one scope for one class of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gate {
    state: GateState,
    /// How often it has closed. A request that passed before says nothing about it now.
    generation: u64,
    /// The number of counted passes without an outcome.
    in_use: u32,
    /// How often it closed since the last success.
    failures: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum GateState {
    #[default]
    Open,
    /// One request passes, at this time.
    Closed(Timestamp),
    /// This many requests pass, and this many of them succeeded.
    Opening { width: u32, successes: u32 },
}

/// The longest jitter, as a part of the pause.
const MAX_JITTER: f64 = 0.1;

impl Gate {
    /// Returns whether everything passes.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, GateState::Open)
    }

    /// Returns how many requests may pass at `now`; none if there is no limit.
    #[must_use]
    pub fn free(&self, now: Timestamp) -> Option<u32> {
        let limit = match self.state {
            GateState::Open => return None,
            GateState::Closed(until) => u32::from(until <= now),
            GateState::Opening { width, successes } => width.saturating_sub(successes),
        };
        Some(limit.saturating_sub(self.in_use))
    }

    /// Returns when the pause of a closed gate is over.
    #[must_use]
    pub const fn closed_until(&self) -> Option<Timestamp> {
        match self.state {
            GateState::Closed(until) => Some(until),
            GateState::Open | GateState::Opening { .. } => None,
        }
    }

    /// Lets a request pass, if one may.
    pub fn enter(&mut self, now: Timestamp) -> Option<Pass> {
        match self.free(now) {
            Some(0) => return None,
            Some(_) => self.in_use += 1,
            None => {}
        }
        Some(Pass {
            is_counted: !self.is_open(),
            ..self.bypass()
        })
    }

    /// Lets a request pass, whatever the state of the gate: a person asked for it.
    #[must_use]
    pub const fn bypass(&self) -> Pass {
        Pass {
            generation: self.generation,
            is_counted: false,
        }
    }

    /// Records that a request ended, and that nothing about the gate follows from it.
    pub const fn release(&mut self, pass: Pass) {
        if pass.is_counted && pass.generation == self.generation {
            self.in_use = self.in_use.saturating_sub(1);
        }
    }

    /// Records a success, which opens the gate further. A request that passed before the
    /// gate closed shows nothing.
    pub const fn succeed(&mut self, pass: Pass) {
        if pass.generation != self.generation {
            return;
        }
        self.release(pass);
        self.failures = 0;
        self.state = match self.state {
            GateState::Open => GateState::Open,
            GateState::Closed(_) => GateState::Opening {
                width: 1,
                successes: 0,
            },
            GateState::Opening { width, successes } if successes + 1 >= width => {
                GateState::Opening {
                    width: width.saturating_mul(2),
                    successes: 0,
                }
            }
            GateState::Opening { width, successes } => GateState::Opening {
                width,
                successes: successes + 1,
            },
        };
    }

    /// Closes the gate after a refusal. While it is closed, a request that passed before can
    /// only lengthen the pause. One that a person asked for is no probe: it does not move the
    /// next one, unless the provider asks for a longer pause.
    pub fn close(&mut self, pass: Pass, closing: Closing, now: Timestamp) {
        let before = self.closed_until();
        // A late refusal closes a gate that a probe has opened meanwhile, as any other does.
        let is_of_now = pass.generation == self.generation;
        let is_extra = is_of_now && !pass.is_counted && before.is_some();
        if !is_extra && (is_of_now || before.is_none()) {
            self.generation += 1;
            self.failures = self.failures.saturating_add(1);
            self.in_use = 0;
        }
        let delay = if is_extra {
            Duration::ZERO
        } else {
            closing.cause.backoff().delay(self.failures)
        };
        let pause = closing.pause.unwrap_or_default().max(delay);
        let pause = pause.mul_f64(1.0 + MAX_JITTER * closing.jitter.clamp(0.0, 1.0));
        let until = time::after(now, pause);
        self.state = GateState::Closed(before.map_or(until, |before| before.max(until)));
    }

    /// Returns whether nothing holds the gate up but that nobody wants to pass: the next
    /// request may pass, and none is on its way.
    #[must_use]
    pub fn is_idle(&self, now: Timestamp) -> bool {
        !self.is_open() && self.in_use == 0 && self.free(now) != Some(0)
    }

    /// Opens the gate. What closes it soon begins with the next longer pause.
    pub const fn open(&mut self) {
        self.state = GateState::Open;
    }

    /// Ends the pause, because times were planned by a clock that has been set back.
    pub fn end_pause(&mut self, now: Timestamp) {
        if let GateState::Closed(until) = &mut self.state {
            *until = now.min(*until);
        }
    }
}

#[cfg(test)]
mod tests;
