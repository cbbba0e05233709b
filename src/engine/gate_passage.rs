//! How the work of a key passes the gates of its scope, and closes them.

use jiff::Timestamp;

use crate::core::decide::next_step::{Permits, Step, next_step};
use crate::core::decide::revocation::wants_successor;
use crate::core::gate::{Closing, GateCause, RequestClass};
use crate::core::ids::RotationId;
use crate::core::state::Trigger;
use crate::core::time;
use crate::engine::gates::{GateKey, GatePass, Gates, HeldBack};
use crate::engine::probe::requested_pause;
use crate::engine::work::Work;
use crate::engine::worker::Worker;
use crate::provider::{ErrorKind, ProviderError};

impl Worker {
    /// Takes a pass for each class of requests that the work sends. Returns false if a gate
    /// lets none pass: the key waits there.
    pub(crate) fn enter_gates(&mut self, work: &Work) -> bool {
        let classes = classes_of(work);
        for class in classes {
            if !self.enter_gate(*class) {
                self.passes.clear();
                self.hold_back(HeldBack {
                    class: *class,
                    delays_rotation: work_of_rotation(work),
                });
                return false;
            }
        }
        // The preconditions come before the gate of creates: they show the key's own trouble.
        if let Work::StartRotation(start, _) = work
            && start.request.is_none()
        {
            self.enter_gate(RequestClass::Create);
        }
        true
    }

    /// Takes a pass of one gate, or keeps the one it has. Returns false if there is none.
    pub(crate) fn enter_gate(&mut self, class: RequestClass) -> bool {
        if let Some(pass) = self.passes.get(&class)
            && pass.is_current()
        {
            return true;
        }
        self.passes.remove(&class);
        let (key, now) = (&self.state.key, self.now());
        let pass = self.gates().enter(key, &self.gate(class), now);
        pass.is_some_and(|pass| {
            self.passes.insert(class, pass);
            true
        })
    }

    /// Takes the pass for a create that was not sent; none if it is held back. What a person
    /// asked for passes in any case.
    pub(crate) fn pass_for_create(&mut self, rotation: &RotationId) -> Option<GatePass> {
        let row = self.state.rotation(rotation);
        let is_requested = row.is_some_and(|row| row.trigger == Trigger::Manual);
        if self.enter_gate(RequestClass::Create) {
            return self.passes.remove(&RequestClass::Create);
        }
        is_requested.then(|| self.gates().bypass(&self.gate(RequestClass::Create)))
    }

    /// Gives the passes back that no further work of the key needs.
    pub(crate) fn leave_gates(&mut self) {
        let in_flight = self.in_flight.as_ref();
        let is_unsent = in_flight.is_some_and(|in_flight| !in_flight.create_sent);
        self.passes
            .retain(|class, _| *class == RequestClass::Create && is_unsent);
    }

    /// Returns whether a gate would let a request pass now.
    pub(crate) fn may_pass(&self, class: RequestClass) -> bool {
        let has_pass = self.passes.get(&class).is_some_and(GatePass::is_current);
        has_pass || self.gates().may_enter(&self.gate(class), self.now())
    }

    /// Makes the next rotation of the key, or its open one, wait at a gate.
    pub(crate) fn hold_rotation_back(&mut self, class: RequestClass) {
        self.hold_back(HeldBack {
            class,
            delays_rotation: true,
        });
    }

    /// Makes the key wait at a gate.
    fn hold_back(&mut self, held_back: HeldBack) {
        self.held_back_by = Some(held_back);
        // What leaked goes first, and a rotation that has begun before another one.
        let is_urgent = wants_successor(&self.state) || self.state.open_rotation().is_some();
        let turn = if is_urgent {
            Timestamp::MIN
        } else {
            self.now()
        };
        self.gate_turn.get_or_insert(turn);
    }

    /// Returns the permits of the conditions, without the steps that a gate holds back.
    pub(crate) fn permits(&self) -> Permits {
        let permits = self.services.conditions.permits(&self.context.scope);
        Permits {
            can_read: self.may_pass(RequestClass::Read),
            can_delete: self.may_pass(RequestClass::Delete),
            ..permits
        }
    }

    /// Makes a key without other work wait at the gate that holds its next step back.
    pub(crate) fn wait_for_held_step(&mut self) {
        let held = self.permits();
        if held.can_read && held.can_delete {
            return;
        }
        let permits = Permits {
            can_read: true,
            can_delete: true,
            ..held
        };
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let state = self.state_to_step();
        let step = next_step(&state, self.in_flight.as_ref(), policy, permits, self.now());
        let has_discrepancy = permits.can_use_provider && !self.discrepancies.is_empty();
        let needs_read = reads_at(&step) || has_discrepancy;
        let class = if needs_read && !held.can_read {
            RequestClass::Read
        } else if matches!(step, Step::Revoke(_)) && !held.can_delete {
            RequestClass::Delete
        } else {
            return;
        };
        self.hold_back(HeldBack {
            class,
            delays_rotation: step_of_rotation(&step),
        });
    }

    /// Closes the gate of a request that reads or deletes, if its error says so. Returns
    /// whether it does: the failure counts for no key.
    pub(crate) fn closes_gate(&self, error: &ProviderError) -> bool {
        let cause = match error.kind.gate_cause() {
            Some(cause @ (GateCause::RateLimit | GateCause::Quota)) => cause,
            // The harmless request shows whether every request is refused.
            Some(GateCause::Refused) | None => return false,
        };
        match error.class {
            RequestClass::Create => false,
            class @ (RequestClass::Read | RequestClass::Delete) => {
                let pass = self.passes.get(&class);
                match pass {
                    Some(pass) => self.close_gate(pass, class, cause, error),
                    None => {
                        let pass = self.gates().bypass(&self.gate(class));
                        self.close_gate(&pass, class, cause, error);
                    }
                }
                true
            }
        }
    }

    /// Closes the gate of a request, and raises its condition.
    pub(crate) fn close_gate(
        &self,
        pass: &GatePass,
        class: RequestClass,
        cause: GateCause,
        error: &ProviderError,
    ) {
        let closing = Closing {
            cause,
            pause: requested_pause(error),
            jitter: self.jitter(),
        };
        let until = self.gates().close(pass, closing, self.now());
        let until = time::to_text(time::next_whole_second(until));
        let next = format!("; the next attempt is at {until}");
        let cause_text = error.cause();
        let problem = match cause_text.split_once("; hint: ") {
            Some((reason, hint)) => format!("{reason}{next}; hint: {hint}"),
            None => format!("{cause_text}{next}"),
        };
        let conditions = &self.services.conditions;
        conditions.raise_gate(&self.context.scope, class, cause, &problem);
    }

    /// Returns why a create that certainly made nothing closes the gate: a limit, or a refusal
    /// whose cause is not this key.
    pub(crate) fn shared_refusal(&self, error: &ProviderError) -> Option<GateCause> {
        if !matches!(
            error.kind,
            ErrorKind::Refused | ErrorKind::NotFound | ErrorKind::Forbidden
        ) {
            return None;
        }
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let lifetime = policy.and_then(|policy| policy.expires_after);
        let code = error.code.as_deref().unwrap_or(error.kind.as_str());
        let (scope, key) = (&self.context.scope, &self.state.key);
        let is_shared = self.gates().record_refusal(scope, code, key, lifetime);
        is_shared.then_some(GateCause::Refused)
    }

    fn gates(&self) -> &Gates {
        self.services.conditions.gates()
    }

    fn gate(&self, class: RequestClass) -> GateKey {
        (self.context.scope.clone(), class)
    }

    /// Returns a random number from 0 to 1; 0 without randomness.
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 2];
        match self.services.entropy.fill(&mut bytes) {
            Ok(()) => f64::from(u16::from_be_bytes(bytes)) / f64::from(u16::MAX),
            Err(_) => 0.0,
        }
    }
}

/// Returns the classes of the requests that a work begins with, apart from a create.
fn classes_of(work: &Work) -> &'static [RequestClass] {
    match work {
        Work::HandleDiscrepancy(_) => &[RequestClass::Read],
        Work::StartRotation(start, _) if start.request.is_none() => &[RequestClass::Read],
        Work::Step(Step::Revoke(_)) => &[RequestClass::Read, RequestClass::Delete],
        Work::Step(step) if reads_at(step) => &[RequestClass::Read],
        Work::ReadState
        | Work::FlushUnrecorded
        | Work::SyncSinks(_)
        | Work::MoveDeadlines
        | Work::Execute(_)
        | Work::CheckDrift
        | Work::Expedite(_)
        | Work::Step(_)
        | Work::Preflight(..)
        | Work::StartRotation(..) => &[],
    }
}

/// Returns whether a rotation waits for the work.
const fn work_of_rotation(work: &Work) -> bool {
    match work {
        Work::StartRotation(..) => true,
        Work::Step(step) => step_of_rotation(step),
        Work::ReadState
        | Work::FlushUnrecorded
        | Work::SyncSinks(_)
        | Work::MoveDeadlines
        | Work::Execute(_)
        | Work::CheckDrift
        | Work::HandleDiscrepancy(_)
        | Work::Expedite(_)
        | Work::Preflight(..) => false,
    }
}

/// Returns whether a rotation waits for a step that sends requests.
const fn step_of_rotation(step: &Step) -> bool {
    match step {
        Step::TakeSecret(_) | Step::Create(_) | Step::FindLabel { .. } | Step::Verify(_) => true,
        Step::Record(_)
        | Step::Deliver { .. }
        | Step::RunOnChange { .. }
        | Step::Revoke(_)
        | Step::RecheckMissing(_)
        | Step::Wait(_) => false,
    }
}

/// Returns whether a step begins with a request that reads.
const fn reads_at(step: &Step) -> bool {
    match step {
        Step::TakeSecret(_)
        | Step::FindLabel { .. }
        | Step::Verify(_)
        | Step::Revoke(_)
        | Step::RecheckMissing(_) => true,
        Step::Record(_)
        | Step::Create(_)
        | Step::Deliver { .. }
        | Step::RunOnChange { .. }
        | Step::Wait(_) => false,
    }
}
