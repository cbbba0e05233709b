//! What another configuration does to a running engine: each cell of the table
//! in ARCHITECTURE.md, on the real engine and a real ledger.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/fake.rs"]
mod fake;

use std::sync::Arc;
use std::time::Duration;

use fake::{Fakes, key};
use rekeyd::core::names::KeyName;
use rekeyd::engine::{Course, Engine, ManagedKey, Wish};
use rekeyd::provider::Cause;

const MINUTE: Duration = Duration::from_secs(60);
const DAILY: &str = "0 6 * * *";

/// The phases of the key's rotations, oldest first.
const PHASES: &str = "SELECT phase FROM history WHERE key = 'billing' ORDER BY sequence";

/// Where the newest rotation of the key stands with its sinks.
const DELIVERIES: &str = "SELECT sink || ' ' || state FROM deliveries WHERE rotation =
    (SELECT rotation FROM history WHERE key = 'billing' ORDER BY sequence DESC LIMIT 1)
    ORDER BY sink";

/// A running engine with one key, which was rotated a moment ago.
struct Running {
    fakes: Fakes,
    engine: Engine,
}

impl Running {
    async fn with(sinks: &[(&str, bool)]) -> Self {
        let fakes = Fakes::new(&[]);
        fakes.ledger(Vec::new()).await;
        let managed = fakes.key_with(DAILY, sinks);
        let engine = fakes.open(vec![managed], Course::Daemon).await;
        let mut running = Self { fakes, engine };
        running.pass(MINUTE).await;
        assert_eq!(running.fakes.rows(PHASES), ["current"]);
        running
    }

    /// The same with a second rotation that `away` does not take.
    async fn open_at(sinks: &[(&str, bool)], away: &str) -> Self {
        let mut running = Self::with(sinks).await;
        running.fakes.away(&[away]);
        running.rotate().await;
        assert_eq!(running.fakes.rows(PHASES), ["current", "verified"]);
        running
    }

    async fn rotate(&mut self) {
        let wish = Wish {
            by_hand: None,
            revoke_previous: false,
        };
        assert!(self.engine.wish(&key(), wish));
        self.pass(MINUTE).await;
    }

    async fn pass(&mut self, span: Duration) {
        self.fakes.run(&mut self.engine, span).await;
    }

    async fn reload(&mut self, managed: Vec<ManagedKey>) {
        let parts = self.engine.parts().clone();
        self.engine.reconfigure(parts, managed);
        self.pass(MINUTE).await;
    }

    /// Reloads with this one key.
    async fn reload_with(&mut self, schedule: &str, sinks: &[(&str, bool)]) {
        let managed = self.fakes.key_with(schedule, sinks);
        self.reload(vec![managed]).await;
    }

    fn phases(&self) -> Vec<String> {
        self.fakes.rows(PHASES)
    }
}

const ONE: [(&str, bool); 1] = [("a", true)];
const TWO: [(&str, bool); 2] = [("a", true), ("b", true)];

fn another(fakes: &Fakes) -> ManagedKey {
    ManagedKey {
        name: KeyName::new("another").unwrap(),
        ..fakes.key_with(DAILY, &[("c", true)])
    }
}

#[tokio::test]
async fn a_key_that_is_added_is_rotated_and_the_others_go_on() {
    let phases = "SELECT key || ' ' || phase FROM history ORDER BY key, sequence";
    let mut running = Running::with(&ONE).await;
    let keys = vec![running.fakes.key_with(DAILY, &ONE), another(&running.fakes)];
    running.reload(keys).await;
    assert_eq!(
        running.fakes.rows(phases),
        ["another current", "billing current"]
    );
    // With a rotation open: its secret is not dropped.
    let mut running = Running::open_at(&TWO, "b").await;
    let keys = vec![running.fakes.key_with(DAILY, &TWO), another(&running.fakes)];
    running.reload(keys).await;
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(
        running.fakes.rows(phases),
        ["another current", "billing retired", "billing current"]
    );
}

#[tokio::test]
async fn of_a_removed_key_the_retired_go_as_planned_and_the_current_one_stays() {
    let mut running = Running::with(&ONE).await;
    running.rotate().await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.reload(Vec::new()).await;
    // Its own overlap of ten minutes, and not the default of a day.
    running.pass(12 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    running.pass(100 * 24 * 60 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    assert_eq!(running.fakes.alive().len(), 1);
}

#[tokio::test]
async fn of_a_removed_key_what_is_open_is_given_up() {
    let mut running = Running::open_at(&TWO, "b").await;
    running.reload(Vec::new()).await;
    // One of its sinks holds it: it stays, and nothing else is begun.
    assert_eq!(running.phases(), ["current", "stranded"]);
    running.pass(100 * 24 * 60 * MINUTE).await;
    assert_eq!(running.phases(), ["current", "stranded"]);
    // Nothing was delivered: it goes.
    let mut running = Running::with(&ONE).await;
    running.fakes.refuse_secrets(true);
    running.rotate().await;
    assert_eq!(running.phases(), ["current", "created"]);
    running.reload(Vec::new()).await;
    assert_eq!(running.phases(), ["current", "revoked"]);
}

#[tokio::test]
async fn a_key_that_was_removed_and_comes_back_is_delivered_anew() {
    let mut running = Running::with(&ONE).await;
    running.reload(Vec::new()).await;
    assert_eq!(running.fakes.rows(DELIVERIES), ["a removed"]);
    running.reload_with(DAILY, &ONE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    let triggers = "SELECT \"trigger\" FROM history ORDER BY sequence";
    assert_eq!(running.fakes.rows(triggers), ["first", "repair"]);
}

#[tokio::test]
async fn what_was_away_for_longer_than_an_overlap_has_one_when_it_is_back() {
    let mut running = Running::with(&ONE).await;
    running.reload(Vec::new()).await;
    running.pass(60 * MINUTE).await;
    running.reload_with(DAILY, &ONE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    // Ten minutes, of which the reload has passed one.
    running.pass(8 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.pass(2 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
}

#[tokio::test]
async fn a_renamed_key_is_a_new_one_and_the_former_name_is_unmanaged() {
    for open in [false, true] {
        let mut running = if open {
            Running::open_at(&TWO, "b").await
        } else {
            Running::with(&TWO).await
        };
        running.fakes.away(&[]);
        let renamed = ManagedKey {
            name: KeyName::new("renamed").unwrap(),
            ..running.fakes.key_with(DAILY, &TWO)
        };
        running.reload(vec![renamed]).await;
        running.pass(60 * MINUTE).await;
        let former = if open {
            vec!["current", "stranded"]
        } else {
            vec!["current"]
        };
        assert_eq!(running.phases(), former);
        let new = "SELECT phase FROM history WHERE key = 'renamed'";
        assert_eq!(running.fakes.rows(new), ["current"]);
    }
}

#[tokio::test]
async fn a_sink_that_is_added_is_delivered_to_at_once() {
    // By a new rotation: the secret of the current one is not in memory.
    let mut running = Running::with(&ONE).await;
    running.reload_with(DAILY, &TWO).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["a accepted", "b accepted"]);
    // By the open one, whose secret is.
    let mut running = Running::open_at(&ONE, "a").await;
    running.reload_with(DAILY, &TWO).await;
    assert_eq!(running.fakes.rows(DELIVERIES), ["a refused", "b accepted"]);
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["a accepted", "b accepted"]);
    // An optional one is waited for by nobody.
    let mut running = Running::with(&ONE).await;
    running
        .reload_with(DAILY, &[("a", true), ("b", false)])
        .await;
    assert_eq!(running.phases(), ["current"]);
}

#[tokio::test]
async fn a_sink_that_is_removed_is_not_waited_for_and_holds_one_more_overlap() {
    let mut running = Running::open_at(&TWO, "b").await;
    running.reload_with(DAILY, &ONE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["a accepted", "b removed"]);
    // The former current one is still at the removed sink: an overlap from the
    // reload on, which came a minute after the other sink took the new one.
    let until = "SELECT ((unixepoch(revoke_after) - unixepoch(retired_at)) / 60) || ''
        FROM history WHERE phase = 'retired'";
    assert_eq!(running.fakes.rows(until), ["10"]);
    running.pass(8 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.pass(3 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    // Without a rotation open nothing is begun.
    let mut running = Running::with(&TWO).await;
    running.reload_with(DAILY, &ONE).await;
    running.pass(60 * MINUTE).await;
    assert_eq!(running.phases(), ["current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["a accepted", "b removed"]);
}

#[tokio::test]
async fn a_sink_that_is_renamed_or_retargeted_is_removed_and_added() {
    // Another name has another target here.
    let mut running = Running::with(&ONE).await;
    running.reload_with(DAILY, &[("z", true)]).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["z accepted"]);
    let mut running = Running::open_at(&ONE, "a").await;
    running.reload_with(DAILY, &[("z", true)]).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    assert_eq!(running.fakes.rows(DELIVERIES), ["a removed", "z accepted"]);
}

#[tokio::test]
async fn a_sink_may_become_optional_and_required_again() {
    let optional = [("a", true), ("b", false)];
    let mut running = Running::open_at(&TWO, "b").await;
    running.reload_with(DAILY, &optional).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    // Nobody waits for it, and it gets it all the same.
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.fakes.rows(DELIVERIES), ["a accepted", "b accepted"]);
    running.reload_with(DAILY, &TWO).await;
    assert_eq!(running.phases().len(), 2, "it has what it should have");
}

#[tokio::test]
async fn another_schedule_counts_from_the_reload_on() {
    // 03:01 now; a firing at three was not missed, it was not configured.
    let mut running = Running::with(&ONE).await;
    running.pass(24 * 60 * MINUTE).await;
    assert_eq!(running.phases().len(), 2);
    running.reload_with("0 7 * * *", &ONE).await;
    running.reload_with("0 2 * * *", &ONE).await;
    running.pass(60 * MINUTE).await;
    assert_eq!(running.phases().len(), 2, "nothing is made up for");
    running.pass(22 * 60 * MINUTE).await;
    assert_eq!(running.phases().len(), 3);
    let told = "SELECT detail ->> 'timetable' FROM journal WHERE event = 'timetable'";
    assert_eq!(
        running.fakes.rows(told),
        ["0 7 * * * | UTC | 0s", "0 2 * * * | UTC | 0s"]
    );
    // With a rotation open: it is finished, and then it counts.
    let mut running = Running::open_at(&ONE, "a").await;
    running.reload_with("0 4 * * *", &ONE).await;
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.pass(60 * MINUTE).await;
    assert_eq!(running.phases().len(), 3);
}

#[tokio::test]
async fn a_longer_overlap_moves_what_is_retired_and_a_shorter_one_does_not() {
    let until = "SELECT ((unixepoch(revoke_after) - unixepoch(retired_at)) / 60) || ''
        FROM history WHERE phase = 'retired'";
    let with = |running: &Running, minutes: u64| {
        let mut managed = running.fakes.key_with(DAILY, &ONE);
        Arc::make_mut(&mut managed.policy).overlap = Duration::from_secs(minutes * 60);
        vec![managed]
    };
    let mut running = Running::with(&ONE).await;
    running.rotate().await;
    assert_eq!(running.fakes.rows(until), ["10"]);
    let longer = with(&running, 30);
    running.reload(longer).await;
    assert_eq!(running.fakes.rows(until), ["30"]);
    let shorter = with(&running, 5);
    running.reload(shorter).await;
    assert_eq!(running.fakes.rows(until), ["30"]);
    running.pass(25 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.phases(), ["revoked", "current"]);
    // With a rotation open it counts once that is current.
    let mut running = Running::open_at(&ONE, "a").await;
    let longer = with(&running, 40);
    running.reload(longer).await;
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.fakes.rows(until), ["40"]);
}

#[tokio::test]
async fn a_sink_with_other_options_is_the_same_sink() {
    // Name and target are the same; what is asked is the new one.
    let mut running = Running::with(&ONE).await;
    running.reload_with(DAILY, &ONE).await;
    assert_eq!(running.phases(), ["current"]);
    let mut running = Running::open_at(&ONE, "a").await;
    running.reload_with(DAILY, &ONE).await;
    assert_eq!(running.phases(), ["current", "verified"]);
    running.fakes.away(&[]);
    running.pass(10 * MINUTE).await;
    assert_eq!(running.phases(), ["retired", "current"]);
}

#[tokio::test]
async fn a_sink_is_removed_when_the_providers_time_is_known() {
    let removed = "SELECT 'removed' FROM delivery WHERE state = 'removed'";
    let fakes = Fakes::new(&[]);
    let managed = fakes.key_with(DAILY, &ONE);
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, MINUTE).await;
    drop(engine);
    // The next process begins without that sink, in an outage.
    fakes.fail(Some(Cause::Unreachable));
    let managed = fakes.key_with(DAILY, &[("b", true)]);
    let mut engine = fakes.open(vec![managed], Course::Daemon).await;
    fakes.run(&mut engine, MINUTE).await;
    assert_eq!(fakes.rows(removed), [""; 0]);
    fakes.fail(None);
    fakes.run(&mut engine, 10 * MINUTE).await;
    assert_eq!(fakes.rows(removed), ["removed"]);
}
