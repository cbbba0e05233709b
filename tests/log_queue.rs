//! A log whose reader stops for a while, in a process of its own: its subscriber is global.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, PipeReader, Write as _};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use rekeyd::platform::log::queue::{LogQueue, QueueLimits};

/// More than the pipe and the queue take.
const LINES: usize = 2_000;

/// The errors that have places of their own.
const ERRORS: usize = 32;

/// The rounds in which a slow reader takes a few lines of many.
const SLOW_ROUNDS: usize = 100;
const LINES_PER_ROUND: usize = 5;

/// How long the reader may take for all that is left.
const PATIENCE: Duration = Duration::from_secs(120);

/// A reader of the log that takes as many lines as it is permitted.
struct LogReader {
    permits: Sender<usize>,
    lines: Receiver<String>,
}

impl LogReader {
    fn start(pipe: PipeReader) -> Self {
        let (permits, permitted) = channel::<usize>();
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut read = BufReader::with_capacity(1, pipe).lines();
            for count in permitted {
                for line in read.by_ref().take(count) {
                    // The test may not be waiting any more.
                    let _ = sender.send(line.unwrap());
                }
            }
        });
        Self { permits, lines }
    }

    fn permit(&self, count: usize) {
        self.permits.send(count).unwrap();
    }
}

/// Returns the number of dropped lines that a line reports.
fn reported_drops(line: &str) -> usize {
    let (_, after) = line.split_once("dropped=").unwrap_or_default();
    after.split(' ').next().unwrap().parse().unwrap_or(0)
}

#[test]
fn dropped_lines_are_counted_and_leave_room_for_errors() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let limits = QueueLimits {
        lines: 16,
        important_lines: ERRORS + 8,
        ..QueueLimits::OF_PROCESS
    };
    let write = move |line: &[u8]| writer.write_all(line);
    let queue = LogQueue::start(limits, "the pipe", write).unwrap();
    tracing_subscriber::fmt()
        .with_writer(queue.clone())
        .with_ansi(false)
        .init();
    let filler = "x".repeat(1_000);
    for number in 0..LINES {
        tracing::info!("line {number} {filler}");
    }

    // A reader that is too slow: lines are dropped all the time.
    let reader = LogReader::start(reader);
    let (mut read, mut reported, mut logged) = (0, 0, LINES);
    let mut count = |line: &str| {
        reported += reported_drops(line);
        read += usize::from(line.contains(" line "));
        read + reported
    };
    for _ in 0..SLOW_ROUNDS {
        for _ in 0..LINES_PER_ROUND * 10 {
            tracing::info!("line {logged} {filler}");
            logged += 1;
        }
        reader.permit(LINES_PER_ROUND);
        for line in reader.lines.iter().take(LINES_PER_ROUND) {
            count(&line);
        }
    }
    for number in 0..ERRORS {
        tracing::error!("failure {number}");
    }

    // All of it, now that the reader takes everything: what is logged later comes later.
    reader.permit(usize::MAX);
    let (mut failures, mut accounted, mut is_later) = (0, 0, false);
    let begun = Instant::now();
    while accounted < logged || !is_later {
        assert!(
            begun.elapsed() < PATIENCE,
            "{accounted} of {logged} lines are accounted for"
        );
        tracing::info!("again");
        for line in reader.lines.try_iter() {
            failures += usize::from(line.contains(" failure "));
            is_later |= line.contains(" again");
            accounted = count(&line);
        }
        std::thread::yield_now();
    }
    assert!(reported > 0, "{read}");
    assert_eq!(failures, ERRORS);

    // What is queued is written before the end.
    tracing::info!("the last one");
    queue.flush();
    let is_last = |line: &String| line.contains("the last one");
    assert!(reader.lines.iter().any(|line| is_last(&line)));
}
