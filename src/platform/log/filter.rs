//! Which lines are logged: a level, and levels of single modules, such as
//! `info,engine=debug`. A running daemon's filter can be replaced, also for a while.

use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::reload::{Handle, Layer};

use crate::core::redact;

/// The crate, which is the first part of its modules' paths.
const CRATE: &str = "rekeyd";

/// The modules of rekeyd that log.
pub const MODULES: [&str; 12] = [
    "alerting",
    "cli",
    "config",
    "config_reader",
    "core",
    "daemon",
    "engine",
    "ledger",
    "net",
    "platform",
    "provider",
    "sink",
];

/// The other crates whose lines a filter may name.
pub const OTHER_CRATES: [&str; 8] = [
    "hyper",
    "hyper_util",
    "log",
    "mio",
    "reqwest",
    "rustls",
    "rustls_platform_verifier",
    "tokio_cron_scheduler",
];

/// The words of the levels.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];

/// The word for the filter that the process started with.
pub const DEFAULT_WORD: &str = "default";

/// Which lines are logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    level: LevelFilter,
    /// The levels of single modules, by their whole path.
    modules: Vec<(String, LevelFilter)>,
}

/// The reason why a text is no filter. Its message does not quote the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A part is neither a level nor a module with its level.
    #[error("not a valid log level")]
    Level {
        /// The part.
        part: String,
    },
    /// There is no such module.
    #[error("not a module of rekeyd")]
    Module {
        /// The module.
        module: String,
    },
    /// Two parts are about the same lines.
    #[error("two log levels for the same lines")]
    Twice {
        /// The module, or what all modules are called.
        about: String,
    },
}

impl FilterError {
    /// Returns what to write instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Level { .. } => "use error, warn, info, debug, trace or off, or MODULE=LEVEL, \
                                   as in info,engine=debug"
                .to_owned(),
            Self::Module { .. } => format!("the modules are {}", MODULES.join(", ")),
            Self::Twice { .. } => "give one".to_owned(),
        }
    }
}

/// Parses a filter for a command, whose message quotes the wrong part and has the hint.
///
/// # Errors
/// The text is no filter.
pub fn parse(text: &str) -> Result<LogFilter, String> {
    let parsed = text.parse();
    parsed.map_err(|error: FilterError| {
        let (FilterError::Level { part: wrong }
        | FilterError::Module { module: wrong }
        | FilterError::Twice { about: wrong }) = &error;
        format!("{wrong:?}: {error}; hint: {}", error.hint())
    })
}

impl Default for LogFilter {
    fn default() -> Self {
        Self::of_level(LevelFilter::INFO)
    }
}

impl LogFilter {
    /// Returns the filter of one level.
    #[must_use]
    pub const fn of_level(level: LevelFilter) -> Self {
        Self {
            level,
            modules: Vec::new(),
        }
    }

    /// Returns the targets that are logged. The lines of other crates, which would drown
    /// rekeyd's own, are logged from `warn` on, unless everything is.
    fn targets(&self) -> Targets {
        let others = if self.level == LevelFilter::TRACE {
            self.level
        } else {
            self.level.min(LevelFilter::WARN)
        };
        let modules = self.modules.iter().cloned();
        Targets::new()
            .with_default(others)
            .with_target(CRATE, self.level)
            // It logs each added job at INFO.
            .with_target("tokio_cron_scheduler", self.level.min(LevelFilter::WARN))
            .with_targets(modules)
    }
}

impl FromStr for LogFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut level = None;
        let mut modules: Vec<(String, LevelFilter)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let Some((module, word)) = part.split_once('=') else {
                if level.replace(parse_level(part, part)?).is_some() {
                    let about = "all modules".to_owned();
                    return Err(FilterError::Twice { about });
                }
                continue;
            };
            let (module, level) = (
                parse_module(module.trim())?,
                parse_level(word.trim(), part)?,
            );
            if modules.iter().any(|(known, _)| *known == module) {
                return Err(FilterError::Twice { about: module });
            }
            modules.push((module, level));
        }
        Ok(Self {
            level: level.unwrap_or(LevelFilter::INFO),
            modules,
        })
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(level_word(self.level))?;
        for (module, level) in &self.modules {
            let prefix = format!("{CRATE}::");
            let module = module.strip_prefix(&prefix).unwrap_or(module);
            write!(formatter, ",{module}={}", level_word(*level))?;
        }
        Ok(())
    }
}

fn parse_level(word: &str, part: &str) -> Result<LevelFilter, FilterError> {
    let mut levels = LEVELS.into_iter();
    let level = levels.find(|(name, _)| word.eq_ignore_ascii_case(name));
    let unknown = || FilterError::Level {
        part: redact::sanitize(part),
    };
    level.map(|(_, level)| level).ok_or_else(unknown)
}

fn level_word(level: LevelFilter) -> &'static str {
    let mut levels = LEVELS.into_iter();
    levels
        .find(|(_, known)| *known == level)
        .map_or("off", |(word, _)| word)
}

/// Returns the whole path of a module, which may be written without the crate.
fn parse_module(module: &str) -> Result<String, FilterError> {
    let unknown = || FilterError::Module {
        module: redact::sanitize(module),
    };
    let mut segments = module.split("::");
    let is_segment = |segment: &str| {
        let mut bytes = segment.bytes();
        !segment.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if !segments.clone().all(is_segment) {
        return Err(unknown());
    }
    match segments.next() {
        Some(CRATE) => match segments.next() {
            None => Ok(CRATE.to_owned()),
            Some(first) if MODULES.contains(&first) => Ok(module.to_owned()),
            Some(_) => Err(unknown()),
        },
        Some(first) if MODULES.contains(&first) => Ok(format!("{CRATE}::{module}")),
        Some(first) if OTHER_CRATES.contains(&first) => Ok(module.to_owned()),
        Some(_) | None => Err(unknown()),
    }
}

/// The filter of this process.
static ACTIVE: OnceLock<ActiveFilter> = OnceLock::new();

struct ActiveFilter {
    handle: Handle<Targets, Registry>,
    state: Mutex<FilterState>,
}

struct FilterState {
    /// The filter of the command line or of `REKEYD_LOG`, which counts before the
    /// configuration's.
    given: Option<LogFilter>,
    configured: Option<LogFilter>,
    /// What an operator set, and until when.
    override_: Option<(LogFilter, Option<Instant>)>,
}

impl FilterState {
    /// Returns the filter without what an operator set.
    fn default_filter(&self) -> LogFilter {
        let filter = self.given.as_ref().or(self.configured.as_ref());
        filter.cloned().unwrap_or_default()
    }

    fn filter(&self) -> LogFilter {
        let set = self.override_.as_ref().map(|(filter, _)| filter.clone());
        set.unwrap_or_else(|| self.default_filter())
    }
}

/// Returns the layer that filters lines, and makes it the one of this process. `given`
/// counts before what the configuration says.
pub(crate) fn install(
    given: Option<LogFilter>,
    configured: Option<LogFilter>,
) -> Layer<Targets, Registry> {
    let state = FilterState {
        given,
        configured,
        override_: None,
    };
    // As wide as possible at first: what other crates log through the `log` crate is limited
    // by the filter of this moment for good.
    let everything = Targets::new().with_default(LevelFilter::TRACE);
    let (layer, handle) = Layer::new(everything);
    let active = ActiveFilter {
        handle,
        state: Mutex::new(state),
    };
    // Tests call this more than once in a process, which is no error.
    let _ = ACTIVE.set(active);
    layer
}

/// Applies the filter, once the layer is in use.
pub(crate) fn apply() {
    with_state(|_| {});
}

/// Replaces the filter of the configuration.
pub(crate) fn set_configured(filter: Option<LogFilter>) {
    with_state(|state| state.configured = filter);
}

/// Sets a filter, until `after` has passed if it is given. Returns the filter that then
/// counts again.
pub(crate) fn set_override(filter: LogFilter, after: Option<Duration>) -> LogFilter {
    let mut default = LogFilter::default();
    with_state(|state| {
        let end = after.and_then(|after| Instant::now().checked_add(after));
        state.override_ = Some((filter, end));
        default = state.default_filter();
    });
    default
}

/// Returns to the filter of the start. Returns that filter.
pub(crate) fn end_override() -> LogFilter {
    let mut default = LogFilter::default();
    with_state(|state| {
        state.override_ = None;
        default = state.default_filter();
    });
    default
}

/// Returns when a filter ends that an operator set for a while.
pub(crate) fn override_end() -> Option<Instant> {
    let state = lock(ACTIVE.get()?);
    state.override_.as_ref()?.1
}

/// Changes the state, and applies the filter that follows from it.
fn with_state(change: impl FnOnce(&mut FilterState)) {
    let Some(active) = ACTIVE.get() else { return };
    let filter = {
        let mut state = lock(active);
        change(&mut state);
        state.filter()
    };
    // An error means that there is no subscriber, as in tests.
    let _ = active.handle.reload(filter.targets());
}

fn lock(active: &ActiveFilter) -> MutexGuard<'_, FilterState> {
    active.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn parse(text: &str) -> Result<LogFilter, FilterError> {
        text.parse()
    }

    #[test]
    fn filter_names_levels_and_modules() {
        for (text, shown, target, level, expected) in [
            ("info", "info", "rekeyd::engine", Level::DEBUG, false),
            (
                "DEBUG",
                "debug",
                "rekeyd::engine::worker",
                Level::DEBUG,
                true,
            ),
            ("debug", "debug", "hyper", Level::INFO, false),
            ("debug", "debug", "hyper", Level::WARN, true),
            ("trace", "trace", "hyper", Level::TRACE, true),
            (
                "engine=debug",
                "info,engine=debug",
                "rekeyd::engine::worker",
                Level::DEBUG,
                true,
            ),
            (
                "engine=debug",
                "info,engine=debug",
                "rekeyd::sink",
                Level::DEBUG,
                false,
            ),
            (
                " warn , rekeyd::sink::command = trace ",
                "warn,sink::command=trace",
                "rekeyd::sink::command::target",
                Level::TRACE,
                true,
            ),
            (
                "error,tokio_cron_scheduler=trace",
                "error,tokio_cron_scheduler=trace",
                concat!("tokio_cron_scheduler", "::job"),
                Level::TRACE,
                true,
            ),
            (
                "info,net=off",
                "info,net=off",
                "rekeyd::net",
                Level::ERROR,
                false,
            ),
        ] {
            let filter = parse(text).unwrap();
            assert_eq!(filter.to_string(), shown);
            assert_eq!(parse(shown), Ok(filter.clone()));
            let logs = filter.targets().would_enable(target, &level);
            assert_eq!(logs, expected, "{text} {target} {level}");
        }
    }

    #[test]
    fn text_that_is_no_filter_is_refused_with_the_reason() {
        let (level, module) = ("not a valid log level", "not a module of rekeyd");
        let twice = "two log levels for the same lines";
        for (text, wrong, expected) in [
            ("", "", level),
            ("loud", "loud", level),
            ("info,", "", level),
            ("engine=loud", "engine=loud", level),
            ("engin=debug", "engin", module),
            ("rekeyd::engin=debug", "rekeyd::engin", module),
            ("engine::=debug", "engine::", module),
            ("=debug", "", module),
            ("info,debug", "all modules", twice),
            ("engine=info,rekeyd::engine=debug", "rekeyd::engine", twice),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
            let message = super::parse(text).unwrap_err();
            let expected = format!("{wrong:?}: {expected}; hint: ");
            assert!(message.starts_with(&expected), "{text}: {message}");
        }
        let secret = super::parse("sk-admin-0123456789").unwrap_err();
        assert!(!secret.contains("0123456789"), "{secret}");
    }

    #[test]
    fn every_module_of_the_crate_can_be_named() {
        let declared = include_str!("../../lib.rs").lines();
        let declared = declared.filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        let mut declared: Vec<_> = declared.filter(|name| *name != "sandbox").collect();
        declared.sort_unstable();
        assert_eq!(declared, MODULES);
    }

    #[test]
    fn command_line_counts_before_the_configuration_and_an_operator_before_both() {
        let filter = |text| Some(parse(text).unwrap());
        let mut state = FilterState {
            given: None,
            configured: None,
            override_: None,
        };
        assert_eq!(state.filter(), LogFilter::default());
        state.configured = filter("warn");
        assert_eq!(Some(state.filter()), filter("warn"));
        state.given = filter("error");
        assert_eq!(Some(state.filter()), filter("error"));
        state.override_ = Some((parse("debug").unwrap(), None));
        assert_eq!(Some(state.filter()), filter("debug"));
    }
}
