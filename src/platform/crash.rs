//! The end of the process by a panic: it leaves one line in the log and a record beside
//! the ledger, which the next start reports.
//!
//! The panicking thread may hold any lock, and nobody may read the log. So the hook waits
//! for no lock and writes past the log's queue.

mod output;
mod record_file;

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) use self::output::{CrashForm, set_form};
pub use self::record_file::{CRASH_FILE_NAMES, CrashFile, CrashFileError, set_folder};
use crate::core::crash::Crash;
use crate::core::redact;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::platform::log::queue;
use crate::platform::process::kill_running_groups_without_lock;

/// How long the end waits for the lines that were logged before.
const FLUSH_LIMIT: Duration = Duration::from_millis(100);

/// The attempts to list the secrets in memory, and the pause between two.
const SANITIZE_ATTEMPTS: u32 = 50;
const SANITIZE_PAUSE: Duration = Duration::from_millis(1);

/// Whether the process ends.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Makes every panic the end of the process, as in a release: no other thread continues
/// with what the panic left.
pub fn end_on_panic() {
    let shows_backtrace = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        if IS_ENDING.swap(true, Ordering::SeqCst) {
            // Another thread ends the process.
            std::thread::sleep(FLUSH_LIMIT * 20);
            std::process::abort();
        }
        leave_trace(&crash_of(panic));
        if shows_backtrace {
            // Last, since it takes a lock of the standard library's.
            output::write_backtrace(&Backtrace::force_capture());
        }
        std::process::abort();
    }));
}

fn leave_trace(crash: &Crash) {
    output::write(crash);
    kill_running_groups_without_lock();
    record_file::write(crash);
    queue::flush_without_lock(FLUSH_LIMIT);
}

fn crash_of(panic: &PanicHookInfo<'_>) -> Crash {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let location = panic.location().map(ToString::to_string);
    Crash {
        at: SystemClock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        location: location.unwrap_or_else(|| "an unknown place".to_owned()),
        reason: text.map_or_else(|| "no message".to_owned(), sanitize),
    }
}

/// Returns the text without secrets.
fn sanitize(text: &str) -> String {
    for _ in 0..SANITIZE_ATTEMPTS {
        if let Some(text) = redact::sanitize_without_lock(text) {
            return text;
        }
        std::thread::sleep(SANITIZE_PAUSE);
    }
    "its message is not shown, because it could not be searched for secrets".to_owned()
}
