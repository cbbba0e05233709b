//! What the daemon costs while nothing is due, beside the bare scheduler that
//! wakes it, and how long its loop is held up when everything is due at once:
//! `cargo bench --bench scheduler`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

#[path = "many/instant.rs"]
mod instant;
#[path = "many/mod.rs"]
mod many;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rekeyd::daemon::{event_loop, runtime};
use rekeyd::engine::{Engine, RunMode};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rekeyd::provider::failover::AdminCredentialSources;
use rekeyd::sandbox::{Sandbox, SandboxOptions};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use instant::InstantProvider;
use many::COUNTS;

/// How long an idle process is watched.
const WATCH_TIME: Duration = Duration::from_secs(30);

/// A process that costs less in a second has done what there was at its start.
const IDLE_THRESHOLD: Duration = Duration::from_millis(5);

/// The longest that is waited for that.
const MAX_SETTLING_TIME: Duration = Duration::from_secs(180);

/// The word for a child that has the scheduler alone.
const SCHEDULER_ONLY: &str = "empty";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [word, what] if word == "--child" => idle(what),
        // `cargo test --benches` only wants to know whether it runs.
        _ if !arguments.iter().any(|argument| argument == "--bench") => {}
        _ => {
            burst(10_000);
            side_by_side();
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// The processor time of this process.
fn own_processor_time() -> Duration {
    processor_time(ClockId::ProcessCPUTime)
}

fn processor_time(of: ClockId) -> Duration {
    let time = clock_gettime(of);
    let nanos = u32::try_from(time.tv_nsec).unwrap();
    Duration::new(u64::try_from(time.tv_sec).unwrap(), nanos)
}

/// Runs the bare scheduler, and daemons with so many keys each, all at the
/// same time: what else this host does is the same for all of them.
fn side_by_side() {
    let runtime = runtime();
    let worlds: Vec<_> = COUNTS
        .iter()
        .map(|count| runtime.block_on(IdleDaemon::with_keys(*count)))
        .collect();
    let mut children = vec![("the scheduler alone".to_owned(), child(SCHEDULER_ONLY))];
    for (count, world) in COUNTS.iter().zip(&worlds) {
        let dir = world.dir.path().to_str().unwrap();
        children.push((format!("{count} idle keys"), child(dir)));
    }
    children.push(("the scheduler again".to_owned(), child(SCHEDULER_ONLY)));

    let waiting = runtime.spawn_blocking(move || -> Vec<_> {
        let done = children.into_iter().map(|(what, child)| {
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            (what, text.trim().parse::<f64>().expect(&text))
        });
        done.collect()
    });
    let measured = runtime.block_on(waiting).unwrap();
    let empty = measured[0].1;
    println!(
        "processor time of an idle minute, from {} s:",
        WATCH_TIME.as_secs()
    );
    for (what, per_minute) in measured {
        println!(
            "  {what:<20} {per_minute:7.2} ms  {:5.2} times  {:+6.2} ms",
            per_minute / empty,
            per_minute - empty
        );
    }
}

/// A process of its own, so that its processor time is nobody else's.
fn child(what: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--child", what])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A sandbox, and a ledger in which each of its keys is current.
struct IdleDaemon {
    dir: TempDir,
    _sandbox: Sandbox,
}

impl IdleDaemon {
    async fn with_keys(count: usize) -> Self {
        let dir = many::folder();
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let base_url = sandbox.base_url();
        let text = many::config_text(count, dir.path(), base_url.as_str(), |_| {
            yearly_schedule(SystemClock.now())
        });
        write(&dir.path().join("config.toml"), &text);
        write(&dir.path().join("admin-key"), sandbox.admin_key().expose());
        let now = SystemClock.now();
        let settings = many::settings(&text, now);
        let ledger = many::open_ledger(&settings, now);
        many::rotate_all(&ledger, &settings, now, |label| {
            sandbox.create_manually(label.as_str()).0
        })
        .await;
        Self {
            dir,
            _sandbox: sandbox,
        }
    }
}

/// Once a year, and half a year from now.
fn yearly_schedule(now: Timestamp) -> String {
    let then = now + SignedDuration::from_hours(180 * 24);
    let then = then.to_zoned(jiff::tz::TimeZone::UTC);
    format!("0 0 {} {} *", then.day().min(28), then.month())
}

fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// Idles for ever, while a thread watches what that costs and then ends the
/// process.
fn idle(what: &str) {
    std::thread::spawn(|| {
        let second = || {
            let before = own_processor_time();
            std::thread::sleep(Duration::from_secs(1));
            own_processor_time() - before
        };
        let (mut calm, started) = (0, Instant::now());
        while calm < 3 {
            if started.elapsed() > MAX_SETTLING_TIME {
                eprintln!(
                    "not at rest within {MAX_SETTLING_TIME:?}: this host is too busy to measure it"
                );
                std::process::exit(1);
            }
            calm = if second() < IDLE_THRESHOLD {
                calm + 1
            } else {
                0
            };
        }
        let (before, started) = (own_processor_time(), Instant::now());
        std::thread::sleep(WATCH_TIME);
        let part = (own_processor_time() - before).as_secs_f64() / started.elapsed().as_secs_f64();
        println!("{}", part * 60_000.0);
        std::process::exit(0);
    });
    if what == SCHEDULER_ONLY {
        runtime().block_on(bare_scheduler());
    } else {
        runtime().block_on(daemon(Path::new(what)));
    }
}

/// One job, each second, whose body is one `notify_one`.
async fn bare_scheduler() {
    let ticks = Arc::new(Notify::new());
    let scheduler = JobScheduler::new().await.unwrap();
    let told = Arc::clone(&ticks);
    let job = Job::new("* * * * * *", move |_, _| told.notify_one()).unwrap();
    scheduler.add(job).await.unwrap();
    scheduler.start().await.unwrap();
    loop {
        ticks.notified().await;
    }
}

async fn daemon(dir: &Path) {
    let text = std::fs::read_to_string(dir.join("config.toml")).unwrap();
    let settings = Arc::new(many::settings(&text, SystemClock.now()));
    let sources = AdminCredentialSources {
        file: settings.provider.credential_file.clone(),
        ..AdminCredentialSources::default()
    };
    let started = runtime::start(&settings, sources, "a benchmark", RunMode::Daemon)
        .await
        .unwrap();
    event_loop::run_for(started, None).await.unwrap();
}

/// So many keys fire at the same moment, against a provider and sinks that
/// answer at once: what is left is the loop, the engine and the ledger.
fn burst(count: usize) {
    let firing: Timestamp = "2031-01-01T00:00:00Z".parse().unwrap();
    let begin = firing - SignedDuration::from_secs(5);
    let provider = Arc::new(InstantProvider::new(begin));
    let dir = many::folder();
    let text = many::config_text(count, dir.path(), "https://api.openai.com/v1", |_| {
        "@yearly".to_owned()
    });
    let settings = many::settings(&text, begin);
    let (late, turn, took) = runtime().block_on(async {
        let ledger = many::open_ledger(&settings, begin);
        let born = begin - SignedDuration::from_hours(24);
        many::rotate_all(&ledger, &settings, born, |label| {
            provider.create_credential(label, born)
        })
        .await;
        let parts = instant::services(&provider, &settings, ledger);
        let managed = instant::managed_keys(&settings);
        let mut engine = Engine::open(parts, managed, RunMode::Daemon).await.unwrap();
        run_loop_until(&mut engine, || provider.now() >= firing).await;
        let started = Instant::now();
        let (late, turn) = run_loop_until(&mut engine, || provider.made() == 2 * count).await;
        (late, turn, started.elapsed())
    });
    println!(
        "{count} keys due at once took {:.1} s; a timer came {:.1} ms late at most, \
         and the loop's own turn cost {:.1} ms at most",
        took.as_secs_f64(),
        late.as_secs_f64() * 1_000.0,
        turn.as_secs_f64() * 1_000.0
    );
}

/// Turns the loop as the daemon does. Tells how late a timer of a millisecond
/// came at most, and what the longest turn cost.
async fn run_loop_until(engine: &mut Engine, over: impl Fn() -> bool) -> (Duration, Duration) {
    const PAUSE: Duration = Duration::from_millis(1);
    let over_at = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over_at);
    let watch = tokio::spawn(async move {
        let mut latest = Duration::ZERO;
        while !told.load(Ordering::Relaxed) {
            let asleep = Instant::now();
            tokio::time::sleep(PAUSE).await;
            latest = latest.max(asleep.elapsed().saturating_sub(PAUSE));
        }
        latest
    });
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut longest = Duration::ZERO;
    while !over() {
        // In processor time: what else this host does holds nobody up.
        let turn = processor_time(ClockId::ThreadCPUTime);
        engine.start_due();
        longest = longest.max(processor_time(ClockId::ThreadCPUTime) - turn);
        tokio::select! {
            biased;
            _ = engine.process_completions(), if engine.active_tasks() > 0 => {}
            _ = tick.tick() => {}
        }
    }
    over_at.store(true, Ordering::Relaxed);
    (watch.await.unwrap(), longest)
}
