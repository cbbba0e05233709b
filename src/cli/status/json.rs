//! The status of a key as JSON. `rekeyd show` adds members to it.

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::channel_status::ChannelStatus;
use crate::cli::status::key_status::KeyStatus;
use crate::core::crash::Crash;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::{DeferralKind, Rotation};
use crate::core::time;
use crate::ledger::OperatorRecord;

/// The output of `rekeyd status --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct StatusJson<'a> {
    /// The most important problem of rekeyd as a whole, for people.
    pub(super) problem: Option<&'a String>,
    /// Whether a daemon runs; null where that is unknown.
    pub(super) running: Option<bool>,
    /// Whether the running daemon has loaded the configuration in its present form; null
    /// where that is unknown. If not, it works by an earlier form until `rekeyd reload`.
    pub(super) configuration_loaded: Option<bool>,
    /// When the last daemon ended, if none runs.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    pub(super) not_running_since: Option<String>,
    /// How often rekeyd was restarted after a crash or a kill within the last 24 hours.
    pub(super) restarts: usize,
    /// The last crash or kill that the ledger records, if there was one.
    pub(super) last_crash: Option<CrashJson<'a>>,
    /// The keys, by name.
    pub(super) keys: Vec<KeyJson<'a>>,
    /// The notification channels, in the order of the configuration.
    pub(super) notifications: Vec<ChannelJson<'a>>,
}

/// How a notification channel stands.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ChannelJson<'a> {
    /// Its name.
    name: &'a str,
    /// Its type and its target.
    channel: &'a str,
    /// The number of notifications that its receiver has not accepted yet.
    undelivered: u64,
    /// When its receiver last accepted one.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    last_sent_at: Option<String>,
    /// Why the last attempt failed, for people.
    problem: Option<&'a String>,
    /// When rekeyd tries again.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    retry_at: Option<String>,
}

impl<'a> From<&'a ChannelStatus> for ChannelJson<'a> {
    fn from(status: &'a ChannelStatus) -> Self {
        let failure = status.state.failure.as_ref();
        Self {
            name: &status.name,
            channel: status.id.as_str(),
            undelivered: status.state.undelivered,
            last_sent_at: status.state.last_sent_at.map(time::to_text),
            problem: failure.map(|failure| &failure.error),
            retry_at: failure
                .and_then(|failure| failure.retry_at)
                .map(time::to_text),
        }
    }
}

/// The end of an earlier process by an error in rekeyd itself.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CrashJson<'a> {
    /// When it ended.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    at: String,
    /// Its version; empty if it was killed and left no trace.
    version: &'a str,
    /// The place in the program: file, line and column; empty if it was killed and left no
    /// trace.
    location: &'a str,
    /// The message, without secrets.
    reason: &'a str,
}

impl<'a> From<&'a Crash> for CrashJson<'a> {
    fn from(crash: &'a Crash) -> Self {
        Self {
            at: time::to_text(crash.at),
            version: &crash.version,
            location: &crash.location,
            reason: &crash.reason,
        }
    }
}

/// The status of one key.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct KeyJson<'a> {
    /// Its name.
    #[cfg_attr(test, schemars(with = "String"))]
    key: &'a KeyName,
    /// Its state.
    #[cfg_attr(test, schemars(extend("enum" = KeyStatus::STATE_WORDS)))]
    state: &'static str,
    /// Whether nothing is wrong with it.
    healthy: bool,
    /// Whether it has been due for longer than its jitter and its `delivery-deadline`.
    overdue: bool,
    /// Whether no rotation starts by schedule.
    paused: bool,
    /// The current credential, if there is one.
    current: Option<CurrentJson<'a>>,
    /// When the next rotation is due.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    next_rotation_at: Option<String>,
    /// The other credentials that are alive.
    overlap: Vec<OverlapJson<'a>>,
    /// What is wrong, for people.
    problem: Option<&'a String>,
    /// When the problem was last seen.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    problem_at: Option<String>,
    /// The pause, while it is active.
    pause: Option<PauseJson<'a>>,
    /// The retirement, while the key is retired.
    retirement: Option<RetirementJson<'a>>,
    /// When an operator requested a rotation that has not started.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    requested_at: Option<String>,
    /// The credentials that an operator holds.
    holds: Vec<HoldJson<'a>>,
    /// The credentials that may have leaked, which rekeyd revokes by a deadline.
    leaked: Vec<LeakJson<'a>>,
    /// The ids of live credentials with a label of this key, but without a row in the ledger.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    lookalikes: &'a [CredentialId],
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CurrentJson<'a> {
    /// Its id at the provider.
    #[cfg_attr(test, schemars(with = "String"))]
    credential_id: &'a CredentialId,
    /// The redacted secret, as the provider shows it.
    redacted_value: Option<&'a String>,
    /// When the provider created it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    created_at: Option<String>,
    /// Its age in seconds.
    age_seconds: Option<u64>,
    /// When it expires, if it does.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    expires_at: Option<String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OverlapJson<'a> {
    /// Its id at the provider.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    credential_id: Option<&'a CredentialId>,
    /// When the schedule revokes it, as far as that is known.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    revoke_after: Option<String>,
    /// Why its revocation is deferred, if it is.
    #[cfg_attr(test, schemars(with = "Option<DeferralKind>"))]
    deferral: Option<&'static str>,
    /// Whether an operator holds it.
    held: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PauseJson<'a> {
    /// When it began.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    from: String,
    /// When it ends; null until an operator resumes the key.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    until: Option<String>,
    /// Who paused the key.
    by: Option<&'a String>,
    /// The reason that was given.
    reason: Option<&'a String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RetirementJson<'a> {
    /// When an operator retired the key.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    at: String,
    /// Whether its credentials are revoked without an overlap.
    now: bool,
    /// Who retired the key.
    by: Option<&'a String>,
    /// The reason that was given.
    reason: Option<&'a String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HoldJson<'a> {
    /// The id of the credential at the provider.
    #[cfg_attr(test, schemars(with = "String"))]
    credential_id: &'a CredentialId,
    /// When the hold ends; null until an operator releases the credential.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    until: Option<String>,
    /// Who holds it.
    by: Option<&'a String>,
    /// The reason that was given.
    reason: Option<&'a String>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct LeakJson<'a> {
    /// The id of the credential at the provider.
    #[cfg_attr(test, schemars(with = "String"))]
    credential_id: &'a CredentialId,
    /// The time by which rekeyd revokes it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    revoke_by: String,
    /// What the revocation waits for, for people.
    waits_for: &'a String,
}

/// Returns the members that the contract of `status --json` names.
pub(crate) fn to_json(status: &KeyStatus, now: Timestamp) -> KeyJson<'_> {
    KeyJson {
        key: &status.key,
        state: status.state_word(),
        healthy: status.is_healthy(),
        overdue: status.is_overdue,
        paused: status.pause.is_some(),
        current: status
            .current
            .as_ref()
            .and_then(|current| current_json(current, now)),
        next_rotation_at: status.next_rotation.map(time::to_text),
        overlap: status
            .overlap
            .iter()
            .map(|rotation| overlap_json(rotation, now))
            .collect(),
        problem: status.problem.as_ref(),
        problem_at: status.problem_at.map(time::to_text),
        pause: status.pause.as_ref().map(|(pause, record)| PauseJson {
            from: time::to_text(pause.from),
            until: pause.until.map(time::to_text),
            by: operator(record.as_ref()),
            reason: reason(record.as_ref()),
        }),
        retirement: status
            .retirement
            .as_ref()
            .map(|(retirement, record)| RetirementJson {
                at: time::to_text(retirement.at),
                now: retirement.is_immediate,
                by: operator(record.as_ref()),
                reason: reason(record.as_ref()),
            }),
        requested_at: status
            .request
            .as_ref()
            .map(|request| time::to_text(request.at)),
        holds: status
            .holds
            .iter()
            .map(|(credential_id, until, record)| HoldJson {
                credential_id,
                until: until.map(time::to_text),
                by: operator(record.as_ref()),
                reason: reason(record.as_ref()),
            })
            .collect(),
        leaked: status
            .leaks
            .iter()
            .map(|(credential_id, deadline, waits_for)| LeakJson {
                credential_id,
                revoke_by: time::to_text(deadline.at),
                waits_for,
            })
            .collect(),
        lookalikes: &status.lookalikes,
    }
}

fn operator(record: Option<&OperatorRecord>) -> Option<&String> {
    record.and_then(|record| record.by.as_ref())
}

fn reason(record: Option<&OperatorRecord>) -> Option<&String> {
    record.and_then(|record| record.reason.as_ref())
}

fn current_json(current: &Rotation, now: Timestamp) -> Option<CurrentJson<'_>> {
    let credential = current.credential.as_ref()?;
    let created_at = credential.created_at.or(current.current_at);
    Some(CurrentJson {
        credential_id: &credential.id,
        redacted_value: credential.redacted_value.as_ref(),
        created_at: credential.created_at.map(time::to_text),
        age_seconds: created_at.map(|created_at| time::until(created_at, now).as_secs()),
        expires_at: credential.expires_at.map(time::to_text),
    })
}

fn overlap_json(rotation: &Rotation, now: Timestamp) -> OverlapJson<'_> {
    OverlapJson {
        credential_id: rotation
            .credential
            .as_ref()
            .map(|credential| &credential.id),
        revoke_after: rotation.revoke_after.map(time::to_text),
        deferral: rotation.deferral.map(DeferralKind::as_str),
        held: rotation.hold(now).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::json_schema;

    #[test]
    fn json_schema_is_that_of_the_output() {
        json_schema::check_file::<StatusJson<'_>>("status");
    }
}
