//! Log lines: on standard error, or in the journal of systemd.
//!
//! No form masks anything: text from outside is masked where it comes in (see
//! [`crate::core::redact`]), and nothing else that is logged holds a secret.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};

use rustix::fs::{Stat, fstat};
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// What the names of fields begin with in the journal: `REKEYD_KEY`.
const JOURNAL_FIELD_PREFIX: &str = "REKEYD";

/// The forms of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// In the journal where systemd has connected standard error to it, else for people
    #[default]
    Auto,
    /// For people
    Human,
    /// One JSON object a line
    Json,
    /// In the journal, each field under a name of its own, such as REKEYD_KEY
    Journald,
}

/// What other crates say at the same level would drown what rekeyd says.
fn level_filter(level: Level) -> Targets {
    let others = level.min(Level::WARN);
    let quiet = if level == Level::TRACE { level } else { others };
    Targets::new()
        .with_default(quiet)
        .with_target("rekeyd", level)
        // It logs each job that is added, at INFO.
        .with_target("tokio_cron_scheduler", others)
}

/// Something that takes log lines.
type LogLayer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// Begins to log. Only the first call in a process counts.
pub(crate) fn init(level: Level, format: LogFormat) {
    let (layer, problem) = match format {
        LogFormat::Human => (human_layer(), None),
        LogFormat::Json => (json_layer(), None),
        LogFormat::Auto if !is_connected_to_journal() => (human_layer(), None),
        LogFormat::Auto | LogFormat::Journald => match journald_layer() {
            Ok(layer) => (layer, None),
            Err(error) => (human_layer(), Some(error)),
        },
    };
    // A second start in one process (in tests) changes nothing.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(level_filter(level)))
        .try_init();
    if let Some(error) = problem {
        tracing::warn!("the journal cannot be reached ({error}); logging on standard error");
    }
}

fn human_layer() -> LogLayer {
    fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .boxed()
}

fn json_layer() -> LogLayer {
    fmt::layer()
        .with_writer(io::stderr)
        .json()
        .flatten_event(true)
        .boxed()
}

/// With the priorities that everybody else gives these levels; the crate's own
/// are one step more urgent.
fn journald_layer() -> io::Result<LogLayer> {
    let layer = tracing_journald::layer()?
        .with_syslog_identifier("rekeyd".to_owned())
        .with_field_prefix(Some(JOURNAL_FIELD_PREFIX.to_owned()))
        .with_priority_mappings(PriorityMappings {
            error: Priority::Error,
            warn: Priority::Warning,
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
        });
    Ok(layer.boxed())
}

/// Whether systemd has connected our standard error to the journal.
fn is_connected_to_journal() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    fstat(io::stderr()).is_ok_and(|stderr| is_journal_stream(stream.as_deref(), &stderr))
}

/// Whether `$JOURNAL_STREAM`, the device and inode of the stream that systemd
/// has made, is this file. A program that redirects its children inherits the
/// variable to them, so that the variable alone proves nothing.
fn is_journal_stream(stream: Option<&OsStr>, file: &Stat) -> bool {
    let numbers = stream.and_then(OsStr::to_str);
    let Some((device, inode)) = numbers.and_then(|numbers| numbers.split_once(':')) else {
        return false;
    };
    device.parse() == Ok(file.st_dev) && inode.parse() == Ok(file.st_ino)
}

/// Logs the messages alone, on standard output: a demo reads like a story.
#[cfg(feature = "demo")]
pub(crate) fn init_demo_output() {
    let sentences = fmt::format::debug_fn(|writer, field, value| {
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
    let layer = layer.with_filter(level_filter(Level::INFO));
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_stream_is_recognized_by_device_and_inode() {
        let (file, other) = (
            tempfile::tempfile().unwrap(),
            std::fs::File::open("/").unwrap(),
        );
        let stat = fstat(&file).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        for (stream, expected) in [
            (Some(format!("{device}:{inode}")), true),
            (Some(format!("{device}:{}", inode + 1)), false),
            (Some(format!("{}:{inode}", device + 1)), false),
            (Some(format!("{inode}:{device}")), device == inode),
            (Some(format!("{device}:{inode}:")), false),
            (Some(format!("{device}")), false),
            (Some(":".to_owned()), false),
            (Some(String::new()), false),
            (None, false),
        ] {
            let stream = stream.as_deref().map(OsStr::new);
            assert_eq!(is_journal_stream(stream, &stat), expected, "{stream:?}");
            assert!(
                !is_journal_stream(stream, &fstat(&other).unwrap()),
                "{stream:?}"
            );
        }
    }
}
