//! Values with a meaning of their own: durations, paths, addresses.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::quote::{is_secret_like, quoted};
use super::reader::ConfigValue;
use super::report::ProblemReport;
use crate::core::{duration, loopback};

/// The longest that one request or one delivery may be waited for.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// Below this every request would time out.
pub(crate) const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one attempt of a sink or of its program may take by default.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A duration from `least` to `most`.
pub(crate) fn read_duration(
    value: &ConfigValue<'_>,
    least: Duration,
    most: Duration,
    report: &mut ProblemReport,
) -> Option<Duration> {
    let text = value.text(report)?;
    let range = || {
        format!(
            "\"{}\" to \"{}\" is allowed",
            duration::to_text(least),
            duration::to_text(most)
        )
    };
    match duration::parse(text) {
        Ok(span) if (least..=most).contains(&span) => Some(span),
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

/// An absolute path of a file.
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
    let names_a_file = path.file_name().is_some() && !text.ends_with('/');
    if path.is_absolute() && names_a_file && !text.chars().any(char::is_control) {
        // Without `//` and `/./`, which mean nothing.
        return Some(if is_normalized(text) {
            path.to_owned()
        } else {
            path.components().collect()
        });
    }
    let what = if path.is_absolute() {
        "names no file"
    } else {
        "is no absolute path"
    };
    let message = format!("{} {what}", quoted(text));
    report.add_problem(
        &value.location,
        message,
        "a path from the root, such as \"/etc/rekeyd/file\", is allowed",
    );
    None
}

/// The path with every `..` resolved as text, without reading the disk: for
/// comparing, not for opening.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    if path.to_str().is_some_and(is_normalized) {
        return path.to_owned();
    }
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => normal.push(part),
        }
    }
    normal
}

/// Whether a path is certainly as [`normalize`] leaves it, as nearly every one is:
/// to take one apart costs ten times more.
fn is_normalized(path: &str) -> bool {
    path.starts_with('/') && !path.ends_with('/') && !path.contains("//") && !path.contains("/.")
}

/// Whether a path has a `..` in it.
pub(crate) fn has_parent_component(path: &Path) -> bool {
    let is_upwards = |part| part == Component::ParentDir;
    !path.to_str().is_some_and(is_normalized) && path.components().any(is_upwards)
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlRole {
    /// The provider's: paths are put behind it, so that it has no query.
    Provider,
    /// A receiver's, which may want a query.
    Receiver,
}

/// An address that a secret may be sent to: https, or http on loopback,
/// without userinfo. Messages do not quote it: its userinfo or its query may be
/// a secret.
pub(crate) fn read_url(
    value: &ConfigValue<'_>,
    whose: UrlRole,
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
    let before = report.count();
    let host = url.host_str().unwrap_or_default();
    let safe = url.scheme() == "https" || (url.scheme() == "http" && loopback::is_loopback(&url));
    if !safe {
        let found = quoted(&format!("{}://{host}", url.scheme()));
        report.add_problem(
            &value.location,
            format!("{found} is not safe for secrets"),
            "https is allowed, and http to localhost, 127.0.0.1 or [::1]",
        );
    }
    if !url.username().is_empty() || url.password().is_some() {
        let hint = match whose {
            UrlRole::Provider => "leave it out; the admin key is named by credential-file",
            UrlRole::Receiver => "leave it out; a token is named by bearer-token-file",
        };
        report.add_problem(
            &value.location,
            "a user or password stands in the URL",
            hint,
        );
    }
    if whose == UrlRole::Provider && url.query().is_some() {
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
    (report.count() == before).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_path_has_no_redundant_components() {
        for (written, expected) in [
            ("/etc/rekeyd/key", "/etc/rekeyd/key"),
            ("/etc/.key.rekeyd", "/etc/.key.rekeyd"),
            ("/etc/..key", "/etc/..key"),
            ("/etc/../key", "/key"),
            ("/etc/..", "/"),
            ("/etc/./key", "/etc/key"),
            ("/etc/key/.", "/etc/key"),
            ("/etc//key/", "/etc/key"),
            ("./key", "key"),
            ("/", "/"),
        ] {
            assert_eq!(
                normalize(Path::new(written)),
                Path::new(expected),
                "{written}"
            );
        }
    }
}
