//! The state of one key, from its configuration and its rows in the ledger.

use jiff::Timestamp;

use crate::cli::status::recorded_status::RecordedStatus;
use crate::config::settings::KeySettings;
use crate::core::decide::due::imminent_expiry;
use crate::core::decide::revocation::describe_leak;
use crate::core::decide::sightings::{open_sightings, sighting_text};
use crate::core::forecast::next_rotation;
use crate::core::health::{
    alertable_error, error_time, file_access_problems, most_urgent_error, paused_repair,
};
use crate::core::ids::{CredentialId, KeyName, Label, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::overdue::{dropped_runs_text, is_overdue};
use crate::core::policy::KeyPolicy;
use crate::core::state::{
    Delivery, DeliveryState, KeyState, Pause, Retirement, RevocationDeadline, Rotation,
};
use crate::core::time;
use crate::core::unmanaged::unmanaged;
use crate::ledger::{OperatorRecord, RecordedRequest};

/// A sink of a key, and what it was given of the current credential.
pub(crate) struct SinkStatus {
    /// The sink.
    pub(crate) id: SinkId,
    /// Whether a rotation is complete only once this sink has accepted it.
    pub(crate) required: bool,
    /// The delivery of the current secret, if there is one.
    pub(crate) delivery: Option<Delivery>,
    /// The delivery of the open rotation, which is newer than the current secret.
    pub(crate) open_delivery: Option<Delivery>,
}

impl SinkStatus {
    /// Whether the sink has accepted the current secret.
    pub(crate) fn is_current(&self) -> bool {
        let state = self.delivery.as_ref().map(|delivery| delivery.state);
        state == Some(DeliveryState::Accepted)
    }
}

/// The state of one key in the report.
pub(crate) struct KeyStatus {
    pub(crate) key: KeyName,
    pub(crate) current: Option<Rotation>,
    pub(crate) next_rotation: Option<Timestamp>,
    /// Whether a rotation is open, which delays the next one.
    pub(crate) has_open_rotation: bool,
    /// Whether no process runs that would continue it.
    pub(crate) is_stopped: bool,
    pub(crate) overlap: Vec<Rotation>,
    pub(crate) is_overdue: bool,
    pub(crate) problem: Option<String>,
    /// When that problem was last seen, where the ledger has it.
    pub(crate) problem_at: Option<Timestamp>,
    pub(crate) is_managed: bool,
    /// Whether no rotation of the key was ever complete.
    pub(crate) is_new: bool,
    /// The requested rotation that has not started.
    pub(crate) request: Option<RecordedRequest>,
    /// The pause, while it is active, and its record.
    pub(crate) pause: Option<(Pause, Option<OperatorRecord>)>,
    /// The retirement, and its record.
    pub(crate) retirement: Option<(Retirement, Option<OperatorRecord>)>,
    /// The credentials that nothing ends, in words, if it is neither configured nor retired.
    pub(crate) unmanaged: Option<String>,
    /// What each credential that may have leaked waits for.
    pub(crate) leaks: Vec<(CredentialId, RevocationDeadline, String)>,
    /// The live credentials with labels of this key that have no row.
    pub(crate) lookalikes: Vec<CredentialId>,
    /// The held credentials, each with the end of its hold and its record.
    pub(crate) holds: Vec<(CredentialId, Option<Timestamp>, Option<OperatorRecord>)>,
    /// Its configured sinks.
    pub(crate) sinks: Vec<SinkStatus>,
    /// The scheduled runs that were dropped since its last rotation, in words.
    pub(crate) dropped_runs: Option<String>,
    /// Each target that holds a retired credential again, in words.
    pub(crate) sightings: Vec<String>,
    /// The files that do not have the owner, group or mode of their deliveries.
    pub(crate) file_access: Vec<String>,
}

impl KeyStatus {
    /// Whether nothing is wrong with it.
    pub(crate) fn is_healthy(&self) -> bool {
        self.problem.is_none() && self.leaks.is_empty() && self.lookalikes.is_empty()
    }

    /// Every word for the state of a key.
    #[cfg(test)]
    pub(crate) const STATE_WORDS: [&'static str; 7] = [
        "new",
        "healthy",
        "paused",
        "failing",
        "overdue",
        "unmanaged",
        "retired",
    ];

    /// Returns the word for the state of the key.
    pub(crate) fn state_word(&self) -> &'static str {
        if self.retirement.is_some() {
            return "retired";
        }
        match (self.is_managed, self.is_healthy(), self.is_overdue) {
            (false, _, _) => "unmanaged",
            (true, _, true) => "overdue",
            (true, false, false) => "failing",
            (true, true, false) if self.pause.is_some() => "paused",
            (true, true, false) if self.is_new => "new",
            (true, true, false) => "healthy",
        }
    }
}

/// Returns the status of a configured key.
pub(crate) fn key_status(
    key: &KeySettings,
    state: KeyState,
    recorded: &RecordedStatus,
    now: Timestamp,
) -> KeyStatus {
    let failing_since = recorded.failing_since.get(&key.name).copied();
    let required: Vec<SinkId> = key
        .sinks
        .iter()
        .filter(|sink| sink.required)
        .map(|sink| sink.id.clone())
        .collect();
    let next = next_rotation(&key.policy, &required, &state, now);
    let is_overdue = is_overdue(&key.policy, &required, &state, failing_since, now);
    let problem = most_urgent_error(&state).or_else(|| paused_repair(&state, now));
    let sightings = sighting_texts(&state, Some(&key.policy), now);
    let file_access = file_access_problems(&state)
        .map(|(sink, problem)| format!("{sink}: {problem}"))
        .collect();
    let dropped_runs = dropped_runs_text(&state);
    let open = state.open_rotation().cloned();
    let names: Vec<_> = state.names().cloned().collect();
    let mut status = build_key_status(state, problem, recorded, now);
    status.dropped_runs = dropped_runs;
    status.sightings = sightings;
    status.file_access = file_access;
    status.sinks = sink_statuses(key, status.current.as_ref(), open.as_ref());
    // Without a history, the problem is that of its first rotation, and names them.
    if !(status.is_new && status.problem.is_some()) {
        status.lookalikes = lookalikes_of(&names, recorded);
    }
    status.is_managed = true;
    status.next_rotation = next;
    status.is_overdue = is_overdue;
    status
}

fn lookalikes_of(names: &[KeyName], recorded: &RecordedStatus) -> Vec<CredentialId> {
    let lookalikes = recorded.lookalikes.iter();
    let is_like = |name: &str| names.iter().any(|key| Label::matches_format(name, key));
    let lookalikes = lookalikes.filter(|(_, name)| is_like(name));
    lookalikes.map(|(id, _)| id.clone()).collect()
}

fn sink_statuses(
    key: &KeySettings,
    current: Option<&Rotation>,
    open: Option<&Rotation>,
) -> Vec<SinkStatus> {
    let sinks = key.sinks.iter().map(|sink| SinkStatus {
        id: sink.id.clone(),
        required: sink.required,
        delivery: current.and_then(|current| delivery_to(current, &sink.id)),
        open_delivery: open.and_then(|open| delivery_to(open, &sink.id)),
    });
    sinks.collect()
}

fn delivery_to(rotation: &Rotation, sink: &SinkId) -> Option<Delivery> {
    let mut deliveries = rotation.deliveries.iter();
    deliveries.find(|delivery| delivery.sink == *sink).cloned()
}

/// Returns the status of a key that is not configured any more: its rotation's
/// problems do not matter.
pub(crate) fn unmanaged_key_status(
    state: KeyState,
    recorded: &RecordedStatus,
    now: Timestamp,
) -> KeyStatus {
    let problem = alertable_error(&state, false);
    let unmanaged = unmanaged(&state).map(|unmanaged| unmanaged.text(&state.key));
    let mut status = build_key_status(state, problem, recorded, now);
    status.unmanaged = unmanaged;
    status
}

fn build_key_status(
    state: KeyState,
    problem: Option<String>,
    recorded: &RecordedStatus,
    now: Timestamp,
) -> KeyStatus {
    let failed_at = recorded.failed_at.get(&state.key).copied();
    let problem_at = problem.as_ref().and_then(|_| error_time(&state, failed_at));
    let pause = state.pause.filter(|pause| pause.is_active(now));
    let holds = state.live.iter().filter_map(|rotation| {
        let (until, credential) = (rotation.hold(now)?, rotation.credential.as_ref()?);
        let record = recorded.holds.get(&rotation.id).cloned();
        Some((credential.id.clone(), until, record))
    });
    let holds = holds.collect();
    let problem = problem.map(|problem| match imminent_expiry(&state, now) {
        Some(expires_at) => format!(
            "its credential expires at {}: {problem}",
            time::to_text(expires_at)
        ),
        None => problem,
    });
    let leaks = state.live.iter().filter_map(|rotation| {
        let id = rotation.credential.as_ref()?.id.clone();
        Some((
            id,
            rotation.deadline?,
            describe_leak(rotation, &state, now)?,
        ))
    });
    let leaks = leaks.collect();
    let is_in_overlap = |rotation: &&Rotation| {
        matches!(
            rotation.phase,
            Phase::Retired | Phase::Stranded | Phase::Orphaned
        )
    };
    KeyStatus {
        current: state.current().cloned(),
        has_open_rotation: state.open_rotation().is_some(),
        is_stopped: false,
        overlap: state.live.iter().filter(is_in_overlap).cloned().collect(),
        request: recorded.requests.get(&state.key).cloned(),
        pause: pause.map(|pause| (pause, recorded.pauses.get(&state.key).cloned())),
        retirement: state.retirement.map(|retirement| {
            let record = recorded.retirements.get(&state.key).cloned();
            (retirement, record)
        }),
        unmanaged: None,
        holds,
        dropped_runs: None,
        sightings: Vec::new(),
        file_access: Vec::new(),
        sinks: Vec::new(),
        leaks,
        lookalikes: Vec::new(),
        is_new: state.current().is_none() && state.last_current.is_none(),
        problem_at,
        key: state.key,
        next_rotation: None,
        is_overdue: false,
        problem,
        is_managed: false,
    }
}

/// Describes the targets that hold retired credentials of a key again.
fn sighting_texts(state: &KeyState, policy: Option<&KeyPolicy>, now: Timestamp) -> Vec<String> {
    let rows = state.live.iter().filter(|row| row.phase == Phase::Retired);
    let texts = rows.flat_map(|row| {
        open_sightings(row)
            .filter_map(move |sighted| sighting_text(state, row, sighted, policy, now))
    });
    texts.collect()
}
