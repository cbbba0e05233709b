//! Whether a URL stays on this host. Only such a URL may be plain http, and no
//! proxy is used for it.

use std::net::IpAddr;

use url::{Host, Url};

/// Returns whether `url` names this host: `localhost`, a name below it,
/// 127.0.0.0/8 or `[::1]`.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_loopback_name(name),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether a name is one of the loopback (RFC 6761): `localhost` or a
/// name below it, with or without the dot of the root. No resolver is asked for
/// such a name, since its answer could be an address of another host.
#[must_use]
pub fn is_loopback_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    last.eq_ignore_ascii_case("localhost") && !name.starts_with('.') && !name.contains("..")
}

/// Returns whether only this host reaches what listens at an address.
#[must_use]
pub const fn is_loopback_address(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_addresses_are_reached_from_outside() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
            ("10.0.0.1", false),
            ("::ffff:10.0.0.1", false),
        ] {
            let found = is_loopback_address(address.parse().unwrap());
            assert_eq!(found, expected, "{address}");
        }
    }

    #[test]
    fn only_local_addresses_are_loopback() {
        for (url, expected) in [
            ("http://localhost:1/x", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:9/", true),
            ("http://localhost.example.com/", false),
            ("http://10.0.0.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://LOCALHOST/", true),
            // Other ways to write the address, which the parser resolves.
            ("http://127.1/", true),
            ("http://0x7f000001/", true),
            ("http://2130706433/", true),
            ("http://[0:0:0:0:0:0:0:1]/", true),
            ("http://user@localhost/", true),
            ("http://localhost@example.com/", false),
            ("http://localhost:1@example.com/", false),
            ("http://example.com/localhost", false),
            ("http://example.com#localhost", false),
            ("http://localhost./", true),
            ("http://LocalHost.:80/", true),
            ("http://a.localhost/", true),
            ("http://a.b.localhost./", true),
            ("http://localhost../", false),
            ("http://.localhost/", false),
            ("http://a..localhost/", false),
            ("http://localhost.localdomain/", false),
            ("http://localhost4/", false),
            ("http://ip6-localhost/", false),
            ("http://xlocalhost/", false),
            ("http://128.0.0.1/", false),
            ("http://0.0.0.0/", false),
            ("http://[::]/", false),
            ("http://[::2]/", false),
            ("http://[::ffff:127.0.0.1]/", false),
            ("unix:/x", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
