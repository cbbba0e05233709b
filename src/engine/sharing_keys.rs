//! The other keys that what leaks of a key concerns: those with a row of one of its
//! credentials, and those whose files hold one, or may hold it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::decide::revocation::has_newer_current;
use crate::core::duration;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::state::{KeyState, Rotation};
use crate::engine::effects::leaked_files::{LeakSight, LeakedFile, find_leaked_files};
use crate::engine::managed_key::ManagedKey;
use crate::engine::operator_command::FileHolder;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

/// How long the files of other keys are searched for what may have leaked.
const FILE_TIMEOUT: Duration = Duration::from_secs(2);

/// Another key that the end of a credential concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharingKey {
    /// The key.
    pub key: KeyName,
    /// The credential.
    pub credential: CredentialId,
    /// Whether it is configured.
    pub is_configured: bool,
    /// Whether it works with that credential, and can be rotated.
    pub needs_rotation: bool,
    /// Whether it has a row of the credential.
    has_row: bool,
    /// Its files that hold the credential, or may hold it, although the key has no row of
    /// the credential.
    files: Vec<LeakedFile>,
    /// Its sinks, and whether each is required.
    sinks: Vec<(SinkId, bool)>,
}

impl SharingKey {
    /// Returns whether the credential ends for it as for the key that leaked.
    #[must_use]
    pub fn is_included(&self) -> bool {
        self.has_row || self.holds_in_files()
    }

    /// Returns whether nothing but its files shows that it uses the credential, and it has
    /// no other one: a request for its rotation would be refused before it has a row.
    #[must_use]
    pub fn is_new_holder(&self) -> bool {
        !self.has_row && self.holds_in_files() && self.files.iter().all(|file| file.is_of_new_key)
    }

    fn holds_in_files(&self) -> bool {
        self.files.iter().any(|file| file.sight == LeakSight::Holds)
    }

    /// Returns what makes the key a holder of each credential that its files certainly hold.
    #[must_use]
    pub fn file_holders(&self) -> Vec<FileHolder> {
        let mut holders = BTreeMap::<&CredentialId, Vec<(SinkId, bool)>>::new();
        let certain = self.files.iter();
        for file in certain.filter(|file| file.sight == LeakSight::Holds && !file.has_row) {
            let mut sinks = self.sinks.iter();
            let sink = sinks.find(|(sink, _)| *sink == file.holder.sink);
            holders
                .entry(&file.credential)
                .or_default()
                .extend(sink.cloned());
        }
        let holders = holders.into_iter();
        holders
            .map(|(credential, sinks)| FileHolder {
                key: self.key.clone(),
                credential: credential.clone(),
                sinks,
            })
            .collect()
    }

    /// Describes what the end of credentials means for keys, a line for each.
    #[must_use]
    pub fn describe_all(sharing: &[&Self]) -> Vec<String> {
        let (known, unsearched): (Vec<&Self>, Vec<&Self>) = sharing
            .iter()
            .partition(|one| one.has_row || !one.files.is_empty());
        let mut lines: Vec<_> = known.iter().flat_map(|one| one.describe()).collect();
        if let Some(first) = unsearched.first() {
            lines.push(format!(
                "cannot read the files of {} within {}; they may hold {}",
                join_few(unsearched.iter().map(|one| &one.key)),
                duration::to_text(FILE_TIMEOUT),
                first.credential
            ));
        }
        lines
    }

    fn describe(&self) -> Vec<String> {
        let (id, key) = (&self.credential, &self.key);
        if self.has_row {
            let line = match (self.is_configured, self.needs_rotation) {
                (_, true) => format!("{id} is also used by {key}, which is rotated too"),
                (true, false) => format!("{key} also has {id} in its overlap"),
                (false, false) => format!("{id} is also used by {key}, which is not configured"),
            };
            // Its row does not tell of a file that holds another key beside it.
            let beside = self.files.iter();
            let beside = beside.filter(|file| file.sight == LeakSight::HoldsBeside);
            return std::iter::once(line)
                .chain(beside.map(LeakedFile::describe))
                .collect();
        }
        self.files.iter().map(LeakedFile::describe).collect()
    }
}

impl LeakedFile {
    fn describe(&self) -> String {
        let (id, key, sink) = (&self.credential, &self.holder.key, &self.holder.sink);
        let replacing = self.holder.replacing_command();
        match self.sight {
            LeakSight::Holds => format!(
                "{sink} of {key} also holds {id}; {key}, which did not adopt it, adopts it now and is \
                 rotated too"
            ),
            LeakSight::HoldsBeside => format!(
                "{sink} of {key} holds {id} beside another key, so {key} is not rotated; hint: run \
                 {replacing} to replace both there"
            ),
            LeakSight::MayHold => format!(
                "{sink} of {key} may hold {id}, whose end the provider does not show; {key} is \
                 not rotated; hint: run {replacing} to replace it there"
            ),
            LeakSight::Unseen(cause) => format!(
                "cannot read {sink} of {key} ({cause}); it may hold {id}; {key} is not rotated; \
                 hint: run {replacing} to replace it there"
            ),
        }
    }
}

impl Engine {
    /// Returns the other keys that share a live credential of `key`, by name. If files do
    /// not answer in time, every key whose files could be searched is among them.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn sharing_keys(&self, key: &KeyName) -> Result<Vec<SharingKey>, LedgerError> {
        let ledger = &self.services.ledger;
        let state = ledger.key_state(key).await?;
        let mut sharing = BTreeMap::<KeyName, SharingKey>::new();
        for credential in state.live.iter().filter_map(Rotation::credential) {
            for (other, rotation) in ledger.other_holders(&credential.id, key).await? {
                let row = other.rotation(&rotation);
                let has_moved = row.is_some_and(|row| has_newer_current(row, &other));
                let one = self.sharing_entry(&mut sharing, &other.key, &credential.id);
                one.has_row = true;
                one.needs_rotation |= one.is_configured && !has_moved;
            }
        }
        // A leak waits for no slow file.
        let files = find_leaked_files(
            &self.file_search,
            self.services.provider.as_ref(),
            ledger,
            &state,
        );
        match tokio::time::timeout(FILE_TIMEOUT, files).await {
            Ok(files) => {
                for file in files? {
                    let key = file.holder.key.clone();
                    let one = self.sharing_entry(&mut sharing, &key, &file.credential);
                    one.needs_rotation |= file.sight == LeakSight::Holds;
                    one.files.push(file);
                }
            }
            Err(_) => self.add_unsearched(&mut sharing, &state),
        }
        Ok(sharing.into_values().collect())
    }

    /// Returns the credentials at the provider that look like those of `key` and have no
    /// row: nothing shows that they did not leak with it.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub async fn lookalikes_of(&self, key: &KeyName) -> Result<Vec<CredentialId>, LedgerError> {
        match self.keys.get(key) {
            Some(entry) => self.services.ledger.lookalikes(&entry.scope, key).await,
            None => Ok(Vec::new()),
        }
    }

    fn sharing_entry<'s>(
        &self,
        sharing: &'s mut BTreeMap<KeyName, SharingKey>,
        key: &KeyName,
        credential: &CredentialId,
    ) -> &'s mut SharingKey {
        sharing.entry(key.clone()).or_insert_with(|| {
            let entry = self.keys.get(key);
            let managed = entry.and_then(|entry| entry.managed.as_deref());
            SharingKey {
                key: key.clone(),
                credential: credential.clone(),
                is_configured: entry.is_some_and(|entry| entry.active().is_some()),
                needs_rotation: false,
                has_row: false,
                files: Vec::new(),
                sinks: managed.map(ManagedKey::all_sinks).unwrap_or_default(),
            }
        })
    }

    /// Adds the keys whose files were not searched in time.
    fn add_unsearched(&self, sharing: &mut BTreeMap<KeyName, SharingKey>, state: &KeyState) {
        let Some(credential) = state.live.iter().find_map(Rotation::credential) else {
            return;
        };
        for (key, entry) in &self.keys {
            let managed = entry.managed.iter();
            let mut sinks = managed.flat_map(|managed| &managed.sinks);
            let has_files = sinks.any(|(sink, _)| sink.blocking_inspection().is_some());
            if has_files && *key != state.key {
                self.sharing_entry(sharing, key, &credential.id);
            }
        }
    }
}
