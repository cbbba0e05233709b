//! `rekeyd audit`: every row ever written, compared with the provider.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::failure::Failure;
use crate::cli::{output, text};
use crate::core::ids::{CredentialId, KeyName, Label};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::secret::ActiveCredential;
use crate::core::{duration, redact, time};
use crate::daemon::runtime::ledger_identity;
use crate::ledger::{Discrepancy, LedgerReader, Reconciliation, RemoteCredential, RemoteState};
use crate::platform::clock::{Clock as _, SystemClock};
use crate::provider::failover::FailoverProvider;
use crate::provider::openai::OpenAiProvider;
use crate::provider::{ListedCredential, Provider, ProviderResponse};

#[derive(Debug, clap::Args)]
pub(crate) struct AuditCommand {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is told of one credential.
struct AuditEntry {
    status: AuditStatus,
    key: Option<KeyName>,
    phase: Option<Phase>,
    id: CredentialId,
}

/// How a credential that the provider or the ledger tells of stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuditStatus {
    Alive,
    AliveAgain,
    Duplicate,
    Missing,
    Revoked,
    Lookalike,
    Unrecognized,
}

impl AuditStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ours, alive",
            Self::AliveAgain => "ours, alive again",
            Self::Duplicate => "ours, a double",
            Self::Missing => "ours, gone",
            Self::Revoked => "ours, revoked",
            Self::Lookalike => "lookalike",
            Self::Unrecognized => "foreign",
        }
    }

    const fn is_discrepancy(self) -> bool {
        match self {
            Self::AliveAgain | Self::Duplicate | Self::Missing => true,
            Self::Alive | Self::Revoked | Self::Lookalike | Self::Unrecognized => false,
        }
    }
}

impl AuditCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = options.load_settings()?;
        let reader = LedgerReader::open(&settings.ledger)?;
        let identity = ledger_identity(&settings);
        reader.snapshot()?.check_identity(&identity)?;
        let cell = ActiveCredential::new();
        let provider = OpenAiProvider::new(&settings.provider, cell.clone());
        let provider = FailoverProvider::new(provider, cell, credential_sources(&settings));
        let listed = provider
            .list(&Scope::AdminKeys)
            .await
            .map_err(|error| Failure::Other(error.to_string()))?
            .value;
        let mut known: BTreeMap<_, _> = listed
            .iter()
            .map(|one| (one.metadata.id.clone(), one.clone()))
            .collect();
        let to_compare = listed.into_iter().map(|one| RemoteCredential {
            metadata: one.metadata,
            name: one.name,
        });
        let mut keys: Vec<_> = settings.keys.iter().map(|key| key.name.clone()).collect();
        let compared = {
            let snapshot = reader.snapshot()?;
            keys.extend(snapshot.key_states()?.into_keys());
            snapshot.reconcile(&Scope::AdminKeys, to_compare.collect())?
        };
        let mut lines = audit_entries(compared, &keys);
        for line in &mut lines {
            line.confirm_with_provider(&provider, &mut known).await;
        }
        let now = SystemClock.now();
        if self.json {
            let all = lines.iter().map(|line| line.to_json(&known));
            output::print_json(&Value::Array(all.collect()))?;
        } else {
            output::print(to_table(&lines, &known, now).as_bytes())?;
        }
        let wrong = lines
            .iter()
            .filter(|line| line.status.is_discrepancy())
            .count();
        if wrong == 0 {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "{wrong} credentials of ours are not as the ledger says; a running rekeyd sees to it \
             at its next sweep"
        )))
    }
}

fn audit_entries(compared: Reconciliation, keys: &[KeyName]) -> Vec<AuditEntry> {
    let mut lines = Vec::new();
    for (key, findings) in compared.discrepancies {
        lines.extend(
            findings
                .into_iter()
                .filter_map(|found| audit_entry(&key, found)),
        );
    }
    for unknown in compared.unknown {
        let name = unknown.name.as_deref().unwrap_or_default();
        let lookalike = keys.iter().any(|key| Label::matches_format(name, key));
        lines.push(AuditEntry {
            status: if lookalike {
                AuditStatus::Lookalike
            } else {
                AuditStatus::Unrecognized
            },
            key: None,
            phase: None,
            id: unknown.metadata.id,
        });
    }
    lines
}

fn audit_entry(key: &KeyName, found: Discrepancy) -> Option<AuditEntry> {
    let (standing, id) = match found.remote_state {
        RemoteState::AsExpected(facts) => (AuditStatus::Alive, facts.id),
        RemoteState::UnexpectedlyLive(facts) => (AuditStatus::AliveAgain, facts.id),
        RemoteState::DuplicateLabel(facts) => (AuditStatus::Duplicate, facts.id),
        RemoteState::Absent => (AuditStatus::Missing, found.credential?),
    };
    Some(AuditEntry {
        status: standing,
        key: Some(key.clone()),
        phase: Some(found.phase),
        id,
    })
}

fn to_table(
    lines: &[AuditEntry],
    known: &BTreeMap<CredentialId, ListedCredential>,
    now: Timestamp,
) -> String {
    let rows: Vec<_> = lines.iter().map(|line| line.to_row(known, now)).collect();
    text::format_table(
        &[
            "STANDING",
            "KEY",
            "PHASE",
            "CREDENTIAL",
            "NAME",
            "AGE",
            "LAST USED",
            "OWNER",
        ],
        &rows,
    )
}

impl AuditEntry {
    /// Asks for the credential itself where the list says something else than
    /// the ledger: a list may be stale, and a daemon works on beside this.
    /// Without an answer the list counts.
    async fn confirm_with_provider(
        &mut self,
        provider: &impl Provider,
        known: &mut BTreeMap<CredentialId, ListedCredential>,
    ) {
        if self.status != AuditStatus::AliveAgain && self.status != AuditStatus::Missing {
            return;
        }
        match (self.status, provider.retrieve(&self.id).await) {
            (
                AuditStatus::Missing,
                Ok(ProviderResponse {
                    value: Some(seen), ..
                }),
            ) => {
                known.insert(self.id.clone(), seen);
                self.status = AuditStatus::Alive;
            }
            (AuditStatus::AliveAgain, Ok(ProviderResponse { value: None, .. })) => {
                self.status = AuditStatus::Revoked;
            }
            (_, _) => {}
        }
    }

    fn to_row(
        &self,
        known: &BTreeMap<CredentialId, ListedCredential>,
        now: Timestamp,
    ) -> Vec<String> {
        let found = known.get(&self.id);
        let ago = |at: Option<Timestamp>| {
            at.map_or("-".to_owned(), |at| {
                duration::to_text(time::until(
                    time::whole_seconds(at),
                    time::whole_seconds(now),
                ))
            })
        };
        let shown =
            |text: Option<&String>| text.map_or("-".to_owned(), |text| redact::sanitize(text));
        vec![
            self.status.as_str().to_owned(),
            self.key
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
            self.phase.map_or("-".to_owned(), |phase| phase.to_string()),
            redact::sanitize(self.id.as_str()),
            shown(found.and_then(|found| found.name.as_ref())),
            ago(found.and_then(|found| found.metadata.created_at)),
            ago(found.and_then(|found| found.last_used_at)),
            shown(found.and_then(|found| found.owner.as_ref())),
        ]
    }

    fn to_json(&self, known: &BTreeMap<CredentialId, ListedCredential>) -> Value {
        let found = known.get(&self.id);
        json!({
            "standing": self.status.as_str(), "wrong": self.status.is_discrepancy(),
            "key": self.key, "phase": self.phase.map(Phase::as_str),
            "credential_id": self.id,
            "name": found.and_then(|found| found.name.as_deref()).map(redact::sanitize),
            "created_at": found.and_then(|found| found.metadata.created_at).map(time::to_text),
            "last_used_at": found.and_then(|found| found.last_used_at).map(time::to_text),
            "owner": found.and_then(|found| found.owner.as_deref()).map(redact::sanitize),
        })
    }
}
