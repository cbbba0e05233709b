//! Which files of configured sinks hold a credential, although no row says so: a person
//! gave one credential to several consumers, and not every key adopted it.

use jiff::Timestamp;

use crate::core::decide::revocation::{
    Candidate, FileEvidence, RevocationReason, has_newer_current, was_passed_over,
};
use crate::core::decide::sightings::open_sightings;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::state::{
    CredentialMetadata, DeferralKind, Delivery, DeliveryState, KeyState, Rotation, Trigger,
};
use crate::core::time;
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::file_search::{FileSight, FoundFile, SearchedCredential};
use crate::engine::worker::Worker;
use crate::ledger::Ledger;
use crate::provider::Provider;
use crate::sink::UnseenCause;

/// A file that holds a credential, or may hold it, although no row says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) key: KeyName,
    pub(crate) sink: SinkId,
    /// Whether the key has a credential of its own.
    has_current: bool,
    /// Whether the key may adopt the credential.
    may_adopt: bool,
    /// Why the file cannot be seen; none if it holds the credential.
    pub(crate) unseen: Option<UnseenCause>,
}

impl Holder {
    /// Returns the command that moves the consumers of the file to another credential.
    pub(crate) fn replacing_command(&self) -> String {
        let replaces = self.has_current && self.unseen.is_none();
        let replace = if replaces { "" } else { " --replace" };
        format!("`rekeyd rotate {}{replace}`", self.key)
    }
}

/// A credential that is kept because files hold it.
pub(super) struct HeldElsewhere {
    pub(super) holders: Vec<Holder>,
    /// What the files show.
    pub(super) kind: DeferralKind,
    /// When the revocation is decided again.
    pub(super) until: Timestamp,
    /// When it is revoked nevertheless.
    pub(super) revoked_at: Option<Timestamp>,
    /// Whether that is within a day.
    pub(super) final_warning: bool,
}

/// How many files a message names.
const NAMED_HOLDERS: usize = 3;

impl HeldElsewhere {
    /// Returns the problem for people.
    pub(super) fn message(&self) -> String {
        let (held, unseen): (Vec<_>, Vec<_>) = self
            .holders
            .iter()
            .partition(|holder| holder.unseen.is_none());
        let held_text = || {
            let holds = if held.len() == 1 { "holds" } else { "hold" };
            format!("{} {holds} it", name_holders(&held))
        };
        let unseen_text = || format!("{} may hold it, but cannot be read", name_holders(&unseen));
        let texts = [
            (!held.is_empty()).then(held_text),
            (!unseen.is_empty()).then(unseen_text),
            self.revoked_at
                .map(|at| format!("it is revoked at {} at the latest", time::to_text(at))),
        ];
        let texts: Vec<_> = texts.into_iter().flatten().collect();
        texts.join("; ")
    }

    /// Returns why the schedule defers the revocation, and what ends the wait.
    pub(super) fn deferral_reason(&self, credential: &CredentialId) -> String {
        let (problem, advice) = (self.message(), self.advice(credential));
        match self.revoked_at {
            Some(_) => format!("{problem}; {advice}"),
            // A person gave it to the consumer of that file, who would be cut off.
            None => format!("{problem}; it is kept without a limit while that lasts; {advice}"),
        }
    }

    /// Returns what moves the consumers of these files to another credential.
    pub(super) fn advice(&self, credential: &CredentialId) -> String {
        let steps = self.holders.iter().take(NAMED_HOLDERS).map(|holder| {
            let key = &holder.key;
            let replace = holder.replacing_command();
            if holder.unseen.is_some() {
                return format!("let rekeyd read it, or run {replace} to replace it");
            }
            match (holder.has_current, holder.may_adopt) {
                (true, _) | (false, false) => format!("run {replace} to replace it there"),
                (false, true) => format!(
                    "run `rekeyd adopt {key} {credential}` to keep it until {key} is rotated, or \
                     {replace} to replace it there"
                ),
            }
        });
        let steps: Vec<_> = steps.collect();
        steps.join("; ")
    }
}

/// Names files, as far as a message names them, with why they cannot be seen.
fn name_holders(holders: &[&Holder]) -> String {
    let named = holders.iter().take(NAMED_HOLDERS).map(|holder| {
        let cause = holder.unseen.map(|cause| format!(" ({cause})"));
        let cause = cause.unwrap_or_default();
        format!("{} of key {}{cause}", holder.sink, holder.key)
    });
    let named: Vec<_> = named.collect();
    match holders.len().saturating_sub(NAMED_HOLDERS) {
        0 => named.join(", "),
        others => format!("{} and {others} more", named.join(", ")),
    }
}

/// Returns what files show of a credential.
pub(super) fn evidence_of(holders: &[Holder]) -> FileEvidence {
    if holders.iter().any(|holder| holder.unseen.is_none()) {
        FileEvidence::Holding
    } else if holders.is_empty() {
        FileEvidence::Absent
    } else {
        FileEvidence::Unseen
    }
}

impl Worker {
    /// Returns the files of configured sinks that hold a credential, or may hold it,
    /// although no row says so.
    pub(super) async fn find_holders(
        &self,
        credential: &CredentialMetadata,
        candidate: &Candidate<'_>,
    ) -> Vec<Holder> {
        let provider = self.services.provider.as_ref();
        let (rotation, reason) = (candidate.rotation, candidate.reason);
        let mut holders = Vec::new();
        let searched = SearchedCredential {
            expected: provider.expected_secret(credential),
            finds_possible: candidate.was_adopted(),
        };
        for found in self.context.file_search.find(searched).await {
            if found.key == self.state.key {
                let counts = counts_own_file(reason, rotation, &found);
                let is_held =
                    || is_unknown_holder(provider, &found, &self.state, credential, rotation);
                if counts && is_held() {
                    holders.push(holder_of(&found, &self.state, rotation));
                }
                continue;
            }
            let ledger = &self.services.ledger;
            let holder = holder_of_other_key(provider, ledger, &found, credential, rotation);
            holders.extend(holder.await);
        }
        holders
    }
}

/// Returns a file of another key as a holder of a credential, unless that key has a row of
/// it, has not moved to a newer credential, and so decides. Of a key that has moved, the row
/// says nothing of a file that somebody went back to since its last drift check.
pub(super) async fn holder_of_other_key(
    provider: &dyn Provider,
    ledger: &Ledger,
    found: &FoundFile,
    credential: &CredentialMetadata,
    rotation: Option<&Rotation>,
) -> Option<Holder> {
    // An unreadable row leaves it uncertain who holds what.
    let state = ledger.key_state(&found.key).await;
    let state = state.unwrap_or_else(|_| KeyState::unknown(found.key.clone()));
    let own_row = state.live.iter().find(|row| {
        let recorded = row.credential();
        recorded.is_some_and(|recorded| recorded.id == credential.id)
    });
    let is_decided = match own_row {
        None => has_passed_over(found, &state),
        Some(row) if !has_newer_current(row, &state) => true,
        // An optional sink gets no rotation of its own: the sighting's overlap counts.
        Some(row) => has_passed_over(found, &state) && is_sighted(found, row),
    };
    let holds = !is_decided && is_unknown_holder(provider, found, &state, credential, rotation);
    holds.then(|| holder_of(found, &state, rotation))
}

/// Returns whether a file of the credential's own key counts. What an operator had end at
/// once goes in spite of it, as does that of a retired key, whose sinks count as removed; and
/// a file that was seen to hold what the schedule revokes has
/// had its time.
fn counts_own_file(
    reason: RevocationReason,
    rotation: Option<&Rotation>,
    found: &FoundFile,
) -> bool {
    match reason {
        // Somebody may have gone back to it since the last drift check.
        RevocationReason::Superseded => {
            rotation.is_some_and(|row| was_passed_over(row) || !is_sighted(found, row))
        }
        RevocationReason::Immediate
        | RevocationReason::KeyRetired { .. }
        | RevocationReason::Leaked { .. } => false,
        RevocationReason::Orphan => rotation.is_none_or(|row| !row.revoke_now),
        RevocationReason::DuplicateLabel
        | RevocationReason::Eviction
        | RevocationReason::Operator { .. } => true,
    }
}

/// Returns whether a file holds a secret of the credential, and of no other credential
/// of its key. A secret that only may be the credential's counts in a file that this
/// ledger has not written, and so does such a file that cannot be seen.
fn is_unknown_holder(
    provider: &dyn Provider,
    found: &FoundFile,
    state: &KeyState,
    credential: &CredentialMetadata,
    rotation: Option<&Rotation>,
) -> bool {
    let was_written = deliveries_to(found, state).any(Delivery::was_written);
    let is_adopted = rotation.is_some_and(|row| row.trigger == Trigger::Adopted);
    // Another owner decides what stands in a folder that was exchanged.
    if found.has_foreign_folder && (was_written || !is_adopted) {
        return false;
    }
    let FileSight::Holds(secrets) = &found.sight else {
        return !was_written;
    };
    let known = || {
        let live = state.live.iter().filter_map(Rotation::credential);
        live.filter(|recorded| recorded.id != credential.id)
    };
    secrets.iter().any(|secret| {
        let secret = std::slice::from_ref(secret);
        let is_known = known().any(|recorded| holds_credential(provider, secret, recorded));
        !is_known && (holds_credential(provider, secret, credential) || !was_written)
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

/// Returns whether a drift check saw the credential of a row in a file, which has held it
/// since.
fn is_sighted(found: &FoundFile, row: &Rotation) -> bool {
    open_sightings(row).any(|delivery| delivery.sink == *found.sink.id())
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
        unseen: match found.sight {
            FileSight::Holds(_) => None,
            FileSight::Unseen(cause) => Some(cause),
        },
    }
}
