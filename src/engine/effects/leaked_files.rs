//! Which files of other keys hold what leaks, or may hold it, although those keys did not
//! adopt it.

use crate::core::ids::CredentialId;
use crate::core::secret::Secret;
use crate::core::state::{CredentialMetadata, KeyState, Rotation, Trigger};
use crate::engine::effects::adopt::look_at;
use crate::engine::effects::held_elsewhere::{Holder, holder_of_other_key};
use crate::engine::effects::held_keys::holds_credential;
use crate::engine::file_search::{FileSearch, SearchedCredential};
use crate::ledger::{Ledger, LedgerError};
use crate::provider::Provider;
use crate::sink::UnseenCause;

/// A file of a key that did not adopt a leaked credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeakedFile {
    pub(crate) credential: CredentialId,
    pub(crate) holder: Holder,
    pub(crate) sight: LeakSight,
    /// Whether its key has no live credential of its own.
    pub(crate) is_of_new_key: bool,
    /// Whether its key has a row of the credential: somebody went back to it in this file.
    pub(crate) has_row: bool,
}

/// What a file shows of a leaked credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeakSight {
    /// It holds nothing but what leaked and what its key has: a rotation of its key may
    /// write over it.
    Holds,
    /// It also holds another key, which has no row in the ledger.
    HoldsBeside,
    /// It holds a key, and nothing shows whose: the provider shows no end of the
    /// credential's.
    MayHold,
    /// It cannot be seen.
    Unseen(UnseenCause),
}

/// Returns the files of other keys that hold a live credential of the key in `state`, or
/// may hold it, although those keys did not adopt it.
pub(crate) async fn find_leaked_files(
    search: &FileSearch,
    provider: &dyn Provider,
    ledger: &Ledger,
    state: &KeyState,
) -> Result<Vec<LeakedFile>, LedgerError> {
    let mut files = Vec::new();
    for row in &state.live {
        let Some(credential) = row.credential() else {
            continue;
        };
        let searched = SearchedCredential {
            expected: provider.expected_secret(credential),
            finds_possible: row.trigger == Trigger::Adopted,
        };
        for found in search.find(searched).await {
            if found.key == state.key {
                continue;
            }
            let holder = holder_of_other_key(provider, ledger, &found, credential, Some(row)).await;
            let Some(holder) = holder else {
                continue;
            };
            let other = ledger.key_state(&found.key).await?;
            let sight = match holder.unseen {
                Some(cause) => LeakSight::Unseen(cause),
                None => {
                    let content = look_at(found.sink.as_ref()).await;
                    sight_of(provider, content.keys(), credential, (state, &other))
                }
            };
            files.push(LeakedFile {
                credential: credential.id.clone(),
                holder,
                sight,
                is_of_new_key: other.live.is_empty(),
                has_row: {
                    let mut live = other.live.iter().filter_map(Rotation::credential);
                    live.any(|recorded| recorded.id == credential.id)
                },
            });
        }
    }
    Ok(files)
}

/// Returns what the keys in a file of the key `other` show of a credential of the key
/// `leaking`, all of whose credentials end.
fn sight_of(
    provider: &dyn Provider,
    keys: &[Secret],
    credential: &CredentialMetadata,
    (leaking, other): (&KeyState, &KeyState),
) -> LeakSight {
    if !holds_credential(provider, keys, credential) {
        return LeakSight::MayHold;
    }
    let is_known = |key: &Secret| {
        let rows = leaking.live.iter().chain(&other.live);
        let mut known = rows.filter_map(Rotation::credential);
        known.any(|known| holds_credential(provider, std::slice::from_ref(key), known))
    };
    if keys.iter().all(is_known) {
        LeakSight::Holds
    } else {
        LeakSight::HoldsBeside
    }
}
