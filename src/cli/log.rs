//! Log lines: on standard error, or in the journal of systemd.
//!
//! No form masks anything: text from outside is masked where it comes in (see
//! [`crate::core::outside`]), and nothing else that is logged holds a secret.

use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};

use rustix::fs::{Stat, fstat};
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

/// What the names of fields begin with in the journal: `REKEYD_KEY`.
const FIELD_PREFIX: &str = "REKEYD";

/// The forms of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
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
fn filter(level: Level) -> Targets {
    let others = level.min(Level::WARN);
    let quiet = if level == Level::TRACE { level } else { others };
    Targets::new()
        .with_default(quiet)
        .with_target("rekeyd", level)
        // It logs each job that is added, at INFO.
        .with_target("tokio_cron_scheduler", others)
}

/// Something that takes log lines.
type Layer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// Begins to log. Only the first call in a process counts.
pub(crate) fn start(level: Level, format: Format) {
    let (layer, problem) = match format {
        Format::Human => (human(), None),
        Format::Json => (json(), None),
        Format::Auto if !is_in_the_journal() => (human(), None),
        Format::Auto | Format::Journald => match journal() {
            Ok(layer) => (layer, None),
            Err(error) => (human(), Some(error)),
        },
    };
    // A second start in one process (in tests) changes nothing.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter(level)))
        .try_init();
    if let Some(error) = problem {
        tracing::warn!("the journal cannot be reached ({error}); logging on standard error");
    }
}

fn human() -> Layer {
    fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .boxed()
}

fn json() -> Layer {
    fmt::layer()
        .with_writer(io::stderr)
        .json()
        .flatten_event(true)
        .boxed()
}

/// With the priorities that everybody else gives these levels; the crate's own
/// are one step more urgent.
fn journal() -> io::Result<Layer> {
    let layer = tracing_journald::layer()?
        .with_syslog_identifier("rekeyd".to_owned())
        .with_field_prefix(Some(FIELD_PREFIX.to_owned()))
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
fn is_in_the_journal() -> bool {
    let stream = std::env::var_os("JOURNAL_STREAM");
    fstat(io::stderr()).is_ok_and(|stderr| is_stream(stream.as_deref(), &stderr))
}

/// Whether `$JOURNAL_STREAM`, the device and inode of the stream that systemd
/// has made, is this file. A program that redirects its children inherits the
/// variable to them, so that the variable alone proves nothing.
fn is_stream(stream: Option<&OsStr>, file: &Stat) -> bool {
    let numbers = stream.and_then(OsStr::to_str);
    let Some((device, inode)) = numbers.and_then(|numbers| numbers.split_once(':')) else {
        return false;
    };
    device.parse() == Ok(file.st_dev) && inode.parse() == Ok(file.st_ino)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_recognized_by_the_file_and_not_by_the_variable_alone() {
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
            assert_eq!(is_stream(stream, &stat), expected, "{stream:?}");
            assert!(!is_stream(stream, &fstat(&other).unwrap()), "{stream:?}");
        }
    }
}
