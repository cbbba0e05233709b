//! Log lines, on standard error or in systemd's journal.
//!
//! No format masks anything: untrusted text is masked where it is received (see
//! [`crate::core::redact`]), and no other text that is logged holds a secret. What acts on a
//! terminal is replaced in each field, whatever the format (`clean_fields.rs`).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Stat, fstat};
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
#[cfg(feature = "demo")]
use tracing_subscriber::fmt::{FormatEvent, format::DefaultFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::cli::clean_fields::CleanFields;
use crate::core::os_error;
use crate::platform::crash::{self, CrashForm};
use crate::platform::log::filter::{self, LogFilter};
use crate::platform::log::format::LogFormat;
use crate::platform::log::journal::{JournalLayer, JournalOutput, JournalSocket};
use crate::platform::log::queue::{self, LogQueue, ProcessQueues, QueueLimits};

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

/// Which lines are logged, and how.
#[derive(Debug, Clone)]
pub(crate) struct LogOptions {
    /// The filter of the command line or of `REKEYD_LOG`.
    pub(crate) given: Option<LogFilter>,
    /// The filter of the configuration.
    pub(crate) configured: Option<LogFilter>,
    pub(crate) format: LogFormat,
    pub(crate) writing: LogWriting,
}

/// Initializes logging. Only the first call in a process has an effect.
pub(crate) fn init(options: LogOptions) {
    let writing = options.writing;
    let (layer, problem) = match options.format {
        LogFormat::Human => (human_layer(writing), None),
        LogFormat::Json => (json_layer(writing), None),
        LogFormat::Auto if !is_connected_to_journal() => (human_layer(writing), None),
        LogFormat::Auto | LogFormat::Journald => match journald_layer(writing) {
            Ok(layer) => (layer, None),
            Err(error) => (human_layer(writing), Some(error)),
        },
    };
    let filter = filter::install(options.given, options.configured);
    // Tests call this more than once in a process, which is no error.
    let _ = tracing_subscriber::registry()
        .with(CleanFields(layer).with_filter(filter))
        .try_init();
    filter::apply();
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
    let is_dumb = variable("TERM").is_none_or(|value| value.is_empty() || value == "dumb");
    !is_opted_out && !is_dumb
}

fn human_layer(writing: LogWriting) -> LogLayer {
    crash::set_form(CrashForm::Human);
    fmt::layer()
        .with_writer(stderr_writer(writing))
        .with_ansi(is_colored(&io::stderr()))
        .with_target(false)
        .boxed()
}

fn json_layer(writing: LogWriting) -> LogLayer {
    crash::set_form(CrashForm::Json);
    fmt::layer()
        .with_writer(stderr_writer(writing))
        .json()
        .flatten_event(true)
        .boxed()
}

fn stderr_writer(writing: LogWriting) -> BoxMakeWriter {
    if writing == LogWriting::Queued
        && let Ok(queue) = stderr_queue()
    {
        queue::open(ProcessQueues {
            log: queue.clone(),
            stderr: queue.clone(),
        });
        return BoxMakeWriter::new(queue);
    }
    BoxMakeWriter::new(io::stderr)
}

/// Returns a queue before standard error.
fn stderr_queue() -> io::Result<LogQueue> {
    // Not `Stderr`, whose lock a blocked thread would keep from every other.
    let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    let write = move |line: &[u8]| write_all(&stderr, line);
    LogQueue::start(QueueLimits::OF_PROCESS, "standard error", write)
}

/// Writes a line. Another process may have set the file not to block.
fn write_all(mut file: &File, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match file.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(file, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn journald_layer(writing: LogWriting) -> io::Result<LogLayer> {
    let socket = JournalSocket::connect()?;
    crash::set_form(CrashForm::Journal(JournalSocket::without_blocking()?));
    let output = match writing {
        LogWriting::Direct => JournalOutput::Socket(Arc::new(socket)),
        LogWriting::Queued => {
            let send = move |entry: &[u8]| socket.send(entry);
            let queue = LogQueue::start(QueueLimits::OF_PROCESS, "the journal", send)?;
            queue::open(ProcessQueues {
                log: queue.clone(),
                stderr: stderr_queue()?,
            });
            JournalOutput::Queue(queue)
        }
    };
    Ok(JournalLayer(output).boxed())
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
    let filter = filter::install(
        None,
        Some(LogFilter::of_level(
            tracing::level_filters::LevelFilter::INFO,
        )),
    );
    let layer = layer.with_filter(filter);
    let _ = tracing_subscriber::registry().with(layer).try_init();
    filter::apply();
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
            (None, Some(""), false),
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
