//! Which files of configured sinks hold a credential, although no row says so: a person
//! gave one credential to several consumers, and not every key adopted it.

use jiff::Timestamp;

use crate::core::decide::revocation::{RevocationReason, was_passed_over};
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::{
    CredentialMetadata, Delivery, DeliveryState, KeyState, Rotation, Trigger,
};
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::file_search::{FileSearch, FoundFile, SearchedCredential};
use crate::engine::worker::Worker;
use crate::ledger::Ledger;

/// A file that holds a credential, although no row says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) key: KeyName,
    pub(crate) sink: SinkId,
    /// Whether the key has a credential of its own.
    has_current: bool,
    /// Whether the key may adopt the credential.
    may_adopt: bool,
}

impl Holder {
    /// Returns the command that moves the consumers of the file to another credential.
    pub(crate) fn replacing_command(&self) -> String {
        let replace = if self.has_current { "" } else { " --replace" };
        format!("`rekeyd rotate {}{replace}`", self.key)
    }
}

/// A credential that is kept because files hold it.
pub(super) struct HeldElsewhere {
    pub(super) holders: Vec<Holder>,
    /// When the revocation is decided again.
    pub(super) until: Timestamp,
}

/// How many files a message names.
const NAMED_HOLDERS: usize = 3;

impl HeldElsewhere {
    /// Returns the problem for people.
    pub(super) fn message(&self) -> String {
        let named = self.holders.iter().take(NAMED_HOLDERS);
        let named: Vec<_> = named
            .map(|holder| format!("{} of the key {}", holder.sink, holder.key))
            .collect();
        let others = match self.holders.len().saturating_sub(NAMED_HOLDERS) {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let holds = if self.holders.len() == 1 {
            "holds"
        } else {
            "hold"
        };
        format!("{}{others} {holds} it", named.join(", "))
    }

    /// Returns what moves the consumers of these files to another credential.
    pub(super) fn advice(&self, credential: &CredentialId) -> String {
        let steps = self.holders.iter().take(NAMED_HOLDERS).map(|holder| {
            let key = &holder.key;
            let replace = holder.replacing_command();
            match (holder.has_current, holder.may_adopt) {
                (true, _) | (false, false) => format!("{replace} replaces it there"),
                (false, true) => format!(
                    "`rekeyd adopt {key} {credential}` keeps it until {key} is rotated, or \
                     {replace} replaces it there"
                ),
            }
        });
        let steps: Vec<_> = steps.collect();
        steps.join("; ")
    }
}

impl Worker {
    /// Returns the files of configured sinks that hold a credential, although no row says
    /// so.
    pub(super) async fn find_holders(
        &self,
        credential: &CredentialMetadata,
        rotation: Option<&Rotation>,
        reason: RevocationReason,
    ) -> Vec<Holder> {
        let mut holders = Vec::new();
        let searched = searched_credential(credential, rotation);
        for found in self.context.file_search.find(searched).await {
            if found.key == self.state.key {
                let counts = counts_own_file(reason, rotation);
                if counts && is_unknown_holder(&found, &self.state, credential) {
                    holders.push(holder_of(&found, &self.state, rotation));
                }
                continue;
            }
            let ledger = &self.services.ledger;
            holders.extend(holder_of_other_key(ledger, &found, credential, rotation).await);
        }
        holders
    }
}

/// Returns the files of other keys that hold a live credential of a key, although those
/// keys did not adopt it.
pub(crate) async fn find_unadopted(
    search: &FileSearch,
    ledger: &Ledger,
    state: &KeyState,
) -> Vec<(CredentialId, Holder)> {
    let mut holders = Vec::new();
    for row in &state.live {
        let Some(credential) = row.credential() else {
            continue;
        };
        let found = search.find(searched_credential(credential, Some(row)));
        for found in found.await {
            if found.key != state.key {
                let holder = holder_of_other_key(ledger, &found, credential, Some(row)).await;
                holders.extend(holder.map(|holder| (credential.id.clone(), holder)));
            }
        }
    }
    holders
}

fn searched_credential(
    credential: &CredentialMetadata,
    rotation: Option<&Rotation>,
) -> SearchedCredential {
    SearchedCredential {
        redacted_value: credential.redacted_value.clone(),
        finds_possible: rotation.is_some_and(|row| row.trigger == Trigger::Adopted),
    }
}

/// Returns a file of another key as a holder of a credential, unless that key has a row of
/// it, which decides.
async fn holder_of_other_key(
    ledger: &Ledger,
    found: &FoundFile,
    credential: &CredentialMetadata,
    rotation: Option<&Rotation>,
) -> Option<Holder> {
    // An unreadable row leaves it uncertain who holds what.
    let state = ledger.key_state(&found.key).await;
    let state = state.unwrap_or_else(|_| KeyState::unknown(found.key.clone()));
    let mut live = state.live.iter().filter_map(Rotation::credential);
    if live.any(|recorded| recorded.id == credential.id) {
        return None;
    }
    let holds = is_unknown_holder(found, &state, credential) && !has_passed_over(found, &state);
    holds.then(|| holder_of(found, &state, rotation))
}

/// Returns whether the files of the credential's own key count. What the schedule revokes
/// was compared with them, and what an operator had end at once goes in spite of them.
fn counts_own_file(reason: RevocationReason, rotation: Option<&Rotation>) -> bool {
    match reason {
        // No delivery of it was recorded, so no sink was compared with it.
        RevocationReason::Superseded => rotation.is_some_and(was_passed_over),
        RevocationReason::Immediate | RevocationReason::Leaked { .. } => false,
        RevocationReason::Orphan => rotation.is_none_or(|row| !row.revoke_now),
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Operator { .. } => true,
    }
}

/// Returns whether a file holds a secret of the credential, and of no other credential
/// of its key. A secret that only may be the credential's counts in a file that this
/// ledger has not written.
fn is_unknown_holder(found: &FoundFile, state: &KeyState, credential: &CredentialMetadata) -> bool {
    let was_written = deliveries_to(found, state).any(Delivery::was_written);
    let known = || {
        let live = state.live.iter().filter_map(Rotation::credential);
        live.filter(|recorded| recorded.id != credential.id)
    };
    found.secrets.iter().any(|secret| {
        let secret = std::slice::from_ref(secret);
        let is_known = known().any(|recorded| holds_credential(secret, recorded));
        !is_known && (holds_credential(secret, credential) || !was_written)
    })
}

/// Returns whether an optional sink has accepted the key's current credential: no
/// rotation follows for it, so what its target holds instead counts no more.
fn has_passed_over(found: &FoundFile, state: &KeyState) -> bool {
    let mut deliveries = state.current().into_iter().flat_map(|row| &row.deliveries);
    deliveries.any(|delivery| {
        delivery.sink == *found.sink.id()
            && !delivery.required
            && delivery.state == DeliveryState::Accepted
    })
}

fn deliveries_to<'a>(
    found: &'a FoundFile,
    state: &'a KeyState,
) -> impl Iterator<Item = &'a Delivery> {
    let deliveries = state.live.iter().flat_map(|row| &row.deliveries);
    deliveries.filter(|delivery| delivery.sink == *found.sink.id())
}

fn holder_of(found: &FoundFile, state: &KeyState, rotation: Option<&Rotation>) -> Holder {
    Holder {
        key: found.key.clone(),
        sink: found.sink.id().clone(),
        has_current: state.current().is_some(),
        may_adopt: rotation.is_none_or(|row| row.phase != Phase::Orphaned),
    }
}
