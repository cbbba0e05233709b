//! Renames keys of a running engine.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::core::decide::key_names::Rename;
use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::core::state::KeyState;
use crate::engine::key_entry::KeyEntry;
use crate::engine::scheduler::Engine;
use crate::ledger::LedgerError;

/// How long a rename waits for the current steps of its keys.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why keys were not renamed.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// The current steps of these keys take too long.
    #[error(
        "cannot rename {} while rekeyd works on it; hint: reload again in a moment",
        join_few(keys)
    )]
    Busy {
        /// The keys.
        keys: Vec<KeyName>,
    },
    /// The ledger failed.
    #[error("cannot rename keys: {0}")]
    Ledger(#[from] LedgerError),
}

impl Engine {
    /// Renames keys in the ledger and in memory: secrets in memory stay with their keys. The
    /// caller replaces the configuration next.
    ///
    /// # Errors
    /// Nothing was renamed.
    pub async fn rename_keys(&mut self, renames: &[Rename]) -> Result<(), RenameError> {
        if renames.is_empty() {
            return Ok(());
        }
        self.wait_until_parked(renames).await?;
        let now = self.services.clock.now();
        let ledger = self.services.ledger.clone();
        ledger.rename_keys(renames.to_vec(), now).await?;
        for rename in renames {
            let state = ledger.key_state(&rename.to).await?;
            self.move_entry(rename, state, now);
            tracing::info!(key = %rename.to, "{}: renamed from {}", rename.to, rename.from);
        }
        Ok(())
    }

    /// Waits until no worker has one of these keys, and none has changes that the ledger
    /// lacks.
    async fn wait_until_parked(&mut self, renames: &[Rename]) -> Result<(), RenameError> {
        let deadline = Instant::now() + STEP_TIMEOUT;
        loop {
            let busy: Vec<_> = renames
                .iter()
                .flat_map(|rename| [&rename.from, &rename.to])
                .filter(|key| {
                    self.keys
                        .get(*key)
                        .is_some_and(|entry| !entry.can_be_renamed())
                })
                .cloned()
                .collect();
            if busy.is_empty() {
                return Ok(());
            }
            for key in &busy {
                if let Some(entry) = self.keys.get_mut(key) {
                    entry.interrupt();
                }
            }
            let progress = tokio::time::timeout_at(deadline, self.process_completions()).await;
            if !matches!(progress, Ok(true)) {
                return Err(RenameError::Busy { keys: busy });
            }
        }
    }

    /// Moves the entry of a key to its new name.
    fn move_entry(&mut self, Rename { from, to }: &Rename, state: KeyState, now: Timestamp) {
        // A key of that name had no rotation.
        self.forget(to);
        let Some(mut entry) = self.forget(from) else {
            return;
        };
        entry.take_name_of(state);
        entry.wake_at = Some(now);
        self.run_queue.insert(now, to.clone(), entry.is_rotating());
        self.alert_tracker.rename(from, to);
        self.keys.insert(to.clone(), entry);
    }

    /// Removes a key from memory.
    fn forget(&mut self, key: &KeyName) -> Option<Box<KeyEntry>> {
        let entry = self.keys.remove(key)?;
        if let Some(at) = entry.wake_at {
            self.run_queue.remove(at, key);
        }
        if let Some(at) = entry.rotates_at {
            self.next_rotations.remove(&(at, key.clone()));
        }
        if let Some(at) = entry.provider_turn {
            self.awaiting_provider.remove(at, key);
        }
        for set in [
            &mut self.unhealthy,
            &mut self.rotating,
            &mut self.deferring,
            &mut self.due_by_age,
        ] {
            set.remove(key);
        }
        self.awaiting_reconciliation
            .retain(|(_, waiting)| waiting != key);
        // A place that is reserved for a name that no key has is never free again.
        self.places.leave(key);
        Some(entry)
    }
}
