//! The probe that runs while a condition is active.

use std::sync::Arc;

use crate::core::condition::Condition;
use crate::core::time::clocks_agree;
use crate::engine::conditions::{clock_mismatch_message, condition_of_error};
use crate::engine::services::Services;
use crate::provider::ProviderError;

/// Checks which of the active conditions have ended.
pub(crate) async fn probe(services: Arc<Services>) {
    let conditions = &services.conditions;
    if conditions.lasts(Condition::Ledger) {
        // Nothing is sent any more.
        return;
    }
    if conditions.is_active(Condition::Ledger) && services.ledger.check_writable().await.is_ok() {
        conditions.clear(Condition::Ledger);
    }
    let of_provider = [Condition::Provider, Condition::Credential, Condition::Clock];
    if of_provider
        .iter()
        .any(|condition| conditions.is_active(*condition))
    {
        probe_provider(&services).await;
    }
}

async fn probe_provider(services: &Services) {
    let conditions = &services.conditions;
    let (observed, date) = match services.provider.check().await {
        Ok(response) => (None, response.server_time),
        Err(error) => (
            condition_of_error(&error)
                .map(|condition| (condition, describe_problem(condition, &error.to_string()))),
            error.server_time,
        ),
    };
    for condition in [Condition::Provider, Condition::Credential] {
        if observed.as_ref().is_none_or(|(now, _)| *now != condition) {
            conditions.clear(condition);
        }
    }
    if let Some((condition, problem)) = observed {
        conditions.raise(condition, &problem);
    }
    let now = services.clock.now();
    match date {
        Some(date) if clocks_agree(date, now) => {
            conditions.clear(Condition::Clock);
        }
        Some(date) => conditions.raise(Condition::Clock, &clock_mismatch_message(Some(date), now)),
        None => {}
    }
}

/// Returns whether a failure is global, and raises its condition for all keys if it is.
/// The failed request may concern one key alone, so a harmless request decides.
pub(crate) async fn is_global_failure(services: &Services, error: &ProviderError) -> bool {
    if condition_of_error(error).is_none() {
        return false;
    }
    let conditions = &services.conditions;
    let _diagnosis = conditions.lock_diagnosis().await;
    if !conditions.is_provider_usable() {
        return true;
    }
    let Err(error) = services.provider.check().await else {
        return false;
    };
    let Some(condition) = condition_of_error(&error) else {
        return false;
    };
    conditions.raise(condition, &describe_problem(condition, &error.to_string()));
    true
}

/// Describes a condition, and what the operator can do about it.
pub(crate) fn describe_problem(condition: Condition, error: &str) -> String {
    match condition {
        Condition::Credential => format!(
            "rekeyd has no admin credential that the provider accepts ({error}); \
             put a valid one into [provider] credential-file"
        ),
        Condition::Provider => format!("the provider cannot be asked ({error})"),
        Condition::Ledger => format!("{error}; see whether its disk is full or read-only"),
        Condition::Organization | Condition::Clock => error.to_owned(),
    }
}
