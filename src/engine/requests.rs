//! Takes the requests and commands of operators.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::decide::revocation::has_newer_current;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::Rotation;
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::rotation_request::RotationRequest;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

/// Another key that shares a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharingKey {
    /// The key.
    pub key: KeyName,
    /// The credential.
    pub credential: CredentialId,
    /// Whether it is configured.
    pub is_configured: bool,
    /// Whether it works with that credential, and can be rotated.
    pub needs_rotation: bool,
}

impl SharingKey {
    /// Describes what the end of the credential means for the key.
    #[must_use]
    pub fn describe(&self) -> String {
        let (id, key) = (&self.credential, &self.key);
        match (self.is_configured, self.needs_rotation) {
            (_, true) => format!("{id} is also used by {key}, which is rotated, too"),
            (true, false) => format!("{id} is also in its overlap at {key}"),
            (false, false) => format!("{id} is also used by {key}, which is not configured"),
        }
    }
}

impl Engine {
    /// Requests a rotation of `key` now. Returns false if the key is not configured.
    pub fn request_rotation(&mut self, key: &KeyName, request: RotationRequest) -> bool {
        let Some(entry) = self
            .keys
            .get_mut(key)
            .filter(|entry| entry.managed.is_some())
        else {
            return false;
        };
        entry.request_problem = None;
        entry.request = Some(match entry.request.take() {
            Some(earlier) => earlier.merge(request),
            None => request,
        });
        self.wake(key, Timestamp::MIN);
        true
    }

    /// Cancels the request for a rotation of `key`, unless the rotation has started.
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
            tally.is_confirmed = true;
        }
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

    /// Returns the other keys that share a live credential of `key`, by name.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn sharing_keys(&self, key: &KeyName) -> Result<Vec<SharingKey>, LedgerError> {
        let ledger = &self.services.ledger;
        let state = ledger.key_state(key).await?;
        let mut sharing = BTreeMap::<KeyName, SharingKey>::new();
        for credential in state.live.iter().filter_map(Rotation::credential) {
            for (other, rotation) in ledger.other_holders(&credential.id, key).await? {
                let is_configured = self
                    .keys
                    .get(&other.key)
                    .is_some_and(|entry| entry.managed.is_some());
                let row = other.rotation(&rotation);
                let has_moved = row.is_some_and(|row| has_newer_current(row, &other));
                let one = sharing
                    .entry(other.key.clone())
                    .or_insert_with(|| SharingKey {
                        key: other.key.clone(),
                        credential: credential.id.clone(),
                        is_configured,
                        needs_rotation: false,
                    });
                one.needs_rotation |= is_configured && !has_moved;
            }
        }
        Ok(sharing.into_values().collect())
    }

    /// Returns the key of a credential, if the credential has a row.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn key_of(&self, credential: &CredentialId) -> Result<Option<KeyName>, LedgerError> {
        self.services.ledger.key_for_credential(credential).await
    }
}
