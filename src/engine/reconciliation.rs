//! Compares every row of a scope with the provider's list.
//!
//! A list may be stale and a create may be applied late, so a discrepancy is a reason to
//! send another request, and proves nothing by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::condition::Condition;
use crate::core::duration;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName, Label, RotationId};
use crate::core::plural::counted;
use crate::core::scope::Scope;
use crate::core::state::Lookalike;
use crate::engine::ledger_condition::raise_ledger_condition;
use crate::engine::probe::{describe_problem, is_global_failure, requested_pause, watch_ledger};
use crate::engine::services::Services;
use crate::ledger::{
    Discrepancy, LedgerError, Reconciliation, RemoteCredential, UnknownCredential,
};
use crate::provider::{ErrorKind, ListedCredential, ProviderError, ProviderResponse};

/// The discrepancies of a reconciliation, by key.
pub(crate) type DiscrepanciesByKey = BTreeMap<KeyName, Vec<Discrepancy>>;

/// The result of a reconciliation.
pub(crate) struct ReconciliationReport {
    pub(crate) listed: BTreeSet<CredentialId>,
    pub(crate) discrepancies: DiscrepanciesByKey,
    pub(crate) lookalikes: Vec<Lookalike>,
    /// The generation of the admin key that was sent with the list; none if it
    /// changed meanwhile.
    pub(crate) generation: Option<u64>,
}

/// The reason why a scope was not compared with the ledger.
pub(crate) enum ReconciliationFailure {
    /// A condition says why, and its end repeats the reconciliation.
    Condition,
    /// The list has none of the credentials of the last one, and no operator confirmed that.
    Foreign,
    /// The provider responds, but not with a list.
    List {
        /// The error of the list.
        problem: String,
        /// The pause before the next list, if the provider asks for one.
        pause: Option<Duration>,
    },
}

/// How long the first list of a scope may take before people see that no rotation of its
/// keys can start.
const LIST_PATIENCE: Duration = Duration::from_secs(60);

/// What to do about a provider that answers, but not with a list.
const LIST_HINT: &str = "check base-url and any proxy in between";

/// A name by which labels of a key begin: its present one, or a former one.
pub(crate) struct LabelName {
    pub(crate) name: KeyName,
    pub(crate) key: KeyName,
}

/// Lists the credentials of a scope, compares them with the ledger, and logs those
/// without a row. `keys` are the keys whose labels count as lookalikes. No rotation of
/// the scope can start before the first reconciliation with an admin key, so that
/// its failure is a condition, `is_first` says. `accepts_any_list` says that an operator confirmed the
/// organization.
pub(crate) async fn reconcile(
    services: &Services,
    scope: &Scope,
    keys: Vec<LabelName>,
    is_first: bool,
    accepts_any_list: bool,
) -> Result<ReconciliationReport, ReconciliationFailure> {
    let before = services.provider.own_credential_generation();
    // A ledger that cannot take what a rotation writes is reported before there is one.
    let room = watch_ledger(services, services.ledger.check_room()).await;
    room.map_err(|error| ledger_failure(services, &error))?;
    let listed = match list(services, scope, is_first).await {
        Ok(listed) => listed,
        Err(error) => return Err(diagnose(services, scope, &error, is_first).await),
    };
    let generation = services.provider.own_credential_generation();
    // The first request selects the first credential.
    let is_same = generation == before || (before, generation) == (0, 1);
    let generation = is_same.then_some(generation);
    let now = services.clock.now();
    for credential in &listed.value {
        let fields = &credential.unreadable_times;
        services.conditions.report_unreadable_times(fields);
    }
    let created = listed.value.iter();
    let created = created.filter_map(|credential| credential.metadata.created_at);
    services.conditions.observe_creation_times(created);
    services
        .conditions
        .observe_response(listed.server_time, now, services.clock.monotonic());
    let ids = listed.value.iter();
    let ids: Vec<_> = ids.map(|one| one.metadata.id.clone()).collect();
    let is_foreign = services.ledger.is_foreign_list(scope, ids.clone());
    let is_foreign = watch_ledger(services, is_foreign).await;
    if is_foreign.map_err(|error| ledger_failure(services, &error))? && !accepts_any_list {
        return Err(ReconciliationFailure::Foreign);
    }
    let reconciliation = services
        .ledger
        .reconcile(scope, remote_credentials(listed.value));
    let reconciliation = watch_ledger(services, reconciliation).await;
    let reconciliation = reconciliation.map_err(|error| ledger_failure(services, &error))?;
    let Reconciliation {
        discrepancies,
        unknown,
    } = reconciliation;
    let ended = ended_rotations(&discrepancies);
    if !ended.is_empty() {
        let returned = services.ledger.return_rows(ended, now);
        let returned = watch_ledger(services, returned).await;
        returned.map_err(|error| ledger_failure(services, &error))?;
    }
    let mut lookalikes = Vec::new();
    let unknown = unknown
        .into_iter()
        .map(|remote| {
            let name = remote.name.as_deref().unwrap_or_default();
            let matching_key = matching_key(&keys, name);
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
    // Without recorded lookalikes, a key without rows would be rotated although they
    // exist.
    let recorded = services.ledger.record_reconciliation(scope, now, unknown);
    let new = watch_ledger(services, recorded).await;
    let new = new.map_err(|error| ledger_failure(services, &error))?;
    log_unknown_credentials(scope, &new, &keys);
    Ok(ReconciliationReport {
        listed: ids.into_iter().collect(),
        discrepancies,
        lookalikes,
        generation,
    })
}

/// Returns the rotations that have ended and whose credentials, or others with their labels,
/// were listed: those that were pruned need their rows again.
fn ended_rotations(discrepancies: &DiscrepanciesByKey) -> Vec<RotationId> {
    let discrepancies = discrepancies.values().flatten();
    let ended = discrepancies.filter(|discrepancy| discrepancy.phase.is_ended());
    ended
        .map(|discrepancy| discrepancy.rotation.clone())
        .collect()
}

/// Lists a scope. If the first list takes long, raises the condition before its end.
async fn list(
    services: &Services,
    scope: &Scope,
    is_first: bool,
) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
    let mut listing = services.provider.list(scope);
    if let Ok(listed) = tokio::time::timeout(LIST_PATIENCE, &mut listing).await {
        return listed;
    }
    if is_first {
        let problem = format!(
            "the list did not end within {}; hint: {LIST_HINT}",
            duration::to_text(LIST_PATIENCE)
        );
        raise(services, scope, &problem);
    }
    listing.await
}

/// Finds out whether the failure of a list concerns every request. A provider that asks for
/// a pause gets no further request.
async fn diagnose(
    services: &Services,
    scope: &Scope,
    error: &ProviderError,
    is_first: bool,
) -> ReconciliationFailure {
    let pause = requested_pause(error);
    if pause.is_none() && is_global_failure(services, error).await {
        return ReconciliationFailure::Condition;
    }
    let problem = error.cause();
    if is_first {
        raise(services, scope, &describe_list_error(error));
    } else {
        tracing::warn!(
            "cannot compare the ledger with the provider's list: {problem}; retrying soon"
        );
    }
    ReconciliationFailure::List { problem, pause }
}

/// Returns the cause of a failed list, and what to do where something other than the provider
/// may have answered.
fn describe_list_error(error: &ProviderError) -> String {
    let cause = error.cause();
    match error.kind {
        // What does not come from the provider says so itself.
        ErrorKind::NotFound | ErrorKind::Refused | ErrorKind::BadAnswer
            if !cause.contains("; hint: ") =>
        {
            format!("{cause}; hint: {LIST_HINT}")
        }
        ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::ScopeRefused
        | ErrorKind::BadAnswer
        | ErrorKind::NoCredential
        | ErrorKind::CredentialRefused
        | ErrorKind::Forbidden
        | ErrorKind::RateLimited
        | ErrorKind::QuotaExhausted
        | ErrorKind::Unreachable
        | ErrorKind::NoAnswer
        | ErrorKind::ServerError => cause,
    }
}

fn raise(services: &Services, scope: &Scope, problem: &str) {
    let condition = Condition::Reconciliation;
    let problem = describe_problem(condition, problem);
    services.conditions.raise_in(scope, condition, &problem);
}

fn ledger_failure(services: &Services, error: &LedgerError) -> ReconciliationFailure {
    raise_ledger_condition(&services.conditions, error);
    ReconciliationFailure::Condition
}

/// Returns the key whose label a name looks like: of several, the one with the longest
/// name, since a provider may put a prefix before names.
fn matching_key<'k>(keys: &'k [LabelName], name: &str) -> Option<&'k KeyName> {
    let matching = keys.iter();
    let matching = matching.filter(|one| Label::matches_format(name, &one.name));
    let longest = matching.max_by_key(|one| one.name.as_str().len());
    longest.map(|one| &one.key)
}

/// Converts the provider's list to the type that the ledger compares.
pub(crate) fn remote_credentials(listed: Vec<ListedCredential>) -> Vec<RemoteCredential> {
    let listed = listed.into_iter();
    let listed = listed.map(|listed| RemoteCredential {
        metadata: listed.metadata,
        name: listed.name,
        end: listed.end,
    });
    listed.collect()
}

fn log_unknown_credentials(scope: &Scope, new: &[UnknownCredential], keys: &[LabelName]) {
    let lookalikes = new.iter().filter(|unknown| unknown.is_lookalike);
    match lookalikes.clone().collect::<Vec<_>>()[..] {
        [] => {}
        [only] => {
            let name = only.name.as_deref().unwrap_or_default();
            let key = matching_key(keys, name).map_or("KEY", KeyName::as_str);
            tracing::warn!(
                credential = %only.id,
                "{id} has the name {name}, which looks like a label of this configuration, but is \
                 not in this ledger; rekeyd leaves it alone; hint: `rekeyd adopt {key} {id}` takes \
                 it over",
                id = only.id
            );
        }
        ref all => tracing::warn!(
            count = all.len(),
            "{} credentials have names that look like labels of this configuration, but are not \
             in this ledger: {}; rekeyd leaves them alone; hint: `rekeyd audit` lists all",
            all.len(),
            join_few(lookalikes.map(|one| &one.id))
        ),
    }
    let unrecognized = new.iter().filter(|unknown| !unknown.is_lookalike).count();
    if unrecognized > 0 {
        let (noun, place) = match scope {
            Scope::AdminKeys => ("admin key", "this organization".to_owned()),
            Scope::Project(id) => ("credential", format!("project {id}")),
        };
        let (is, them) = if unrecognized == 1 {
            ("is", "it")
        } else {
            ("are", "them")
        };
        tracing::info!(
            count = unrecognized,
            "{} in {place} {is} not managed by rekeyd; leaving {them} alone",
            counted(unrecognized, noun)
        );
    }
}
