//! The lines of a demo: what happens, each with its time since the start, and what comes next
//! while nothing happens.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::screen::Screen;
use crate::core::lifecycle::LifecycleEvent;
use crate::core::{duration, time};
use crate::engine::Engine;

/// How long nothing happens before the next step is named.
const QUIET_TIME: Duration = Duration::from_millis(700);

/// The wait from which tenths of a second say nothing.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// The columns before the text of a line: its time.
const TIME_WIDTH: usize = 9;

/// Escape sequences of a terminal.
const DIM: &str = "\u{1b}[2m";
const RED: &str = "\u{1b}[31m";
const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const PLAIN: &str = "\u{1b}[0m";

/// Formats what is logged as the lines of a demo, and knows when the last one was printed.
#[derive(Debug, Clone)]
pub(crate) struct Narration {
    started_at: Instant,
    /// What the lines are folded to.
    screen: Screen,
    /// When the last line was printed, in milliseconds since the start.
    last_line: Arc<AtomicU64>,
    /// When the last line that names the next step was printed.
    last_preview: Arc<AtomicU64>,
}

impl Narration {
    /// Starts at the time zero.
    pub(crate) fn start() -> Self {
        Self {
            started_at: Instant::now(),
            screen: Screen::of_output(false),
            last_line: Arc::default(),
            last_preview: Arc::default(),
        }
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Prints what comes next, once in each time in which nothing happens.
    pub(crate) fn announce_next_step(&self, engine: &Engine) {
        let last_line = self.last_line.load(Ordering::SeqCst);
        let quiet = self.elapsed_millis().saturating_sub(last_line);
        let is_told = self.last_preview.load(Ordering::SeqCst) >= last_line;
        if last_line == 0 || u128::from(quiet) < QUIET_TIME.as_millis() || is_told {
            return;
        }
        if let Some(text) = next_step(engine) {
            tracing::info!(preview = true, "next: {text}");
            // The line is no event: the silence continues.
            self.last_preview
                .store(self.elapsed_millis(), Ordering::SeqCst);
        }
    }
}

/// Returns what rekeyd does next, and when.
fn next_step(engine: &Engine) -> Option<String> {
    if !engine.rotating().is_empty() {
        return None;
    }
    let now = engine.now();
    let revocations = engine.key_views().filter_map(|view| {
        let live = view.state?.live.iter();
        let planned = live.filter_map(|rotation| {
            let id = &rotation.credential.as_ref()?.id;
            Some((rotation.revoke_after?, format!("{id} is revoked")))
        });
        planned.min_by_key(|(at, _)| *at)
    });
    let rotation = engine
        .next_rotation()
        .map(|(key, at)| (at, format!("{key} rotates")));
    let mut steps: Vec<(Timestamp, String)> = revocations.chain(rotation).collect();
    steps.sort();
    let (at, text) = steps.into_iter().next()?;
    Some(format!("{text} {}", wait_text(time::until(now, at))))
}

/// Writes how long something takes, as precisely as the times of the lines while a person
/// can wait for it.
fn wait_text(wait: Duration) -> String {
    if wait.is_zero() {
        "now".to_owned()
    } else if wait < LONG_WAIT {
        format!("in {:.1} s", wait.as_secs_f64().max(0.1))
    } else {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let wait = duration::to_human_text(Duration::from_secs(seconds));
        format!("in {wait}")
    }
}

impl<S, N> FormatEvent<S, N> for Narration
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        if !line.is_preview {
            self.last_line
                .store(self.elapsed_millis().max(1), Ordering::SeqCst);
        }
        let seconds = self.started_at.elapsed().as_secs_f64();
        let time = format!("{seconds:>6.1}s");
        let color = line.color(*event.metadata().level());
        let folded = self
            .screen
            .wrap(&format!("{time}  {}", line.message), TIME_WIDTH);
        let message = folded.get(time.len()..).unwrap_or_default();
        match color.filter(|_| writer.has_ansi_escapes()) {
            Some(color) => writeln!(writer, "{DIM}{time}{PLAIN}{color}{message}{PLAIN}"),
            None if writer.has_ansi_escapes() => writeln!(writer, "{DIM}{time}{PLAIN}{message}"),
            None => writeln!(writer, "{time}{message}"),
        }
    }
}

/// What a line of the demo takes of a logged event.
#[derive(Default)]
struct Line {
    message: String,
    event: String,
    is_preview: bool,
}

impl Line {
    fn color(&self, level: Level) -> Option<&'static str> {
        if level == Level::ERROR {
            return Some(RED);
        }
        if level == Level::WARN {
            return Some(YELLOW);
        }
        if self.is_preview {
            return Some(DIM);
        }
        let is = |event: LifecycleEvent| self.event == event.as_str();
        is(LifecycleEvent::Delivered).then_some(GREEN)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "event" => self.event = format!("{value:?}"),
            _ => {}
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.is_preview |= field.name() == "preview" && value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_neither_too_short_nor_hidden() {
        for (millis, expected) in [
            (0, "now"),
            (40, "in 0.1 s"),
            (999, "in 1.0 s"),
            (1_990, "in 2.0 s"),
            (59_400, "in 59.4 s"),
            (60_000, "in 1 min"),
            (60_001, "in 1 min 1 s"),
            (7_260_000, "in 2 h 1 min"),
        ] {
            assert_eq!(wait_text(Duration::from_millis(millis)), expected);
        }
    }
}
