//! Values of options with a format of their own: durations, paths, URLs.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::quote::{is_secret_like, quoted};
use super::reader::ConfigValue;
use super::report::ProblemReport;
use crate::core::path::is_normalized;
use crate::core::{duration, loopback};

/// The largest timeout of one request or one delivery.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// The smallest timeout: below it every request would time out.
pub(crate) const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The default timeout of one attempt of a sink or of its program.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a duration from `minimum` to `maximum`.
pub(crate) fn read_duration(
    value: &ConfigValue<'_>,
    minimum: Duration,
    maximum: Duration,
    report: &mut ProblemReport,
) -> Option<Duration> {
    let text = value.text(report)?;
    let range = || {
        format!(
            "\"{}\" to \"{}\" is allowed",
            duration::to_text(minimum),
            duration::to_text(maximum)
        )
    };
    match duration::parse(text) {
        Ok(span) if (minimum..=maximum).contains(&span) => Some(span),
        Ok(_) | Err(duration::DurationError::TooLong) => {
            let message = format!("{} is out of range", quoted(text));
            report.add_problem(&value.location, message, range());
            None
        }
        Err(error @ duration::DurationError::InvalidSyntax) => {
            let message = format!("{} is no duration", quoted(text));
            report.add_problem(&value.location, message, error.to_string());
            None
        }
    }
}

/// Reads the absolute path of a file.
pub(crate) fn read_path(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<PathBuf> {
    let text = value.text(report)?;
    if !text.starts_with('/') && is_secret_like(text) {
        report.add_problem(
            &value.location,
            "this looks like a secret and not like a path",
            "no secret may stand in this file: write it into a file with mode 0600 and name that",
        );
        return None;
    }
    let path = Path::new(text);
    let has_file_name = path.file_name().is_some() && !text.ends_with('/');
    if path.is_absolute() && has_file_name && !text.chars().any(char::is_control) {
        // Without `//` and `/./`, which change nothing.
        return Some(if is_normalized(text) {
            path.to_owned()
        } else {
            path.components().collect()
        });
    }
    let problem = if path.is_absolute() {
        "names no file"
    } else {
        "is no absolute path"
    };
    let message = format!("{} {problem}", quoted(text));
    report.add_problem(
        &value.location,
        message,
        "a path from the root, such as \"/etc/rekeyd/file\", is allowed",
    );
    None
}

/// Whether a path contains `..`.
pub(crate) fn has_parent_component(path: &Path) -> bool {
    let is_parent_dir = |part| part == Component::ParentDir;
    !path.to_str().is_some_and(is_normalized) && path.components().any(is_parent_dir)
}

/// The use of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlRole {
    /// The provider's base URL: paths are appended, so that it has no query.
    Provider,
    /// A receiver's URL, which may have a query.
    Receiver,
}

/// Reads a URL that secrets may be sent to: https, or http on loopback, without
/// userinfo. Messages do not quote it, since its userinfo or its query may be a
/// secret.
pub(crate) fn read_url(
    value: &ConfigValue<'_>,
    role: UrlRole,
    report: &mut ProblemReport,
) -> Option<Url> {
    let text = value.text(report)?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            report.add_problem(
                &value.location,
                format!("no URL: {error}"),
                "https://HOST/PATH is allowed, and http:// on this host",
            );
            return None;
        }
    };
    // The parser leaves these out or takes them for something else.
    let is_foreign = |letter: char| letter.is_control() || letter.is_whitespace() || letter == '\\';
    let is_literal = text.get(url.scheme().len()..).is_some_and(|rest| {
        rest.strip_prefix("://")
            .is_some_and(|rest| !rest.starts_with('/'))
    });
    if text.contains(is_foreign) || !is_literal {
        report.add_problem(
            &value.location,
            "no URL: it needs SCHEME://HOST without blanks and backslashes",
            "https://HOST/PATH is allowed, and http:// on this host",
        );
        return None;
    }
    let problem_count = report.count();
    let host = url.host_str().unwrap_or_default();
    let is_safe =
        url.scheme() == "https" || (url.scheme() == "http" && loopback::is_loopback(&url));
    if !is_safe {
        let origin = quoted(&format!("{}://{host}", url.scheme()));
        report.add_problem(
            &value.location,
            format!("{origin} is not safe for secrets"),
            "https is allowed, and http to localhost, 127.0.0.1 or [::1]",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = match role {
            UrlRole::Provider => "leave it out; the admin key is named by credential-file",
            UrlRole::Receiver => "leave it out; a token is named by bearer-token-file",
        };
        report.add_problem(
            &value.location,
            "a user or password stands in the URL",
            hint,
        );
    }
    if role == UrlRole::Provider && url.query().is_some() {
        let hint = "leave out everything from ? on";
        report.add_problem(&value.location, "a query stands in the URL", hint);
    }
    if url.fragment().is_some() {
        report.add_problem(
            &value.location,
            "a part behind # stands in the URL",
            "leave it out; it is never sent",
        );
    }
    (report.count() == problem_count).then_some(url)
}
