//! Credentials that leaked, and the check that each ends at its deadline, and not before
//! another one has replaced it.

use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::ids::CredentialId;
use rekeyd::core::time;

use super::credentials::key_of_label;
use super::{SimCredential, SimWorld, WorldState};

/// The time until the deadline of what leaked.
pub(crate) const LEAK_BOUND: Duration = Duration::from_secs(30);

/// How late a revocation may be: the requests of all due credentials.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// The end of leaked credentials.
pub(super) struct Leak {
    ids: Vec<String>,
    requested_at: Timestamp,
}

impl SimWorld {
    /// Records that the daemon has accepted to end these credentials, as an operator
    /// requested at this time.
    pub(crate) fn record_leak(&self, credentials: &[CredentialId], requested_at: Timestamp) {
        let ids = credentials.iter().map(|id| id.as_str().to_owned());
        self.state().leaks.push(Leak {
            ids: ids.collect(),
            requested_at,
        });
    }

    /// Checks that each leaked credential ended at its deadline, unless faults followed.
    pub(crate) fn check_leaks(&self) {
        let last_fault_at = self.last_fault_at();
        let mut state = self.state();
        let late: Vec<_> = state
            .leaks
            .iter()
            .filter(|leak| {
                let last = last_fault_at.map(|at| time::after(self.start_time, at));
                last.is_none_or(|last| last <= leak.requested_at)
            })
            .flat_map(|leak| leak.ids.iter().map(|id| (id, leak.requested_at)))
            .filter_map(|(id, at)| {
                let credential = state.credentials.get(id)?;
                let deadline = time::after(at, LEAK_BOUND + MAX_DELAY);
                let ended_at = credential.deleted_at.unwrap_or(Timestamp::MAX);
                (ended_at > deadline).then(|| credential.name.clone())
            })
            .collect();
        for name in late {
            state.record_violation(format!("the leaked {name} is alive after its deadline"));
        }
    }
}

impl WorldState {
    /// Forgets that this credential leaked: an operator ends it otherwise.
    pub(super) fn forget_leak(&mut self, id: &str) {
        for leak in &mut self.leaks {
            leak.ids.retain(|leaked| leaked != id);
        }
    }

    /// Checks that a leaked credential which a sink holds is revoked only beside a newer one
    /// of its key that did not leak with it. A retired key gets none.
    pub(super) fn check_leaked(&mut self, credential: &SimCredential) {
        let leaks = self.leaks.iter();
        let Some(leak) = leaks
            .last()
            .filter(|leak| leak.ids.contains(&credential.id))
        else {
            return;
        };
        let mut contents = self.sinks.values().map(|sink| sink.content.as_ref());
        let is_held = contents.any(|content| content == Some(&credential.secret));
        let key = key_of_label(&credential.name);
        let has_newer = self.live_credentials().any(|newer| {
            key_of_label(&newer.name) == key
                && newer.created_at > credential.created_at
                && !leak.ids.contains(&newer.id)
        });
        let is_retired = self.is_retiring(key);
        if is_held && !has_newer && !credential.unmanaged && !is_retired {
            let name = &credential.name;
            self.record_violation(format!("the leaked {name} ends without a newer one"));
        }
    }
}
