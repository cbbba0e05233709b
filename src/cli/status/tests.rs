use std::collections::BTreeMap;

use super::key_status::{KeyStatus, key_status};
use super::process_status::ProcessStatus;
use super::recorded_status::RecordedStatus;
use super::report::StatusReport;
use super::summary::{revocation_text, summary};
use crate::cli::golden::{
    TERMINAL, assert_fits, assert_golden, at, credential_id, delivery, now, on_each_screen,
    rotation, settings,
};
use crate::cli::screen::Screen;
use crate::core::condition::Condition;
use crate::core::crash::Crash;
use crate::core::ids::{KeyName, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::state::{
    DeliveryState, KeyState, LastCurrent, Pause, RevocationDeadline, Rotation,
};
use crate::engine::probe::describe_problem;
use crate::ledger::{LastRun, OperatorRecord, RecordedCrashes, SchedulingCommand};

/// Returns the state of a key with these live rotations, of which the last is the newest.
pub(crate) fn state(key: &str, live: Vec<Rotation>) -> KeyState {
    let newest = live.last();
    let current = live.iter().find(|one| one.phase == Phase::Current);
    KeyState {
        sequence: newest.map_or(0, |newest| newest.sequence),
        newest_phase: newest.map(Rotation::phase_as_newest),
        last_current: current.map(|current| LastCurrent {
            sequence: current.sequence,
            is_revoked: false,
        }),
        counts_from: newest.map(|newest| newest.started_at),
        live,
        ..KeyState::unknown(KeyName::new(key).unwrap())
    }
}

fn operator(reason: &str) -> OperatorRecord {
    OperatorRecord {
        at: at("2026-11-24T09:30:00Z"),
        by: Some("uid 0".to_owned()),
        reason: Some(reason.to_owned()),
    }
}

/// Returns a rotated key with a credential in its overlap, both sinks of which have the
/// current secret.
pub(crate) fn rotated() -> KeyState {
    let settings = settings();
    let mut retired = rotation(
        "billing-exporter",
        1,
        Phase::Retired,
        "2026-11-16T02:00:00Z",
    );
    retired.revoke_after = Some(at("2026-11-25T02:00:00Z"));
    let mut current = rotation(
        "billing-exporter",
        2,
        Phase::Current,
        "2026-11-23T02:00:00Z",
    );
    current.current_at = Some(at("2026-11-23T02:00:05Z"));
    let sinks = settings.keys[0].sinks.iter();
    current.deliveries = sinks
        .map(|sink| delivery(sink.id.clone(), DeliveryState::Accepted, None))
        .collect();
    state("billing-exporter", vec![retired, current])
}

/// Returns the statuses of the sample's keys in these states.
pub(crate) fn statuses(states: Vec<KeyState>) -> Vec<KeyStatus> {
    statuses_with(states, &RecordedStatus::default())
}

/// Returns them with what else the ledger has.
fn statuses_with(states: Vec<KeyState>, recorded: &RecordedStatus) -> Vec<KeyStatus> {
    let settings = settings();
    let mut states: BTreeMap<_, _> = states
        .into_iter()
        .map(|state| (state.key.clone(), state))
        .collect();
    let keys = settings.keys.iter().filter_map(|key| {
        let state = states.remove(&key.name)?;
        Some(key_status(key, state, recorded, now()))
    });
    keys.collect()
}

fn report(process: ProcessStatus, problem: Option<&str>, keys: Vec<KeyStatus>) -> StatusReport {
    StatusReport {
        as_of: None,
        process,
        stopped_unit: None,
        problems: problem.map(str::to_owned).into_iter().collect(),
        channels: Vec::new(),
        keys,
        crashes: None,
        ledger: None,
    }
}

fn running() -> ProcessStatus {
    ProcessStatus::Running {
        holder: "rekeyd run (process 4711)".to_owned(),
        problem: None,
    }
}

fn crashes(restarts: usize) -> RecordedCrashes {
    RecordedCrashes {
        last: Crash {
            at: at("2026-11-24T10:55:00Z"),
            version: "0.2.0".to_owned(),
            location: "src/engine/worker.rs:12:5".to_owned(),
            reason: "index out of bounds".to_owned(),
        },
        restarts,
    }
}

fn rendered(title: &str, report: &StatusReport) -> String {
    on_each_screen(title, |screen| {
        let table = summary(&report.keys, screen, now());
        let text = format!("{}{table}", report.head(&screen, now()));
        assert_fits(&text, screen);
        text
    })
}

#[test]
fn tables_match_the_golden_file() {
    let stopped = |is_orderly| ProcessStatus::Stopped {
        since: at("2026-11-24T10:55:00Z"),
        is_orderly,
    };
    let mut failing = state("deploy", Vec::new());
    failing.attempt = 2;
    failing.last_error =
        Some("sink file: folder /etc/deploy does not exist; hint: create it".to_owned());
    failing.retry_at = Some(at("2026-11-24T12:05:00Z"));
    let failed_at = [(failing.key.clone(), at("2026-11-24T11:59:20Z"))];
    let failures = RecordedStatus {
        failed_at: BTreeMap::from(failed_at),
        ..RecordedStatus::default()
    };
    let mut held = rotated();
    held.live[0].hold_until = Some(at("2026-12-24T00:00:00Z"));
    let holds = RecordedStatus {
        holds: BTreeMap::from([(RotationId::new([1; 8]), operator("an audit"))]),
        ..RecordedStatus::default()
    };
    let mut current = rotation("reports", 3, Phase::Current, "2026-11-24T00:00:00Z");
    let sink = settings().keys[2].sinks[0].id.clone();
    current.deliveries = vec![delivery(sink, DeliveryState::Accepted, None)];
    let mut paused = state("reports", vec![current]);
    paused.pause = Some(Pause {
        from: at("2026-11-24T09:30:00Z"),
        until: Some(at("2026-12-24T00:00:00Z")),
    });
    let pauses = RecordedStatus {
        pauses: BTreeMap::from([(paused.key.clone(), operator("freeze"))]),
        ..RecordedStatus::default()
    };
    let lookalike = |number: u8| {
        let name = format!("billing-exporter-20261123T020000Z-0{number}060a");
        (credential_id(number), name)
    };
    let lookalikes = |numbers: &[u8]| RecordedStatus {
        lookalikes: numbers.iter().map(|number| lookalike(*number)).collect(),
        ..RecordedStatus::default()
    };
    // What the README shows.
    let every = RecordedStatus {
        failed_at: failures.failed_at.clone(),
        pauses: pauses.pauses.clone(),
        ..RecordedStatus::default()
    };
    let three = vec![rotated(), failing.clone(), paused.clone()];
    let three = report(running(), None, statuses_with(three, &every));
    let table = summary(&three.keys, TERMINAL, now());
    let shown = format!("```text\n{}{table}```", three.head(&TERMINAL, now()));
    let readme = include_str!("../../../README.md");
    assert!(readme.contains(&shown), "README.md lacks:\n{shown}");
    let new = state("reports", Vec::new());
    let ran_once = ProcessStatus::RanOnce(LastRun {
        command: SchedulingCommand::Once,
        started_at: at("2026-11-24T11:00:00Z"),
        ended_at: Some(at("2026-11-24T11:00:07Z")),
    });
    let unreachable = "cannot reach the provider at api.openai.com: host name not found";
    let problem = describe_problem(Condition::Provider, unreachable);
    let all = [
        rendered(
            "healthy",
            &report(running(), None, statuses(vec![rotated()])),
        ),
        rendered(
            "failing",
            &report(
                running(),
                None,
                statuses_with(vec![rotated(), failing], &failures),
            ),
        ),
        rendered(
            "held",
            &report(running(), None, statuses_with(vec![held], &holds)),
        ),
        rendered(
            "a lookalike",
            &report(
                running(),
                None,
                statuses_with(vec![rotated()], &lookalikes(&[7])),
            ),
        ),
        rendered(
            "lookalikes",
            &report(
                running(),
                None,
                statuses_with(vec![rotated()], &lookalikes(&[8, 7])),
            ),
        ),
        rendered(
            "paused",
            &report(
                running(),
                None,
                statuses_with(vec![rotated(), paused], &pauses),
            ),
        ),
        rendered("new", &report(ran_once, None, statuses(vec![new]))),
        rendered(
            "condition",
            &report(running(), Some(&problem), statuses(vec![rotated()])),
        ),
        rendered(
            "stopped",
            &report(stopped(true), None, statuses(vec![rotated()])),
        ),
        rendered(
            "killed",
            &report(stopped(false), None, statuses(vec![rotated()])),
        ),
        rendered(
            "crashed",
            &StatusReport {
                crashes: Some(crashes(1)),
                ..report(running(), None, statuses(vec![rotated()]))
            },
        ),
        rendered(
            "crashed more than once",
            &StatusReport {
                crashes: Some(crashes(3)),
                ..report(running(), None, statuses(vec![rotated()]))
            },
        ),
        rendered(
            "no keys",
            &report(
                ProcessStatus::NeverRan { is_expected: true },
                None,
                Vec::new(),
            ),
        ),
    ];
    assert_golden("status", &all.concat());
    assert!(all[0].contains(credential_id(2).as_str()));
}

/// Neither an overlap nor a hold outlasts the deadline of what leaked.
#[test]
fn end_of_a_credential_is_the_earlier_one() {
    let overlap_end = "2026-11-25T02:00:00Z";
    for (deadline, is_held, expected) in [
        (None, false, Some(overlap_end)),
        (None, true, None),
        (
            Some("2026-11-24T12:00:00Z"),
            false,
            Some("2026-11-24T12:00:00Z"),
        ),
        (
            Some("2026-11-24T12:00:00Z"),
            true,
            Some("2026-11-24T12:00:00Z"),
        ),
        (Some("2026-12-24T12:00:00Z"), false, Some(overlap_end)),
    ] {
        let mut retired = rotation("k", 1, Phase::Retired, "2026-11-16T02:00:00Z");
        retired.revoke_after = Some(at(overlap_end));
        retired.hold_until = is_held.then_some(at("2026-12-01T00:00:00Z"));
        retired.deadline = deadline.map(|deadline| RevocationDeadline {
            at: at(deadline),
            is_forced: true,
        });
        let text = revocation_text(&retired, &Screen::FILE, now()).unwrap();
        let ends = expected.map_or("(on hold)".to_owned(), |at| format!("until {at}"));
        assert!(text.ends_with(&ends), "{deadline:?} {is_held}: {text}");
    }
}

/// The journal alone has why a service that starts and ends over and over does so.
#[test]
fn unit_that_should_run_is_named_with_its_journal() {
    let never = ProcessStatus::NeverRan { is_expected: true };
    let stopped = ProcessStatus::Stopped {
        since: now(),
        is_orderly: false,
    };
    for (process, expected) in [
        (
            never,
            "; hint: if it was started, `journalctl -u rekeyd` shows why it ended\n",
        ),
        (
            stopped,
            "; hint: `journalctl -u rekeyd` shows why it ended\n",
        ),
    ] {
        let mut report = report(process, None, Vec::new());
        report.stopped_unit = Some("rekeyd".to_owned());
        let head = report.head(&Screen::FILE, now());
        assert!(head.ends_with(expected), "{head}");
    }
}
