//! Which processes hold a lock of a file, as the kernel lists them in `/proc/locks`.
//!
//! The kernel lists the process that took a lock. A lock of `flock` belongs to the open file,
//! so it outlasts that process if another one inherited the file, and the number may be
//! another process's by then, or one of another container.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{major, minor};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::core::redact::sanitize_name;

const LOCK_LIST: &str = "/proc/locks";

/// A process that holds a lock.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockHolder {
    /// Its process id; none if the process that took the lock has ended or is in another
    /// container, and no process that is shown here has the file open.
    pub process: Option<u32>,
    /// The name of its program, if the system shows it.
    pub command: Option<String>,
    /// Its user, if the system shows it.
    pub user: Option<u32>,
    /// Whether the lock keeps everybody else out, and not only writers.
    pub is_exclusive: bool,
}

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListedLock {
    is_exclusive: bool,
    /// Not positive for a lock that belongs to no process, and for a process elsewhere.
    process: i64,
    device: (u32, u32),
    inode: u64,
}

/// Returns the processes that hold a lock of the file at `path`, by the device and inode of
/// the file; none if there is no file.
///
/// # Errors
/// The system does not list the locks, or the file cannot be reached.
pub fn lock_holders(path: &Path) -> io::Result<BTreeSet<LockHolder>> {
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        found => found?,
    };
    let file = (found.dev(), found.ino());
    let mut holders: BTreeMap<Option<u32>, bool> = BTreeMap::new();
    let mut hold = |process, is_exclusive| *holders.entry(process).or_default() |= is_exclusive;
    for lock in parse_locks(&fs::read_to_string(LOCK_LIST)?) {
        if lock.inode != file.1 {
            continue;
        }
        let process = u32::try_from(lock.process)
            .ok()
            .filter(|number| *number > 0);
        let listed_here = lock.device == (major(file.0), minor(file.0));
        if !listed_here && !process.is_some_and(|process| has_open(process, file)) {
            continue;
        }
        if let Some(process) = process.filter(|process| may_have_open(*process, file)) {
            hold(Some(process), lock.is_exclusive);
            continue;
        }
        // The process that locked it has passed the lock on, or is not named.
        let mut others = processes_with(file).peekable();
        if others.peek().is_none() {
            hold(None, lock.is_exclusive);
        }
        others.for_each(|process| hold(Some(process), lock.is_exclusive));
    }
    let described = holders
        .into_iter()
        .map(|(process, is_exclusive)| LockHolder {
            process,
            command: process.and_then(command_of),
            user: process.and_then(user_of),
            is_exclusive,
        });
    Ok(described.collect())
}

/// Returns whether a process has the file of this device and inode open, as far as this
/// process may know.
#[must_use]
pub fn may_have_open(process: u32, file: (u64, u64)) -> bool {
    opens(process, file).unwrap_or_else(|| exists(process))
}

/// Returns whether there is a process of this number, also if the system does not show it.
fn exists(process: u32) -> bool {
    let number = i32::try_from(process).ok().and_then(Pid::from_raw);
    number.is_some_and(|number| test_kill_process(number) != Err(Errno::SRCH))
}

/// Parses the list of locks, without those that a process only waits for.
fn parse_locks(list: &str) -> Vec<ListedLock> {
    let locks = list.lines().filter_map(|line| {
        // `1: POSIX  ADVISORY  READ 4711 fd:01:1835 124 124`
        let mut words = line.split_ascii_whitespace().skip(1);
        let kind = words.next()?;
        if kind == "->" {
            return None;
        }
        let mode = words.nth(1)?;
        let process = words.next()?.parse().ok()?;
        let mut place = words.next()?.split(':');
        let mut hex = || u32::from_str_radix(place.next()?, 16).ok();
        let device = (hex()?, hex()?);
        Some(ListedLock {
            is_exclusive: mode == "WRITE",
            process,
            device,
            inode: place.next()?.parse().ok()?,
        })
    });
    locks.collect()
}

/// Returns the processes that have a file open, as far as this one may look.
fn processes_with(file: (u64, u64)) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    processes.filter(move |process| has_open(*process, file))
}

fn has_open(process: u32, file: (u64, u64)) -> bool {
    opens(process, file) == Some(true)
}

/// Returns whether a process has a file open; none if this process may not look.
fn opens(process: u32, file: (u64, u64)) -> Option<bool> {
    let opened = fs::read_dir(format!("/proc/{process}/fd")).ok()?;
    let mut opened = opened.flatten();
    Some(opened.any(|opened| {
        let found = fs::metadata(opened.path());
        found.is_ok_and(|found| (found.dev(), found.ino()) == file)
    }))
}

fn command_of(process: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(sanitize_name(name.trim_end()))
}

fn user_of(process: u32) -> Option<u32> {
    let found = fs::metadata(format!("/proc/{process}")).ok()?;
    Some(found.uid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_parsed_and_waiting_ones_left_out() {
        let list = "1: POSIX  ADVISORY  READ 4711 fd:01:1835 124 124\n\
                    2: FLOCK  ADVISORY  WRITE 12 00:2f:456 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 13 00:2f:456 0 EOF\n\
                    3: OFDLCK ADVISORY  READ -1 08:10:99 0 EOF\n\
                    4: LEASE  ACTIVE    READ 7 08:01:5 0 EOF\n\
                    5: POSIX  ADVISORY  WRITE\n\
                    6: POSIX  ADVISORY  WRITE x fd:01:1 0 0\n\
                    \n";
        let listed = |is_exclusive, process, device, inode| ListedLock {
            is_exclusive,
            process,
            device,
            inode,
        };
        assert_eq!(
            parse_locks(list),
            [
                listed(false, 4_711, (0xfd, 1), 1_835),
                listed(true, 12, (0, 0x2f), 456),
                listed(false, -1, (8, 0x10), 99),
                listed(false, 7, (8, 1), 5),
            ]
        );
    }

    #[test]
    fn holder_of_a_lock_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert_eq!(lock_holders(&path).unwrap(), BTreeSet::new());
        let file = fs::File::create(&path).unwrap();
        assert_eq!(lock_holders(&path).unwrap(), BTreeSet::new());
        for is_exclusive in [true, false] {
            if is_exclusive {
                file.try_lock().unwrap();
            } else {
                file.try_lock_shared().unwrap();
            }
            let holders = lock_holders(&path).unwrap();
            let own = LockHolder {
                process: Some(std::process::id()),
                command: command_of(std::process::id()),
                user: Some(rustix::process::geteuid().as_raw()),
                is_exclusive,
            };
            // A sandbox of another namespace does not show whose it is.
            assert!(
                holders.is_empty() || holders == BTreeSet::from([own]),
                "{holders:?}"
            );
            file.unlock().unwrap();
        }
    }

    /// A process took the lock, passed it on, and ended.
    #[test]
    fn process_that_ended_is_not_named_as_a_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let script = "exec 9>\"$1\"; flock 9; exec cat <&0";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Its answer shows that the lock is taken.
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"x").unwrap();
        let mut answer = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
        let holders = lock_holders(&path).unwrap();
        let processes: Vec<_> = holders.iter().map(|holder| holder.process).collect();
        // A sandbox of another namespace lists no locks.
        assert!(
            processes.is_empty() || processes == [Some(child.id())],
            "{holders:?}"
        );
        drop(input);
        child.wait().unwrap();
        assert_eq!(lock_holders(&path).unwrap(), BTreeSet::new());
    }

    #[test]
    fn process_without_the_file_holds_no_lock_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let file = fs::File::create(&path).unwrap();
        let found = file.metadata().unwrap();
        let file_id = (found.dev(), found.ino());
        assert!(may_have_open(std::process::id(), file_id));
        drop(file);
        assert!(!may_have_open(std::process::id(), file_id));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!may_have_open(child.id(), file_id));
        assert!(!may_have_open(u32::MAX, file_id));
    }
}
