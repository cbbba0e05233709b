//! Whether a URL stays on this host: plain http is allowed only there.

use url::{Host, Url};

/// Whether `url` names this host itself: `localhost`, 127.0.0.0/8 or `::1`.
///
/// A name below `localhost` (`a.localhost`) is not trusted: resolvers that
/// send it to a name server exist.
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
        for (text, loopback) in [
            ("http://localhost/", true),
            ("http://LOCALHOST:8787/v1", true),
            ("http://127.0.0.1/", true),
            ("http://127.9.9.9:1/", true),
            ("http://[::1]:8787/", true),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://localhost.example.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://a.localhost/", false),
            ("http://10.0.0.1/", false),
            ("http://0.0.0.0/", false),
            ("data:text/plain,localhost", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), loopback, "{text}");
        }
    }
}
