//! The output of `status` for prepared ledgers, whose rows are hours apart.

use std::fs;
use std::time::Duration;

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, file_key_text, text, write};
use jiff::Timestamp;
use rekeyd::core::change::{
    Change, DeliveryResult, DeliveryStart, KeyBackoff, OnChangeState, RotationIntent,
    ScheduleChange, Transition,
};
use rekeyd::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::lifecycle::LifecycleEvent;
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, DeliveryState, Trigger};
use rekeyd::core::time;
use rekeyd::ledger::{Ledger, LedgerIdentity, LedgerOptions, WriterDriver};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use serde_json::Value;

const HOUR: u64 = 3_600;

/// A ledger whose rows are recorded at past times.
struct Past {
    world: TestEnv,
    key: KeyName,
    now: Timestamp,
    ledger: Ledger,
}

impl Past {
    fn of(schedule: &str) -> Self {
        let world = TestEnv::start(&[]);
        world.configure(&format!(
            "[key.billing]\nschedule = \"{schedule}\"\noverlap = \"30s\"\ndelivery-deadline = \"1h\"\n\
             max-creates-per-day = 100000\n\
             [[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n"
        ));
        let identity = LedgerIdentity {
            provider: world.base_url.clone(),
            organization: String::new(),
        };
        let now = SystemClock.now();
        let options = LedgerOptions::new(identity);
        let path = world.path("ledger.db");
        Self {
            key: KeyName::new("billing").unwrap(),
            now,
            ledger: Ledger::open_unlocked(&path, &options, now, WriterDriver::Thread).unwrap(),
            world,
        }
    }

    fn ago(&self, seconds: u64) -> Timestamp {
        time::before(self.now, Duration::from_secs(seconds))
    }

    fn record(&self, seconds_ago: u64, changes: Vec<Change>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let at = self.ago(seconds_ago);
        runtime.block_on(async {
            let before = self.ledger.key_state(&self.key).await.unwrap();
            self.ledger.record(&before, at, &changes).await.unwrap();
        });
    }

    /// Records a failure that is retried in half an hour.
    fn failed(&self, seconds_ago: u64, attempt: u32) {
        let deferred = Change::from(KeyBackoff {
            attempt,
            retry_at: time::after(self.now, Duration::from_secs(HOUR / 2)),
            problem: "the provider is away".to_owned(),
            is_before_create: false,
            is_extra: false,
        });
        self.record(seconds_ago, vec![deferred]);
    }

    fn rotated(&self, seconds_ago: u64) {
        let rotation = RotationId::new([1; 8]);
        let sink = SinkId {
            name: "file".to_owned(),
            target: format!("file:{}", self.world.path("billing.key").display()),
        };
        let label = Label::new(&self.key, self.ago(seconds_ago), [1; 3]);
        let intent = RotationIntent {
            rotation: rotation.clone(),
            scope: Scope::AdminKeys,
            sequence: 1,
            label,
            trigger: Trigger::First,
            scheduled_for: None,
            not_created_before: None,
            timetable: String::new(),
            sinks: vec![(sink.clone(), true)],
            operator: None,
        };
        let created = Transition {
            credential: Some(CredentialMetadata {
                id: CredentialId::new("key_1".to_owned()),
                redacted_value: None,
                created_at: Some(self.ago(seconds_ago)),
                expires_at: None,
            }),
            ..Transition::new(&rotation, LifecycleEvent::Created)
        };
        let answered = DeliveryResult {
            on_change: OnChangeState::NotPending,
            rotation: rotation.clone(),
            sink: sink.clone(),
            state: DeliveryState::Accepted,
            accepted_at: Some(self.ago(seconds_ago)),
            retry_at: None,
            file: None,
            error: None,
        };
        self.record(
            seconds_ago,
            vec![
                Change::from(intent),
                Change::from(created),
                Change::from(Transition::new(&rotation, LifecycleEvent::Verified)),
                Change::from(DeliveryStart {
                    rotation: rotation.clone(),
                    sink,
                }),
                Change::from(answered),
                Change::from(Transition::new(&rotation, LifecycleEvent::Delivered)),
                Change::Schedule(ScheduleChange::Recovered),
            ],
        );
    }

    /// Returns whether the key is overdue and whether it is healthy; the exit code must
    /// agree.
    fn status(&self) -> (bool, bool) {
        let output = self.world.run(&["status", "--json", "--offline"]);
        let stdout: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let key = &stdout["keys"][0];
        let is = |name: &str| key[name].as_bool().unwrap();
        let (overdue, healthy) = (is("overdue"), is("healthy"));
        let code = if healthy && !overdue { 0 } else { 1 };
        assert_eq!(output.status.code(), Some(code), "{stdout}");
        (overdue, healthy)
    }
}

#[test]
fn failing_key_is_overdue_from_its_first_failure() {
    let past = Past::of("@yearly");
    past.failed(50 * 60, 1);
    assert_eq!(past.status(), (false, false), "failing, and not for long");
    let past = Past::of("@yearly");
    past.failed(2 * HOUR, 1);
    past.failed(90 * 60, 2);
    past.failed(60, 3);
    assert_eq!(past.status(), (true, false));
    let output = past.world.run(&["status"]);
    assert!(crate::support::text(&output.stdout).contains("overdue"));
}

#[test]
fn resolved_failure_does_not_count_as_overdue() {
    let past = Past::of("@yearly");
    past.failed(5 * HOUR, 1);
    past.failed(4 * HOUR, 2);
    past.rotated(3 * HOUR);
    assert_eq!(past.status(), (false, true));
    past.failed(60, 1);
    assert_eq!(past.status(), (false, false));
}

#[test]
fn key_is_overdue_from_its_first_missed_run() {
    // The last firing is at most a minute ago.
    let past = Past::of("* * * * *");
    past.rotated(30 * 60);
    assert_eq!(past.status(), (false, true));
    let past = Past::of("* * * * *");
    past.rotated(2 * HOUR);
    assert_eq!(past.status(), (true, true));
}

#[test]
fn open_rotation_is_overdue_from_its_first_failure() {
    let past = Past::of("@yearly");
    past.failed(2 * HOUR, 1);
    let intent = RotationIntent {
        rotation: RotationId::new([2; 8]),
        scope: Scope::AdminKeys,
        sequence: 2,
        label: Label::new(&past.key, past.ago(60), [2; 3]),
        trigger: Trigger::Retry,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: Vec::new(),
        operator: None,
    };
    past.record(60, vec![Change::from(intent)]);
    assert_eq!(past.status(), (true, false));
    let output = crate::support::text(&past.world.run(&["status"]).stdout);
    assert!(output.contains("at the next run"), "{output}");
}

/// Before a reload, the file does not say what the daemon does.
#[test]
fn commands_that_read_warn_of_a_configuration_that_is_not_loaded() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let loaded = fs::read_to_string(world.path("config.toml")).unwrap();
    for is_edited in [false, true] {
        if is_edited {
            write(&world.path("config.toml"), &format!("{loaded}# edited\n"));
        }
        for command in [&["status"][..], &["show", "billing"], &["schedule"]] {
            let output = world.run(command);
            let said = text(&output.stderr);
            let warns = said.contains("the running rekeyd loaded it, and was not taken");
            assert_eq!(warns, is_edited, "{command:?}: {said}");
            assert!(output.status.success(), "{command:?}: {said}");
            let output = world.run(&[command, &["--json"]].concat());
            let json: Value = serde_json::from_slice(&output.stdout).unwrap();
            let object = json.get(0).unwrap_or(&json);
            assert_eq!(object["configuration_loaded"], !is_edited, "{command:?}");
        }
    }
    let offline = world.run(&["status", "--offline", "--json"]);
    let json: Value = serde_json::from_slice(&offline.stdout).unwrap();
    assert_eq!(json["configuration_loaded"], Value::Null);
    daemon.stop();
}

/// The daemon rotates by what it has loaded, and so `status` and `schedule` answer by that.
#[test]
fn edited_file_changes_no_answer_before_a_reload() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let next = |command: &[&str]| {
        let output = world.run(command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        json
    };
    let status = || next(&["status", "--json"])["keys"].clone();
    let schedule = || {
        let runs = next(&["schedule", "--json"]);
        let runs = runs.as_array().unwrap().iter();
        let runs = runs.map(|run| (run["key"].clone(), run["at"].clone()));
        runs.collect::<Vec<_>>()
    };
    let next_at = |keys: &Value| keys[0]["next_rotation_at"].clone();
    let (keys, runs) = (status(), schedule());
    let loaded = fs::read_to_string(world.path("config.toml")).unwrap();
    let edited = loaded.replace("@monthly", "@yearly");
    let another = edited.replace("billing", "shipping");
    let (_, another) = another.split_once("[key.").unwrap();
    write(
        &world.path("config.toml"),
        &format!("{edited}[key.{another}"),
    );
    assert_eq!(next_at(&status()), next_at(&keys));
    assert_eq!(status().as_array().unwrap().len(), 1, "one key is loaded");
    assert_eq!(schedule(), runs);
    let said = text(&world.run(&["status"]).stderr);
    let year = Timestamp::to_string(&SystemClock.now());
    let expected = format!("has changed since {}", &year[..4]);
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("rekeyd reload"), "{said}");

    world.ok(&["reload"]);
    assert_eq!(status().as_array().unwrap().len(), 2);
    assert_ne!(schedule(), runs);
    daemon.stop();
}
