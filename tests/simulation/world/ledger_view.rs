//! Read-only queries of the ledger beside the engine.

use std::collections::BTreeSet;

use rekeyd::core::state::KeyState;
use rekeyd::ledger::{HistoryFilter, LedgerReader};
use rusqlite::{Connection, OpenFlags};

use super::SimWorld;
use super::credentials::{SimCredential, key_of_label};

impl SimWorld {
    /// Calls `read` with a read-only connection to the ledger.
    pub(crate) fn read_ledger<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        self.files.read(read)
    }

    /// Returns every label in the ledger.
    pub(super) fn recorded_labels(&self) -> BTreeSet<String> {
        let Ok(reader) = LedgerReader::open(&self.ledger_path()) else {
            return BTreeSet::new();
        };
        let snapshot = reader.snapshot().unwrap();
        let mut history = snapshot.history(&HistoryFilter::default()).unwrap();
        let labels = history.rows().unwrap().filter_map(|row| row.unwrap().label);
        let labels = labels.map(|label| label.as_str().to_owned());
        labels.chain(self.pruned_labels()).collect()
    }

    /// Returns the labels of the rotations that were pruned from the ledger. The files may have
    /// been exchanged, so that only a new connection reads them.
    fn pruned_labels(&self) -> Vec<String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let ledger = Connection::open_with_flags(self.ledger_path(), flags).unwrap();
        let sql = "SELECT label FROM pruned_rotation WHERE label IS NOT NULL";
        let mut query = ledger.prepare(sql).unwrap();
        let labels = query.query_map([], |row| row.get(0)).unwrap();
        labels.map(Result::unwrap).collect()
    }

    /// Checks that the ledger knows every live credential that the daemon created or adopted,
    /// as after a prune.
    pub(crate) fn check_live_credentials_known(&self) {
        for credential in self.live_managed_credentials() {
            if !self.has_row_of(&credential) {
                self.record_violation(format!(
                    "{} is alive, and the ledger does not know it any more",
                    credential.name
                ));
            }
        }
    }

    /// Returns whether the ledger has an intended rotation with this label.
    pub(super) fn is_intended(&self, label: &str) -> bool {
        let sql = "SELECT phase FROM rotation WHERE label = ?1";
        let phase = self.read_ledger(|ledger| {
            let mut query = ledger.prepare_cached(sql).unwrap();
            query.query_row([label], |row| row.get::<_, String>(0))
        });
        phase.is_ok_and(|phase| phase == "intended")
    }

    /// Returns whether the ledger has no other rotation of this label's key.
    pub(super) fn is_first_of_key(&self, label: &str) -> bool {
        let sql = "SELECT COUNT(*) FROM history WHERE key = ?1";
        let count: rusqlite::Result<u32> = self.read_ledger(|ledger| {
            let mut query = ledger.prepare_cached(sql).unwrap();
            query.query_row([key_of_label(label)], |row| row.get(0))
        });
        count.is_ok_and(|count| count < 2)
    }

    /// Returns whether the ledger has this credential.
    pub(super) fn has_record_of(&self, id: &str) -> bool {
        let sql = "SELECT 1 FROM history WHERE credential_id = ?1
             UNION ALL SELECT 1 FROM pruned_rotation WHERE credential_id = ?1";
        self.read_ledger(|ledger| ledger.prepare_cached(sql).unwrap().exists([id]).unwrap())
    }

    /// Returns whether the ledger has a row of this credential: its own, or that of its
    /// label, of which a provider may have made two credentials.
    pub(super) fn has_row_of(&self, credential: &SimCredential) -> bool {
        let sql = "SELECT 1 FROM history WHERE credential_id = ?1 OR label = ?2
             UNION ALL SELECT 1 FROM pruned_rotation WHERE credential_id = ?1 OR label = ?2";
        self.read_ledger(|ledger| {
            let mut query = ledger.prepare_cached(sql).unwrap();
            query.exists([&credential.id, &credential.name]).unwrap()
        })
    }

    /// Returns the names of the active conditions in the ledger.
    pub(crate) fn recorded_conditions(&self) -> BTreeSet<String> {
        let sql = "SELECT name FROM condition";
        self.read_ledger(|ledger| {
            let mut query = ledger.prepare_cached(sql).unwrap();
            let names = query.query_map([], |row| row.get(0)).unwrap();
            names.map(Result::unwrap).collect()
        })
    }

    /// Checks that the computed state of a key is the state that the ledger holds.
    pub(crate) fn compare_states(&self, computed: &KeyState, recorded: &KeyState) {
        self.state().compared_states += 1;
        if computed != recorded {
            self.record_violation(format!(
                "the computed state is {computed:#?}, and the recorded state is {recorded:#?}"
            ));
        }
    }

    /// Returns whether the computed state was compared after any commit.
    pub(crate) fn has_compared_states(&self) -> bool {
        self.state().compared_states > 0
    }
}
