//! The credentials of the ledger, by which another admin key is recognized.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::core::lifecycle::Phase;
use crate::core::state::{CredentialMetadata, Rotation};
use crate::core::time::{self, DAY};
use crate::ledger::Ledger;
use crate::platform::clock::Clock;
use crate::provider::candidate::{RecordedCredential, RecordedCredentials, RecordedState};

/// How long the ledger may take.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a provider may accept a credential that it has deleted. It takes minutes.
const PROPAGATION_LIMIT: Duration = DAY;

/// The credentials that a ledger records.
pub(super) struct LedgerCredentials {
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
}

#[async_trait]
impl RecordedCredentials for LedgerCredentials {
    async fn read(&self) -> Option<Vec<RecordedCredential>> {
        let since = time::before(self.clock.now(), PROPAGATION_LIMIT);
        let reading = async {
            let states = self.ledger.all_key_states().await?;
            let revoked = self.ledger.credentials_revoked_since(since).await?;
            Ok::<_, crate::ledger::LedgerError>((states, revoked))
        };
        let reading = tokio::time::timeout(LEDGER_TIMEOUT, reading).await;
        let (states, revoked) = reading.ok()?.ok()?;
        let mut rows: Vec<&Rotation> = states.iter().flat_map(|state| &state.live).collect();
        // These exist most certainly.
        rows.sort_by_key(|row| row.phase != Phase::Current);
        let live = rows.into_iter().filter_map(|row| {
            let state = match row.phase {
                Phase::Retired | Phase::Orphaned => RecordedState::Ending,
                Phase::Intended
                | Phase::Created
                | Phase::Verified
                | Phase::Current
                | Phase::Stranded
                | Phase::Revoked
                | Phase::Failed => RecordedState::Kept,
            };
            Some(recorded(row.credential()?, state))
        });
        let revoked = revoked.iter();
        let revoked = revoked.map(|credential| recorded(credential, RecordedState::Revoked));
        Some(live.chain(revoked).collect())
    }
}

fn recorded(credential: &CredentialMetadata, state: RecordedState) -> RecordedCredential {
    RecordedCredential {
        id: credential.id.clone(),
        redacted_value: credential.redacted_value.clone(),
        state,
    }
}
