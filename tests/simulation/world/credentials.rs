//! The credentials at the provider, and the checks of each create and delete.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::ids::Label;
use rekeyd::core::time;

use super::consumers::Revocation;
use super::{SimWorld, WorldState};
use crate::fault::FalseAnswer;

/// The secret that rekeyd uses until the first rotation of its own credential.
pub(crate) const BOOTSTRAP_SECRET: &str = "sk-admin-bootstrap-T3BlbkFJ-000000";

const BOOTSTRAP_ID: &str = "key_owner";

/// An id that no credential has.
pub(crate) const INVENTED_ID: &str = "key_invented";

/// An admin key at the provider.
#[derive(Debug, Clone)]
pub(crate) struct SimCredential {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) created_at: Timestamp,
    pub(crate) deleted_at: Option<Timestamp>,
    /// Whether an operator or the other daemon created it.
    pub(crate) unmanaged: bool,
    /// Whether an operator allowed the daemon to delete it although consumers may use it.
    pub(crate) deletion_requested: bool,
}

/// A create that timed out and is applied later.
pub(super) struct LateCreate {
    at: Timestamp,
    name: String,
}

impl SimCredential {
    /// Returns the credential that an operator created for rekeyd.
    pub(super) fn bootstrap(created_at: Timestamp) -> Self {
        Self {
            id: BOOTSTRAP_ID.to_owned(),
            name: "bootstrap".to_owned(),
            secret: BOOTSTRAP_SECRET.to_owned(),
            created_at,
            deleted_at: None,
            unmanaged: true,
            deletion_requested: false,
        }
    }
}

impl SimWorld {
    /// Records the secret that rekeyd authenticates with.
    pub(crate) fn record_own_secret(&self, secret: &str) {
        let mut state = self.state();
        if state.own_secret.as_deref() != Some(secret) {
            state.own_secret = Some(secret.to_owned());
            state.check_own_secret();
        }
    }

    /// Returns the credential whose id, secret or name a false answer to the create of this
    /// label shows.
    pub(crate) fn other_credential(&self, label: &Label, answer: FalseAnswer) -> SimCredential {
        let state = self.state();
        let key = key_of_label(label.as_str());
        let mut others: Vec<_> = state
            .credentials
            .values()
            .filter(|other| match answer {
                FalseAnswer::EarlierId | FalseAnswer::EarlierSecret => {
                    !other.unmanaged
                        && other.name != label.as_str()
                        && key_of_label(&other.name) == key
                }
                FalseAnswer::OtherKeyId | FalseAnswer::OtherKeySecret => {
                    !other.unmanaged
                        && other.deleted_at.is_none()
                        && key_of_label(&other.name) != key
                }
                FalseAnswer::OwnSecret => Some(&other.secret) == state.own_secret.as_ref(),
                FalseAnswer::UnmanagedId
                | FalseAnswer::OtherName
                | FalseAnswer::EarlierTime
                | FalseAnswer::InventedId
                | FalseAnswer::NothingCreated => other.id == BOOTSTRAP_ID,
            })
            .collect();
        others.sort_by_key(|other| other.created_at);
        let bootstrap = &state.credentials[BOOTSTRAP_ID];
        others.last().copied().unwrap_or(bootstrap).clone()
    }

    /// Returns whether the provider accepts this secret.
    pub(crate) fn accepts_secret(&self, secret: &str) -> bool {
        self.state().is_live_secret(secret)
    }

    /// Creates a credential, now or after the delay. Returns it if it is created now.
    pub(crate) fn create(&self, label: &Label, delay: Option<Duration>) -> Option<SimCredential> {
        let now = self.true_now();
        let name = label.to_string();
        let is_intended = self.is_intended(&name);
        let is_first = self.is_first_of_key(&name);
        let mut state = self.state();
        if !is_intended {
            state.record_violation(format!("{name} is created without a recorded intent"));
        }
        let is_requested = state.requested_keys.contains(key_of_label(&name));
        if is_first && self.scenario.has_other_daemon && !is_requested {
            state.record_violation(format!(
                "{name} is created beside the other daemon's credentials without a request"
            ));
        }
        state.record_sent_label(&name, now);
        if let Some(delay) = delay {
            let at = time::after(now, delay);
            state.late_creates.push(LateCreate { at, name });
            return None;
        }
        Some(state.create_credential(&name, now, false))
    }

    /// Records the label of a create that is not applied.
    pub(crate) fn record_sent_label(&self, label: &Label) {
        let now = self.true_now();
        self.state().record_sent_label(label.as_str(), now);
    }

    /// Returns the true time at which the create with this label was sent.
    pub(crate) fn sent_at(&self, label: &str) -> Option<Timestamp> {
        self.state().sent_labels.get(label).copied()
    }

    /// Deletes a credential. The configuration that was in force when the request was sent
    /// decides which consumers may use the credential. `own_secret` is what rekeyd
    /// authenticated the request with.
    pub(crate) fn delete(&self, id: &str, own_secret: &str, configuration: usize) {
        let now = self.true_now();
        let mut state = self.state();
        let Some(credential) = state.credentials.get_mut(id) else {
            return;
        };
        if credential.deleted_at.is_some() {
            return;
        }
        credential.deleted_at = Some(now);
        let credential = credential.clone();
        if !self.has_row_of(&credential) {
            let name = &credential.name;
            state.record_violation(format!("{name} is deleted, and no row is of it"));
        }
        if credential.secret == own_secret {
            let name = &credential.name;
            state.record_violation(format!(
                "rekeyd deletes {name}, which it authenticates with"
            ));
        }
        if credential.unmanaged && !credential.deletion_requested
            || state.forgotten_labels.contains(&credential.name)
        {
            let name = &credential.name;
            state.record_violation(format!("the unmanaged credential {name} is deleted"));
        }
        let revocation = Revocation {
            credential: &credential,
            at: now,
            scenario: &self.scenario,
            configuration,
        };
        state.check_consumers(&revocation);
        state.check_copies(&revocation);
        state.check_other_keys(&revocation);
        state.check_leaked(&credential);
    }

    /// Returns every credential that was alive at a time.
    pub(crate) fn credentials_at(&self, at: Timestamp) -> Vec<SimCredential> {
        let state = self.state();
        let live = state.credentials.values().filter(|credential| {
            credential.created_at <= at && credential.deleted_at.is_none_or(|deleted| deleted > at)
        });
        live.cloned().collect()
    }

    /// Returns the live credentials that the ledger must have: those that the daemon created
    /// or adopted.
    pub(crate) fn live_managed_credentials(&self) -> Vec<SimCredential> {
        let now = self.true_now();
        let mut state = self.state();
        state.apply_late_effects(now);
        let managed = state.live_credentials().filter(|credential| {
            if credential.unmanaged {
                self.has_record_of(&credential.id)
            } else {
                !state.forgotten_labels.contains(&credential.name)
            }
        });
        managed.cloned().collect()
    }

    /// Returns when the daemon last created a credential for this key.
    pub(crate) fn newest_created_at(&self, key: &str) -> Option<Timestamp> {
        let state = self.state();
        let created = state
            .credentials
            .values()
            .filter(|credential| !credential.unmanaged && key_of_label(&credential.name) == key);
        created.map(|credential| credential.created_at).max()
    }
}

impl WorldState {
    pub(super) fn live_credentials(&self) -> impl Iterator<Item = &SimCredential> {
        let credentials = self.credentials.values();
        credentials.filter(|credential| credential.deleted_at.is_none())
    }

    pub(super) fn is_live_secret(&self, secret: &str) -> bool {
        self.live_credentials()
            .any(|credential| credential.secret == secret)
    }

    /// Returns when the credential with this secret was created.
    pub(super) fn secret_created_at(&self, secret: &str) -> Option<Timestamp> {
        let mut credentials = self.credentials.values();
        let found = credentials.find(|credential| credential.secret == secret);
        found.map(|credential| credential.created_at)
    }

    pub(super) fn create_credential(
        &mut self,
        name: &str,
        at: Timestamp,
        unmanaged: bool,
    ) -> SimCredential {
        let number = self.credentials.len();
        // As at the real provider, no part of a secret is its credential's name: the name
        // would be masked while any simulation of this process has the secret.
        let random: String = name.chars().rev().collect();
        let created = SimCredential {
            id: format!("key_{number:04}"),
            name: name.to_owned(),
            secret: format!("sk-admin-{random}-T3BlbkFJ-{number:06}"),
            created_at: at,
            deleted_at: None,
            unmanaged,
            deletion_requested: false,
        };
        self.credentials.insert(created.id.clone(), created.clone());
        created
    }

    /// Applies the late creates that are due.
    pub(super) fn apply_late_creates(&mut self, now: Timestamp) {
        let due: Vec<_> = self
            .late_creates
            .extract_if(.., |create| create.at <= now)
            .collect();
        for LateCreate { at, name } in due {
            self.log_trace(now, format!("the late create of {name} is applied"));
            self.create_credential(&name, at, false);
        }
    }

    /// Records the label of a create, and checks that it is sent once.
    fn record_sent_label(&mut self, label: &str, now: Timestamp) {
        self.check_create_of_retired(label);
        if self.sent_labels.insert(label.to_owned(), now).is_some() {
            self.record_violation(format!("the label {label} is sent twice"));
        }
    }
}

/// Returns the name of the key that a label belongs to.
pub(super) fn key_of_label(label: &str) -> &str {
    label.rsplitn(3, '-').last().unwrap_or_default()
}
