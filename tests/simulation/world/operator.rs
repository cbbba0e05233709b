//! The operator's actions, and what they allow the daemon to do.

use super::SimWorld;
use super::credentials::key_of_label;
use crate::fault::OperatorAction;

impl SimWorld {
    /// Returns the operator's actions since the last call.
    pub(crate) fn take_operator_actions(&self) -> Vec<OperatorAction> {
        std::mem::take(&mut self.state().operator_actions)
    }

    /// Creates a credential that the daemon does not manage, and returns its id.
    pub(crate) fn create_manually(&self) -> String {
        let now = self.true_now();
        let mut state = self.state();
        state.create_credential("manual", now, true).id
    }

    /// Records that the operator had this credential revoked although consumers may use it,
    /// or had it adopted.
    pub(crate) fn request_deletion(&self, id: &str) {
        let mut state = self.state();
        if let Some(credential) = state.credentials.get_mut(id) {
            credential.deletion_requested = true;
        }
        state.forget_leak(id);
    }

    /// Records that the operator had all previous credentials of this key revoked at once.
    pub(crate) fn request_immediate_revocation(&self, key: &str) {
        let mut state = self.state();
        state.immediately_revoked_keys.insert(key.to_owned());
    }

    /// Returns whether an operator must request the rotations of this ledger's keys.
    pub(crate) fn needs_operator(&self) -> bool {
        self.state().needs_operator
    }

    /// Records that the operator has requested a rotation of this key.
    pub(crate) fn record_rotation_request(&self, key: &str) {
        self.state().requested_keys.insert(key.to_owned());
    }

    /// Records that the operator has requested a rotation of every key.
    pub(crate) fn record_request_for_all(&self) {
        let keys = self.configuration();
        let mut state = self.state();
        state.needs_operator = false;
        let names = keys.iter().map(|key| key.name.to_owned());
        state.requested_keys.extend(names);
    }

    /// Checks that the daemon, after its ledger was lost, has created no credential for a
    /// key that has a live credential and had no row in the ledger.
    pub(crate) fn check_no_create_beside_lookalikes(&self) {
        let mut state = self.state();
        let live = state
            .live_credentials()
            .filter(|credential| !credential.unmanaged);
        let (lookalikes, recorded): (Vec<_>, Vec<_>) =
            live.partition(|credential| state.forgotten_labels.contains(&credential.name));
        let beside_lookalike = recorded.iter().find(|created| {
            let key = key_of_label(&created.name);
            let mut earlier = state.credentials.values().filter(|credential| {
                key_of_label(&credential.name) == key
                    && credential.created_at < created.created_at
                    && !state.forgotten_labels.contains(&credential.name)
            });
            earlier.next().is_none()
                && lookalikes.iter().any(|lookalike| {
                    key_of_label(&lookalike.name) == key
                        && lookalike.created_at < created.created_at
                })
        });
        if let Some(name) = beside_lookalike.map(|created| created.name.clone()) {
            state.record_violation(format!("{name} is created beside lookalikes"));
        }
    }
}
