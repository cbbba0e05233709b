//! The queue before the log of a process that must not wait for its reader.
//!
//! A pipe whose reader has stopped is full after 64 KiB, the socket of a journal that
//! hangs after some ten entries, and each further write blocks. So a thread of its own
//! writes. A line that finds no place is dropped and counted; the thread reports the
//! count as soon as the reader goes on.
//!
//! Three kinds of lines have places of their own ([`Lane`]), so that what somebody must
//! read does not give way to what only a developer reads.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use crate::core::plural::counted;

/// How long the end of the process waits while the reader takes no line.
const FLUSH_PATIENCE: Duration = Duration::from_millis(250);

/// How long it waits at most for a reader that takes lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// The field of a line that says who requested something.
const AUTHOR_FIELD: &str = "by";

/// The field of the line that reports dropped lines.
const DROPPED_FIELD: &str = "dropped";

/// The importance of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// `debug` and `trace`. It has no places of its own, and gives way to a normal line.
    Debug,
    /// `info` and `warn`.
    Normal,
    /// `error`, who requested what, and how many lines were dropped.
    Important,
}

impl Lane {
    const COUNT: usize = 3;

    /// Returns the lane of a line.
    #[must_use]
    pub fn of(metadata: &Metadata<'_>) -> Self {
        let has_field = |name| metadata.fields().field(name).is_some();
        if *metadata.level() == Level::ERROR || has_field(AUTHOR_FIELD) || has_field(DROPPED_FIELD)
        {
            Self::Important
        } else if *metadata.level() <= Level::INFO {
            Self::Normal
        } else {
            Self::Debug
        }
    }
}

/// The lines that wait at most.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// The normal lines and those for development: more than ten thousand keys log at a
    /// start.
    pub lines: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The important lines.
    pub important_lines: usize,
    /// Their bytes.
    pub important_bytes: usize,
}

impl QueueLimits {
    /// The limits of a process.
    pub const OF_PROCESS: Self = Self {
        lines: 65_536,
        bytes: 16 * 1024 * 1024,
        important_lines: 4_096,
        important_bytes: 2 * 1024 * 1024,
    };
}

/// The queues of this process.
static OPEN: OnceLock<ProcessQueues> = OnceLock::new();

/// The queues of a process that waits for no reader.
pub(crate) struct ProcessQueues {
    /// The queue of the log.
    pub(crate) log: LogQueue,
    /// The queue before standard error, which may be the same.
    pub(crate) stderr: LogQueue,
}

/// A queue of lines, and the thread that writes them.
#[derive(Clone)]
pub struct LogQueue(Arc<Shared>);

struct Shared {
    waiting: Mutex<QueuedLines>,
    /// Wakes the thread when a line waits.
    queued: Condvar,
    /// Wakes [`LogQueue::flush`] when a line was written.
    written: Condvar,
    limits: QueueLimits,
    /// The number of dropped lines.
    dropped: AtomicU64,
    /// The number of lines that were not yet written or dropped.
    pending: AtomicU64,
    /// What takes no lines when some are dropped.
    reader: &'static str,
}

/// The lines that wait.
#[derive(Default)]
struct QueuedLines {
    lanes: [VecDeque<Line>; Lane::COUNT],
    bytes: [usize; Lane::COUNT],
    next_number: u64,
    /// Whether a line is being written.
    is_writing: bool,
    /// The number of lines that the thread took.
    taken: u64,
}

struct Line {
    /// Its place among the lines of all lanes.
    number: u64,
    text: Vec<u8>,
}

/// What a report of dropped lines has counted.
#[derive(Default)]
struct Reported {
    dropped: u64,
    /// The number from which on a written line proves that the last report was written.
    first_line_after: u64,
}

/// Makes these queues those of the process.
pub(crate) fn open(queues: ProcessQueues) {
    // Tests call this more than once in a process, which is no error.
    let _ = OPEN.set(queues);
}

/// Writes a message to standard error, after what is logged there. Returns false if the
/// process may wait for the reader, and so has no queue.
pub fn write(message: &str) -> bool {
    let Some(queues) = OPEN.get() else {
        return false;
    };
    let message = message.as_bytes().to_vec();
    queues.stderr.push(Lane::Important, message);
    true
}

/// Waits until what was logged is written, as long as the reader takes lines.
pub fn flush() {
    if let Some(queues) = OPEN.get() {
        queues.log.flush();
        queues.stderr.flush();
    }
}

/// Waits as [`flush`] does, for `limit` at most, and without a lock: this thread may
/// have one.
pub fn flush_without_lock(limit: Duration) {
    let Some(queues) = OPEN.get() else { return };
    let pending = &queues.log.0.pending;
    let end = Instant::now() + limit;
    while pending.load(Ordering::SeqCst) > 0 && Instant::now() < end {
        std::thread::sleep(limit / 10);
    }
}

/// Returns the number of lines that this process dropped, because nothing read them.
#[must_use]
pub fn dropped_lines() -> u64 {
    OPEN.get().map_or(0, |queues| queues.log.dropped())
}

impl LogQueue {
    /// Starts a queue before `write`, which takes one line at a time. `reader` says in the
    /// report of dropped lines what takes none.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        limits: QueueLimits,
        reader: &'static str,
        mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            queued: Condvar::new(),
            written: Condvar::new(),
            limits,
            dropped: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            reader,
        });
        let thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || thread.write_all(&mut write))?;
        Ok(Self(shared))
    }

    /// Queues a line, or drops it. Never waits for the reader.
    pub fn push(&self, lane: Lane, line: Vec<u8>) {
        let shared = &self.0;
        let mut waiting = shared.lock();
        shared.pending.fetch_add(1, Ordering::SeqCst);
        if waiting.make_room(lane, line.len(), shared) {
            waiting.push(lane, line);
            drop(waiting);
            shared.queued.notify_one();
        } else {
            shared.count_dropped();
        }
    }

    /// Returns the number of dropped lines.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::SeqCst)
    }

    /// Waits until every line is written: not while the reader takes none.
    pub fn flush(&self) {
        let end = Instant::now() + FLUSH_LIMIT;
        let mut waiting = self.0.lock();
        while !waiting.is_done() && Instant::now() < end {
            let taken = waiting.taken;
            let is_waiting =
                |waiting: &mut QueuedLines| !waiting.is_done() && waiting.taken == taken;
            let waited = self
                .0
                .written
                .wait_timeout_while(waiting, FLUSH_PATIENCE, is_waiting);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return;
            }
            waiting = next;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, QueuedLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
        self.pending.fetch_sub(1, Ordering::SeqCst);
    }

    /// Writes the lines in their order, for ever.
    fn write_all(&self, write: &mut impl FnMut(&[u8]) -> io::Result<()>) {
        let mut reported = Reported::default();
        loop {
            let line = self.take_line();
            if write(&line.text).is_ok() {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                // One report at a time waits: errors need the places.
                if line.number >= reported.first_line_after {
                    self.report_dropped(&mut reported);
                }
            } else {
                // There is no reader any more.
                self.count_dropped();
            }
        }
    }

    /// Waits for the next line.
    fn take_line(&self) -> Line {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        loop {
            self.written.notify_all();
            if let Some(line) = waiting.pop() {
                return line;
            }
            let woken = self.queued.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Logs how many lines were dropped since that was logged last.
    fn report_dropped(&self, reported: &mut Reported) {
        let dropped = self.dropped.load(Ordering::SeqCst);
        let lines = dropped - std::mem::replace(&mut reported.dropped, dropped);
        if lines > 0 {
            reported.first_line_after = self.lock().next_number;
            tracing::warn!(
                dropped = lines,
                "dropped {} before this one: nothing reads {}",
                counted(usize::try_from(lines).unwrap_or(usize::MAX), "log line"),
                self.reader
            );
        }
    }
}

impl QueuedLines {
    /// Returns whether there is room for a line, for which lines for development give way.
    fn make_room(&mut self, lane: Lane, len: usize, shared: &Shared) -> bool {
        let limits = &shared.limits;
        if lane == Lane::Important {
            let (lines, bytes) = (self.lanes[lane as usize].len(), self.bytes[lane as usize]);
            return lines < limits.important_lines && bytes + len <= limits.important_bytes;
        }
        let has_room = |waiting: &Self| {
            let [debug, normal, _] = &waiting.lanes;
            let [debug_bytes, normal_bytes, _] = waiting.bytes;
            debug.len() + normal.len() < limits.lines
                && debug_bytes + normal_bytes + len <= limits.bytes
        };
        while !has_room(self) {
            let is_evicted = lane == Lane::Normal && self.pop_from(Lane::Debug as usize).is_some();
            if !is_evicted {
                return false;
            }
            shared.count_dropped();
        }
        true
    }

    fn push(&mut self, lane: Lane, text: Vec<u8>) {
        let number = self.next_number;
        self.next_number += 1;
        self.bytes[lane as usize] += text.len();
        self.lanes[lane as usize].push_back(Line { number, text });
    }

    /// Removes and returns the oldest line.
    fn pop(&mut self) -> Option<Line> {
        let fronts = self.lanes.iter().enumerate();
        let fronts = fronts.filter_map(|(lane, lines)| Some((lines.front()?.number, lane)));
        let (_, lane) = fronts.min()?;
        let line = self.pop_from(lane)?;
        self.is_writing = true;
        self.taken += 1;
        Some(line)
    }

    fn pop_from(&mut self, lane: usize) -> Option<Line> {
        let line = self.lanes[lane].pop_front()?;
        self.bytes[lane] -= line.text.len();
        Some(line)
    }

    fn is_done(&self) -> bool {
        !self.is_writing && self.lanes.iter().all(VecDeque::is_empty)
    }
}

/// Writes one line into its lane: the formatter writes each line at once.
pub struct LineWriter {
    queue: LogQueue,
    lane: Lane,
}

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(self.lane, line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogQueue {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            queue: self.clone(),
            lane: Lane::Normal,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter {
        LineWriter {
            queue: self.clone(),
            lane: Lane::of(metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        lines: 4,
        bytes: 1_000,
        important_lines: 2,
        important_bytes: 100,
    };

    /// A queue whose reader takes one line for each message.
    fn blocked_queue() -> (LogQueue, Sender<()>, Receiver<String>) {
        let (permits, permitted) = channel::<()>();
        let (lines, written) = channel();
        let queue = LogQueue::start(LIMITS, "the test", move |line| {
            let _ = permitted.recv();
            let _ = lines.send(String::from_utf8_lossy(line).into_owned());
            Ok(())
        });
        (queue.unwrap(), permits, written)
    }

    /// Pushes a line, and waits until the thread is busy with it.
    fn occupy(queue: &LogQueue) {
        queue.push(Lane::Normal, b"first".to_vec());
        while queue.0.lock().taken == 0 {
            std::thread::yield_now();
        }
    }

    fn rest(queue: LogQueue, permits: Sender<()>, written: &Receiver<String>) -> Vec<String> {
        // Without a sender, nothing waits for a permit.
        drop(permits);
        queue.flush();
        written.try_iter().collect()
    }

    #[test]
    fn lines_for_development_give_way_and_errors_have_their_own_places() {
        let (queue, permits, written) = blocked_queue();
        occupy(&queue);
        for (lane, line) in [
            (Lane::Debug, "debug 1"),
            (Lane::Debug, "debug 2"),
            (Lane::Normal, "info 1"),
            (Lane::Normal, "info 2"),
            // Full from here on.
            (Lane::Debug, "debug 3"),
            (Lane::Normal, "info 3"),
            (Lane::Important, "error 1"),
            (Lane::Normal, "info 4"),
            (Lane::Normal, "info 5"),
            (Lane::Important, "error 2"),
            (Lane::Important, "error 3"),
        ] {
            queue.push(lane, line.as_bytes().to_vec());
        }
        assert_eq!(queue.dropped(), 5);
        let expected = [
            "first", "info 1", "info 2", "info 3", "error 1", "info 4", "error 2",
        ];
        assert_eq!(rest(queue, permits, &written), expected);
    }

    #[test]
    fn queue_has_a_limit_of_bytes() {
        let (queue, permits, written) = blocked_queue();
        occupy(&queue);
        queue.push(Lane::Debug, vec![b'x'; 600]);
        queue.push(Lane::Normal, vec![b'y'; 600]);
        queue.push(Lane::Normal, vec![b'z'; 600]);
        queue.push(Lane::Important, vec![b'e'; 101]);
        assert_eq!(queue.dropped(), 3);
        let rest = rest(queue, permits, &written);
        assert_eq!(rest.len(), 2);
        assert!(rest[1].starts_with('y'), "{rest:?}");
    }

    #[test]
    fn end_does_not_wait_for_a_reader_that_takes_nothing() {
        let (queue, permits, written) = blocked_queue();
        occupy(&queue);
        let started_at = Instant::now();
        queue.flush();
        assert!(started_at.elapsed() < FLUSH_LIMIT);
        assert_eq!(rest(queue, permits, &written), ["first"]);
    }
}
