//! Compares every row of a scope with the provider's list.
//!
//! A list may be stale and a create may land late, so a discrepancy is a reason
//! to ask again, and proves nothing by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::condition::Condition;
use crate::core::ids::{KeyName, Label};
use crate::core::scope::Scope;
use crate::core::state::Lookalike;
use crate::engine::probe::{describe_problem, is_global_failure};
use crate::engine::services::Services;
use crate::ledger::{Discrepancy, Reconciliation, RemoteCredential, UnknownCredential};
use crate::provider::ListedCredential;

/// The discrepancies that a reconciliation found, by key.
pub(crate) type DiscrepanciesByKey = BTreeMap<KeyName, Vec<Discrepancy>>;

/// The result of a reconciliation.
pub(crate) struct ReconciliationReport {
    pub(crate) discrepancies: DiscrepanciesByKey,
    pub(crate) lookalikes: Vec<Lookalike>,
}

/// Lists the credentials of a scope, compares them with the ledger, and logs
/// those without a row. `keys` are those whose labels a lookalike may bear.
/// Returns none if the provider or the ledger failed.
pub(crate) async fn reconcile(
    parts: Arc<Services>,
    scope: Scope,
    keys: Vec<KeyName>,
) -> Option<ReconciliationReport> {
    let listed = match parts.provider.list(&scope).await {
        Ok(listed) => listed,
        Err(error) => {
            // A list may fail while other requests work.
            if !is_global_failure(&parts, &error).await {
                tracing::warn!(
                    "cannot compare the ledger with the provider: {error}; it is tried again soon"
                );
            }
            return None;
        }
    };
    let now = parts.clock.now();
    parts
        .conditions
        .observe_response(listed.server_time, now, parts.clock.monotonic());
    let compared = match parts
        .ledger
        .reconcile(&scope, remote_credentials(listed.value))
        .await
    {
        Ok(compared) => compared,
        Err(error) => {
            let text = describe_problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            return None;
        }
    };
    let Reconciliation {
        discrepancies,
        unknown,
    } = compared;
    let mut lookalikes = Vec::new();
    let unknown = unknown
        .into_iter()
        .map(|found| {
            let name = found.name.as_deref().unwrap_or_default();
            let alike = keys.iter().find(|key| Label::matches_format(name, key));
            lookalikes.extend(alike.map(|key| Lookalike {
                key: key.clone(),
                id: found.metadata.id.clone(),
                name: name.to_owned(),
            }));
            UnknownCredential {
                id: found.metadata.id,
                is_lookalike: alike.is_some(),
                name: found.name,
            }
        })
        .collect();
    let recorded = parts.ledger.record_reconciliation(&scope, now, unknown);
    match recorded.await {
        Ok(new) => log_unknown_credentials(&scope, &new),
        // Without recorded lookalikes, a key without rows would be rotated beside
        // them.
        Err(error) => {
            let text = describe_problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            return None;
        }
    }
    Some(ReconciliationReport {
        discrepancies,
        lookalikes,
    })
}

/// Converts a list to what the ledger compares.
pub(crate) fn remote_credentials(listed: Vec<ListedCredential>) -> Vec<RemoteCredential> {
    let listed = listed.into_iter();
    let listed = listed.map(|one| RemoteCredential {
        metadata: one.metadata,
        name: one.name,
    });
    listed.collect()
}

fn log_unknown_credentials(scope: &Scope, new: &[UnknownCredential]) {
    for unknown in new.iter().filter(|unknown| unknown.is_lookalike) {
        let name = unknown.name.as_deref().unwrap_or_default();
        tracing::warn!(
            credential = %unknown.id,
            "{} bears the name {name}, which looks like a label of this configuration, but it is \
             not in this ledger; it is left alone: `rekeyd audit` shows more",
            unknown.id
        );
    }
    let unrecognized = new.iter().filter(|unknown| !unknown.is_lookalike).count();
    if unrecognized > 0 {
        let credentials = match scope {
            Scope::AdminKeys => "admin keys of this organization".to_owned(),
            Scope::Project(id) => format!("credentials of project {id}"),
        };
        tracing::info!(
            count = unrecognized,
            "{unrecognized} {credentials} are not rekeyd's and are left alone"
        );
    }
}
