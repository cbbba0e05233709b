//! The status of a key as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::status::key_status::KeyStatus;
use crate::core::state::DeferralKind;
use crate::core::time;

/// Returns the members that the contract of `status --json` names.
pub(crate) fn to_json(status: &KeyStatus, now: Timestamp) -> Value {
    let current = status.current.as_ref().and_then(|current| {
        let credential = current.credential.as_ref()?;
        let created_at = credential.created_at.or(current.current_at);
        Some(json!({
            "credential_id": credential.id,
            "redacted_value": credential.redacted_value,
            "created_at": credential.created_at.map(time::to_text),
            "age_seconds": created_at.map(|created_at| time::until(created_at, now).as_secs()),
            "expires_at": credential.expires_at.map(time::to_text),
        }))
    });
    let overlap: Vec<_> = status
        .overlap
        .iter()
        .map(|rotation| {
            json!({
                "credential_id": rotation.credential.as_ref().map(|credential| &credential.id),
                "revoke_after": rotation.revoke_after.map(time::to_text),
                "deferral": rotation.deferral.map(DeferralKind::as_str),
                "held": rotation.hold(now).is_some(),
            })
        })
        .collect();
    let pause = status.pause.as_ref().map(|(pause, record)| {
        json!({
            "from": time::to_text(pause.from), "until": pause.until.map(time::to_text),
            "by": record.as_ref().and_then(|record| record.by.as_ref()),
            "reason": record.as_ref().and_then(|record| record.reason.as_ref()),
        })
    });
    let holds: Vec<_> = status
        .holds
        .iter()
        .map(|(credential, until, record)| {
            json!({
                "credential_id": credential, "until": until.map(time::to_text),
                "by": record.as_ref().and_then(|record| record.by.as_ref()),
                "reason": record.as_ref().and_then(|record| record.reason.as_ref()),
            })
        })
        .collect();
    let leaks: Vec<_> = status
        .leaks
        .iter()
        .map(|(credential, deadline, text)| {
            json!({
                "credential_id": credential, "revoke_by": time::to_text(deadline.at),
                "waits_for": text,
            })
        })
        .collect();
    json!({
        "key": status.key,
        "state": status.state_word(),
        "healthy": status.is_healthy(),
        "overdue": status.is_overdue,
        "paused": status.pause.is_some(),
        "current": current,
        "next_rotation_at": status.next_rotation.map(time::to_text),
        "overlap": overlap,
        "problem": status.problem,
        "problem_at": status.problem_at.map(time::to_text),
        "pause": pause,
        "requested_at": status.request.as_ref().map(|request| time::to_text(request.at)),
        "holds": holds,
        "leaked": leaks,
    })
}
