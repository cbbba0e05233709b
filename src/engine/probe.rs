//! The probe that runs while a condition is active, and the diagnosis of a failure that
//! may concern every key.

use std::sync::Arc;
use std::time::Duration;

use crate::core::condition::Condition;
use crate::core::duration;
use crate::core::time::{self, clocks_agree};
use crate::engine::conditions::{clock_mismatch_message, condition_of_error};
use crate::engine::services::Services;
use crate::ledger::disk_advice;
use crate::provider::{ErrorKind, ProviderError, RetryAdvice};

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
    let mut active = Condition::ALL.iter();
    let awaits_provider =
        active.any(|condition| condition.awaits_provider() && conditions.is_active(*condition));
    let now = services.clock.now();
    if awaits_provider && conditions.requests_paused_until(now).is_none() {
        probe_provider(&services).await;
    }
}

async fn probe_provider(services: &Services) {
    let conditions = &services.conditions;
    let answer = services.provider.check().await;
    let (failed, date) = match &answer {
        Ok(response) => (None, response.server_time),
        Err(error) => (Some(condition_of_error(error)), error.server_time),
    };
    for condition in [Condition::Provider, Condition::Credential] {
        if failed != Some(condition) {
            conditions.clear(condition);
        }
    }
    if let Err(error) = &answer {
        raise_condition_of(services, error);
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

/// Raises the condition that the error of a harmless request means.
pub(crate) fn raise_condition_of(services: &Services, error: &ProviderError) {
    pause_requests(services, error);
    let condition = condition_of_error(error);
    let problem = match condition {
        Condition::Credential => {
            describe_credential_problem(error, &services.provider.admin_key_advice())
        }
        Condition::Provider
        | Condition::Ledger
        | Condition::Reconciliation
        | Condition::Organization
        | Condition::Clock
        | Condition::Quota
        | Condition::CreateRefusal
        | Condition::CreateLimit
        | Condition::ReadLimit
        | Condition::DeleteLimit => describe_problem(condition, &error.cause()),
    };
    services.conditions.raise(condition, &problem);
}

/// The longest pause that concerns only the failed request: a key that failed waits longer
/// by itself.
const SHORT_PAUSE: Duration = Duration::from_secs(10);

/// Returns whether a failure is global, and raises its condition for all keys if it is.
/// The failed request may concern one key alone, so a harmless request decides.
///
/// A provider that asks for a pause gets no further request: its condition holds for that
/// long, and the failure also counts for the key, because nothing shows that it is global.
/// A rate limit of a few seconds concerns the failed request alone.
pub(crate) async fn is_global_failure(services: &Services, error: &ProviderError) -> bool {
    let conditions = &services.conditions;
    let _diagnosis = conditions.lock_diagnosis().await;
    let pause = requested_pause(error).unwrap_or_default();
    if pause > SHORT_PAUSE {
        pause_requests(services, error);
        let problem = describe_problem(Condition::Provider, &error.cause());
        conditions.raise(Condition::Provider, &problem);
        return false;
    }
    if !conditions.is_provider_usable() {
        return true;
    }
    if error.kind == ErrorKind::RateLimited && !pause.is_zero() {
        return false;
    }
    let Err(error) = services.provider.check().await else {
        return false;
    };
    raise_condition_of(services, &error);
    true
}

/// How long the ledger may take before people see that nothing can continue.
const LEDGER_PATIENCE: Duration = Duration::from_secs(30);

/// Awaits an operation of the ledger, which has no time limit of its own. If it hangs,
/// raises the condition of the ledger; the next probe that succeeds ends it.
pub(crate) async fn watch_ledger<T>(services: &Services, operation: impl Future<Output = T>) -> T {
    let mut operation = std::pin::pin!(operation);
    if let Ok(result) = tokio::time::timeout(LEDGER_PATIENCE, &mut operation).await {
        return result;
    }
    let problem = format!(
        "the ledger has not responded for {}; hint: check whether its disk hangs",
        duration::to_text(LEDGER_PATIENCE)
    );
    services.conditions.raise(Condition::Ledger, &problem);
    operation.await
}

/// Returns the pause that the provider asks for in an error.
pub(crate) fn requested_pause(error: &ProviderError) -> Option<Duration> {
    match error.retry {
        RetryAdvice::Later(pause) => pause.filter(|pause| !pause.is_zero()),
        RetryAdvice::Never => None,
    }
}

fn pause_requests(services: &Services, error: &ProviderError) {
    if let Some(pause) = requested_pause(error) {
        let until = time::after(services.clock.now(), pause);
        services.conditions.pause_requests(until);
    }
}

/// Adds what to do to a message, which has one hint: what it names already is another way.
fn with_hint(problem: &str, hint: &str) -> String {
    let has_hint = problem.contains("; hint: ");
    let separator = if has_hint { ", or " } else { "; hint: " };
    format!("{problem}{separator}{hint}")
}

/// Describes why rekeyd has no admin key that works. If it found none, the places say what is
/// wrong with each; if the provider refuses one, `advice` says how to replace it.
pub(crate) fn describe_credential_problem(error: &ProviderError, advice: &str) -> String {
    if error.kind == ErrorKind::NoCredential {
        format!("rekeyd has no usable admin key: {}", error.message)
    } else {
        let problem = format!(
            "rekeyd has no admin key that the provider accepts: {}",
            error.cause()
        );
        with_hint(&problem, advice)
    }
}

/// Describes why the provider did not answer a request of a command, with `advice` on how to
/// replace the admin key where that is the reason.
pub(crate) fn describe_failed_request(error: &ProviderError, advice: &str) -> String {
    match condition_of_error(error) {
        Condition::Credential => describe_credential_problem(error, advice),
        Condition::Ledger
        | Condition::Reconciliation
        | Condition::Provider
        | Condition::Organization
        | Condition::Clock
        | Condition::Quota
        | Condition::CreateRefusal
        | Condition::CreateLimit
        | Condition::ReadLimit
        | Condition::DeleteLimit => error.to_string(),
    }
}

/// Describes a condition, and what the operator can do about it.
pub(crate) fn describe_problem(condition: Condition, error: &str) -> String {
    match condition {
        Condition::Ledger => format!("{error}; hint: {}", disk_advice()),
        Condition::Reconciliation => {
            format!("cannot compare the ledger with the provider's list: {error}")
        }
        // Each error of the provider says that it is one.
        Condition::Provider
        | Condition::Credential
        | Condition::Organization
        | Condition::Clock
        | Condition::Quota
        | Condition::CreateRefusal
        | Condition::CreateLimit
        | Condition::ReadLimit
        | Condition::DeleteLimit => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::gate::RequestClass;
    use crate::provider::Effect;

    fn error(kind: ErrorKind, message: &str) -> ProviderError {
        ProviderError {
            operation: "list credentials".to_owned(),
            effect: Effect::NotApplied,
            retry: RetryAdvice::Never,
            kind,
            message: message.to_owned(),
            class: RequestClass::Read,
            code: None,
            request_id: Some("req_1".to_owned()),
            server_time: None,
        }
    }

    #[test]
    fn condition_has_one_cause_and_one_hint() {
        let refused = error(
            ErrorKind::Forbidden,
            "the provider answered 401: no; hint: be an owner",
        );
        assert_eq!(
            refused.to_string(),
            "cannot list credentials: the provider answered 401: no (x-request-id req_1); hint: be \
             an owner"
        );
        assert_eq!(
            describe_credential_problem(&refused, "store another one in /a"),
            "rekeyd has no admin key that the provider accepts: the provider answered 401: no \
             (x-request-id req_1); hint: be an owner, or store another one in /a"
        );
        assert_eq!(
            describe_failed_request(&refused, "store another one in /a"),
            describe_credential_problem(&refused, "store another one in /a"),
        );
        let limited = error(ErrorKind::RateLimited, "the provider answered 429: slowly");
        assert_eq!(
            describe_failed_request(&limited, "store another one in /a"),
            limited.to_string()
        );
        assert_eq!(
            describe_problem(Condition::Reconciliation, &limited.cause()),
            "cannot compare the ledger with the provider's list: the provider answered 429: slowly \
             (x-request-id req_1)"
        );
        let away = error(
            ErrorKind::Unreachable,
            "cannot reach the provider at a.example: host name not found",
        );
        for condition in [Condition::Provider, Condition::Clock] {
            assert_eq!(describe_problem(condition, &away.cause()), away.cause());
        }
    }
}
