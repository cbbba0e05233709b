//! `rekeyd status`: how each key stands, from the configuration and the ledger.

mod told;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::status::told::Told;
use crate::cli::{Cli, Failure, output, text};
use crate::core::due::{Absence, Due, due, expiring};
use crate::core::names::{KeyName, SinkId};
use crate::core::overdue::is_overdue;
use crate::core::problem::{problem_of, trouble_of};
use crate::core::record::{DeliveryState, KeyState, Pause, Rotation};
use crate::core::rotation::Phase;
use crate::core::settings::KeySettings;
use crate::core::{duration, time};
use crate::engine::clock::{Clock as _, HostClock};
use crate::ledger::WriterLock;

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    /// Only this key
    key: Option<String>,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// How one key stands.
struct Standing {
    key: KeyName,
    current: Option<Rotation>,
    next: Option<Timestamp>,
    /// Whether a rotation is open; the next one waits for its end.
    open: bool,
    overlap: Vec<Rotation>,
    overdue: bool,
    problem: Option<String>,
    managed: bool,
    /// The pause, while it holds.
    pause: Option<Pause>,
}

impl Status {
    pub(crate) fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let now = HostClock.now();
        let Told {
            mut states,
            failing_since,
            problems,
        } = Told::of(&settings.ledger)?;
        let mut standings: Vec<_> = settings
            .keys
            .iter()
            .map(|key| {
                let state = states.remove(&key.name);
                standing(
                    key,
                    state.unwrap_or_else(|| KeyState::unknown(key.name.clone())),
                    failing_since.get(&key.name).copied(),
                    now,
                )
            })
            .collect();
        standings.extend(
            states
                .into_values()
                .filter(|state| !state.live.is_empty())
                .map(|state| unmanaged(state, now)),
        );
        if let Some(wanted) = &self.key {
            standings.retain(|standing| standing.key.as_str() == wanted);
            if standings.is_empty() {
                return Err(Failure::Other(format!(
                    "no key {wanted:?} is configured or recorded"
                )));
            }
        }
        if self.json {
            let keys: Vec<_> = standings
                .iter()
                .map(|standing| as_json(standing, now))
                .collect();
            output::print_json(&json!({"problem": problems.first(), "keys": keys}))?;
        } else {
            let problems = problems.iter();
            let mut head: String = problems.map(|told| format!("problem: {told}\n")).collect();
            // What the last one told says nothing of whether it is there.
            head.push_str(&match WriterLock::held_by(&settings.ledger) {
                Some(holder) => format!("{holder} is at work\n"),
                None => "no rekeyd is running on this ledger\n".to_owned(),
            });
            output::print(format!("{head}{}", for_people(&standings, now)).as_bytes())?;
        }
        let wrong = standings
            .iter()
            .any(|standing| !standing.is_healthy() || standing.overdue);
        if wrong { Err(Failure::Told) } else { Ok(()) }
    }
}

impl Standing {
    fn is_healthy(&self) -> bool {
        self.problem.is_none()
    }
}

fn standing(
    key: &KeySettings,
    state: KeyState,
    failing_since: Option<Timestamp>,
    now: Timestamp,
) -> Standing {
    let required: Vec<SinkId> = key
        .sinks
        .iter()
        .filter(|sink| sink.required)
        .map(|sink| sink.id.clone())
        .collect();
    let next = match due(&key.policy, &required, &state, Absence::none(now), now) {
        Due::No { next } => next,
        Due::Since { at, .. } | Due::Dropped { firing: at, .. } => Some(at),
    };
    let overdue = is_overdue(&key.policy, &required, &state, failing_since, now);
    let problem = problem_of(&state);
    let mut standing = known(state, problem, now);
    standing.managed = true;
    standing.next = next;
    standing.overdue = overdue;
    standing
}

/// Nobody rotates it any more: what was wrong with that is over.
fn unmanaged(state: KeyState, now: Timestamp) -> Standing {
    let problem = trouble_of(&state, false);
    known(state, problem, now)
}

fn known(state: KeyState, problem: Option<String>, now: Timestamp) -> Standing {
    let problem = problem.map(|problem| match expiring(&state, now) {
        Some(end) => format!("its credential ends at {}: {problem}", time::to_text(end)),
        None => problem,
    });
    let overlap = |rotation: &&Rotation| {
        matches!(
            rotation.phase,
            Phase::Retired | Phase::Stranded | Phase::Orphaned
        )
    };
    Standing {
        current: state.current().cloned(),
        open: state.open().is_some(),
        overlap: state.live.iter().filter(overlap).cloned().collect(),
        pause: state.pause.filter(|pause| pause.holds(now)),
        key: state.key,
        next: None,
        overdue: false,
        problem,
        managed: false,
    }
}

fn as_json(standing: &Standing, now: Timestamp) -> Value {
    let current = standing.current.as_ref().and_then(|current| {
        let credential = current.credential.as_ref()?;
        let born = credential.created_at.or(current.current_at);
        Some(json!({
            "credential_id": credential.id,
            "redacted_value": credential.redacted_value,
            "created_at": credential.created_at.map(time::to_text),
            "age_seconds": born.map(|born| time::until(born, now).as_secs()),
            "expires_at": credential.expires_at.map(time::to_text),
        }))
    });
    let overlap: Vec<_> = standing
        .overlap
        .iter()
        .map(|rotation| {
            json!({
                "credential_id": rotation.credential.as_ref().map(|credential| &credential.id),
                "revoke_after": rotation.revoke_after.map(time::to_text),
                "held": rotation.hold_until.is_some_and(|until| until > now),
            })
        })
        .collect();
    json!({
        "key": standing.key,
        "healthy": standing.is_healthy(),
        "overdue": standing.overdue,
        "paused": standing.pause.is_some(),
        "current": current,
        "next_rotation_at": standing.next.map(time::to_text),
        "overlap": overlap,
        "problem": standing.problem,
    })
}

fn for_people(standings: &[Standing], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = standings
        .iter()
        .map(|standing| row(standing, now))
        .collect();
    if rows.is_empty() {
        return "no key is configured\n".to_owned();
    }
    let mut shown = text::table(
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
    for standing in standings {
        if let Some(problem) = &standing.problem {
            shown.push_str(&format!("{}: {problem}\n", standing.key));
        }
        for missed in missed(standing) {
            shown.push_str(&format!("{}: {missed}\n", standing.key));
        }
    }
    shown
}

/// The optional sinks that lack the current secret, and why.
fn missed(standing: &Standing) -> impl Iterator<Item = String> {
    let current = standing.current.iter();
    let deliveries = current.flat_map(|current| &current.deliveries);
    deliveries.filter_map(|delivery| {
        let lacks = delivery.state != DeliveryState::Accepted && !delivery.required;
        let error = delivery.error.as_ref().filter(|_| lacks)?;
        Some(format!(
            "the optional sink {} lacks the secret: {error}",
            delivery.sink
        ))
    })
}

fn row(standing: &Standing, now: Timestamp) -> Vec<String> {
    let credential = standing
        .current
        .as_ref()
        .and_then(|current| current.credential.as_ref());
    let age = credential.and_then(|credential| credential.created_at);
    let next = match standing.next {
        Some(at) if at > now => {
            format!(
                "{} (in {})",
                time::to_text(at),
                duration::for_people(time::until(now, at))
            )
        }
        Some(_) => "now".to_owned(),
        None if standing.open => "under way".to_owned(),
        None => "never".to_owned(),
    };
    let state = match (standing.managed, standing.is_healthy(), standing.overdue) {
        (false, _, _) => "unmanaged".to_owned(),
        (true, _, true) => "overdue".to_owned(),
        (true, false, false) => "failing".to_owned(),
        (true, true, false) => match standing.pause {
            Some(Pause {
                until: Some(until), ..
            }) => format!("paused until {}", time::to_text(until)),
            Some(Pause { until: None, .. }) => "paused".to_owned(),
            None => "healthy".to_owned(),
        },
    };
    let overlap: Vec<_> = standing
        .overlap
        .iter()
        .filter_map(|rotation| Some(rotation.credential.as_ref()?.id.to_string()))
        .collect();
    vec![
        standing.key.to_string(),
        state,
        credential.map_or("none".to_owned(), |credential| credential.id.to_string()),
        age.map(|born| duration::for_people(time::until(born, now)))
            .unwrap_or_default(),
        next,
        overlap.join(", "),
    ]
}
