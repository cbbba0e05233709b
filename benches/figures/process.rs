//! Processes, and what they cost.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

pub(crate) use crate::many::folder;

/// Whether the host has this program.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Those of `programs` that the host does not have, in words.
pub(crate) fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !installed(program))
        .copied()
        .collect();
    (!missing.is_empty()).then(|| format!("not installed: {}", missing.join(", ")))
}

/// Runs a command that must succeed. Tells from the start of its process to
/// its end.
pub(crate) fn time_command(command: &mut Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let started = Instant::now();
    let output = command.stderr(Stdio::piped()).output().unwrap();
    let took = started.elapsed();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    took
}

/// Gives a command the environment in which the unit has the daemon's memory
/// managed.
pub(crate) fn with_malloc_as_in_the_unit(command: &mut Command) -> &mut Command {
    let unit = include_str!("../../systemd/rekeyd.service");
    let lines = unit.lines();
    let set = lines.filter_map(|line| line.strip_prefix("Environment="));
    let set = set.flat_map(str::split_whitespace);
    let set = set.filter(|word| word.starts_with("MALLOC_"));
    let set: Vec<_> = set.filter_map(|word| word.split_once('=')).collect();
    assert!(!set.is_empty(), "the unit says how");
    command.envs(set)
}

/// The median of so many runs.
pub(crate) fn median_time(count: usize, mut command: impl FnMut() -> Command) -> Duration {
    median((0..count).map(|_| time_command(&mut command())).collect())
}

/// Runs a command that must succeed, and tells the most memory that it had, in
/// KiB: the high-water mark just before its end.
pub(crate) fn peak_memory(command: &mut Command) -> u64 {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    // Of a process that has ended there is no mark any more.
    while let Some(mark) = proc_value(&status, "VmHWM:") {
        peak = mark;
    }
    assert!(child.wait().unwrap().success(), "{command:?}");
    peak
}

/// The highest of a few runs.
pub(crate) fn highest_peak(mut command: impl FnMut() -> Command) -> u64 {
    (0..5).map(|_| peak_memory(&mut command())).max().unwrap()
}

pub(crate) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The processor time of all children that were waited for, and of theirs.
/// What /proc tells of it is in hundredths of a second, as long as one run.
pub(crate) fn children_cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let micros = [usage.user_time(), usage.system_time()].map(|time| time.num_microseconds());
    Duration::from_micros(u64::try_from(micros.iter().sum::<i64>()).unwrap())
}

/// The number behind `name` in a file of /proc; none if there is none.
fn proc_value(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// What of a process is in memory, and how much of that is its own, in KiB.
pub(crate) fn memory(process: &str) -> (u64, u64) {
    let file = format!("/proc/{process}/smaps_rollup");
    let of = |name| proc_value(&file, name).unwrap();
    (of("Rss:"), of("Anonymous:"))
}

/// What the tasks of a process have done up to now.
pub(crate) struct TaskUsage(BTreeMap<String, (u64, Duration)>);

/// Reads it.
pub(crate) fn task_usage(process: u32) -> TaskUsage {
    let folder = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let tasks = folder.flatten().filter_map(|entry| {
        let path = entry.path().display().to_string();
        let status = format!("{path}/status");
        let switches = proc_value(&status, "voluntary_ctxt_switches:")?
            + proc_value(&status, "nonvoluntary_ctxt_switches:")?;
        let spent = fs::read_to_string(format!("{path}/schedstat")).ok()?;
        let spent = spent.split_whitespace().next()?.parse().ok()?;
        Some((path, (switches, Duration::from_nanos(spent))))
    });
    let tasks: BTreeMap<_, _> = tasks.collect();
    assert!(!tasks.is_empty(), "the kernel does not tell what tasks do");
    TaskUsage(tasks)
}

impl TaskUsage {
    /// Context switches and processor time since `before`.
    pub(crate) fn since(&self, before: &Self) -> (u64, Duration) {
        let new = (0, Duration::ZERO);
        let done = self.0.iter().map(|(task, (switches, spent))| {
            let former = before.0.get(task).unwrap_or(&new);
            (switches - former.0, *spent - former.1)
        });
        done.fold(new, |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}
