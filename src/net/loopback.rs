//! Whether a URL stays on this host.

use url::{Host, Url};

/// Whether `url` names this host itself: `localhost`, 127.0.0.0/8 or `[::1]`.
///
/// Only there is plain http allowed, and there no proxy is ever asked. Other
/// names that resolve to loopback do not count: a name server decides about
/// those.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_host_is_loopback() {
        for (text, expected) in [
            ("http://localhost:8787/v1", true),
            ("http://LOCALHOST/", true),
            ("http://127.0.0.1/", true),
            ("https://127.9.9.9:1/", true),
            ("http://[::1]:80/", true),
            ("http://0.0.0.0/", false),
            ("http://[::]/", false),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("https://api.openai.com/v1", false),
            ("data:text/plain,localhost", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), expected, "{text}");
        }
    }
}
