//! The pages of a running daemon for Prometheus and load balancers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::host::report_missing;
use crate::support::limit::wait_until;
use crate::support::{TestEnv, file_key_text, free_address, get, get_with, text, write};

/// Returns the value of a sample.
fn value(page: &str, sample: &str) -> f64 {
    let mut lines = page.lines().filter_map(|line| line.strip_prefix(sample));
    let rest = lines
        .next()
        .unwrap_or_else(|| panic!("no {sample} in\n{page}"));
    rest.trim().parse().unwrap()
}

/// Asserts that every metric in `text` is on the page.
fn assert_metrics_exist(text: &str, page: &str) {
    let mut count = 0;
    for word in text.split(|sign: char| !(sign.is_ascii_lowercase() || sign == '_')) {
        let name = word.strip_prefix("rekeyd_").filter(|name| !name.is_empty());
        if name.is_some() {
            assert!(page.contains(&format!("# TYPE {word} ")), "{word}: {page}");
            count += 1;
        }
    }
    assert!(count > 5, "{text}");
}

/// Checks the page with Prometheus' own promtool, if `REKEYD_PROMTOOL` names it.
fn check_with_promtool(page: &str) {
    let Some(tool) = std::env::var_os("REKEYD_PROMTOOL") else {
        report_missing("Prometheus' promtool, as REKEYD_PROMTOOL names it");
        return;
    };
    let mut check = Command::new(tool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = check.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = check.wait_with_output().unwrap();
    let output_text = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && output_text.is_empty(),
        "{}",
        crate::support::text(&output_text)
    );
}

fn expect(page: &str, sample: &str, expected: f64) {
    let found = value(page, sample);
    assert!(
        (found - expected).abs() < 0.5,
        "{sample}: {found}, and not {expected}"
    );
}

#[test]
fn metrics_agree_with_the_ledger() {
    let address = free_address();
    let mut world = TestEnv::start(&[]);
    let key = file_key_text("24h").replace(
        "verify-interval",
        "expires-after = \"60d\"\nverify-interval",
    );
    let notify = "[[notify]]\ntype = \"command\"\nargv = [\"/bin/true\"]\n";
    world.configure(&format!("[metrics]\nlisten = \"{address}\"\n{key}{notify}"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    world.ok(&["rotate", "billing"]);
    let (status, head, page) = get(&address, "/metrics");
    assert_eq!(status, 200);
    assert!(
        head.to_lowercase().contains("text/plain; version=0.0.4"),
        "{head}"
    );
    for (sample, expected) in [
        (
            "rekeyd_rotations_total{key=\"billing\",outcome=\"current\"}",
            2.0,
        ),
        (
            "rekeyd_deliveries_total{key=\"billing\",outcome=\"accepted\",sink=\"file\"}",
            2.0,
        ),
        (
            "rekeyd_provider_requests_total{operation=\"create\",outcome=\"ok\"}",
            2.0,
        ),
        (
            "rekeyd_provider_request_duration_seconds_count{operation=\"create\"}",
            2.0,
        ),
        (
            "rekeyd_live_credentials{key=\"billing\",phase=\"current\"}",
            1.0,
        ),
        (
            "rekeyd_live_credentials{key=\"billing\",phase=\"retired\"}",
            1.0,
        ),
        (
            "rekeyd_live_credentials{key=\"billing\",phase=\"stranded\"}",
            0.0,
        ),
        ("rekeyd_overdue{key=\"billing\"}", 0.0),
        ("rekeyd_failing{key=\"billing\"}", 0.0),
        ("rekeyd_paused{key=\"billing\"}", 0.0),
        ("rekeyd_unmanaged_credentials{key=\"billing\"}", 0.0),
        ("rekeyd_lookalike_credentials{key=\"billing\"}", 0.0),
        ("rekeyd_revocations_overdue{key=\"billing\"}", 0.0),
        ("rekeyd_notifications_undelivered{channel=\"command\"}", 0.0),
        (
            "rekeyd_condition{blocks=\"rotations\",condition=\"provider\",scope=\"daemon\"}",
            0.0,
        ),
        (
            "rekeyd_condition{blocks=\"nothing\",condition=\"configuration\",scope=\"daemon\"}",
            0.0,
        ),
        ("rekeyd_config_last_reload_successful", 1.0),
        ("rekeyd_config_file_changed", 0.0),
        ("rekeyd_log_lines_dropped_total", 0.0),
    ] {
        expect(&page, sample, expected);
    }
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["status", "--json"])).unwrap();
    let seconds = |text: &serde_json::Value| {
        let at: jiff::Timestamp = text.as_str().unwrap().parse().unwrap();
        f64::from(i32::try_from(at.as_second()).unwrap())
    };
    let key = &status["keys"][0];
    for (sample, expected) in [
        (
            "rekeyd_next_rotation_timestamp_seconds{key=\"billing\"}",
            seconds(&key["next_rotation_at"]),
        ),
        (
            "rekeyd_credential_expires_timestamp_seconds{key=\"billing\"}",
            seconds(&key["current"]["expires_at"]),
        ),
    ] {
        expect(&page, sample, expected);
    }
    assert!(value(&page, "rekeyd_credential_age_seconds{key=\"billing\"}") < 120.0);
    // The first check of the files shows it.
    wait_until("the size of the ledger is shown", || {
        // A command gives the daemon time for other work than pages.
        world.history();
        value(&get(&address, "/metrics").2, "rekeyd_ledger_size_bytes") >= 4_096.0
    });
    assert!(value(&page, "process_start_time_seconds") > 1.7e9);
    assert!(value(&page, "rekeyd_last_sweep_timestamp_seconds") > 1.7e9);
    assert!(value(&page, "rekeyd_clock_offset_seconds").abs() < 60.0);
    assert!(page.contains("rekeyd_build_info{version=\""), "{page}");
    check_with_promtool(&page);
    for text in [
        include_str!("../../docs/alerts.yml"),
        include_str!("../../docs/metrics.md"),
    ] {
        assert_metrics_exist(text, &page);
    }
    let secret = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert!(!page.contains(secret.trim()));
    assert_eq!(get(&address, "/healthz").0, 200);
    assert_eq!(get(&address, "/readyz").0, 200);
    assert_eq!(get(&address, "/other").0, 404);
    // The provider is unreachable: the daemon is healthy, and not ready.
    world.stop_sandbox();
    assert!(!world.run(&["rotate", "billing"]).status.success());
    assert_eq!(get(&address, "/healthz").0, 200);
    let (status, _, body) = get(&address, "/readyz");
    assert_eq!(status, 503);
    assert!(body.contains("cannot reach the provider at"), "{body}");
    let (_, _, page) = get(&address, "/metrics");
    let away = "rekeyd_provider_requests_total{operation=\"check\",outcome=\"unreachable\"}";
    assert!(value(&page, away) >= 1.0);
}

/// An increase from nothing is none for Prometheus: the series has to exist before.
#[test]
fn series_exist_with_0_from_the_start_and_leave_with_the_last_credential() {
    let address = free_address();
    let world = TestEnv::start(&[]);
    let key = file_key_text("1s").replace(
        "verify-interval",
        "initial-rotation = \"scheduled\"\nverify-interval",
    );
    let other = file_key_text("1s").replace("billing", "other");
    let listen = format!("[metrics]\nlisten = \"{address}\"\n");
    world.configure(&format!("{listen}{key}{other}"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential key=other");
    let (_, _, page) = get(&address, "/metrics");
    for sample in [
        "rekeyd_rotations_total{key=\"billing\",outcome=\"failed\"}",
        "rekeyd_deliveries_total{key=\"billing\",outcome=\"refused\",sink=\"file\"}",
        "rekeyd_provider_requests_total{operation=\"delete\",outcome=\"server_error\"}",
        "rekeyd_live_credentials{key=\"billing\",phase=\"orphaned\"}",
    ] {
        expect(&page, sample, 0.0);
    }
    // A key without a live credential leaves at once, and the other one stays.
    world.configure(&format!(
        "{listen}{}",
        file_key_text("1s").replace("billing", "third")
    ));
    world.ok(&["reload"]);
    let (_, _, page) = get(&address, "/metrics");
    assert!(!page.contains("key=\"billing\""), "{page}");
    for sample in [
        "rekeyd_deliveries_total{key=\"other\",outcome=\"refused\",sink=\"file\"}",
        "rekeyd_overdue{key=\"other\"}",
    ] {
        expect(&page, sample, 0.0);
    }
    // A worker may have the key for a moment.
    let unmanaged = "rekeyd_unmanaged_credentials{key=\"other\"}";
    wait_until("the credential is unmanaged", || {
        world.history();
        value(&get(&address, "/metrics").2, unmanaged) > 0.5
    });
    let mut rows = world.history().into_iter();
    let current = rows.find(|row| row["key"] == "other" && row["phase"] == "current");
    let id = current.unwrap()["credential_id"].clone();
    world.ok(&["revoke", id.as_str().unwrap(), "--force"]);
    wait_until("the series of the key are gone", || {
        world.history();
        !get(&address, "/metrics").2.contains("key=\"other\"")
    });
    daemon.stop();
}

/// Waits until no process listens on the address.
fn assert_not_listening(address: &str) {
    let started = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(60), "{address}");
        std::thread::yield_now();
    }
}

#[test]
fn metrics_address_follows_the_configuration() {
    let (first, second) = (free_address(), free_address());
    let world = TestEnv::start(&[]);
    let listen = |address: &str| {
        let config = std::fs::read_to_string(world.path("config.toml")).unwrap();
        let rest = config.split_once("[key").map_or("", |(_, rest)| rest);
        let dir = world.dir.path().display();
        write(
            &world.path("config.toml"),
            &format!(
                "[provider]\nbase-url = \"{}\"\ncredential-file = \"{dir}/admin-key\"\n\
                 [ledger]\npath = \"{dir}/ledger.db\"\n\
                 [control]\nsocket = \"{dir}/control.sock\"\n{address}[key{rest}",
                world.base_url
            ),
        );
    };
    world.configure(&file_key_text("24h"));
    listen(&format!("[metrics]\nlisten = \"{first}\"\n"));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    assert_eq!(get(&first, "/healthz").0, 200);
    // The new address includes the previous one, and back.
    let (_, port) = first.rsplit_once(':').unwrap();
    for wider in [format!("0.0.0.0:{port}"), first.clone()] {
        listen(&format!("[metrics]\nlisten = \"{wider}\"\n"));
        world.ok(&["reload"]);
        assert_eq!(get(&first, "/healthz").0, 200, "{wider}");
    }
    // If another process listens on it, the daemon stays where it is until that has ended.
    let listener = TcpListener::bind(&second).unwrap();
    listen(&format!("[metrics]\nlisten = \"{second}\"\n"));
    let answer = world.ok(&["reload"]);
    assert!(answer.contains("; but cannot serve metrics at"), "{answer}");
    daemon.wait_for(&format!("still serving metrics at {first}"));
    assert_eq!(get(&first, "/healthz").0, 200);
    let status = world.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stdout).contains("problem: cannot serve metrics at"));
    for check in [&["check"][..], &["check", "--online"]] {
        let check = world.run(check);
        let stderr = text(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("cannot serve metrics at"), "{stderr}");
    }
    drop(listener);
    daemon.wait_for("listening on the metrics address again");
    assert_eq!(get(&second, "/healthz").0, 200);
    assert_not_listening(&first);
    world.ok(&["status"]);
    world.ok(&["check"]);
    listen("");
    world.ok(&["reload"]);
    assert_not_listening(&second);
    daemon.stop();
}

/// A removed key is never due, and what shows its live credentials stays.
#[test]
fn removed_key_is_not_overdue_and_keeps_its_series() {
    let address = free_address();
    let world = TestEnv::start(&[]);
    let first = file_key_text("24h").replace(
        "verify-interval",
        "expires-after = \"60d\"\nverify-interval",
    );
    let second = first.replace("billing", "second");
    let keys = format!("[metrics]\nlisten = \"{address}\"\n{first}");
    world.configure(&format!("{keys}{second}"));
    let mut daemon = Daemon::start(&world);
    // The two keys rotate beside each other, and either may be first.
    for _ in ["billing", "second"] {
        daemon.wait_for("is the current credential");
    }
    let samples = ["overdue", "credential_expires_timestamp_seconds"];
    let samples = samples.map(|name| format!("rekeyd_{name}{{key=\"second\"}}"));
    let all = |page: &str| samples.iter().all(|sample| page.contains(sample));
    wait_until("the second key is shown", || {
        all(&get(&address, "/metrics").2)
    });
    world.configure(&keys);
    world.ok(&["reload"]);
    let page = get(&address, "/metrics").2;
    assert!(all(&page), "{page}");
    for key in ["billing", "second"] {
        expect(&page, &format!("rekeyd_overdue{{key=\"{key}\"}}"), 0.0);
    }
    assert!(
        value(
            &page,
            "rekeyd_live_credentials{key=\"second\",phase=\"current\"}"
        ) > 0.5
    );
    daemon.stop();
}

/// A peer that connects without a whole request neither blocks monitoring nor keeps its
/// connection.
#[test]
fn silent_connections_delay_no_health_check() {
    let address = free_address();
    let world = TestEnv::start(&[]);
    world.configure(&format!(
        "[metrics]\nlisten = \"{address}\"\n{}",
        file_key_text("24h")
    ));
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let mut silent: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    let started = Instant::now();
    assert_eq!(get(&address, "/healthz").0, 200);
    assert!(started.elapsed() < Duration::from_secs(1));
    // The connections that were silent longest were closed.
    for evicted in &mut silent[..16] {
        assert_eq!(evicted.read(&mut [0]).unwrap_or_default(), 0);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    // This connection sends a head, but never the whole of it.
    let mut slow = TcpStream::connect(&address).unwrap();
    write!(slow, "GET /healthz HTTP/1.1\r\nhost: x\r\n").unwrap();
    let started = Instant::now();
    assert_eq!(slow.read(&mut [0]).unwrap_or_default(), 0);
    let closed_after = started.elapsed();
    assert!(
        (9..15).contains(&closed_after.as_secs()),
        "{closed_after:?}"
    );
    daemon.stop();
}

/// Other hosts must not read the names of keys by mistake, and a mistake stops no rotation.
#[test]
fn metrics_outside_loopback_need_a_password_or_a_decision() {
    // x:right and x:wrong
    const RIGHT: &str = "authorization: Basic eDpyaWdodA==";
    const WRONG: &str = "authorization: Basic eDp3cm9uZw==";
    let own = free_address();
    let (_, port) = own.rsplit_once(':').unwrap();
    let world = TestEnv::start(&[]);
    let configure = |address: &str, option: &str| {
        let keys = file_key_text("24h");
        world.configure(&format!(
            "[metrics]\nlisten = \"{address}\"\n{option}{keys}"
        ));
    };
    let wide = format!("0.0.0.0:{port}");
    configure(&wide, "");
    let check = world.run(&["check"]);
    let shown = text(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{shown}");
    assert!(shown.contains("unprotected = true"), "{shown}");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("is the current credential");
    let (status, _, body) = get(&own, "/metrics");
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("password-file"), "{body}");
    assert!(!body.contains("billing"), "{body}");
    for page in ["/healthz", "/readyz"] {
        assert_eq!(get(&own, page).0, 200, "{page}");
    }
    world.ok(&["rotate", "billing"]);

    let file = world.path("metrics-password");
    write(&file, "right\n");
    let option = "password-file = \"DIR/metrics-password\"\n";
    // A password protects an address of this host as well.
    for address in [&wide, &own] {
        configure(address, option);
        world.ok(&["check"]);
        world.ok(&["reload"]);
        let (status, head, body) = get(&own, "/metrics");
        assert_eq!(status, 401, "{body}");
        assert!(head.contains("Basic realm="), "{head}");
        assert!(!body.contains("billing"), "{body}");
        assert_eq!(get_with(&own, "/metrics", WRONG).0, 401);
        let (status, _, body) = get_with(&own, "/metrics", RIGHT);
        assert_eq!(status, 200);
        assert!(body.contains("billing"), "{body}");
        assert_eq!(get(&own, "/readyz").0, 200);
    }
    // It is replaced without a reload.
    write(&file, "wrong\n");
    assert_eq!(get_with(&own, "/metrics", WRONG).0, 200);
    assert_eq!(get_with(&own, "/metrics", RIGHT).0, 401);

    configure(&wide, "unprotected = true\n");
    world.ok(&["check"]);
    world.ok(&["reload"]);
    assert_eq!(get(&own, "/metrics").0, 200);
    configure(&wide, &format!("unprotected = true\n{option}"));
    let check = world.run(&["check"]);
    let shown = text(&check.stderr);
    assert!(!check.status.success(), "{shown}");
    assert!(shown.contains("cannot be combined with"), "{shown}");
    daemon.stop();
}
