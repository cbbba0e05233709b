//! The status of all keys as a table, and a line for each thing that the table lacks.

use jiff::Timestamp;

use crate::cli::notes;
use crate::cli::screen::{Screen, TimeStyle};
use crate::cli::status::key_status::KeyStatus;
use crate::cli::table::{Cell, Column, Fit, Table, Tone};
use crate::core::first_few::join_few;
use crate::core::plural::counted;
use crate::core::state::{DeferralKind, DeliveryState, Rotation};
use crate::core::time;

/// The columns of the table.
const COLUMNS: [Column; 7] = [
    ("KEY", Fit::Stays),
    ("STATE", Fit::Folds(1)),
    ("CREDENTIAL", Fit::Folds(3)),
    ("CREATED", Fit::LeftOut(1)),
    ("NEXT ROTATION", Fit::Folds(4)),
    ("SINKS", Fit::Folds(2)),
    ("IN OVERLAP", Fit::Below),
];

/// Returns the table and the lines below it.
pub(super) fn summary(statuses: &[KeyStatus], screen: Screen, now: Timestamp) -> String {
    if statuses.is_empty() {
        return "no keys are configured\n".to_owned();
    }
    let rows: Vec<_> = statuses
        .iter()
        .map(|status| row(status, &screen, now))
        .collect();
    let mut text = Table::format(&COLUMNS, &rows, screen);
    for status in statuses {
        let lines = note_lines(status, &screen, now).into_iter();
        for line in lines.chain(undelivered_optional_sinks(status)) {
            let line = screen.wrap(&format!("{}: {line}", status.key), 2);
            text.push_str(&format!("{line}\n"));
        }
    }
    text
}

fn row(status: &KeyStatus, screen: &Screen, now: Timestamp) -> Vec<Cell> {
    let credential = status
        .current
        .as_ref()
        .and_then(|current| current.credential.as_ref());
    let created_at = credential.and_then(|credential| credential.created_at);
    let created = created_at.map(|at| screen.past_time(at, now));
    vec![
        status.key.to_string().into(),
        state_cell(status, screen),
        credential
            .map_or("none".to_owned(), |credential| credential.id.to_string())
            .into(),
        created.unwrap_or_default().into(),
        next_rotation_text(status, screen, now).into(),
        sinks_text(status).into(),
        overlap_text(status, screen, now).into(),
    ]
}

/// Returns the state with its symbol, and the end of a pause.
pub(crate) fn state_cell(status: &KeyStatus, screen: &Screen) -> Cell {
    let word = status.state_word();
    let tone = match word {
        "healthy" => Tone::Good,
        "failing" | "overdue" => Tone::Bad,
        "paused" | "unmanaged" => Tone::Warning,
        _ => Tone::Dim,
    };
    let until = status.pause.as_ref().and_then(|(pause, _)| pause.until);
    let text = match until.filter(|_| word == "paused") {
        // On a terminal, the line below the table has it.
        Some(until) if screen.width.is_none() => format!("paused until {}", time::to_text(until)),
        Some(_) | None => word.to_owned(),
    };
    Cell::with_symbol(&text, tone, screen)
}

/// Returns when the key rotates next.
pub(crate) fn next_rotation_text(status: &KeyStatus, screen: &Screen, now: Timestamp) -> String {
    match status.next_rotation {
        Some(at) if at > now => screen.time(at, now),
        Some(_) => "now".to_owned(),
        None if status.has_open_rotation && status.is_stopped => "at the next run".to_owned(),
        None if status.has_open_rotation => "in progress".to_owned(),
        None if status.pause.is_some() => "paused".to_owned(),
        None => "never".to_owned(),
    }
}

/// Returns how many sinks have the current secret.
fn sinks_text(status: &KeyStatus) -> String {
    if status.sinks.is_empty() {
        return String::new();
    }
    let accepted = status.sinks.iter().filter(|sink| sink.is_current());
    format!("{} of {}", accepted.count(), status.sinks.len())
}

/// Returns the earlier credentials that live, each with the time from which it is revoked.
fn overlap_text(status: &KeyStatus, screen: &Screen, now: Timestamp) -> String {
    let overlap = status.overlap.iter();
    let texts = overlap.filter_map(|rotation| revocation_text(rotation, screen, now));
    if screen.width.is_none() {
        return join_few(texts);
    }
    // On a terminal each is a line.
    let texts: Vec<_> = texts.collect();
    texts.join("\n")
}

/// Returns when an earlier credential that lives is revoked.
pub(crate) fn revocation_text(
    rotation: &Rotation,
    screen: &Screen,
    now: Timestamp,
) -> Option<String> {
    let id = &rotation.credential.as_ref()?.id;
    let deadline = rotation.deadline.map(|deadline| deadline.at);
    // Neither a hold nor an overlap outlasts it.
    if deadline.is_none() && rotation.hold(now).is_some() {
        return Some(format!("{id} (on hold)"));
    }
    let ends = rotation.revoke_after.into_iter().chain(deadline);
    Some(match ends.min() {
        Some(at) if screen.times == TimeStyle::Exact => {
            format!("{id} until {}", time::to_text(at))
        }
        Some(at) if at > now => format!("{id}, will be revoked {}", screen.time(at, now)),
        Some(_) => format!("{id} (due to be revoked)"),
        None => format!("{id} ({})", rotation.phase),
    })
}

/// Names the live credentials with labels of a key that the ledger does not have.
fn lookalike_line(status: &KeyStatus) -> Option<String> {
    let newest = status.lookalikes.first()?;
    let count = counted(status.lookalikes.len(), "live credential");
    let (has, is) = match status.lookalikes.len() {
        1 => ("has a name", "is"),
        _ => ("have names", "are"),
    };
    Some(format!(
        "{count} {has} like those of {key}, but {is} not in this ledger ({ids}); hint: adopt each, such \
         as with `rekeyd adopt {key} {newest}`; consumers may use it, so revoke it at the provider only \
         after {key} was rotated and the overlap is over",
        ids = join_few(&status.lookalikes),
        key = status.key,
    ))
}

/// Adds the time of a problem to it, before what to do about it.
fn with_time(problem: &str, at: &str) -> String {
    match problem.split_once("; hint: ") {
        Some((reason, hint)) => format!("{reason}{at}; hint: {hint}"),
        None => format!("{problem}{at}"),
    }
}

/// Returns a line for each thing that needs more than a cell, except failed deliveries.
pub(crate) fn note_lines(status: &KeyStatus, screen: &Screen, now: Timestamp) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(problem) = &status.problem {
        let at = status.problem_at;
        let at = at.map(|at| format!(" {}", screen.parenthesis(at, now)));
        lines.push(with_time(problem, &at.unwrap_or_default()));
    }
    lines.extend(status.dropped_runs.clone());
    lines.extend(status.leaks.iter().map(|(_, _, line)| line.clone()));
    lines.extend(lookalike_line(status));
    let requests = status.request.iter();
    lines.extend(requests.map(|request| notes::request_line(request, screen, now)));
    lines.extend(status.unmanaged.clone());
    if let Some((retirement, record)) = &status.retirement {
        lines.push(notes::retirement_line(
            &status.key,
            *retirement,
            record.as_ref(),
            screen,
            now,
        ));
    }
    if let Some((pause, record)) = &status.pause {
        lines.push(notes::pause_line(
            &status.key,
            *pause,
            record.as_ref(),
            screen,
            now,
        ));
    }
    for (credential, until, record) in &status.holds {
        lines.push(notes::hold_line(
            credential,
            *until,
            record.as_ref(),
            screen,
            now,
        ));
    }
    lines.extend(status.sightings.iter().cloned());
    lines.extend(status.file_access.iter().cloned());
    lines.extend(deferred_revocations(status));
    lines
}

/// Lists the credentials whose revocation is deferred, with the reasons.
fn deferred_revocations(status: &KeyStatus) -> impl Iterator<Item = String> {
    let overlap = status.overlap.iter();
    let planned = overlap.filter(|rotation| rotation.deadline.is_none());
    planned.filter_map(|rotation| {
        let (credential, kind) = (rotation.credential.as_ref()?, rotation.deferral?);
        let reason = rotation.error.as_deref().unwrap_or_default();
        let id = &credential.id;
        Some(match kind {
            // The line about the target says it.
            DeferralKind::HeldAgain => return None,
            DeferralKind::MayBeInUse => format!(
                "{id} is not revoked yet: {reason}; hint: if rekeyd does not use it, run: rekeyd \
                 revoke {id} --force"
            ),
            DeferralKind::SelfCredential
            | DeferralKind::RecentlyUsed
            | DeferralKind::UseUnreadable
            | DeferralKind::SuccessorMissing
            | DeferralKind::UsedByOtherKey
            | DeferralKind::OtherName
            | DeferralKind::HeldElsewhere
            | DeferralKind::FileUnseen => format!("{id} is not revoked yet: {reason}"),
        })
    })
}

/// Lists the optional sinks that lack the current secret, with the reasons.
fn undelivered_optional_sinks(status: &KeyStatus) -> impl Iterator<Item = String> {
    let current = status.current.iter();
    let deliveries = current.flat_map(|current| &current.deliveries);
    deliveries.filter_map(|delivery| {
        let is_undelivered = delivery.state != DeliveryState::Accepted && !delivery.required;
        let error = delivery.error.as_ref().filter(|_| is_undelivered)?;
        Some(format!(
            "optional sink {} does not have the secret: {error}",
            delivery.sink
        ))
    })
}
