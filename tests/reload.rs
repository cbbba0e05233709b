//! The effect of a reload on a running engine: each cell of the table in ARCHITECTURE.md,
//! on the real engine and a real ledger.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/fake.rs"]
mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::{Fakes, key};
use rekeyd::core::ids::KeyName;
use rekeyd::core::scope::Scope;
use rekeyd::engine::{Engine, ManagedKey, RotationRequest, RunMode};
use rekeyd::provider::ErrorKind;

const MINUTE: Duration = Duration::from_secs(60);
const DAILY: &str = "0 6 * * *";

/// The phases of the key's rotations, oldest first.
const PHASES: &str = "SELECT phase FROM history WHERE key = 'billing' ORDER BY sequence";

/// The states of the newest rotation's deliveries.
const DELIVERIES: &str = "SELECT sink || ' ' || state FROM deliveries WHERE rotation =
    (SELECT rotation FROM history WHERE key = 'billing' ORDER BY sequence DESC LIMIT 1)
    ORDER BY sink";

/// A running engine with one key, which was just rotated.
struct RunningEngine {
    fakes: Fakes,
    engine: Engine,
}

impl RunningEngine {
    async fn start(sinks: &[(&str, bool)]) -> Self {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let managed = fakes.key_with(DAILY, sinks);
        let engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
        let mut running = Self { fakes, engine };
        running.advance(MINUTE).await;
        assert_eq!(running.fakes.query_rows(PHASES), ["current"]);
        running
    }

    /// Starts the same with a second rotation that the sink `away` does not accept.
    async fn with_open_rotation(sinks: &[(&str, bool)], away: &str) -> Self {
        let mut running = Self::start(sinks).await;
        running.fakes.set_unavailable_sinks(&[away]);
        running.rotate().await;
        assert_eq!(running.fakes.query_rows(PHASES), ["current", "verified"]);
        running
    }

    async fn rotate(&mut self) {
        let request = RotationRequest {
            operator: None,
            revoke_previous: false,
            replacement: rekeyd::engine::ReplaceApproval::Refused,
        };
        assert!(self.engine.request_rotation(&key(), request));
        self.advance(MINUTE).await;
    }

    async fn advance(&mut self, span: Duration) {
        self.fakes.run_for(&mut self.engine, span).await;
    }

    async fn reload(&mut self, managed: Vec<ManagedKey>) {
        let parts = self.engine.services().clone();
        self.engine.reconfigure(parts, managed);
        self.advance(MINUTE).await;
    }

    /// Reloads with this one key.
    async fn reload_with(&mut self, schedule: &str, sinks: &[(&str, bool)]) {
        let managed = self.fakes.key_with(schedule, sinks);
        self.reload(vec![managed]).await;
    }

    fn phases(&self) -> Vec<String> {
        self.fakes.query_rows(PHASES)
    }
}

const ONE_SINK: [(&str, bool); 1] = [("a", true)];
const TWO_SINKS: [(&str, bool); 2] = [("a", true), ("b", true)];

fn another_key(fakes: &Fakes) -> ManagedKey {
    ManagedKey {
        name: KeyName::new("another").unwrap(),
        scope: Scope::AdminKeys,
        ..fakes.key_with(DAILY, &[("c", true)])
    }
}

#[tokio::test]
async fn added_key_is_rotated_and_other_keys_continue() {
    let phases = "SELECT key || ' ' || phase FROM history ORDER BY key, sequence";
    let mut running = RunningEngine::start(&ONE_SINK).await;
    let keys = vec![
        running.fakes.key_with(DAILY, &ONE_SINK),
        another_key(&running.fakes),
    ];
    running.reload(keys).await;
    assert_eq!(
        running.fakes.query_rows(phases),
        ["another current", "billing current"]
    );
    // A rotation is open: its secret is not dropped.
    let mut running = RunningEngine::with_open_rotation(&TWO_SINKS, "b").await;
    let keys = vec![
        running.fakes.key_with(DAILY, &TWO_SINKS),
        another_key(&running.fakes),
    ];
    running.reload(keys).await;
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(
        running.fakes.query_rows(phases),
        ["another current", "billing retired", "billing current"]
    );
}

#[tokio::test]
async fn removed_key_revokes_retired_as_planned_and_keeps_current() {
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.rotate().await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.reload(Vec::new()).await;
    // The key's own overlap of ten minutes applies, and not the default of a day.
    running.advance(12 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    running.advance(100 * 24 * 60 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    assert_eq!(running.fakes.live_ids().len(), 1);
}

#[tokio::test]
async fn open_rotation_of_removed_key_is_abandoned() {
    let mut running = RunningEngine::with_open_rotation(&TWO_SINKS, "b").await;
    running.reload(Vec::new()).await;
    // One of its sinks may hold it: it is kept, and no other rotation starts.
    assert_eq!(running.phases(), ["current", "stranded"]);
    running.advance(100 * 24 * 60 * MINUTE).await;
    assert_eq!(running.phases(), ["current", "stranded"]);
    // No delivery started: it is revoked.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.fakes.refuse_secrets(true);
    running.rotate().await;
    assert_eq!(running.phases(), ["current", "created"]);
    running.reload(Vec::new()).await;
    assert_eq!(running.phases(), ["current", "revoked"]);
}

#[tokio::test]
async fn removed_key_that_returns_is_rotated_again() {
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.reload(Vec::new()).await;
    assert_eq!(running.fakes.query_rows(DELIVERIES), ["a removed"]);
    running.reload_with(DAILY, &ONE_SINK).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    let triggers = "SELECT \"trigger\" FROM history ORDER BY sequence";
    assert_eq!(running.fakes.query_rows(triggers), ["first", "repair"]);
}

/// A file that is the one that the delivery left needs no other credential.
#[tokio::test]
async fn removed_key_that_returns_to_its_unchanged_file_is_not_rotated() {
    for away in [MINUTE, 60 * MINUTE] {
        let mut running = RunningEngine::start(&[("noted", true)]).await;
        running
            .fakes
            .set_content("noted", Some("sk-admin-some-key-of-the-file"));
        running.reload(Vec::new()).await;
        assert_eq!(running.fakes.query_rows(DELIVERIES), ["noted removed"]);
        running.advance(away).await;
        running.reload_with(DAILY, &[("noted", true)]).await;
        assert_eq!(running.fakes.query_rows(DELIVERIES), ["noted accepted"]);
        assert_eq!(running.phases(), ["current"], "{away:?}");
        // A rotation has the same effects as if it had never been away.
        running.rotate().await;
        assert_eq!(running.phases(), ["retired", "current"]);
        running.advance(10 * MINUTE).await;
        assert_eq!(running.phases(), ["revoked", "current"]);
    }
    let mut running = RunningEngine::start(&[("noted", true)]).await;
    running.fakes.set_content("noted", None);
    running.reload(Vec::new()).await;
    running.reload_with(DAILY, &[("noted", true)]).await;
    assert_eq!(running.phases(), ["retired", "current"]);
}

#[tokio::test]
async fn key_removed_longer_than_its_overlap_gets_a_full_overlap_on_return() {
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.reload(Vec::new()).await;
    running.advance(60 * MINUTE).await;
    running.reload_with(DAILY, &ONE_SINK).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    // The overlap is ten minutes, of which the reload has used one.
    running.advance(8 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.advance(2 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
}

#[tokio::test]
async fn renamed_key_is_new_and_its_old_name_is_unmanaged() {
    for open in [false, true] {
        let mut running = if open {
            RunningEngine::with_open_rotation(&TWO_SINKS, "b").await
        } else {
            RunningEngine::start(&TWO_SINKS).await
        };
        running.fakes.set_unavailable_sinks(&[]);
        let renamed = ManagedKey {
            name: KeyName::new("renamed").unwrap(),
            scope: Scope::AdminKeys,
            ..running.fakes.key_with(DAILY, &TWO_SINKS)
        };
        running.reload(vec![renamed]).await;
        running.advance(60 * MINUTE).await;
        let previous = if open {
            vec!["current", "stranded"]
        } else {
            vec!["current"]
        };
        assert_eq!(running.phases(), previous);
        let new = "SELECT phase FROM history WHERE key = 'renamed'";
        assert_eq!(running.fakes.query_rows(new), ["current"]);
    }
}

#[tokio::test]
async fn added_sink_is_delivered_to_at_once() {
    // A new rotation starts: the secret of the current one is not in memory.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.reload_with(DAILY, &TWO_SINKS).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a accepted", "b accepted"]
    );
    // The open rotation delivers to it, because its secret is in memory.
    let mut running = RunningEngine::with_open_rotation(&ONE_SINK, "a").await;
    running.reload_with(DAILY, &TWO_SINKS).await;
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a refused", "b accepted"]
    );
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a accepted", "b accepted"]
    );
    // No rotation waits for an optional sink.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running
        .reload_with(DAILY, &[("a", true), ("b", false)])
        .await;
    assert_eq!(running.phases(), ["current"]);
}

#[tokio::test]
async fn removed_sink_does_not_block_and_holds_for_one_more_overlap() {
    let mut running = RunningEngine::with_open_rotation(&TWO_SINKS, "b").await;
    running.reload_with(DAILY, &ONE_SINK).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a accepted", "b removed"]
    );
    // The removed sink may still hold the previous credential: one overlap counts from
    // the reload, a minute after the other sink accepted the new one.
    let until = "SELECT ((unixepoch(revoke_after) - unixepoch(retired_at)) / 60) || ''
        FROM history WHERE phase = 'retired'";
    assert_eq!(running.fakes.query_rows(until), ["10"]);
    running.advance(8 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.advance(3 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    // Without an open rotation, none starts.
    let mut running = RunningEngine::start(&TWO_SINKS).await;
    running.reload_with(DAILY, &ONE_SINK).await;
    running.advance(60 * MINUTE).await;
    assert_eq!(running.phases(), ["current"]);
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a accepted", "b removed"]
    );
}

#[tokio::test]
async fn renamed_or_retargeted_sink_is_removed_and_added() {
    // Another name has another target here.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.reload_with(DAILY, &[("z", true)]).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.query_rows(DELIVERIES), ["z accepted"]);
    let mut running = RunningEngine::with_open_rotation(&ONE_SINK, "a").await;
    running.reload_with(DAILY, &[("z", true)]).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a removed", "z accepted"]
    );
}

#[tokio::test]
async fn sink_can_become_optional_and_required_again() {
    let optional = [("a", true), ("b", false)];
    let mut running = RunningEngine::with_open_rotation(&TWO_SINKS, "b").await;
    running.reload_with(DAILY, &optional).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    // No rotation waits for the sink, and it still receives the secret.
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(
        running.fakes.query_rows(DELIVERIES),
        ["a accepted", "b accepted"]
    );
    running.reload_with(DAILY, &TWO_SINKS).await;
    assert_eq!(running.phases().len(), 2, "it has what it should have");
}

#[tokio::test]
async fn new_schedule_counts_from_the_reload() {
    // It is 03:01: the firing at three was not missed, because it was not configured.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.advance(24 * 60 * MINUTE).await;
    assert_eq!(running.phases().len(), 2);
    running.reload_with("0 7 * * *", &ONE_SINK).await;
    running.reload_with("0 2 * * *", &ONE_SINK).await;
    running.advance(60 * MINUTE).await;
    assert_eq!(
        running.phases().len(),
        2,
        "no missed run leads to a rotation"
    );
    running.advance(22 * 60 * MINUTE).await;
    assert_eq!(running.phases().len(), 3);
    let timetables = "SELECT detail ->> 'timetable' FROM events WHERE event = 'timetable-changed'";
    assert_eq!(
        running.fakes.query_rows(timetables),
        ["0 7 * * * | UTC | 0s", "0 2 * * * | UTC | 0s"]
    );
    // An open rotation is finished first, and then the new schedule counts.
    let mut running = RunningEngine::with_open_rotation(&ONE_SINK, "a").await;
    running.reload_with("0 4 * * *", &ONE_SINK).await;
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.advance(60 * MINUTE).await;
    assert_eq!(running.phases().len(), 3);
}

#[tokio::test]
async fn longer_overlap_delays_revocation_and_shorter_does_not_advance_it() {
    let until = "SELECT ((unixepoch(revoke_after) - unixepoch(retired_at)) / 60) || ''
        FROM history WHERE phase = 'retired'";
    let with = |running: &RunningEngine, minutes: u64| {
        let mut managed = running.fakes.key_with(DAILY, &ONE_SINK);
        Arc::make_mut(&mut managed.policy).overlap = Duration::from_secs(minutes * 60);
        vec![managed]
    };
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.rotate().await;
    assert_eq!(running.fakes.query_rows(until), ["10"]);
    let longer = with(&running, 30);
    running.reload(longer).await;
    assert_eq!(running.fakes.query_rows(until), ["30"]);
    let shorter = with(&running, 5);
    running.reload(shorter).await;
    assert_eq!(running.fakes.query_rows(until), ["30"]);
    running.advance(25 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.advance(10 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    // During an open rotation, it counts once that is current.
    let mut running = RunningEngine::with_open_rotation(&ONE_SINK, "a").await;
    let longer = with(&running, 40);
    running.reload(longer).await;
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(running.fakes.query_rows(until), ["40"]);
}

#[tokio::test]
async fn sink_with_changed_options_is_the_same_sink() {
    // Name and target are the same; the new options apply.
    let mut running = RunningEngine::start(&ONE_SINK).await;
    running.reload_with(DAILY, &ONE_SINK).await;
    assert_eq!(running.phases(), ["current"]);
    let mut running = RunningEngine::with_open_rotation(&ONE_SINK, "a").await;
    running.reload_with(DAILY, &ONE_SINK).await;
    assert_eq!(running.phases(), ["current", "verified"]);
    running.fakes.set_unavailable_sinks(&[]);
    running.advance(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
}

#[tokio::test]
async fn sink_removal_waits_for_the_providers_time() {
    let removed = "SELECT 'removed' FROM delivery WHERE state = 'removed'";
    let fakes = Fakes::new(&[]);
    let managed = fakes.key_with(DAILY, &ONE_SINK);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    drop(engine);
    // The next process starts without that sink, in an outage.
    fakes.fail_provider(Some(ErrorKind::Unreachable));
    let managed = fakes.key_with(DAILY, &[("b", true)]);
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.query_rows(removed), [""; 0]);
    fakes.fail_provider(None);
    fakes.run_for(&mut engine, 10 * MINUTE).await;
    assert_eq!(fakes.query_rows(removed), ["removed"]);
}
