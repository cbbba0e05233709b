//! The one probe that runs while a condition holds.

use std::sync::Arc;

use crate::engine::condition::{Condition, agree, disagreement, of_error};
use crate::engine::worker::Parts;
use crate::provider::ProviderError;

/// Finds out which of the conditions that hold have passed.
pub(crate) async fn probe(parts: Arc<Parts>) {
    let conditions = &parts.conditions;
    if conditions.holds(Condition::Ledger) && parts.ledger.probe().await.is_ok() {
        conditions.clear(Condition::Ledger);
    }
    let asks = [Condition::Provider, Condition::Credential, Condition::Clock];
    if asks.iter().any(|condition| conditions.holds(*condition)) {
        ask(&parts).await;
    }
}

async fn ask(parts: &Parts) {
    let conditions = &parts.conditions;
    let (found, date) = match parts.provider.check().await {
        Ok(answer) => (None, answer.date),
        Err(error) => (
            of_error(&error).map(|condition| (condition, problem(condition, &error.to_string()))),
            error.date,
        ),
    };
    for condition in [Condition::Provider, Condition::Credential] {
        if found.as_ref().is_none_or(|(now, _)| *now != condition) {
            conditions.clear(condition);
        }
    }
    if let Some((condition, problem)) = found {
        conditions.raise(condition, &problem);
    }
    let now = parts.clock.now();
    match date {
        Some(date) if agree(date, now) => {
            conditions.clear(Condition::Clock);
        }
        Some(date) => conditions.raise(Condition::Clock, &disagreement(Some(date), now)),
        None => {}
    }
}

/// Whether a failure is the whole daemon's matter: then it is told once for
/// all. One failed request may be about itself alone; a harmless one tells.
pub(crate) async fn is_everybodys(parts: &Parts, error: &ProviderError) -> bool {
    if of_error(error).is_none() {
        return false;
    }
    let conditions = &parts.conditions;
    let _turn = conditions.turn().await;
    if !conditions.allowed().provider {
        return true;
    }
    let Err(error) = parts.provider.check().await else {
        return false;
    };
    let Some(condition) = of_error(&error) else {
        return false;
    };
    conditions.raise(condition, &problem(condition, &error.to_string()));
    true
}

/// In words that say what to do.
pub(crate) fn problem(condition: Condition, error: &str) -> String {
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
