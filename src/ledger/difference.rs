//! The columns that differ between the state of a key before and after changes.

use jiff::Timestamp;
use rusqlite::types::Value;

use crate::core::apply::{AppliedChanges, LedgerEvent, RotationUpdate};
use crate::core::ids::{KeyName, RotationId};
use crate::core::state::{
    DeferralKind, Delivery, FileAccess, KeyState, Rotation, visible_hold_end,
};
use crate::core::time;
use crate::ledger::rows::targets_text;

/// A column and its value.
pub(crate) type Column = (&'static str, Value);

/// The writes of one key, in order.
pub(crate) struct Difference {
    pub(crate) key: KeyName,
    /// When the changes are recorded.
    pub(crate) at: Timestamp,
    pub(crate) key_state: Option<KeyWrite>,
    pub(crate) rotations: Vec<RotationWrite>,
    pub(crate) events: Vec<LedgerEvent>,
}

/// The write of the row of a key.
pub(crate) struct KeyWrite {
    /// The sequence that the row must have.
    pub(crate) expected_sequence: Value,
    pub(crate) columns: Vec<Column>,
}

/// A write of the row of a rotation.
pub(crate) enum RotationWrite {
    /// A new row.
    Insert {
        rotation: RotationId,
        columns: Vec<Column>,
        deliveries: Vec<DeliveryWrite>,
    },
    /// Changed columns of a row.
    Update {
        rotation: RotationId,
        /// The phase that the row must have.
        from: Value,
        columns: Vec<Column>,
        deliveries: Vec<DeliveryWrite>,
    },
}

/// A write of the row of a delivery.
pub(crate) enum DeliveryWrite {
    /// A new row.
    Insert { columns: Vec<Column> },
    /// Changed columns of a row.
    Update {
        /// The values that the row must have.
        expected: Vec<Column>,
        columns: Vec<Column>,
    },
}

impl Difference {
    /// Returns the difference between `before` and `applied`, which is recorded at `at`.
    pub(crate) fn new(before: &KeyState, applied: &AppliedChanges, at: Timestamp) -> Self {
        let columns = changed_columns(key_columns(before), key_columns(&applied.state));
        let key_state = (!columns.is_empty()).then(|| KeyWrite {
            expected_sequence: integer(before.sequence),
            columns,
        });
        let rotations = applied.rotations.iter();
        let rotations = rotations.map(|update| rotation_write(&before.key, update));
        Self {
            key: before.key.clone(),
            at,
            key_state,
            rotations: rotations.collect(),
            events: applied.events.clone(),
        }
    }
}

fn rotation_write(key: &KeyName, update: &RotationUpdate) -> RotationWrite {
    let (before, after) = (update.before.as_ref(), &update.after);
    let rotation = after.id.clone();
    let recorded = before.map_or(&[][..], |before| &before.deliveries);
    let deliveries = after.deliveries.iter().enumerate();
    let deliveries = deliveries
        .filter_map(|(index, delivery)| delivery_write(index, recorded.get(index), delivery))
        .collect();
    match before {
        None => RotationWrite::Insert {
            rotation,
            columns: without_nulls(key_and(key, rotation_columns(after))),
            deliveries,
        },
        Some(before) => RotationWrite::Update {
            rotation,
            from: text(before.phase.as_str()),
            columns: changed_columns(rotation_columns(before), rotation_columns(after)),
            deliveries,
        },
    }
}

/// Returns the write of a delivery, which keeps its ordinal.
fn delivery_write(
    ordinal: usize,
    before: Option<&Delivery>,
    after: &Delivery,
) -> Option<DeliveryWrite> {
    let ordinal = ("ordinal", integer(ordinal as u64));
    let Some(before) = before else {
        let mut columns = without_nulls(delivery_columns(after).into());
        columns.push(ordinal);
        return Some(DeliveryWrite::Insert { columns });
    };
    let columns = changed_columns(delivery_columns(before), delivery_columns(after));
    (!columns.is_empty()).then(|| DeliveryWrite::Update {
        expected: vec![
            ordinal,
            ("sink", text(&before.sink.name)),
            ("target", text(&before.sink.target)),
        ],
        columns,
    })
}

fn key_and<const N: usize>(key: &KeyName, columns: [Column; N]) -> Vec<Column> {
    let key = [("key", text(key.as_str()))];
    key.into_iter().chain(columns).collect()
}

fn without_nulls(mut columns: Vec<Column>) -> Vec<Column> {
    columns.retain(|(_, value)| *value != Value::Null);
    columns
}

fn changed_columns<const N: usize>(before: [Column; N], after: [Column; N]) -> Vec<Column> {
    let pairs = before.into_iter().zip(after);
    pairs
        .filter_map(|(before, after)| (before != after).then_some(after))
        .collect()
}

fn key_columns(state: &KeyState) -> [Column; 17] {
    [
        ("sequence", integer(state.sequence)),
        ("attempt", integer(state.attempt)),
        ("retry_at", timestamp(state.retry_at)),
        ("last_error", optional_text(state.last_error.as_deref())),
        ("failed_before_create", boolean(state.failed_before_create)),
        ("revoke_previous", boolean(state.revoke_previous)),
        (
            "replace_targets",
            optional_text(targets_text(&state.replace_targets).as_deref()),
        ),
        ("timetable", optional_text(state.timetable.as_deref())),
        ("counts_from", timestamp(state.counts_from)),
        ("pending_run", timestamp(state.pending_run)),
        ("due_run", timestamp(state.due_run)),
        ("dropped_run", timestamp(state.dropped_run)),
        ("dropped_runs", integer(u64::from(state.dropped_runs))),
        (
            "paused_from",
            timestamp(state.pause.map(|pause| pause.from)),
        ),
        (
            "paused_until",
            timestamp(state.pause.and_then(|pause| pause.until)),
        ),
        (
            "retired_at",
            timestamp(state.retirement.map(|retirement| retirement.at)),
        ),
        (
            "retired_now",
            boolean(
                state
                    .retirement
                    .is_some_and(|retirement| retirement.is_immediate),
            ),
        ),
    ]
}

fn rotation_columns(rotation: &Rotation) -> [Column; 35] {
    let credential = rotation.credential.as_ref();
    let label = rotation.label.as_ref();
    let redacted = credential.and_then(|credential| credential.redacted_value.as_deref());
    let missing = rotation.missing;
    let deadline = rotation.deadline;
    [
        ("rotation", text(rotation.id.as_str())),
        ("scope", text(&rotation.scope.to_string())),
        ("sequence", integer(rotation.sequence)),
        ("\"trigger\"", text(rotation.trigger.as_str())),
        ("scheduled_for", timestamp(rotation.scheduled_for)),
        ("started_at", timestamp(Some(rotation.started_at))),
        ("not_created_before", timestamp(rotation.not_created_before)),
        ("label", optional_text(label.map(|label| label.as_str()))),
        (
            "credential_id",
            optional_text(credential.map(|credential| credential.id.as_str())),
        ),
        ("name", optional_text(rotation.name.as_deref())),
        ("redacted_value", optional_text(redacted)),
        ("wrong_redaction", boolean(rotation.has_wrong_redaction)),
        (
            "created_at",
            timestamp(credential.and_then(|credential| credential.created_at)),
        ),
        (
            "expires_at",
            timestamp(credential.and_then(|credential| credential.expires_at)),
        ),
        ("phase", text(rotation.phase.as_str())),
        ("current_at", timestamp(rotation.current_at)),
        ("retired_at", timestamp(rotation.retired_at)),
        ("revoke_after", timestamp(rotation.revoke_after)),
        ("revoked_at", timestamp(rotation.revoked_at)),
        ("error", optional_text(rotation.error.as_deref())),
        ("attempt", integer(rotation.attempt)),
        ("retry_at", timestamp(rotation.retry_at)),
        ("answer_rejected", boolean(rotation.is_answer_rejected)),
        ("maybe_created", boolean(rotation.maybe_created)),
        ("stranded_at", timestamp(rotation.stranded_at)),
        (
            "missing_since",
            timestamp(missing.map(|missing| missing.since)),
        ),
        (
            "missing_checks",
            integer(missing.map_or(0, |missing| missing.checks)),
        ),
        ("is_held", boolean(rotation.hold_until.is_some())),
        (
            "hold_until",
            timestamp(rotation.hold_until.and_then(visible_hold_end)),
        ),
        ("revoke_now", boolean(rotation.revoke_now)),
        ("revoke_by", timestamp(deadline.map(|deadline| deadline.at))),
        (
            "revoke_by_forced",
            boolean(deadline.is_some_and(|deadline| deadline.is_forced)),
        ),
        ("deferred_since", timestamp(rotation.deferred_since)),
        (
            "deferral",
            optional_text(rotation.deferral.map(DeferralKind::as_str)),
        ),
        ("final_warning", boolean(rotation.final_warning)),
    ]
}

fn delivery_columns(delivery: &Delivery) -> [Column; 22] {
    let (sighting, file) = (delivery.sighting, delivery.file);
    let access = |field: fn(FileAccess) -> u32| {
        optional_integer(delivery.file_access.map(|access| field(access).into()))
    };
    [
        ("sink", text(&delivery.sink.name)),
        ("target", text(&delivery.sink.target)),
        ("required", boolean(delivery.required)),
        ("state", text(delivery.state.as_str())),
        ("maybe_accepted", boolean(delivery.maybe_accepted)),
        ("attempts", integer(delivery.attempts)),
        ("last_attempt_at", timestamp(delivery.last_attempt_at)),
        ("written_at", timestamp(delivery.written_at)),
        ("accepted_at", timestamp(delivery.accepted_at)),
        ("removed_at", timestamp(delivery.removed_at)),
        ("retry_at", timestamp(delivery.retry_at)),
        ("error", optional_text(delivery.error.as_deref())),
        (
            "seen_since",
            timestamp(sighting.map(|sighting| sighting.since)),
        ),
        (
            "seen_until",
            timestamp(sighting.and_then(|sighting| sighting.until)),
        ),
        (
            "file_device",
            optional_integer(file.map(|file| file.device)),
        ),
        ("file_inode", optional_integer(file.map(|file| file.inode))),
        ("file_size", optional_integer(file.map(|file| file.size))),
        (
            "file_modified",
            optional_integer(file.map(|file| file.modified_at)),
        ),
        (
            "file_changed",
            optional_integer(file.map(|file| file.changed_at)),
        ),
        ("file_owner", access(|access| access.owner)),
        ("file_group", access(|access| access.group)),
        ("file_mode", access(|access| access.mode)),
    ]
}

/// Returns an integer value. The core rejects values beyond SQLite's signed integers.
fn integer(value: impl Into<u64>) -> Value {
    Value::Integer(i64::try_from(value.into()).unwrap_or(i64::MAX))
}

fn optional_integer(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Integer)
}

fn boolean(value: bool) -> Value {
    Value::Integer(value.into())
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn optional_text(value: Option<&str>) -> Value {
    value.map_or(Value::Null, text)
}

fn timestamp(value: Option<Timestamp>) -> Value {
    value.map_or(Value::Null, |at| Value::Text(time::to_text(at)))
}
