//! Credentials that several keys use, and the check that none of these keys is cut off.

use jiff::Timestamp;
use rekeyd::core::time;

use super::configuration::configured_keys;
use super::consumers::Revocation;
use super::{SimWorld, WorldState, locations_of};
use crate::scenario::KeySpec;

/// The adoption of a credential of another key.
pub(super) struct SharedAdoption {
    credential: String,
    key: String,
    at: Timestamp,
}

impl SimWorld {
    /// Records that a key has adopted the credential of another one: from now on its
    /// consumers may use it, too.
    pub(crate) fn record_shared_adoption(&self, credential: &str, key: &str) {
        let at = self.true_now();
        self.state().shared_adoptions.push(SharedAdoption {
            credential: credential.to_owned(),
            key: key.to_owned(),
            at,
        });
    }

    /// Returns whether a key that has adopted this credential is not configured. The
    /// operator gets no reply to an adoption after which the process died.
    pub(crate) fn is_shared_with_removed_key(&self, credential: &str) -> bool {
        let configuration = self.configuration();
        let adopted_by = self.read_ledger(|ledger| {
            let sql =
                "SELECT key FROM rotation WHERE credential_id = ?1 AND \"trigger\" = 'adopted'
                 AND phase NOT IN ('revoked', 'failed')";
            let mut query = ledger.prepare(sql).unwrap();
            let keys = query.query_map([credential], |row| row.get(0)).unwrap();
            keys.map(Result::unwrap).collect::<Vec<String>>()
        });
        let is_removed = |key: &str| {
            !configuration
                .iter()
                .any(|configured| configured.name == key)
        };
        if adopted_by.iter().any(|key| is_removed(key)) {
            return true;
        }
        let state = self.state();
        let mut adoptions = state.shared_adoptions.iter();
        adoptions.any(|adoption| adoption.credential == credential && is_removed(&adoption.key))
    }
}

impl WorldState {
    /// Checks that every key which has adopted the revoked credential of another key has
    /// moved to a newer one: it is configured, and each of its required sinks was written
    /// one overlap ago.
    pub(super) fn check_other_keys(&mut self, revocation: &Revocation<'_>) {
        let credential = revocation.credential;
        if credential.deletion_requested {
            return;
        }
        let keys = configured_keys(revocation.scenario, revocation.configuration);
        let adoptions = self.shared_adoptions.iter();
        let affected: Vec<_> = adoptions
            .filter(|adoption| adoption.credential == credential.id)
            .filter(|adoption| {
                let key = keys.iter().find(|key| key.name == adoption.key);
                key.is_none_or(|key| !self.has_moved(key, adoption.at, revocation.at))
            })
            .map(|adoption| adoption.key.clone())
            .collect();
        for key in affected {
            let name = &credential.name;
            self.record_violation(format!("{key} uses the revoked {name} of another key"));
        }
    }

    fn has_moved(&self, key: &KeySpec, adopted_at: Timestamp, now: Timestamp) -> bool {
        let required = key.sinks.iter().filter(|sink| sink.required);
        let mut locations = required.flat_map(|sink| locations_of(key.name, sink));
        locations.all(|location| {
            let Some(sink) = self.sinks.get(&location) else {
                return false;
            };
            let writes = sink.replaced.iter().map(|(_, at)| *at);
            let mut writes = writes.chain(sink.written_at);
            writes.any(|at| at > adopted_at && time::after(at, key.overlap) <= now)
        })
    }
}
