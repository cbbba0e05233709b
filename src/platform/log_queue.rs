//! The queue before standard error of a process that must not wait for its reader.
//!
//! A pipe whose reader has stopped is full after 64 KiB, and each write to it blocks. So a
//! thread writes, and lines that find the queue full are dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::core::plural::counted;

/// The lines that wait at most: more than ten thousand keys log at a start.
const MAX_LINES: usize = 65_536;

/// How long the end of the process waits for room in a full queue. The guard waits as long
/// again for the lines in it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause between two looks for room.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// The queue of this process, until it is flushed.
static OPEN: Mutex<Option<(LogQueue, WorkerGuard)>> = Mutex::new(None);

/// A writer that never blocks.
#[derive(Debug, Clone)]
pub struct LogQueue {
    lines: NonBlocking,
    /// The number of dropped lines that a line in the log has told.
    reported: Arc<AtomicUsize>,
}

/// Opens the queue, once in a process. [`flush`] must be called before it ends.
///
/// # Errors
/// Standard error cannot be opened again, or the queue is open.
pub fn open() -> io::Result<LogQueue> {
    let mut open = lock();
    if open.is_some() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists));
    }
    // Not `Stderr`, whose lock a blocked thread would keep from every other.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let (queue, guard) = LogQueue::over(stderr, MAX_LINES);
    *open = Some((queue.clone(), guard));
    Ok(queue)
}

/// Writes a message after what is logged. Returns false without an open queue.
pub fn write(message: &str) -> bool {
    let queue = lock().as_ref().map(|(queue, _)| queue.clone());
    let Some(mut queue) = queue else {
        return false;
    };
    queue.write_all(message.as_bytes()).is_ok()
}

/// Waits until what was logged is written, for a few seconds at most, and closes the queue.
pub fn flush() {
    let Some((queue, guard)) = lock().take() else {
        return;
    };
    let deadline = Instant::now() + FLUSH_TIMEOUT;
    while !queue.has_room() {
        if Instant::now() >= deadline {
            // Nobody reads: the guard would say so on standard output.
            return std::mem::forget(guard);
        }
        std::thread::sleep(FLUSH_INTERVAL);
    }
    queue.report_dropped();
    drop(guard);
}

fn lock() -> MutexGuard<'static, Option<(LogQueue, WorkerGuard)>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogQueue {
    /// Returns a queue of at most `max_lines` before a writer, and the guard that waits for
    /// them on drop.
    pub fn over(writer: impl Write + Send + 'static, max_lines: usize) -> (Self, WorkerGuard) {
        let (lines, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(max_lines)
            .lossy(true)
            .thread_name("log")
            .finish(writer);
        let reported = Arc::default();
        (Self { lines, reported }, guard)
    }

    fn dropped(&self) -> usize {
        self.lines.error_counter().dropped_lines()
    }

    /// Queues a line. Returns false if there was no room.
    fn try_queue(&mut self, line: &[u8]) -> io::Result<bool> {
        let dropped = self.dropped();
        self.lines.write_all(line)?;
        Ok(self.dropped() == dropped)
    }

    /// Returns whether there is room for a line. The attempt counts as none.
    fn has_room(&self) -> bool {
        let mut probe = self.clone();
        let has_room = probe.try_queue(&[]).unwrap_or(true);
        if !has_room {
            self.reported.fetch_add(1, Ordering::SeqCst);
        }
        has_room
    }

    /// Logs the number of lines that were dropped since it was logged last.
    fn report_dropped(&self) {
        let dropped = self.dropped();
        // Before the line, which comes here as well.
        let reported = self.reported.fetch_max(dropped, Ordering::SeqCst);
        if dropped > reported {
            let lines = dropped - reported;
            let before = self.dropped();
            tracing::warn!(
                lines,
                "dropped {} before this one: nothing reads standard error",
                counted(lines, "log line")
            );
            if self.dropped() > before {
                // That line may have been dropped as well.
                self.reported.store(reported, Ordering::SeqCst);
            }
        }
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.try_queue(line)? {
            self.report_dropped();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
