//! The alert rules, fed by the pages of a running daemon: each failure fires its alert, and
//! no other.
//!
//! Prometheus' own promtool evaluates the rules, if `REKEYD_PROMTOOL` names it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::support::daemon::Daemon;
use crate::support::host::report_missing;
use crate::support::{TestEnv, file_key_text, free_address, get, text, write};

/// The time between two samples, and how many there are of the state before and of the state
/// after a failure: eight days of the latter.
const INTERVAL_SECONDS: i64 = 600;
const SAMPLES_BEFORE: u32 = 6;
const SAMPLES_AFTER: u32 = 1_152;

/// How long the daemon may take to show a state.
const PATIENCE: Duration = Duration::from_secs(120);

/// The samples of a page: each series with its value.
type Samples = BTreeMap<String, f64>;

struct Monitored {
    world: TestEnv,
    address: String,
    tool: std::ffi::OsString,
    before: Samples,
}

impl Monitored {
    /// Returns the daemon's samples. Times count from the present, as promtool's do.
    fn samples(&self) -> Samples {
        let (status, _, page) = get(&self.address, "/metrics");
        assert_eq!(status, 200, "{page}");
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let is_time = name_of(series).ends_with("_timestamp_seconds")
                || name_of(series) == "process_start_time_seconds";
            let value = if is_time { value - now } else { value };
            (series.to_owned(), value)
        });
        samples.collect()
    }

    /// Waits until the daemon shows 0, or else at least a value.
    fn wait_for(&self, series: &str, expected: f64) -> Samples {
        let started = Instant::now();
        loop {
            let samples = self.samples();
            let found = samples.get(series).copied();
            let is_zero = expected < 0.5;
            if found.is_some_and(|found| (found < 0.5) == is_zero) {
                return samples;
            }
            assert!(started.elapsed() < PATIENCE, "{series}: {found:?}");
            // A command gives the daemon time for other work than pages.
            self.world.history();
        }
    }

    /// Checks which alerts fire once the daemon shows a value and keeps it.
    fn expect_alerts(&self, state: &str, series: &str, value: f64, expected: &[&str]) {
        let after = self.wait_for(series, value);
        let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/alerts.yml");
        let mut file = format!(
            "rule_files:\n  - {rules}\nevaluation_interval: 10m\ntests:\n  - name: {state}\n    \
             interval: 10m\n    input_series:\n{}",
            input_series("up", Some(1.0), 1.0)
        );
        let names: BTreeSet<_> = self.before.keys().chain(after.keys()).collect();
        for name in names {
            if let Some(value) = after.get(name) {
                let before = self.before.get(name).copied();
                file.push_str(&input_series(name, before, *value));
            }
        }
        file.push_str(
            "    promql_expr_test:\n      - expr: count by (alertname) \
             (ALERTS{alertstate=\"firing\"})\n        eval_time: 8d\n        exp_samples:\n",
        );
        for alert in expected {
            file.push_str(&format!(
                "          - labels: '{{alertname=\"{alert}\"}}'\n            value: 1\n"
            ));
        }
        let path = self.world.path("alerts-test.yml");
        write(&path, &file);
        let output = Command::new(&self.tool)
            .args(["test", "rules"])
            .arg(&path)
            .output()
            .unwrap();
        let found = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{state}: {}", text(&found));
    }
}

fn name_of(series: &str) -> &str {
    series.split('{').next().unwrap()
}

/// Returns a series of promtool: the value before the failure, and that after it.
fn input_series(series: &str, before: Option<f64>, after: f64) -> String {
    let target = "instance=\"ops1\",job=\"rekeyd\"";
    let series = match series.strip_suffix('}') {
        Some(labelled) => format!("{labelled},{target}}}"),
        None => format!("{series}{{{target}}}"),
    };
    // Ages grow, and the daemon goes on comparing.
    let step = match name_of(&series) {
        "rekeyd_last_sweep_timestamp_seconds" | "rekeyd_credential_age_seconds" => INTERVAL_SECONDS,
        _ => 0,
    };
    let before = match before {
        Some(before) => format!("{before}+{step}x{SAMPLES_BEFORE}"),
        None => format!("_x{SAMPLES_BEFORE}"),
    };
    format!(
        "      - series: '{series}'\n        values: '{before} {after}+{step}x{SAMPLES_AFTER}'\n"
    )
}

#[test]
fn each_failure_fires_its_alert_and_no_other() {
    let Some(tool) = std::env::var_os("REKEYD_PROMTOOL") else {
        report_missing("Prometheus' promtool, as REKEYD_PROMTOOL names it");
        return;
    };
    let address = free_address();
    let world = TestEnv::start(&[]);
    write(&world.path("page"), "exit 0\n");
    let billing = file_key_text("1s");
    let other = file_key_text("1s").replace("billing", "other");
    let rest = format!(
        "[metrics]\nlisten = \"{address}\"\n[[notify]]\ntype = \"command\"\non = [\"rotated\"]\n\
         argv = [\"/bin/sh\", \"DIR/page\"]\n"
    );
    let both = format!("{rest}{billing}{other}");
    world.configure(&both);
    let mut daemon = Daemon::start(&world);
    for _ in 0..2 {
        daemon.wait_for("is the current credential");
    }
    let mut monitored = Monitored {
        world,
        address,
        tool,
        before: Samples::new(),
    };
    let undelivered = "rekeyd_notifications_undelivered{channel=\"command\"}";
    monitored.before = monitored.wait_for(undelivered, 0.0);
    let running = "rekeyd_build_info{version=\"";
    let build = monitored.before.keys().find(|key| key.starts_with(running));
    let build = build.unwrap().clone();
    monitored.expect_alerts("healthy", &build, 1.0, &[]);

    monitored.world.ok(&["pause", "billing"]);
    let paused = "rekeyd_paused{key=\"billing\"}";
    monitored.expect_alerts("paused", paused, 1.0, &["RekeydPaused"]);
    monitored.world.ok(&["resume", "billing"]);

    monitored.world.configure("nonsense = 1\n");
    assert!(!monitored.world.run(&["reload"]).status.success());
    let accepted = "rekeyd_config_last_reload_successful";
    monitored.expect_alerts("rejected", accepted, 0.0, &["RekeydReloadRejected"]);

    monitored.world.configure(&format!("{rest}{billing}"));
    monitored.world.ok(&["reload"]);
    let unmanaged = "rekeyd_unmanaged_credentials{key=\"other\"}";
    monitored.expect_alerts("unmanaged", unmanaged, 1.0, &["RekeydUnmanaged"]);
    monitored.world.configure(&both);
    monitored.world.ok(&["reload"]);

    // A rotation of all keys begins with a new list.
    let name = "billing-20260101T000000Z-abcdef";
    let (lookalike, _) = crate::moving_in::create_manually(&monitored.world, name);
    monitored.world.ok(&["rotate", "--all"]);
    let lookalikes = "rekeyd_lookalike_credentials{key=\"billing\"}";
    monitored.expect_alerts("lookalike", lookalikes, 1.0, &["RekeydLookalikes"]);
    crate::operator_commands::delete_manually(&monitored.world, &lookalike);
    monitored.world.ok(&["rotate", "--all"]);
    monitored.wait_for(lookalikes, 0.0);

    write(&monitored.world.path("page"), "exit 1\n");
    monitored.world.ok(&["rotate", "billing"]);
    let channel = "rekeyd_notification_channel_failing{channel=\"command\"}";
    monitored.expect_alerts("channel", channel, 1.0, &["RekeydNotificationsFail"]);
    write(&monitored.world.path("page"), "exit 0\n");
    monitored.wait_for(channel, 0.0);

    let broken = other.replace("DIR/other.key", "DIR/none/other.key");
    let broken = broken.replace("other", "broken");
    monitored.world.configure(&format!("{both}{broken}"));
    monitored.world.ok(&["reload"]);
    let failing = "rekeyd_failing{key=\"broken\"}";
    monitored.expect_alerts("failing", failing, 1.0, &["RekeydFailing"]);
    std::fs::create_dir(monitored.world.path("none")).unwrap();
    monitored.wait_for(failing, 0.0);

    monitored.world.stop_sandbox();
    assert!(!monitored.world.run(&["rotate", "billing"]).status.success());
    let provider = "rekeyd_condition{blocks=\"rotations\",condition=\"provider\",scope=\"daemon\"}";
    monitored.expect_alerts("provider", provider, 1.0, &["RekeydBlocked"]);

    let refuse_deletions = ["--fault", "delete:500-before:1"];
    monitored.world.restart_sandbox(&refuse_deletions);
    monitored.wait_for(provider, 0.0);
    monitored.world.ok(&["rotate", "billing"]);
    let revocations = "rekeyd_revocations_failing{key=\"billing\"}";
    let expected = ["RekeydRevocationsFail"];
    monitored.expect_alerts("revocations", revocations, 1.0, &expected);
    daemon.stop();
}
