//! `rekeyd log-level`: replaces the filter of the log while the daemon runs.

use std::time::Duration;

use tokio::time::sleep_until;

use crate::core::{duration, redact};
use crate::daemon::control::protocol::{ControlResponse, RequestOutcome};
use crate::platform::log::filter::{self, DEFAULT_WORD, LogFilter};

/// What the outcome is about.
const ABOUT: &str = "log level";

/// Replaces the filter, for a while if a duration is given.
pub(crate) fn set(level: &str, span: Option<&str>) -> ControlResponse {
    let (done, message) = match apply(level, span) {
        Ok(message) => (true, message),
        Err(problem) => (false, format!("the log level is unchanged: {problem}")),
    };
    let outcome = RequestOutcome {
        about: ABOUT.to_owned(),
        done,
        message,
        shared_with: Vec::new(),
        consequences: Vec::new(),
        name: None,
    };
    ControlResponse {
        outcomes: vec![outcome],
    }
}

/// Waits until a filter ends that was set for a while, and returns to the one before. Cancel
/// safe.
pub(crate) async fn end_in_time() {
    match filter::override_end() {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
    let level = filter::end_override();
    tracing::info!("the log level is {level} again");
}

fn apply(level: &str, span: Option<&str>) -> Result<String, String> {
    let span = span.map(parse_span).transpose()?;
    if level == DEFAULT_WORD {
        if span.is_some() {
            return Err(format!("`{DEFAULT_WORD}` takes no duration"));
        }
        let level = filter::end_override();
        return Ok(format!("the log level is {level}"));
    }
    let level: LogFilter = filter::parse(level)?;
    let shown = level.to_string();
    let default = filter::set_override(level, span);
    Ok(match span {
        Some(span) => {
            let span = duration::to_human_text(span);
            format!("the log level is {shown} for {span}, then {default} again")
        }
        None => format!(
            "the log level is {shown} until rekeyd restarts; hint: `rekeyd log-level \
             {DEFAULT_WORD}` sets {default} again"
        ),
    })
}

fn parse_span(text: &str) -> Result<Duration, String> {
    let text_shown = redact::sanitize(text);
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err(format!("{text_shown:?} is too short; hint: at least 1s")),
        Ok(span) => Ok(span),
        Err(error) => Err(format!("{text_shown:?} is {error}")),
    }
}
