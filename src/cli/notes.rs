//! Lines for people about what an operator holds or paused.

use jiff::Timestamp;

use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::Pause;
use crate::core::time;
use crate::ledger::{OperatorRecord, RecordedRequest};

/// Describes a held credential: until when, by whom and why.
pub(crate) fn hold_line(
    credential: &CredentialId,
    until: Option<Timestamp>,
    record: Option<&OperatorRecord>,
) -> String {
    let until = until.map_or_else(|| format!("`rekeyd release {credential}`"), time::to_text);
    format!("{credential} is held until {until}{}", origin(record))
}

/// Describes a pause: until when, by whom and why.
pub(crate) fn pause_line(key: &KeyName, pause: Pause, record: Option<&OperatorRecord>) -> String {
    let until = pause.until;
    let until = until.map_or_else(|| format!("`rekeyd resume {key}`"), time::to_text);
    let from = time::to_text(pause.from);
    format!("paused from {from} until {until}{}", origin(record))
}

/// Describes a requested rotation that has not started: since when, by whom and why.
pub(crate) fn request_line(request: &RecordedRequest) -> String {
    let at = time::to_text(request.at);
    let record = request.operator.as_ref().map(|note| OperatorRecord {
        at: request.at,
        by: Some(note.by.clone()),
        reason: note.reason.clone(),
    });
    format!(
        "a rotation was requested at {at} and has not started{}",
        origin(record.as_ref())
    )
}

/// Describes who gave a command, and why.
fn origin(record: Option<&OperatorRecord>) -> String {
    let Some(record) = record else {
        return String::new();
    };
    let by = record.by.as_deref().map(|by| format!(", by {by}"));
    let reason = record.reason.as_deref().map(|reason| format!(": {reason}"));
    format!("{}{}", by.unwrap_or_default(), reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_and_pauses_name_their_end_their_operator_and_their_reason() {
        let (key, id) = (
            KeyName::new("billing").unwrap(),
            CredentialId::new("key_1".to_owned()),
        );
        let at: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let record = OperatorRecord {
            at,
            by: Some("uid 0".to_owned()),
            reason: Some("an audit".to_owned()),
        };
        let bare = OperatorRecord {
            at,
            by: Some("uid 0".to_owned()),
            reason: None,
        };
        for (line, expected) in [
            (
                hold_line(&id, Some(at), Some(&record)),
                "key_1 is held until 2026-11-24T03:00:00Z, by uid 0: an audit",
            ),
            (
                hold_line(&id, None, Some(&bare)),
                "key_1 is held until `rekeyd release key_1`, by uid 0",
            ),
            (
                pause_line(
                    &key,
                    Pause {
                        from: at,
                        until: None,
                    },
                    Some(&record),
                ),
                "paused from 2026-11-24T03:00:00Z until `rekeyd resume billing`, by \
                 uid 0: an audit",
            ),
            (
                pause_line(
                    &key,
                    Pause {
                        from: at,
                        until: Some(at),
                    },
                    None,
                ),
                "paused from 2026-11-24T03:00:00Z until 2026-11-24T03:00:00Z",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }
}
