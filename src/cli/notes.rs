//! Lines for people about what an operator holds or paused.

use jiff::Timestamp;

use crate::cli::screen::Screen;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::{Pause, Retirement};
use crate::ledger::{OperatorRecord, RecordedRequest};
use crate::platform::users;

/// Describes a held credential: by whom, why and until when.
pub(crate) fn hold_line(
    credential: &CredentialId,
    until: Option<Timestamp>,
    record: Option<&OperatorRecord>,
    screen: &Screen,
    now: Timestamp,
) -> String {
    let end = match until {
        Some(until) => format!("the hold ends {}", screen.moment(until, now)),
        None => format!("`rekeyd release {credential}` ends the hold"),
    };
    format!("{credential} is on hold{}; {end}", origin(record))
}

/// Describes a pause: since when, by whom, why and until when.
pub(crate) fn pause_line(
    key: &KeyName,
    pause: Pause,
    record: Option<&OperatorRecord>,
    screen: &Screen,
    now: Timestamp,
) -> String {
    let end = match pause.until {
        Some(until) => format!("the pause ends {}", screen.moment(until, now)),
        None => format!("`rekeyd resume {key}` ends the pause"),
    };
    let from = screen.past_moment(pause.from, now);
    format!("paused {from}{}; {end}", origin(record))
}

/// Describes a retirement: since when, by whom and why, and what undoes it.
pub(crate) fn retirement_line(
    key: &KeyName,
    retirement: Retirement,
    record: Option<&OperatorRecord>,
    screen: &Screen,
    now: Timestamp,
) -> String {
    let at = screen.past_moment(retirement.at.min(now), now);
    format!(
        "retired {at}{}; `rekeyd retire {key} --undo` rotates it again",
        origin(record)
    )
}

/// Describes a requested rotation that has not started: since when, by whom and why.
pub(crate) fn request_line(request: &RecordedRequest, screen: &Screen, now: Timestamp) -> String {
    let at = screen.past_moment(request.at, now);
    let record = request.operator.as_ref().map(|note| OperatorRecord {
        at: request.at,
        by: Some(note.by.clone()),
        reason: note.reason.clone(),
    });
    format!(
        "rotation not started yet, requested {at}{}",
        origin(record.as_ref())
    )
}

/// Describes who gave a command, and why.
fn origin(record: Option<&OperatorRecord>) -> String {
    let Some(record) = record else {
        return String::new();
    };
    let by = record.by.as_deref();
    let by = by.map(|by| format!(" by {}", users::describe_author(by)));
    let reason = record.reason.as_deref();
    let reason = reason.map(|reason| format!(": {reason}"));
    format!("{}{}", by.unwrap_or_default(), reason.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::screen::TimeStyle;

    #[test]
    fn holds_and_pauses_name_their_end_their_operator_and_their_reason() {
        let (key, id) = (
            KeyName::new("billing").unwrap(),
            CredentialId::new("key_1".to_owned()),
        );
        let at: Timestamp = "2026-11-24T03:00:00Z".parse().unwrap();
        let now: Timestamp = "2026-11-24T02:00:00Z".parse().unwrap();
        let terminal = Screen {
            width: Some(80),
            times: TimeStyle::Relative,
            ..Screen::FILE
        };
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
                hold_line(&id, Some(at), Some(&record), &Screen::FILE, now),
                "key_1 is on hold by root (uid 0): an audit; the hold ends at 2026-11-24T03:00:00Z",
            ),
            (
                hold_line(&id, Some(at), None, &terminal, now),
                "key_1 is on hold; the hold ends in 1 h",
            ),
            (
                hold_line(&id, None, Some(&bare), &Screen::FILE, now),
                "key_1 is on hold by root (uid 0); `rekeyd release key_1` ends the hold",
            ),
            (
                pause_line(
                    &key,
                    Pause {
                        from: at,
                        until: None,
                    },
                    Some(&record),
                    &Screen::FILE,
                    now,
                ),
                "paused at 2026-11-24T03:00:00Z by root (uid 0): an audit; `rekeyd resume billing` \
                 ends the pause",
            ),
            (
                pause_line(
                    &key,
                    Pause {
                        from: at,
                        until: Some(at),
                    },
                    None,
                    &Screen::FILE,
                    now,
                ),
                "paused at 2026-11-24T03:00:00Z; the pause ends at 2026-11-24T03:00:00Z",
            ),
        ] {
            assert_eq!(line, expected);
        }
    }
}
