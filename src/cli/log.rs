//! Log lines on standard error.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// The forms of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Auto,
    /// For people, always.
    Human,
    /// One JSON object a line.
    Json,
}

/// What other crates say at the same level would drown what rekeyd says.
fn filter(level: Level) -> Targets {
    let others = level.min(Level::WARN);
    let quiet = if level == Level::TRACE { level } else { others };
    Targets::new()
        .with_default(quiet)
        .with_target("rekeyd", level)
        // It logs each job that is added, at INFO.
        .with_target("tokio_cron_scheduler", others)
}

/// Begins to log. Only the first call in a process counts.
pub(crate) fn start(level: Level, format: Format) {
    let layer = match format {
        Format::Auto | Format::Human => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        Format::Json => fmt::layer()
            .with_writer(std::io::stderr)
            .json()
            .flatten_event(true)
            .boxed(),
    };
    // A second start in one process (in tests) changes nothing.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter(level)))
        .try_init();
}

/// Begins to tell a story: the sentences alone, on standard output.
pub(crate) fn start_story() {
    let sentences = debug_fn(|writer, field, value| {
        if field.name() == "message" {
            write!(writer, "{value:?}")
        } else {
            Ok(())
        }
    });
    let layer = fmt::layer()
        .with_writer(std::io::stdout)
        .with_ansi(std::io::stdout().is_terminal())
        .with_target(false)
        .with_level(false)
        .with_timer(fmt::time::uptime())
        .fmt_fields(sentences);
    let layer = layer.with_filter(filter(Level::INFO));
    let _ = tracing_subscriber::registry().with(layer).try_init();
}
