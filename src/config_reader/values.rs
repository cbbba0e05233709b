//! Values of options with a format of their own: durations, paths, URLs.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::files::NamedFiles;
use super::quote::{expected_one_of, is_secret_like};
use super::reader::{ConfigTable, ConfigValue};
use super::report::ProblemReport;
use super::section::{ConfigOption, Section, ValueType};
use super::suggestion::closest_match;
use crate::core::path::is_normalized;
use crate::core::{duration, loopback};

/// The largest timeout of one request or one delivery.
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(300);

/// The smallest timeout: below it every request would time out.
pub(crate) const MIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The default timeout of one attempt of a sink or of its program.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// The name or the number of a user or group.
pub(crate) const ACCOUNT: ValueType = ValueType::Text("^[!-.0-9;-~][!-.0-9;-~]*$");

/// The longest path of a socket on Linux, see unix(7).
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// The options for the certificate that a server may ask for.
const CLIENT_CERTIFICATE: &str = "client-certificate";
const CLIENT_KEY: &str = "client-key";

/// What the URL of a Unix socket begins with.
const SOCKET_SCHEME: &str = "unix:";

/// Returns the option for the timeout of one attempt of a sink or of its program.
pub(crate) const fn timeout_option(name: &'static str, meaning: &'static str) -> ConfigOption {
    let range = ValueType::Duration(MIN_TIMEOUT, MAX_TIMEOUT);
    ConfigOption::new(name, range, r#""30s""#, meaning).or(r#""30s""#)
}

/// Returns the option for the file with the secret that requests are signed with.
pub(crate) const fn signing_secret_option() -> ConfigOption {
    ConfigOption::new(
        "signing-secret-file",
        ValueType::Path,
        r#""/etc/rekeyd/webhook-secret""#,
        "A file with one line `whsec_<base64>`, or two lines while you change it. rekeyd reads it \
         for each attempt.",
    )
    .required()
}

/// Returns the option for the certificate that a server may ask for.
pub(crate) const fn client_certificate_option() -> ConfigOption {
    ConfigOption::new(
        CLIENT_CERTIFICATE,
        ValueType::Path,
        r#""/etc/rekeyd/client.pem""#,
        "A certificate (PEM) to show the server, followed by those that lead to its root. rekeyd \
         reads it again when it changes.",
    )
    .only_with(CLIENT_KEY, None)
}

/// Returns the option for the key of that certificate.
pub(crate) const fn client_key_option() -> ConfigOption {
    ConfigOption::new(
        CLIENT_KEY,
        ValueType::Path,
        r#""/etc/rekeyd/client.key""#,
        "The private key of `client-certificate` (PEM, without a passphrase).",
    )
    .only_with(CLIENT_CERTIFICATE, None)
}

/// Reads the two options for a certificate that a server may ask for. Adds both files, if
/// they are named, to `files`.
pub(crate) fn read_client_files(
    table: &ConfigTable<'_>,
    section: Section,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<(PathBuf, PathBuf)> {
    let mut read = |name| {
        let value = table.get(section, name);
        (
            value.is_some(),
            value.and_then(|value| read_path(&value, report)),
        )
    };
    let (has_certificate, certificate) = read(CLIENT_CERTIFICATE);
    let (has_key, key) = read(CLIENT_KEY);
    files
        .read_only
        .extend(certificate.clone().map(|file| (CLIENT_CERTIFICATE, file)));
    if let Some(key) = &key {
        files.add_secret(CLIENT_KEY, key.clone());
    }
    match (has_certificate, has_key) {
        (true, false) => {
            let purpose = "the private key of client-certificate";
            report.add_missing_option(&table.location, section, CLIENT_KEY, purpose);
        }
        (false, true) => {
            let purpose = "the certificate of client-key";
            report.add_missing_option(&table.location, section, CLIENT_CERTIFICATE, purpose);
        }
        (true, true) | (false, false) => {}
    }
    Some((certificate?, key?))
}

/// Reads a duration in the range of its option.
pub(crate) fn read_duration(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<Duration> {
    let Some(ValueType::Duration(minimum, maximum)) = value.value_type() else {
        debug_assert!(false, "{} is not a duration", value.location);
        return None;
    };
    let text = value.text(report)?;
    let range = || {
        let (minimum, maximum) = (duration::to_text(minimum), duration::to_text(maximum));
        value.expected(&format!("a duration from {minimum} to {maximum}"))
    };
    match duration::parse(text) {
        Ok(span) if (minimum..=maximum).contains(&span) => Some(span),
        Ok(_) | Err(duration::DurationError::TooLong) => {
            report.add_problem(&value.location, "out of range", range());
            None
        }
        Err(duration::DurationError::InvalidSyntax) => {
            let hint = value.expected("a whole number and one unit (s, m, h or d)");
            report.add_problem(&value.location, "not a valid duration", hint);
            None
        }
    }
}

/// Reads one of the words of its option.
pub(crate) fn read_choice(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<&'static str> {
    let Some(ValueType::Choice(words)) = value.value_type() else {
        debug_assert!(false, "{} is not a choice", value.location);
        return None;
    };
    let text = value.text(report)?;
    let word = words.iter().copied().find(|word| *word == text);
    if word.is_none() {
        let hint = match closest_match(text, words) {
            Some(suggestion) => format!("did you mean \"{suggestion}\"?"),
            None => expected_one_of(words.iter().copied()),
        };
        report.add_problem(&value.location, "unknown value", hint);
    }
    word
}

/// Reads the absolute path of a file.
pub(crate) fn read_path(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<PathBuf> {
    let text = value.text(report)?;
    if !text.starts_with('/') && is_secret_like(text) {
        report.add_problem(
            &value.location,
            "expected the path of a file, but this looks like a secret",
            format!(
                "write the secret to a file that only rekeyd can read, and set its path, {}",
                value.such_as()
            ),
        );
        return None;
    }
    let path = Path::new(text);
    let ends_as_folder = text.ends_with('/') || text.ends_with("/.");
    let has_file_name = path.file_name().is_some() && !ends_as_folder;
    if path.is_absolute() && has_file_name && !text.chars().any(char::is_control) {
        // Without `//` and `/./`, which change nothing.
        return Some(if is_normalized(text) {
            path.to_owned()
        } else {
            path.components().collect()
        });
    }
    let (message, hint) = if !path.is_absolute() {
        // Not quoted: it may be the content of the file.
        (value.expected("an absolute path"), String::new())
    } else if text.chars().any(char::is_control) {
        let message = "contains a control character".to_owned();
        (message, "remove it from the path".to_owned())
    } else {
        let message = "the path is that of a directory".to_owned();
        (message, value.expected("the path of a file"))
    };
    report.add_problem(&value.location, message, hint);
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
    /// The URL of a sink's receiver, which may have a query.
    SinkReceiver,
    /// The URL of a notification channel's receiver, which may have a query.
    ChannelReceiver,
}

impl UrlRole {
    /// Says where a credential belongs that stands in the URL.
    const fn credential_hint(self) -> &'static str {
        match self {
            Self::Provider => "remove them; `credential-file` names the file with the admin key",
            Self::SinkReceiver => {
                "remove them; to send a token, write it to a file and set `bearer-token-file`"
            }
            Self::ChannelReceiver => {
                "remove them; the receiver verifies each request by its signature"
            }
        }
    }
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
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            let message = value.expected("a URL that starts with https://");
            report.add_problem(&value.location, message, "");
            return None;
        }
        Err(error) => {
            let message = format!("not a valid URL: {error}");
            report.add_problem(&value.location, message, value.expected("an https URL"));
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
            "not a valid URL: it contains a space, a control character or a backslash, or no \
             host follows https://",
            value.expected("an https URL"),
        );
        return None;
    }
    let problem_count = report.count();
    let is_safe =
        url.scheme() == "https" || (url.scheme() == "http" && loopback::is_loopback(&url));
    if !is_safe {
        let message = if url.scheme() == "http" {
            "http to another host would send secrets unencrypted"
        } else {
            "the URL does not start with https://"
        };
        let hint = "use https, or http to localhost, 127.0.0.1 or [::1]";
        report.add_problem(&value.location, message, hint);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "the URL contains a user name or a password";
        report.add_problem(&value.location, message, role.credential_hint());
    }
    if role == UrlRole::Provider && url.query().is_some() {
        let hint = "remove everything from `?` on";
        report.add_problem(&value.location, "the base URL contains a query", hint);
    }
    if url.fragment().is_some() {
        report.add_problem(
            &value.location,
            "the URL contains a fragment, which is never sent",
            "remove everything from `#` on",
        );
    }
    (report.count() == problem_count).then_some(url)
}

/// Reads a user or group, by name or number. Whether the account exists is a question to the
/// host.
pub(crate) fn read_account(value: &ConfigValue<'_>, report: &mut ProblemReport) -> Option<String> {
    let text = value.text(report)?;
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b':' | b'/');
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_allowed) {
        return Some(text.to_owned());
    }
    let hint = value.expected("a name or a number");
    report.add_problem(&value.location, "not a valid user or group", hint);
    None
}

/// Whether a text is the URL of a Unix socket.
pub(crate) fn is_socket_url(text: &str) -> bool {
    text.starts_with(SOCKET_SCHEME)
}

/// Reads a URL such as `unix:/run/app.sock:/hook`: the path of a socket, and the URL whose
/// path and query are those of the request, `/` if there are none. Messages do not quote it,
/// since the query may be a secret.
pub(crate) fn read_socket_url(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<(PathBuf, Url)> {
    let text = value.text(report)?.strip_prefix(SOCKET_SCHEME)?;
    let (socket, request) = match text.split_once(":/") {
        Some((socket, request)) => (socket, format!("/{request}")),
        None => (text, "/".to_owned()),
    };
    let expected = || value.expected("unix:/PATH of a socket, or unix:/PATH:/PATH-OF-THE-REQUEST");
    let path = Path::new(socket);
    let is_foreign = |letter: char| letter.is_control() || letter.is_whitespace() || letter == '\\';
    let url = Url::parse(&format!("http://localhost{request}")).ok();
    let has_file_name = path.file_name().is_some() && !socket.ends_with(['/', '.']);
    let is_valid = path.is_absolute()
        && has_file_name
        && !has_parent_component(path)
        && !text.contains(is_foreign)
        // A colon elsewhere is one that was meant to end the path.
        && !socket.contains([':', '?', '#'])
        && url.as_ref().is_some_and(|url| url.fragment().is_none());
    let Some(url) = url.filter(|_| is_valid) else {
        report.add_problem(&value.location, "not a valid Unix socket", expected());
        return None;
    };
    let path: PathBuf = path.components().collect();
    is_short_enough(&path, value, report).then_some((path, url))
}

/// Reads an address such as `unix:/run/app/metrics.sock`.
pub(crate) fn read_socket_address(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<PathBuf> {
    let (path, url) = read_socket_url(value, report)?;
    if url.path() == "/" && url.query().is_none() {
        return Some(path);
    }
    let message = "the address of a socket has no path of a request";
    report.add_problem(
        &value.location,
        message,
        "remove the second colon and what follows",
    );
    None
}

/// Reads the path of a socket, which the kernel limits.
pub(crate) fn read_socket_path(
    value: &ConfigValue<'_>,
    report: &mut ProblemReport,
) -> Option<PathBuf> {
    let path = read_path(value, report)?;
    is_short_enough(&path, value, report).then_some(path)
}

fn is_short_enough(path: &Path, value: &ConfigValue<'_>, report: &mut ProblemReport) -> bool {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH_BYTES {
        return true;
    }
    let message = format!("the path of a socket cannot be {length} bytes long");
    let hint = format!("use a path of at most {MAX_SOCKET_PATH_BYTES} bytes");
    report.add_problem(&value.location, message, hint);
    false
}
