//! Takes the requests and commands of operators.

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::time;
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::rotation_request::{ReplaceApproval, RotationRequest};
use crate::engine::scheduler::{Completion, Engine};
use crate::ledger::{LedgerError, RecordedRequest};

impl Engine {
    /// Requests a rotation of `key` now. Returns false if the key is not configured, or is
    /// retired.
    pub fn request_rotation(&mut self, key: &KeyName, request: RotationRequest) -> bool {
        let Some(entry) = self
            .keys
            .get_mut(key)
            .filter(|entry| entry.accepts_requests())
        else {
            return false;
        };
        entry.request_problem = None;
        // A sink that the key gets later is none of the approved ones.
        let request = RotationRequest {
            replacement: request.replacement.named_by(entry.managed.as_deref()),
            ..request
        };
        entry.request = Some(match entry.request.take() {
            Some(earlier) => earlier.merge(request),
            None => request,
        });
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Records the requests for rotations of configured `keys` in the ledger, so that a
    /// restart keeps them, and requests the rotations.
    ///
    /// # Errors
    /// Nothing is requested, but it is unknown whether the ledger has the requests.
    pub async fn record_requests(
        &mut self,
        keys: &[KeyName],
        request: &RotationRequest,
    ) -> Result<(), LedgerError> {
        let at = self.services.clock.now();
        let recorded = keys.iter().map(|key| RecordedRequest {
            key: key.clone(),
            at,
            revoke_previous: request.revoke_previous,
            replace_targets: {
                let managed = self
                    .keys
                    .get(key)
                    .and_then(|entry| entry.managed.as_deref());
                request.replacement.targets(managed)
            },
            operator: request.operator.clone(),
        });
        let ledger = &self.services.ledger;
        ledger.record_requests(recorded.collect()).await?;
        for key in keys {
            if self.request_rotation(key, request.clone())
                && let Some(entry) = self.keys.get_mut(key)
            {
                entry.is_request_recorded = true;
            }
        }
        Ok(())
    }

    /// Takes the requests over that an earlier process has recorded. Those of keys that are
    /// not configured any more are dropped.
    pub(super) async fn load_requests(&mut self) -> Result<(), LedgerError> {
        let mut dropped = Vec::new();
        for recorded in self.services.ledger.rotation_requests().await? {
            let (key, at) = (recorded.key, time::to_text(recorded.at));
            let request = RotationRequest {
                operator: recorded.operator,
                revoke_previous: recorded.revoke_previous,
                replacement: if recorded.replace_targets.is_empty() {
                    ReplaceApproval::Refused
                } else {
                    ReplaceApproval::Targets(recorded.replace_targets)
                },
            };
            if !self.request_rotation(&key, request) {
                tracing::warn!(
                    %key,
                    "{key}: dropped the rotation requested at {at}, because the key is no longer \
                     configured, or is retired"
                );
                dropped.push(key);
                continue;
            }
            tracing::info!(%key, "{key}: continuing with the rotation requested at {at}");
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.is_request_recorded = true;
            }
        }
        if !dropped.is_empty() {
            self.services.ledger.remove_requests(dropped).await?;
        }
        Ok(())
    }

    /// Removes the recorded request of a key that has none any more: it could not start, or
    /// the open rotation answers it.
    pub(super) fn settle_request(&mut self, key: &KeyName) {
        let Some(entry) = self.keys.get_mut(key) else {
            return;
        };
        let is_settled = entry.parked.is_some() && entry.request.is_none();
        if !is_settled || !std::mem::take(&mut entry.is_request_recorded) {
            return;
        }
        let (ledger, key) = (self.services.ledger.clone(), key.clone());
        self.running.spawn(async move {
            if let Err(error) = ledger.remove_requests(vec![key]).await {
                tracing::debug!(%error, "cannot remove a settled request");
            }
            Completion::LedgerWrite
        });
    }

    /// Cancels the request for a rotation of `key`, unless the rotation has started, or the
    /// ledger has the request.
    pub fn cancel_request(&mut self, key: &KeyName) {
        if let Some(entry) = self.keys.get_mut(key) {
            entry.cancel_request();
        }
    }

    /// Answers the commands that wait for a ledger that cannot be written, or whose files
    /// are damaged, and executes none of them.
    pub(super) fn refuse_commands(&mut self) {
        let Some(problem) = self.ledger_problem() else {
            return;
        };
        for entry in self.keys.values_mut() {
            for pending in entry.commands.drain(..) {
                let refusal = CommandError::LedgerCondition(problem.clone());
                // The caller may have stopped waiting.
                let _ = pending.reply.send(Err(refusal));
            }
        }
    }

    /// Requests a rotation of every configured key now. The request confirms that the
    /// organization is the right one.
    pub fn request_all(&mut self, request: &RotationRequest) {
        self.confirm_organization();
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.request_rotation(&key, request.clone());
        }
    }

    /// Records that a person who asks for every key confirms the organization.
    pub fn confirm_organization(&mut self) {
        for (scope, tally) in &mut self.presence {
            self.services
                .conditions
                .clear_in(scope, Condition::Organization);
            tally.confirm();
        }
        self.maintenance.reconcile_by(self.services.clock.now());
    }

    /// Queues a command for `key`. Returns false if the key is neither configured nor
    /// in the ledger.
    pub fn submit_command(&mut self, key: &KeyName, command: PendingCommand) -> bool {
        let Some(entry) = self.keys.get_mut(key) else {
            return false;
        };
        if matches!(command.command, OperatorCommand::EndPresent { .. }) {
            entry.interrupt_delivery();
        }
        entry.commands.push_back(command);
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Returns the key of a credential, if the credential has a row.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn key_of(&self, credential: &CredentialId) -> Result<Option<KeyName>, LedgerError> {
        self.services.ledger.key_for_credential(credential).await
    }
}
