//! The line about a crash: one write, which does not block.

use std::backtrace::Backtrace;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::net::{SendFlags, send};
use serde_json::json;

use crate::core::crash::Crash;
use crate::core::time;
use crate::platform::log::journal::{Entry, JournalSocket};

/// The longest line, in bytes: what a pipe that has any room takes at once.
const MAX_LINE_BYTES: usize = 4_096;

/// The form of the line, as that of the log.
#[derive(Debug)]
pub(crate) enum CrashForm {
    Human,
    Json,
    Journal(JournalSocket),
}

/// Where the line is written.
static OUTPUT: OnceLock<(CrashForm, Stderr)> = OnceLock::new();

/// Sets the form of the line.
pub(crate) fn set_form(form: CrashForm) {
    // Tests call this more than once in a process, which is no error.
    let _ = OUTPUT.set((form, Stderr::open()));
}

/// Writes the line.
pub(super) fn write(crash: &Crash) {
    let Some((form, stderr)) = OUTPUT.get() else {
        // Nothing is logged by this process: a person reads its standard error.
        return Stderr::open().write(human_line(crash).as_bytes());
    };
    match form {
        CrashForm::Human => stderr.write(human_line(crash).as_bytes()),
        CrashForm::Json => stderr.write(json_line(crash).as_bytes()),
        CrashForm::Journal(socket) => {
            // A failure cannot be reported anywhere.
            let _ = socket.send(&Entry::error(&crash.to_string()).0);
        }
    }
}

/// Writes a backtrace, which has names of functions, files and lines alone, as far as it is
/// taken at once.
pub(super) fn write_backtrace(backtrace: &Backtrace) {
    let text = format!("{backtrace}\n");
    match OUTPUT.get() {
        Some((CrashForm::Journal(socket), _)) => {
            let _ = socket.send(&Entry::error(&text).0);
        }
        Some((CrashForm::Human | CrashForm::Json, stderr)) => {
            let parts = text.as_bytes().chunks(MAX_LINE_BYTES);
            parts.for_each(|part| stderr.write(part));
        }
        None => Stderr::open().write(text.as_bytes()),
    }
}

fn human_line(crash: &Crash) -> String {
    format!("{} ERROR {crash}\n", time::to_text(crash.at))
}

fn json_line(crash: &Crash) -> String {
    let line = json!({
        "timestamp": time::to_text(crash.at),
        "level": "ERROR",
        "message": crash.to_string(),
        "target": "rekeyd",
    });
    format!("{line}\n")
}

/// Standard error, by how a write to it does not block.
#[derive(Debug)]
enum Stderr {
    Socket(OwnedFd),
    /// A description of its own, which does not block.
    NonBlocking(File),
    /// A regular file, or one that cannot be opened again.
    Shared(File),
    /// There is none.
    Closed,
}

impl Stderr {
    fn open() -> Self {
        let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() else {
            return Self::Closed;
        };
        let kind = fstat(&stderr).map(|stat| FileType::from_raw_mode(stat.st_mode));
        if kind == Ok(FileType::Socket) {
            return Self::Socket(stderr);
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let is_regular = kind == Ok(FileType::RegularFile);
        // A regular file would be written from its start.
        let reopened = (!is_regular).then(|| open("/proc/self/fd/2", flags, Mode::empty()));
        match reopened {
            Some(Ok(reopened)) => Self::NonBlocking(File::from(reopened)),
            Some(Err(_)) | None => Self::Shared(File::from(stderr)),
        }
    }

    fn write(&self, line: &[u8]) {
        let line = &line[..line.len().min(MAX_LINE_BYTES)];
        // A failure cannot be reported anywhere.
        let _ = match self {
            Self::Socket(socket) => {
                send(socket, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map_err(Into::into)
            }
            Self::NonBlocking(file) => (&*file).write(line),
            Self::Shared(file) if has_room(file) => (&*file).write(line),
            Self::Shared(_) | Self::Closed => Ok(0),
        };
    }
}

/// Whether a write of [`MAX_LINE_BYTES`] does not block.
fn has_room(file: &File) -> bool {
    let mut waited = [PollFd::new(file, PollFlags::OUT)];
    let ready = poll(&mut waited, Some(&Timespec::default()));
    ready.is_ok() && waited[0].revents().contains(PollFlags::OUT)
}
