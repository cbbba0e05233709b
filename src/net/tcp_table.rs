//! The kernel's tables of TCP connections: the users at the other ends of connections
//! within this host.
//!
//! A TCP connection does not say who is at its other end, and after a receiver has stopped,
//! any user can listen on its port. But the kernel lists both ends of a connection within
//! one network namespace, each with the user who opened or accepted it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The tables of this process's network namespace. A host without IPv6 lacks the second.
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// The state of a socket that listens, as the tables show it.
const LISTEN: &str = "0A";

/// One end of a connection, or a socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    local: SocketAddr,
    remote: SocketAddr,
    is_listening: bool,
    user: u32,
    inode: u64,
}

/// Returns the user who accepted the connection from `client` to `server`; none if nobody
/// has accepted it yet. Blocks.
///
/// # Errors
/// If no table can be read.
pub(super) fn accepting_user(client: SocketAddr, server: SocketAddr) -> io::Result<Option<u32>> {
    let (client, server) = (canonical(client), canonical(server));
    find_in_tables(|text| accepting_user_in(text, client, server))
}

/// Returns the user who listens on `address` now, if any. Blocks.
///
/// # Errors
/// If no table can be read.
pub(crate) fn listening_user(address: SocketAddr) -> io::Result<Option<u32>> {
    let address = canonical(address);
    find_in_tables(|text| listening_user_in(text, address))
}

fn find_in_tables(find: impl Fn(&str) -> Option<u32>) -> io::Result<Option<u32>> {
    let mut missing = None;
    for table in TABLES {
        match std::fs::read_to_string(table) {
            Ok(text) => {
                if let Some(found) = find(&text) {
                    return Ok(Some(found));
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound && missing.is_none() => {
                missing = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn accepting_user_in(table: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let mut found = rows(table).filter(|row| row.local == server && row.remote == client);
    // Before somebody accepts it, a connection has no inode, and some kernels show root as
    // its user, whoever listens.
    found.find(|row| row.inode != 0).map(|row| row.user)
}

fn listening_user_in(table: &str, address: SocketAddr) -> Option<u32> {
    let serves = |row: &Row| {
        row.is_listening
            && row.local.port() == address.port()
            && (row.local.ip() == address.ip() || row.local.ip().is_unspecified())
    };
    rows(table).find(serves).map(|row| row.user)
}

fn rows(table: &str) -> impl Iterator<Item = Row> {
    table.lines().skip(1).filter_map(parse_row)
}

/// Parses a line such as
/// `0: 0100007F:24F9 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 5678 …`.
fn parse_row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let [_, local, remote, state, _, _, _, user, _, inode] = fields[..] else {
        return None;
    };
    Some(Row {
        local: parse_address(local)?,
        remote: parse_address(remote)?,
        is_listening: state == LISTEN,
        user: user.parse().ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Parses an address: words of 32 bits in the byte order of the host, and the port, all in
/// hexadecimal digits.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..(at + 1) * 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut octets = [0; 16];
            for at in 0..4 {
                octets[at * 4..(at + 1) * 4].copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(canonical(SocketAddr::new(ip, port)))
}

/// Returns an address of IPv4 as one, even if a socket of IPv6 has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn own_user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn ends(stream: &TcpStream) -> (SocketAddr, SocketAddr) {
        (stream.local_addr().unwrap(), stream.peer_addr().unwrap())
    }

    /// A listener on all addresses of IPv6 is listed in the second table only, with its
    /// connections of IPv4.
    #[test]
    fn accepted_connection_has_its_user_and_another_one_has_none() {
        for (bound, hosts) in [
            ("127.0.0.1:0", &["127.0.0.1"][..]),
            ("[::1]:0", &["::1"]),
            ("[::]:0", &["127.0.0.1", "::1"]),
            ("0.0.0.0:0", &["127.0.0.1"]),
        ] {
            // A host may lack IPv6.
            let Ok(listener) = TcpListener::bind(bound) else {
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            for host in hosts {
                let address = SocketAddr::new(host.parse().unwrap(), port);
                let Ok(stream) = TcpStream::connect(address) else {
                    continue;
                };
                let (client, server) = ends(&stream);
                assert_eq!(accepting_user(client, server).unwrap(), None, "{bound}");
                let accepted = listener.accept().unwrap();
                let found = accepting_user(client, server).unwrap();
                assert_eq!(found, Some(own_user()), "{bound} from {host}");
                assert_eq!(listening_user(address).unwrap(), Some(own_user()));
                // Not the row of the client itself.
                assert_eq!(accepting_user(server, server).unwrap(), None);
                drop(accepted);
            }
            drop(listener);
            let address = SocketAddr::new(hosts[0].parse().unwrap(), port);
            // A process that another test starts has the listener, too, until it executes its
            // program.
            let is_free = (0..1_000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(10));
                listening_user(address).unwrap().is_none()
            });
            assert!(is_free, "{bound}");
        }
    }

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    /// The words are those of a host whose least significant byte is first.
    #[cfg(target_endian = "little")]
    #[test]
    fn row_counts_only_with_both_addresses_and_an_inode() {
        let server: SocketAddr = "127.0.0.1:9465".parse().unwrap();
        let client: SocketAddr = "127.0.0.1:40001".parse().unwrap();
        let (at, from) = ("0100007F:24F9", "0100007F:9C41");
        let rest = "00000000:00000000 00:00000000 00000000";
        for (row, expected) in [
            (
                format!("0: {at} {from} 01 {rest}  1000        0 5678 1 0 20 4"),
                Some(1000),
            ),
            // The server has shut its side down.
            (
                format!("0: {at} {from} 05 {rest} 1000 0 5678 1"),
                Some(1000),
            ),
            // IPv4 through a socket of IPv6.
            (
                format!(
                    "0: 0000000000000000FFFF00000100007F:24F9 0000000000000000FFFF00000100007F:9C41 01 {rest} 33 0 9 1"
                ),
                Some(33),
            ),
            // Nobody has accepted it, or it has ended.
            (format!("0: {at} {from} 01 {rest} 0 0 0 1"), None),
            (format!("0: {at} {from} 06 {rest} 0 0 0 3"), None),
            // The client's end, another connection, and the socket that listens.
            (format!("0: {from} {at} 01 {rest} 1000 0 5678 1"), None),
            (
                format!("0: {at} 0100007F:9C42 01 {rest} 1000 0 5678 1"),
                None,
            ),
            (
                format!("0: 0200007F:24F9 {from} 01 {rest} 1000 0 5678 1"),
                None,
            ),
            (
                format!("0: {at} 00000000:0000 0A {rest} 1000 0 5678 1"),
                None,
            ),
            // What is no row.
            (format!("0: {at} {from} 01 {rest} 1000 0"), None),
            (format!("0: {at} {from} 01 {rest} -1 0 5678"), None),
            (format!("0: 7F:24F9 {from} 01 {rest} 1000 0 5678"), None),
            (
                format!("0: é00007F:24F9 {from} 01 {rest} 1000 0 5678"),
                None,
            ),
            (String::new(), None),
        ] {
            let table = format!("{HEAD}{row}\n");
            assert_eq!(accepting_user_in(&table, client, server), expected, "{row}");
        }
        // A row of another user before it, whose connection has ended, is not it.
        let table = format!(
            "{HEAD}0: {at} {from} 06 {rest} 0 0 0 3\n1: {at} {from} 01 {rest} 1000 0 5678 1\n"
        );
        assert_eq!(accepting_user_in(&table, client, server), Some(1000));
    }
}
