//! The proxy that the environment names for a URL.
//!
//! A variable that cannot be read is an error and never a direct connection: it
//! may be there so that nothing leaves the host in another way.

use std::ffi::OsString;

use axum::http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::core::loopback::is_loopback;

/// The variables for all schemes, in the order of their precedence.
const ALL_VARIABLES: [&str; 2] = ["ALL_PROXY", "all_proxy"];

/// The variables with hosts that are connected to directly.
const EXCEPTION_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The schemes of proxies. With `socks4a` and `socks5h` the proxy resolves the
/// names of hosts.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

/// The reason why the environment names no usable proxy. Never shows a value,
/// which may have a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// A variable is not UTF-8.
    #[error("cannot read the proxy in ${variable}: it is not UTF-8 text")]
    NotText {
        /// The variable.
        variable: &'static str,
    },
    /// A variable is no URL.
    #[error(
        "cannot read the proxy in ${variable}: {reason}; hint: set it to http://HOST:PORT or \
         socks5h://HOST:PORT, or unset it"
    )]
    NotUrl {
        /// The variable.
        variable: &'static str,
        /// The error of the parser, or what the URL lacks.
        reason: String,
    },
    /// A variable has a scheme that is not known.
    #[error(
        "cannot use the proxy in ${variable}: unknown scheme {scheme}; hint: use one of {}",
        SCHEMES.join(", ")
    )]
    UnknownScheme {
        /// The variable.
        variable: &'static str,
        /// The scheme.
        scheme: String,
    },
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyAddress {
    /// Its URL, which may have a user and a password.
    pub(super) url: Url,
    /// Its host.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
}

/// Returns the proxy that the environment names for `url`; none for loopback.
pub(super) fn find_proxy(url: &Url) -> Result<Option<ProxyAddress>, ProxyError> {
    find_proxy_in(url, |name| std::env::var_os(name))
}

/// Checks that the environment names a usable proxy for `url`, or none.
///
/// # Errors
/// [`ProxyError`].
pub fn check_proxy(url: &Url) -> Result<(), ProxyError> {
    find_proxy(url).map(drop)
}

/// Returns the host of `url` for a message about a request to it, and the proxy on the
/// way: ` at api.openai.com through the proxy proxy:3128`.
#[must_use]
pub fn describe_peer(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    let proxy = find_proxy(url).ok().flatten();
    let proxy = proxy.map(|proxy| format!(" through the proxy {}:{}", proxy.host, proxy.port));
    format!(
        " at {host}{}{}",
        port.unwrap_or_default(),
        proxy.unwrap_or_default()
    )
}

fn find_proxy_in(
    url: &Url,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<ProxyAddress>, ProxyError> {
    if is_loopback(url) {
        return Ok(None);
    }
    let own_variables = if url.scheme() == "https" {
        ["HTTPS_PROXY", "https_proxy"]
    } else {
        ["HTTP_PROXY", "http_proxy"]
    };
    let found = match first_set(own_variables, &variable)? {
        Some(found) => Some(found),
        None => first_set(ALL_VARIABLES, &variable)?,
    };
    let Some((name, text)) = found else {
        return Ok(None);
    };
    let exceptions = first_set(EXCEPTION_VARIABLES, &variable)?;
    let exceptions = exceptions.map_or_else(String::new, |(_, hosts)| hosts);
    if is_exception(url, plain_exceptions(url, &exceptions)) {
        return Ok(None);
    }
    parse(name, &text).map(Some)
}

/// Returns the first of the variables that has a value.
fn first_set(
    names: [&'static str; 2],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(&'static str, String)>, ProxyError> {
    for name in names {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let text = value.into_string();
        let text = text.map_err(|_| ProxyError::NotText { variable: name })?;
        let text = text.trim().to_owned();
        // A script whose own variable is empty leaves blanks: perhaps a proxy was meant.
        if text.is_empty() && !EXCEPTION_VARIABLES.contains(&name) {
            let reason = "it has nothing but blanks".to_owned();
            return Err(ProxyError::NotUrl {
                variable: name,
                reason,
            });
        }
        if !text.is_empty() {
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

/// Returns exceptions in the form that the matcher reads, from the forms that other programs
/// read: separated by blanks, in quotes, with `*.` before a domain, or with a port, which
/// must be that of `url`.
fn plain_exceptions(url: &Url, exceptions: &str) -> String {
    let items = exceptions.split(|c: char| c == ',' || c.is_whitespace());
    let plain = items.filter_map(|item| {
        let item = item.trim_matches(['"', '\'']);
        let item = item
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(item);
        match item.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let is_same = port.parse() == Ok(url.port_or_known_default().unwrap_or_default());
                let host = host.trim_start_matches('[').trim_end_matches(']');
                is_same.then_some(host)
            }
            Some(_) | None => Some(item.trim_start_matches('[').trim_end_matches(']')),
        }
    });
    plain.collect::<Vec<_>>().join(",")
}

/// Whether the host of `url` is among `exceptions`, in the form of `NO_PROXY`.
fn is_exception(url: &Url, exceptions: String) -> bool {
    // Neither the path nor the query affects the choice of a proxy.
    let Ok(origin) = url.origin().ascii_serialization().parse::<Uri>() else {
        return false;
    };
    let any_proxy = Matcher::builder()
        .all("http://proxy.invalid")
        .no(exceptions);
    any_proxy.build().intercept(&origin).is_none()
}

fn parse(variable: &'static str, text: &str) -> Result<ProxyAddress, ProxyError> {
    let not_url = |reason: String| ProxyError::NotUrl { variable, reason };
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        Url::parse(&format!("http://{text}"))
    };
    let url = url.map_err(|error| not_url(error.to_string()))?;
    if !SCHEMES.contains(&url.scheme()) {
        let scheme = url.scheme().to_owned();
        return Err(ProxyError::UnknownScheme { variable, scheme });
    }
    let host = url.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| not_url("it has no host".to_owned()))?;
    // The parser of other schemes than http keeps any character.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !host.bytes().all(is_name) {
        return Err(not_url("its host name is not valid".to_owned()));
    }
    let port = url.port_or_known_default().unwrap_or(1080);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Ok(ProxyAddress { url, host, port })
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn find(url: &str, variables: &[(&str, &str)]) -> Result<Option<ProxyAddress>, ProxyError> {
        find_proxy_in(&Url::parse(url).unwrap(), |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.into())
        })
    }

    const HTTPS: &str = "https://receiver.example/hook?token=x";

    #[test]
    fn proxy_is_chosen_by_scheme_and_exceptions() {
        for (url, variables, expected) in [
            (HTTPS, &[][..], None),
            (HTTPS, &[("HTTPS_PROXY", "")], None),
            (HTTPS, &[("HTTPS_PROXY", "http://p:1")], Some(("p", 1))),
            (HTTPS, &[("https_proxy", " p:1 \n")], Some(("p", 1))),
            (HTTPS, &[("HTTPS_PROXY", "p")], Some(("p", 80))),
            (HTTPS, &[("HTTPS_PROXY", "https://p")], Some(("p", 443))),
            (
                HTTPS,
                &[("HTTPS_PROXY", "socks5h://u:p%20w@p:9")],
                Some(("p", 9)),
            ),
            (
                HTTPS,
                &[("ALL_PROXY", "socks5://[::1]")],
                Some(("::1", 1080)),
            ),
            (
                HTTPS,
                &[("all_proxy", "socks4://p"), ("HTTPS_PROXY", "q:2")],
                Some(("q", 2)),
            ),
            (
                HTTPS,
                &[("HTTPS_PROXY", ""), ("ALL_PROXY", "p:1")],
                Some(("p", 1)),
            ),
            (HTTPS, &[("HTTP_PROXY", "p:1")], None),
            (
                "http://r.example/",
                &[("HTTP_PROXY", "p:1")],
                Some(("p", 1)),
            ),
            ("http://127.0.0.1:1/", &[("HTTP_PROXY", "p:1")], None),
            (
                HTTPS,
                &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "other")],
                Some(("p", 1)),
            ),
            (
                HTTPS,
                &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", "example")],
                None,
            ),
            (HTTPS, &[("HTTPS_PROXY", "p:1"), ("no_proxy", "*")], None),
            // A program that a web server runs also has this variable.
            (
                HTTPS,
                &[("HTTPS_PROXY", "p:1"), ("REQUEST_METHOD", "GET")],
                Some(("p", 1)),
            ),
        ] {
            let found = find(url, variables).unwrap();
            let found = found.map(|proxy| (proxy.host, proxy.port));
            let expected = expected.map(|(host, port): (&str, u16)| (host.to_owned(), port));
            assert_eq!(found, expected, "{url} {variables:?}");
        }
    }

    #[test]
    fn exceptions_are_hosts_their_subdomains_and_networks() {
        for (url, exceptions, is_direct) in [
            (HTTPS, "receiver.example", true),
            (HTTPS, ".receiver.example", true),
            (HTTPS, "example", true),
            (HTTPS, ".example", true),
            (HTTPS, "RECEIVER.example", true),
            (HTTPS, "other, receiver.example ,x", true),
            (HTTPS, "*", true),
            (HTTPS, "iver.example", false),
            (HTTPS, "a.receiver.example", false),
            (HTTPS, "receiver.example.com", false),
            (HTTPS, "receiver", false),
            (HTTPS, "receiver.example/hook", false),
            (HTTPS, "https://receiver.example", false),
            (HTTPS, "10.0.0.0/8", false),
            (HTTPS, ",", false),
            (HTTPS, "receiver.example:443", true),
            (HTTPS, "receiver.example:8443", false),
            (HTTPS, "*.example", true),
            (HTTPS, "*.other", false),
            (HTTPS, "\"other,receiver.example\"", true),
            (HTTPS, "'receiver.example'", true),
            (HTTPS, "other receiver.example", true),
            (HTTPS, "other\treceiver.example\n", true),
            ("https://10.1.2.3:444/", "10.1.2.3:444", true),
            ("https://10.1.2.3/", "10.1.2.3:444", false),
            ("https://[2001:db8::1]/", "[2001:db8::1]:443", true),
            ("https://[2001:db8::1]/", "[2001:db8::1]", true),
            ("https://10.1.2.3/", "10.0.0.0/8", true),
            ("https://10.1.2.3/", "10.1.2.3", true),
            ("https://10.1.2.3/", "10.1.2", false),
            ("https://10.1.2.3/", "3", false),
            ("https://10.1.2.3/", "11.0.0.0/8", false),
            ("https://10.1.2.3/", "10.1.2.30", false),
            ("https://[2001:db8::1]/", "2001:db8::/32", true),
            ("https://[2001:db8::1]/", "2001:db9::/32", false),
        ] {
            let variables = [("HTTPS_PROXY", "p:1"), ("NO_PROXY", exceptions)];
            let found = find(url, &variables).unwrap();
            assert_eq!(found.is_none(), is_direct, "{url} {exceptions}");
        }
    }

    #[test]
    fn unusable_proxy_is_an_error_without_its_password() {
        for (name, value) in [
            ("HTTPS_PROXY", "http://exa mple:1"),
            ("HTTPS_PROXY", "exa mple:1"),
            ("HTTPS_PROXY", "socks5://exa mple:1"),
            ("HTTPS_PROXY", "http://u:hunter2@:1"),
            ("HTTPS_PROXY", "http://u:hunter2@p:port"),
            ("HTTPS_PROXY", "http://"),
            ("HTTPS_PROXY", " "),
            ("ALL_PROXY", "\t\n"),
            ("HTTPS_PROXY", "socks5://"),
            ("HTTPS_PROXY", "http://p:99999"),
            ("ALL_PROXY", "socks://u:hunter2@p:1"),
            ("ALL_PROXY", "ftp://p"),
            ("all_proxy", "file:///p"),
        ] {
            let error = find(HTTPS, &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(&format!("${name}")), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let bytes = |name: &str| (name == "HTTPS_PROXY").then(|| OsString::from_vec(vec![0xff]));
        let error = find_proxy_in(&Url::parse(HTTPS).unwrap(), bytes).unwrap_err();
        let variable = "HTTPS_PROXY";
        assert_eq!(error, ProxyError::NotText { variable });
        // One that is not needed does not matter.
        let unneeded = [("HTTP_PROXY", "http://exa mple:1")];
        assert_eq!(find(HTTPS, &unneeded), Ok(None));
        let excepted = [("HTTPS_PROXY", "http://exa mple:1"), ("NO_PROXY", "*")];
        assert_eq!(find(HTTPS, &excepted), Ok(None));
    }
}
