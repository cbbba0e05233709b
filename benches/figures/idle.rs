//! What the daemon holds and does while nothing is due, after its requests
//! over https.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use rekeyd::engine::clock::{Clock as _, HostClock};
use tempfile::TempDir;

use crate::provider::Provider;
use crate::ready::{self, Ready};
use crate::table::{Row, mb, ms};
use crate::{engine, keys, many, process, support};

const MANY: usize = 10_000;

/// How long a daemon is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// The longest that a thread is kept that has nothing to do, and a little
/// more.
const CALM: Duration = Duration::from_secs(15);

pub(crate) fn rows() -> Vec<Row> {
    let (one_provider, many_provider) = (Provider::start(), Provider::start());
    let (one, many) = (process::folder(), process::folder());
    configure(&one, &one_provider, 1, &keys::far_off());
    configure(&many, &many_provider, MANY, &keys::far_off());
    rotate_all(many.path(), &many_provider);

    let (one, rotated) = (
        ready::start(one.path()),
        one.path().join("billing-exporter.key"),
    );
    let many = ready::start(many.path());
    let begun = Instant::now();
    while !rotated.exists() {
        assert!(begun.elapsed() < ready::PATIENCE, "it rotates");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(CALM);
    let ((one_all, one_own), (switches, spent)) = watch(&one);
    let ((many_all, many_own), (_, many_spent)) = watch(&many);
    let each = (many_own - one_own) * 1_024 / (MANY as u64 - 1);
    let wakes = f64::from(u32::try_from(switches).unwrap()) / WATCHED.as_secs_f64();
    vec![
        Row::new("idle, 1 key, after a rotation over https", mb(one_all)).reach("12 MB"),
        Row::new("of it its own (anonymous)", mb(one_own)).reach("4 MB"),
        Row::new("wake-ups a second", format!("{wakes:.1}")).reach("5"),
        Row::new("processor time in ten seconds", ms(spent)).reach("6 ms"),
        Row::new(
            "idle, 10,000 keys, each rotated once",
            format!("{}, {} in ten seconds", mb(many_all), ms(many_spent)),
        )
        .reach("40 MB"),
        Row::new("memory held for each key", format!("{each} bytes")),
    ]
}

fn configure(dir: &TempDir, provider: &Provider, count: usize, options: &str) {
    let dir = dir.path();
    let admin_key = provider.sandbox.admin_key();
    support::write(&dir.join("admin-key"), admin_key.expose());
    let text = keys::text(count, dir, &provider.secure_url, options);
    let trusted = format!("[provider]\nca-file = {:?}", provider.ca_file());
    let text = text.replacen("[provider]", &trusted, 1);
    support::write(&dir.join("config.toml"), &text);
}

/// Records that every key was rotated yesterday.
fn rotate_all(dir: &Path, provider: &Provider) {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let settings = many::settings(&text, HostClock.now());
    let born = HostClock.now() - SignedDuration::from_hours(24);
    engine::runtime().block_on(async {
        let ledger = many::open(&settings, born);
        let make = |label: &rekeyd::core::names::Label| {
            let (id, _) = provider.sandbox.make_by_hand(label.as_str());
            id
        };
        many::rotate_all(&ledger, &settings, born, make).await;
    });
    keys::write_files(settings.keys.len(), dir);
}

/// What it does for a while, and its memory then.
fn watch(ready: &Ready) -> ((u64, u64), (u64, Duration)) {
    let process = ready.daemon.0.id();
    let before = process::tasks(process);
    std::thread::sleep(WATCHED);
    let done = process::tasks(process).since(&before);
    (process::memory(&process.to_string()), done)
}
