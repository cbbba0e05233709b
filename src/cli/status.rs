//! `rekeyd status`: the state of each key, from the configuration and the
//! ledger.

mod process_status;
mod recorded_status;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::context::GlobalOptions;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::failure::Failure;
use crate::cli::status::process_status::ProcessStatus;
use crate::cli::status::recorded_status::RecordedStatus;
use crate::cli::{notes, output, text};
use crate::config::settings::{KeySettings, Settings};
use crate::core::decide::due::{Downtime, Due, check_due, imminent_expiry};
use crate::core::decide::revocation::describe_leak;
use crate::core::decide::sightings::{open_sightings, sighting_text};
use crate::core::health::{alertable_error, error_time, most_urgent_error, paused_repair};
use crate::core::ids::{CredentialId, KeyName, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::overdue::is_overdue;
use crate::core::policy::KeyPolicy;
use crate::core::state::{
    DeferralKind, DeliveryState, KeyState, Pause, RevocationDeadline, Rotation,
};
use crate::core::{duration, time};
use crate::ledger::{LedgerError, OperatorRecord, RecordedRequest};
use crate::platform::clock::{Clock as _, SystemClock};

#[derive(Debug, clap::Args)]
pub(crate) struct StatusCommand {
    /// Only this key
    key: Option<String>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
    /// From the ledger alone: whether rekeyd is running does not count
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// The state of one key in the report.
struct KeyStatus {
    key: KeyName,
    current: Option<Rotation>,
    next_rotation: Option<Timestamp>,
    /// Whether a rotation is open, which delays the next one.
    has_open_rotation: bool,
    overlap: Vec<Rotation>,
    is_overdue: bool,
    problem: Option<String>,
    /// When that problem was last seen, where the ledger has it.
    problem_at: Option<Timestamp>,
    is_managed: bool,
    /// Whether the key was never rotated.
    is_new: bool,
    /// The requested rotation that has not started.
    request: Option<RecordedRequest>,
    /// The pause, while it is active, and its record.
    pause: Option<(Pause, Option<OperatorRecord>)>,
    /// What each credential that may have leaked waits for.
    leaks: Vec<(CredentialId, RevocationDeadline, String)>,
    /// The held credentials, each with the end of its hold and its record.
    holds: Vec<(CredentialId, Option<Timestamp>, Option<OperatorRecord>)>,
    /// Each target that holds a retired credential again, in words.
    sightings: Vec<String>,
}

impl StatusCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        let now = SystemClock.now();
        let mut recorded = match RecordedStatus::read(&settings.ledger) {
            Ok(recorded) => recorded,
            Err(error) => return self.report_unreadable(&settings, error).await,
        };
        let process = if self.offline {
            ProcessStatus::Unknown
        } else {
            ProcessStatus::observe(&settings, &self.daemon, recorded.last_run).await
        };
        let mut problems = std::mem::take(&mut recorded.problems);
        // A ledger that cannot be written does not have this one.
        if let Some(problem) = process.problem()
            && !problems.iter().any(|known| known == problem)
        {
            problems.insert(0, problem.to_owned());
        }
        let mut states = std::mem::take(&mut recorded.states);
        let mut statuses: Vec<_> = settings
            .keys
            .iter()
            .map(|key| {
                let state = states.remove(&key.name);
                let state = state.unwrap_or_else(|| KeyState::unknown(key.name.clone()));
                key_status(key, state, &recorded, now)
            })
            .collect();
        statuses.extend(
            states
                .into_values()
                .filter(|state| !state.live.is_empty())
                .map(|state| unmanaged_key_status(state, &recorded, now)),
        );
        if let Some(name) = &self.key {
            statuses.retain(|status| status.key.as_str() == name);
            if statuses.is_empty() {
                return Err(Failure::Other(format!(
                    "no key {name:?} is configured or recorded"
                )));
            }
        }
        if self.json {
            let keys: Vec<_> = statuses.iter().map(|status| to_json(status, now)).collect();
            output::print_json(&json!({
                "problem": problems.first(), "running": process.is_running(),
                "not_running_since": process.not_running_since().map(time::to_text), "keys": keys,
            }))?;
        } else {
            let problems = problems.iter();
            let mut head: String = problems
                .map(|problem| format!("problem: {problem}\n"))
                .collect();
            head.push_str(&format!("{}\n", process.line()));
            output::print(format!("{head}{}", to_table(&statuses, now)).as_bytes())?;
        }
        let mut keys = statuses.iter();
        let has_problem = keys.any(|status| !status.is_healthy() || status.is_overdue);
        let is_blocked = recorded.is_blocked || process.problem().is_some();
        if has_problem || is_blocked || process.is_problem() {
            Err(Failure::Reported)
        } else {
            Ok(())
        }
    }

    /// Fails because the ledger cannot be read, and prints first what a running daemon
    /// reports: it may know why.
    async fn report_unreadable(
        &self,
        settings: &Settings,
        error: LedgerError,
    ) -> Result<(), Failure> {
        if !self.offline && !self.json {
            let process = ProcessStatus::observe(settings, &self.daemon, None).await;
            if let Some(problem) = process.problem() {
                output::print(format!("problem: {problem}\n").as_bytes())?;
            }
        }
        Err(error.into())
    }
}

impl KeyStatus {
    fn is_healthy(&self) -> bool {
        self.problem.is_none() && self.leaks.is_empty()
    }

    /// Returns the word for the state of the key.
    fn state_word(&self) -> &'static str {
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

fn key_status(
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
    let next = match check_due(&key.policy, &required, &state, Downtime::none(now), now) {
        Due::NotDue { next } => next,
        Due::Now { since: at, .. } | Due::MissedRunSkipped { firing: at, .. } => Some(at),
    };
    let is_overdue = is_overdue(&key.policy, &required, &state, failing_since, now);
    let problem = most_urgent_error(&state).or_else(|| paused_repair(&state, now));
    let sightings = sighting_texts(&state, Some(&key.policy), now);
    let mut status = build_key_status(state, problem, recorded, now);
    status.sightings = sightings;
    status.is_managed = true;
    status.next_rotation = next;
    status.is_overdue = is_overdue;
    status
}

/// Returns the status of a key that is not configured any more: its rotation's
/// problems do not matter.
fn unmanaged_key_status(state: KeyState, recorded: &RecordedStatus, now: Timestamp) -> KeyStatus {
    let problem = alertable_error(&state, false);
    build_key_status(state, problem, recorded, now)
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
            "its credential ends at {}: {problem}",
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
        overlap: state.live.iter().filter(is_in_overlap).cloned().collect(),
        request: recorded.requests.get(&state.key).cloned(),
        pause: pause.map(|pause| (pause, recorded.pauses.get(&state.key).cloned())),
        holds,
        sightings: Vec::new(),
        leaks,
        is_new: state.sequence == 0,
        problem_at,
        key: state.key,
        next_rotation: None,
        is_overdue: false,
        problem,
        is_managed: false,
    }
}

fn to_json(status: &KeyStatus, now: Timestamp) -> Value {
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

fn to_table(statuses: &[KeyStatus], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = statuses.iter().map(|status| to_row(status, now)).collect();
    if rows.is_empty() {
        return "no key is configured\n".to_owned();
    }
    let mut text = text::format_table(
        &[
            "key",
            "state",
            "credential",
            "age",
            "next rotation",
            "in overlap",
        ],
        &rows,
    );
    for status in statuses {
        if let Some(problem) = &status.problem {
            let age = status.problem_at.map(|at| {
                let age = duration::to_human_text(time::until(at, now));
                format!(" ({age} ago)")
            });
            let age = age.unwrap_or_default();
            text.push_str(&format!("{}: {problem}{age}\n", status.key));
        }
        for (_, _, line) in &status.leaks {
            text.push_str(&format!("{}: {line}\n", status.key));
        }
        if let Some(request) = &status.request {
            text.push_str(&notes::request_line(request));
        }
        if let Some((pause, record)) = &status.pause {
            text.push_str(&notes::pause_line(&status.key, *pause, record.as_ref()));
        }
        for (credential, until, record) in &status.holds {
            let line = notes::hold_line(&status.key, credential, *until, record.as_ref());
            text.push_str(&line);
        }
        let lines = status.sightings.iter().cloned();
        let lines = lines.chain(deferred_revocations(status));
        for line in lines.chain(undelivered_optional_sinks(status)) {
            text.push_str(&format!("{}: {line}\n", status.key));
        }
    }
    text
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
                "{id} is not revoked yet: {reason}; if it is another one, revoke it: rekeyd revoke \
                 {id} --force"
            ),
            DeferralKind::SelfCredential
            | DeferralKind::RecentlyUsed
            | DeferralKind::UseUnreadable
            | DeferralKind::SuccessorMissing
            | DeferralKind::UsedByOtherKey
            | DeferralKind::OtherName
            | DeferralKind::HeldElsewhere => format!("{id} is not revoked yet: {reason}"),
        })
    })
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

/// Lists the optional sinks that lack the current secret, with the reasons.
fn undelivered_optional_sinks(status: &KeyStatus) -> impl Iterator<Item = String> {
    let current = status.current.iter();
    let deliveries = current.flat_map(|current| &current.deliveries);
    deliveries.filter_map(|delivery| {
        let is_undelivered = delivery.state != DeliveryState::Accepted && !delivery.required;
        let error = delivery.error.as_ref().filter(|_| is_undelivered)?;
        Some(format!(
            "the optional sink {} lacks the secret: {error}",
            delivery.sink
        ))
    })
}

fn to_row(status: &KeyStatus, now: Timestamp) -> Vec<String> {
    let credential = status
        .current
        .as_ref()
        .and_then(|current| current.credential.as_ref());
    let age = credential.and_then(|credential| credential.created_at);
    let next = match status.next_rotation {
        Some(at) if at > now => {
            format!(
                "{} (in {})",
                time::to_text(at),
                duration::to_human_text(time::until(now, at))
            )
        }
        Some(_) => "now".to_owned(),
        None if status.has_open_rotation => "under way".to_owned(),
        None => "never".to_owned(),
    };
    let state = match (status.state_word(), &status.pause) {
        ("paused", Some((pause, _))) => match pause.until {
            Some(until) => format!("paused until {}", time::to_text(until)),
            None => "paused".to_owned(),
        },
        (word, _) => word.to_owned(),
    };
    let overlap: Vec<_> = status
        .overlap
        .iter()
        .filter_map(|rotation| Some(rotation.credential.as_ref()?.id.to_string()))
        .collect();
    vec![
        status.key.to_string(),
        state,
        credential.map_or("none".to_owned(), |credential| credential.id.to_string()),
        age.map(|created_at| duration::to_human_text(time::until(created_at, now)))
            .unwrap_or_default(),
        next,
        overlap.join(", "),
    ]
}
