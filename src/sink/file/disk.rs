//! Every call with which replacing a file changes the disk: in one place, so
//! that a test can have each of them fail, or be the last one before the
//! process is killed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

/// So much is written at once: all of it; in tests a byte, so that it can be
/// interrupted behind each.
const WRITE_CHUNK_BYTES: usize = if cfg!(test) { 1 } else { usize::MAX };

/// Makes a file that is not there yet.
pub(super) fn create(folder: impl AsFd, name: &OsStr, mode: Mode) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    step("create", || fs::openat(folder, name, flags, mode)).map(File::from)
}

pub(super) fn write(mut file: &File, content: &[u8]) -> io::Result<()> {
    for part in content.chunks(WRITE_CHUNK_BYTES) {
        step("write", || file.write_all(part))?;
    }
    Ok(())
}

pub(super) fn sync(file: impl AsFd) -> Result<(), Errno> {
    step("sync", || fs::fsync(file))
}

pub(super) fn chown(file: &File, owner: Option<Uid>, group: Option<Gid>) -> Result<(), Errno> {
    step("give", || fs::fchown(file, owner, group))
}

pub(super) fn set_mode(file: &File, mode: Mode) -> Result<(), Errno> {
    step("set_mode", || fs::fchmod(file, mode))
}

pub(super) fn rename(folder: impl AsFd, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    step("rename", || fs::renameat(&folder, from, &folder, to))
}

pub(super) fn remove(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    step("remove", || fs::unlinkat(folder, name, AtFlags::empty()))
}

#[cfg(not(test))]
fn step<T, E>(_name: &str, call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    call()
}

#[cfg(test)]
fn step<T, E: From<Errno>>(
    name: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    interruption::step(name, call)
}

#[cfg(test)]
pub(super) mod interruption {
    use std::cell::{Cell, RefCell};

    use rustix::io::Errno;

    /// What happens at a step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Interruption {
        /// It is not done, and fails.
        FailBefore,
        /// It is done, and fails: over a network the answer may be lost.
        FailAfter,
        /// Neither it nor anything behind it is done: the process is killed.
        Kill,
    }

    thread_local! {
        static PLANNED: Cell<Option<(usize, Interruption)>> = const { Cell::new(None) };
        static STEPS: RefCell<Vec<&str>> = const { RefCell::new(Vec::new()) };
    }

    /// Does `work` on this thread with an interruption at the step of that
    /// number. Gives the names of the steps too.
    pub(crate) fn run_interrupted_at<T>(
        number: usize,
        what: Interruption,
        work: impl FnOnce() -> T,
    ) -> (T, Vec<&'static str>) {
        STEPS.take();
        PLANNED.set(Some((number, what)));
        let result = work();
        PLANNED.set(None);
        (result, STEPS.take())
    }

    pub(super) fn step<T, E: From<Errno>>(
        name: &'static str,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let number = STEPS.with_borrow_mut(|steps| {
            steps.push(name);
            steps.len() - 1
        });
        match PLANNED.get() {
            Some((at, Interruption::Kill)) if number >= at => Err(Errno::IO.into()),
            Some((at, Interruption::FailBefore)) if number == at => Err(Errno::IO.into()),
            Some((at, Interruption::FailAfter)) if number == at => {
                call()?;
                Err(Errno::IO.into())
            }
            Some(_) | None => call(),
        }
    }
}
