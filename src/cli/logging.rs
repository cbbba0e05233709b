//! Log lines, on standard error or in systemd's journal.
//!
//! No format masks anything: untrusted text is masked where it is received (see
//! [`crate::core::redact`]), and no other text that is logged holds a secret. What acts on a
//! terminal is replaced in each field, whatever the format (`clean_fields.rs`).

use std::ffi::{OsStr, OsString};
use std::io;

use rustix::fs::{Stat, fstat};
use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
#[cfg(feature = "demo")]
use tracing_subscriber::fmt::{FormatEvent, format::DefaultFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::cli::clean_fields::CleanFields;
use crate::core::os_error;
use crate::platform::log_queue;

/// The prefix of field names in the journal, as in `REKEYD_KEY`.
const JOURNAL_FIELD_PREFIX: &str = "REKEYD";

/// The forms of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// `journald` if systemd connected standard error to the journal, otherwise `human`
    #[default]
    Auto,
    /// Plain text for people
    Human,
    /// One JSON object per line
    Json,
    /// Entries of the systemd journal, with fields such as REKEYD_KEY
    Journald,
}

/// Limits the log lines of other crates, which would drown rekeyd's own.
fn level_filter(level: Level) -> Targets {
    let others_level = level.min(Level::WARN);
    let default_level = if level == Level::TRACE {
        level
    } else {
        others_level
    };
    Targets::new()
        .with_default(default_level)
        .with_target("rekeyd", level)
        // It logs each added job at INFO.
        .with_target("tokio_cron_scheduler", others_level)
}

/// A destination of log lines.
type LogLayer = Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync>;

/// Whether a log line waits for the reader of standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogWriting {
    /// It does, as the other output of a command does.
    Direct,
    /// It does not: keys are rotated although nobody reads.
    Queued,
}

impl LogWriting {
    fn writer(self) -> BoxMakeWriter {
        if self == Self::Queued
            && let Ok(queue) = log_queue::open()
        {
            return BoxMakeWriter::new(move || queue.clone());
        }
        BoxMakeWriter::new(io::stderr)
    }
}

/// Initializes logging. Only the first call in a process has an effect.
pub(crate) fn init(level: Level, format: LogFormat, writing: LogWriting) {
    let (layer, problem) = match format {
        LogFormat::Human => (human_layer(writing), None),
        LogFormat::Json => (json_layer(writing), None),
        LogFormat::Auto if !is_connected_to_journal() => (human_layer(writing), None),
        LogFormat::Auto | LogFormat::Journald => match journald_layer() {
            Ok(layer) => (layer, None),
            Err(error) => (human_layer(writing), Some(error)),
        },
    };
    // Tests call this more than once in a process, which is no error.
    let _ = tracing_subscriber::registry()
        .with(CleanFields(layer).with_filter(level_filter(level)))
        .try_init();
    if let Some(error) = problem {
        tracing::warn!(
            "cannot connect to the journal: {}; logging to standard error",
            os_error::describe(&error)
        );
    }
}

/// Whether lines on this stream are coloured.
fn is_colored(stream: &impl io::IsTerminal) -> bool {
    stream.is_terminal() && may_color()
}

/// Whether a terminal is shown colours at all.
pub(super) fn may_color() -> bool {
    allows_color(|name| std::env::var_os(name))
}

/// Whether these variables allow colours: the terminal has them, and the user has not opted
/// out (no-color.org).
fn allows_color(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let is_opted_out = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = variable("TERM").is_none_or(|value| value == "dumb");
    !is_opted_out && !is_dumb
}

fn human_layer(writing: LogWriting) -> LogLayer {
    fmt::layer()
        .with_writer(writing.writer())
        .with_ansi(is_colored(&io::stderr()))
        .with_target(false)
        .boxed()
}

fn json_layer(writing: LogWriting) -> LogLayer {
    fmt::layer()
        .with_writer(writing.writer())
        .json()
        .flatten_event(true)
        .boxed()
}

/// Builds the journal's layer with the usual priorities of these levels, since
/// the crate's own are one step more urgent.
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

/// Whether systemd has connected standard error to the journal.
fn is_connected_to_journal() -> bool {
    let journal_stream = std::env::var_os("JOURNAL_STREAM");
    fstat(io::stderr()).is_ok_and(|stderr| is_journal_stream(journal_stream.as_deref(), &stderr))
}

/// Whether `file` is the stream of `$JOURNAL_STREAM`, which names its device
/// and inode. Children with redirected output inherit the variable, so that it
/// alone proves nothing.
fn is_journal_stream(journal_stream: Option<&OsStr>, file: &Stat) -> bool {
    let numbers = journal_stream.and_then(OsStr::to_str);
    let Some((device, inode)) = numbers.and_then(|numbers| numbers.split_once(':')) else {
        return false;
    };
    device.parse() == Ok(file.st_dev) && inode.parse() == Ok(file.st_ino)
}

/// Logs on standard output in this form, for the reader of a demo.
#[cfg(feature = "demo")]
pub(crate) fn init_demo_output(
    form: impl FormatEvent<Registry, DefaultFields> + Send + Sync + 'static,
) {
    let layer = fmt::layer()
        .with_writer(std::io::stdout)
        .with_ansi(is_colored(&io::stdout()))
        .event_format(form);
    let layer = layer.with_filter(level_filter(Level::INFO));
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_shown_on_capable_terminals_alone() {
        for (no_color, term, expected) in [
            (None, Some("xterm-256color"), true),
            (Some(""), Some("xterm"), true),
            (Some("1"), Some("xterm"), false),
            (Some("0"), Some("xterm"), false),
            (None, Some("dumb"), false),
            (None, None, false),
        ] {
            let variable = |name: &str| match name {
                "NO_COLOR" => no_color.map(OsString::from),
                "TERM" => term.map(OsString::from),
                other => unreachable!("{other}"),
            };
            assert_eq!(allows_color(variable), expected, "{no_color:?} {term:?}");
        }
    }

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
