//! Credentials that several keys use, and the check that none of these keys is cut off.

use jiff::Timestamp;
use rekeyd::core::time;

use super::configuration::configured_keys;
use super::consumers::Revocation;
use super::{SimWorld, WorldState, locations_of};
use crate::scenario::{KeySpec, SinkKind};

/// The adoption of a credential of another key.
pub(super) struct SharedAdoption {
    credential: String,
    key: String,
    at: Timestamp,
    /// When it was requested, if the key's files showed another secret: its consumers may
    /// have read the adopted one before.
    passed_over_at: Option<Timestamp>,
}

impl SimWorld {
    /// Records that a key has adopted the credential of another one: from now on its
    /// consumers may use it as well.
    pub(crate) fn record_shared_adoption(
        &self,
        credential: &str,
        key: &str,
        requested_at: Timestamp,
    ) {
        let at = self.true_now();
        let configuration = self.configuration();
        let spec = configuration.iter().find(|spec| spec.name == key);
        let mut state = self.state();
        let is_passed_over = spec.is_some_and(|spec| state.shows_other(spec, credential));
        state.shared_adoptions.push(SharedAdoption {
            credential: credential.to_owned(),
            key: key.to_owned(),
            at,
            passed_over_at: is_passed_over.then_some(requested_at),
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
                key.is_none_or(|key| !self.has_moved(key, adoption, revocation.at))
            })
            .map(|adoption| adoption.key.clone())
            .collect();
        for key in affected {
            let name = &credential.name;
            self.record_violation(format!("{key} uses the revoked {name} of another key"));
        }
    }

    /// Returns whether rekeyd sees that no required sink of a key holds a credential.
    fn shows_other(&self, key: &KeySpec, credential: &str) -> bool {
        let secret = self.credentials.get(credential).map(|found| &found.secret);
        let mut required = key.sinks.iter().filter(|sink| sink.required);
        required.all(|spec| {
            let sink = self.sinks.get(&(key.name.to_owned(), spec.name.to_owned()));
            sink.is_some_and(|sink| {
                let is_seen = sink.restored_at.is_some() || spec.kind == SinkKind::SelfCredential;
                is_seen && sink.content.is_some() && sink.content.as_ref() != secret
            })
        })
    }

    fn has_moved(&self, key: &KeySpec, adoption: &SharedAdoption, now: Timestamp) -> bool {
        let passed_over_at = adoption.passed_over_at;
        if passed_over_at.is_some_and(|at| time::after(at, key.overlap) <= now) {
            return true;
        }
        let required = key.sinks.iter().filter(|sink| sink.required);
        let mut locations = required.flat_map(|sink| locations_of(key.name, sink));
        locations.all(|location| {
            let Some(sink) = self.sinks.get(&location) else {
                return false;
            };
            let writes = sink.replaced.iter().map(|(_, at)| *at);
            let mut writes = writes.chain(sink.written_at);
            writes.any(|at| at > adoption.at && time::after(at, key.overlap) <= now)
        })
    }
}
