//! The addresses of a host, and the order in which they are tried.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::task::JoinSet;

use crate::core::loopback::is_loopback_name;
use crate::core::os_error;

/// The time after which the next address is tried beside one that has not
/// answered (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The failure to find the addresses of a name.
#[derive(Debug, thiserror::Error)]
#[error("{}", describe_lookup(.0))]
struct LookupError(io::Error);

/// What the standard library puts before the resolver's words.
const LOOKUP_PREFIX: &str = "failed to lookup address information: ";

/// Describes the failure of a lookup as one cause. The standard library keeps only the words
/// of the resolver, which name the service that rekeyd does not look up.
fn describe_lookup(error: &io::Error) -> String {
    let text = os_error::describe(error);
    match text.trim_start_matches(LOOKUP_PREFIX) {
        "Name or service not known"
        | "No address associated with hostname"
        | "Name does not resolve" => "host name not found".to_owned(),
        "Temporary failure in name resolution" | "Try again" => "no answer from DNS".to_owned(),
        other => format!("cannot resolve the host name: {other}"),
    }
}

/// Returns the addresses of a name or of an address in text. Names of the loopback are not
/// looked up: a host that answers for them would get what is sent in plain http.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_loopback_name(host) {
        return Ok(loopback_addresses(port).to_vec());
    }
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> = addresses
        .map_err(|error| io::Error::new(error.kind(), LookupError(error)))?
        .collect();
    if addresses.is_empty() {
        let message = "the host name has no address";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    Ok(addresses)
}

/// Returns the addresses of the loopback, in the order of most resolvers.
fn loopback_addresses(port: u16) -> [SocketAddr; 2] {
    [
        (Ipv6Addr::LOCALHOST, port).into(),
        (Ipv4Addr::LOCALHOST, port).into(),
    ]
}

/// The resolver of all clients.
#[derive(Debug)]
pub(super) struct HostResolver;

impl Resolve for HostResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let addresses = resolve(name.as_str(), 0).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Tries addresses until one succeeds, each a quarter of a second after the one
/// before or as soon as that fails, with the families in turn. Attempts that
/// still run then are dropped.
///
/// # Errors
/// The errors of all attempts, if none succeeds.
pub(super) async fn try_each<T, E, F>(
    addresses: Vec<SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut waiting = alternate_families(addresses).into_iter();
    let mut attempts = JoinSet::new();
    let mut errors = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(address));
        }
        let ended = if waiting.len() == 0 {
            attempts.join_next().await
        } else {
            let ended = tokio::time::timeout(ATTEMPT_DELAY, attempts.join_next()).await;
            ended.ok().flatten()
        };
        match ended {
            Some(Ok(Ok(value))) => return Ok(value),
            Some(Ok(Err(error))) => errors.push(error),
            Some(Err(_)) | None => {}
        }
        if attempts.is_empty() && waiting.len() == 0 {
            return Err(errors);
        }
    }
}

/// Puts the families in turn, the one of the first address first.
fn alternate_families(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let count = addresses.len();
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == is_first_ipv6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        ordered.extend(first.next());
        ordered.extend(second.next());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[test]
    fn failed_lookup_has_one_cause() {
        for (words, expected) in [
            ("Name or service not known", "host name not found"),
            ("No address associated with hostname", "host name not found"),
            ("Temporary failure in name resolution", "no answer from DNS"),
            (
                "Non-recoverable failure in name resolution",
                "cannot resolve the host name: Non-recoverable failure in name resolution",
            ),
        ] {
            let error = io::Error::other(format!("{LOOKUP_PREFIX}{words}"));
            assert_eq!(LookupError(error).to_string(), expected);
        }
    }

    #[tokio::test]
    async fn names_of_the_loopback_are_not_looked_up() {
        for name in ["localhost", "LOCALHOST", "localhost.", "a.b.localhost"] {
            let addresses = resolve(name, 7).await.unwrap();
            assert_eq!(addresses, loopback_addresses(7), "{name}");
        }
        let literal = resolve("192.0.2.7", 7).await.unwrap();
        assert_eq!(literal, ["192.0.2.7:7".parse().unwrap()]);
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts
            .iter()
            .map(|text| SocketAddr::new(text.parse().unwrap(), 1))
            .collect()
    }

    #[test]
    fn families_take_turns() {
        for (given, expected) in [
            (&["::1", "::2", "10.0.0.1"][..], &["::1", "10.0.0.1", "::2"]),
            (
                &["10.0.0.1", "10.0.0.2", "::1"],
                &["10.0.0.1", "::1", "10.0.0.2"],
            ),
            (&["::1", "::2", "::3"], &["::1", "::2", "::3"]),
        ] {
            assert_eq!(alternate_families(addresses(given)), addresses(expected));
        }
    }

    /// Attempts by the last digit of the address: 1 never answers, 2 fails at
    /// once, 3 succeeds after 100 ms.
    async fn attempt(address: SocketAddr) -> Result<SocketAddr, u16> {
        match address.ip().to_string().chars().last() {
            Some('1') => std::future::pending().await,
            Some('2') => Err(address.port()),
            _ => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(address)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn dead_address_delays_the_next_by_a_quarter_of_a_second() {
        for (given, delay) in [
            (&["10.0.0.3"][..], 100),
            (&["10.0.0.1", "10.0.0.3"], 350),
            (&["::1", "10.0.0.1", "::3"], 600),
            (&["10.0.0.2", "10.0.0.12", "10.0.0.3"], 100),
            (&["10.0.0.1", "10.0.0.2", "10.0.0.3"], 350),
            (&["10.0.0.3", "10.0.0.1"], 100),
        ] {
            let start = Instant::now();
            let found = try_each(addresses(given), attempt).await.unwrap();
            assert!(found.ip().to_string().ends_with('3'));
            // The clock of the runtime has steps of a millisecond.
            let delay = Duration::from_millis(delay);
            let elapsed = start.elapsed();
            assert!(
                elapsed >= delay && elapsed < delay + Duration::from_millis(10),
                "{given:?}: {elapsed:?}"
            );
        }
        let errors = try_each(addresses(&["10.0.0.2", "::2"]), attempt).await;
        assert_eq!(errors.unwrap_err(), [1, 1]);
        assert!(try_each(Vec::new(), attempt).await.unwrap_err().is_empty());
    }
}
