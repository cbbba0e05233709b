//! Takes the requests and commands of operators.

use jiff::Timestamp;

use crate::core::condition::Condition;
use crate::core::ids::{CredentialId, KeyName};
use crate::engine::operator_command::PendingCommand;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

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
            entry.request = None;
        }
    }

    /// Requests a rotation of every configured key now. The request confirms that the
    /// organization is the right one.
    pub fn request_all(&mut self, request: &RotationRequest) {
        for (scope, tally) in &mut self.presence {
            self.services
                .conditions
                .clear_in(scope, Condition::Organization);
            tally.is_confirmed = true;
        }
        let keys: Vec<_> = self.keys.keys().cloned().collect();
        for key in keys {
            self.request_rotation(&key, request.clone());
        }
    }

    /// Queues a command for `key`. Returns false if the key is neither configured nor
    /// in the ledger.
    pub fn submit_command(&mut self, key: &KeyName, command: PendingCommand) -> bool {
        let Some(entry) = self.keys.get_mut(key) else {
            return false;
        };
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
