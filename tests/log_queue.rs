//! A log whose reader stops for a while, in a process of its own: its subscriber is global.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::mpsc::channel;

use rekeyd::platform::log::queue::{LogQueue, QueueLimits};

/// More than the pipe and the queue take.
const LINES: usize = 2_000;

#[test]
fn dropped_lines_are_counted_when_the_reader_goes_on() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let limits = QueueLimits {
        lines: 16,
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
    let (sender, received) = channel();
    let reading = std::thread::spawn(move || {
        for line in BufReader::new(reader).lines() {
            // The test may not be waiting any more.
            let _ = sender.send(line.unwrap());
        }
    });
    let (mut read, mut reported) = (0, 0);
    while read + reported < LINES {
        tracing::info!("again");
        for line in received.try_iter() {
            let (_, after) = line.split_once("dropped=").unwrap_or_default();
            reported += after.split(' ').next().unwrap().parse().unwrap_or(0);
            read += usize::from(line.contains(" line "));
        }
        std::thread::yield_now();
    }
    assert!(reported > 0, "{read}");
    // What is queued is written before the end.
    tracing::info!("the last one");
    queue.flush();
    let mut rest = Vec::new();
    while let Ok(line) = received.recv() {
        let is_last = line.contains("the last one");
        rest.push(line);
        if is_last {
            drop(reading);
            return;
        }
    }
    panic!("{rest:?}");
}
