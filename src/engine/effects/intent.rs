//! Starts a rotation: checks its preconditions, then records its intent.

use crate::core::change::{
    Change, MissedRun, OperatorNote, PreviousRevocation, ReplacementApproval, RotationIntent,
};
use crate::core::creation_time::earliest_creation;
use crate::core::gate::RequestClass;
use crate::core::ids::{Label, RotationId};
use crate::core::in_flight::InFlight;
use crate::core::notification::AlertKind;
use crate::engine::effects::preconditions::Readiness;
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::rotation_request::RotationStart;
use crate::engine::worker::{Preflight, Worker};
use crate::ledger::LedgerError;

impl Worker {
    /// Checks the preconditions of a create, then records the intent.
    pub(crate) async fn record_intent(
        &mut self,
        managed: &ManagedKey,
        start: RotationStart,
    ) -> Result<(), LedgerError> {
        let RotationStart {
            trigger,
            scheduled_for,
            missed_run,
            request,
        } = start;
        let replaces = request.as_ref().map(|request| &request.replacement);
        let replaces = replaces.map(|replaces| replaces.targets(Some(managed)));
        let replaces = replaces.unwrap_or_default();
        let readiness = self.check_preconditions(managed, trigger, &replaces);
        match readiness.await? {
            Readiness::Ready => {}
            Readiness::Deferred => {
                // The recorded problem is the reply to the request.
                self.request = None;
                return Ok(());
            }
            Readiness::Blocked => return Ok(()),
        }
        if request.is_none() && !self.enter_gate(RequestClass::Create) {
            self.hold_rotation_back(RequestClass::Create);
            return Ok(());
        }
        self.gate_turn = None;
        self.request = None;
        self.log_exceeded_limits();
        let (mut id, mut suffix) = ([0; 8], [0; 3]);
        let entropy = &self.services.entropy;
        let filled = entropy
            .fill(&mut id)
            .and_then(|()| entropy.fill(&mut suffix));
        if let Err(error) = filled {
            return self.record_backoff(&error.to_string(), None).await;
        }
        let rotation = RotationId::new(id);
        let operator = request
            .as_ref()
            .and_then(|request| request.operator.clone());
        let conditions = &self.services.conditions;
        let intent = RotationIntent {
            rotation: rotation.clone(),
            scope: managed.scope.clone(),
            sequence: self.state.next_sequence(self.now()),
            label: Label::new(&managed.name, self.now(), suffix),
            trigger,
            scheduled_for,
            not_created_before: Some(earliest_creation(
                conditions.provider_time(self.services.clock.monotonic()),
                self.now(),
            )),
            timetable: managed.policy.timetable.to_text(),
            sinks: managed.all_sinks(),
            operator: operator.clone(),
        };
        let mut changes = Vec::new();
        changes.extend(missed_run.map(|(firing, reason)| {
            Change::from(MissedRun {
                firing,
                reason,
                is_skipped: false,
            })
        }));
        changes.push(Change::from(intent));
        if !replaces.is_empty() {
            changes.push(Change::from(ReplacementApproval {
                targets: replaces,
                operator: operator.clone(),
            }));
        }
        let revokes_previous = request.is_some_and(|request| request.revoke_previous);
        let notice = revokes_previous.then(|| self.previous_revocation_notice(operator.as_ref()));
        if revokes_previous {
            changes.push(Change::from(PreviousRevocation {
                is_pending: true,
                operator,
            }));
        }
        self.record(changes).await?;
        self.notices.extend(notice);
        self.ignores_backoff = false;
        self.preflight = Preflight::default();
        self.in_flight = Some(InFlight::new(rotation));
        Ok(())
    }

    fn previous_revocation_notice(&self, operator: Option<&OperatorNote>) -> OperatorNotice {
        OperatorNotice::new(
            AlertKind::RevokedManually,
            None,
            operator,
            format!(
                "ordered the end of every older credential of {} as soon as the new one is current",
                self.state.key
            ),
        )
    }
}
