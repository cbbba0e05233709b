//! Every system call that changes the disk during a replacement, in one file so
//! that a test can make each of them fail or kill the process before it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::temp_name;

/// The bytes of one write: all of them, or a single one in tests, which can
/// interrupt after each.
const WRITE_CHUNK_BYTES: usize = if cfg!(test) { 1 } else { usize::MAX };

/// Creates a file that does not exist yet.
pub(super) fn create(folder: impl AsFd, name: &OsStr, mode: Mode) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    step("create", || fs::openat(folder, name, flags, mode)).map(File::from)
}

/// Creates an empty file that is in no folder, for a trial. Where the file
/// system has no files without a name, it has one for a moment.
pub(super) fn create_trial(folder: impl AsFd, mode: Mode) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let nameless = step("create_nameless", || fs::openat(&folder, ".", flags, mode));
    if let Ok(file) = nameless {
        return Ok(File::from(file));
    }
    let name = temp_name::new_temp_name(OsStr::new("trial")).map_err(|_| Errno::IO)?;
    let file = create(&folder, &name, mode)?;
    remove(&folder, &name)?;
    Ok(file)
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
    step("chown", || fs::fchown(file, owner, group))
}

pub(super) fn set_mode(file: impl AsFd, mode: Mode) -> Result<(), Errno> {
    step("set_mode", || fs::fchmod(file, mode))
}

/// Cuts a file to `length` bytes.
pub(super) fn truncate(file: &File, length: usize) -> Result<(), Errno> {
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    step("truncate", || fs::ftruncate(file, length))
}

pub(super) fn set_attribute(file: &File, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
    step("set_attribute", || {
        fs::fsetxattr(file, name, value, XattrFlags::empty())
    })
}

pub(super) fn remove_attribute(file: &File, name: &OsStr) -> Result<(), Errno> {
    step("remove_attribute", || fs::fremovexattr(file, name))
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

    /// The interruption of a step.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Interruption {
        /// The step is skipped and fails.
        FailBefore,
        /// The step is skipped and fails with this error.
        FailWith(Errno),
        /// The step succeeds and reports a failure, like a lost network
        /// response.
        FailAfter,
        /// Neither this step nor any later one is done: the process was killed.
        Kill,
    }

    thread_local! {
        static PLANNED: Cell<Option<(usize, Interruption)>> = const { Cell::new(None) };
        static STEPS: RefCell<Vec<&str>> = const { RefCell::new(Vec::new()) };
    }

    /// Runs `work` on this thread with an interruption at the step `number`.
    /// Returns the names of its steps as well.
    pub(crate) fn run_interrupted_at<T>(
        number: usize,
        interruption: Interruption,
        work: impl FnOnce() -> T,
    ) -> (T, Vec<&'static str>) {
        STEPS.take();
        PLANNED.set(Some((number, interruption)));
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
            Some((at, Interruption::FailWith(error))) if number == at => Err(error.into()),
            Some((at, Interruption::FailAfter)) if number == at => {
                call()?;
                Err(Errno::IO.into())
            }
            Some(_) | None => call(),
        }
    }
}
