//! Compares every row of a scope with the provider's list.
//!
//! A list may be stale and a create may be applied late, so a discrepancy is a reason to
//! send another request, and proves nothing by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::ids::{KeyName, Label};
use crate::core::scope::Scope;
use crate::core::state::Lookalike;
use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::probe::is_global_failure;
use crate::engine::services::Services;
use crate::ledger::{Discrepancy, Reconciliation, RemoteCredential, UnknownCredential};
use crate::provider::ListedCredential;

/// The discrepancies of a reconciliation, by key.
pub(crate) type DiscrepanciesByKey = BTreeMap<KeyName, Vec<Discrepancy>>;

/// The result of a reconciliation.
pub(crate) struct ReconciliationReport {
    pub(crate) discrepancies: DiscrepanciesByKey,
    pub(crate) lookalikes: Vec<Lookalike>,
}

/// Lists the credentials of a scope, compares them with the ledger, and logs those
/// without a row. `keys` are the keys whose labels count as lookalikes. Returns none if
/// the provider or the ledger failed.
pub(crate) async fn reconcile(
    services: Arc<Services>,
    scope: Scope,
    keys: Vec<KeyName>,
) -> Option<ReconciliationReport> {
    let listed = match services.provider.list(&scope).await {
        Ok(listed) => listed,
        Err(error) => {
            // A list may fail while other requests work.
            if !is_global_failure(&services, &error).await {
                tracing::warn!(
                    "cannot compare the ledger with the provider: {error}; it is tried again soon"
                );
            }
            return None;
        }
    };
    let now = services.clock.now();
    services
        .conditions
        .observe_response(listed.server_time, now, services.clock.monotonic());
    let reconciliation = match services
        .ledger
        .reconcile(&scope, remote_credentials(listed.value))
        .await
    {
        Ok(reconciliation) => reconciliation,
        Err(error) => {
            raise_ledger_condition(&services.conditions, &error);
            return None;
        }
    };
    let Reconciliation {
        discrepancies,
        unknown,
    } = reconciliation;
    let mut lookalikes = Vec::new();
    let unknown = unknown
        .into_iter()
        .map(|remote| {
            let name = remote.name.as_deref().unwrap_or_default();
            let matching_key = keys.iter().find(|key| Label::matches_format(name, key));
            lookalikes.extend(matching_key.map(|key| Lookalike {
                key: key.clone(),
                id: remote.metadata.id.clone(),
                name: name.to_owned(),
            }));
            UnknownCredential {
                id: remote.metadata.id,
                is_lookalike: matching_key.is_some(),
                name: remote.name,
            }
        })
        .collect();
    let recorded = services.ledger.record_reconciliation(&scope, now, unknown);
    match recorded.await {
        Ok(new) => log_unknown_credentials(&scope, &new),
        // Without recorded lookalikes, a key without rows would be rotated although they
        // exist.
        Err(error) => {
            raise_ledger_condition(&services.conditions, &error);
            return None;
        }
    }
    Some(ReconciliationReport {
        discrepancies,
        lookalikes,
    })
}

/// Converts the provider's list to the type that the ledger compares.
pub(crate) fn remote_credentials(listed: Vec<ListedCredential>) -> Vec<RemoteCredential> {
    let listed = listed.into_iter();
    let listed = listed.map(|listed| RemoteCredential {
        metadata: listed.metadata,
        name: listed.name,
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
