//! HTTP as rekeyd uses it, with every limit written out in one place.
//!
//! The adapters build their requests themselves and share what is here: a
//! client that never repeats a request, follows a redirect or uses an unwanted
//! proxy ([`client`]), bodies of limited length ([`body`]), a check that sends
//! no request ([`connect_check`]), signatures of webhooks ([`signature`]), pauses
//! that a server asks for ([`retry_after`]), URLs without secrets ([`target`]),
//! proxies of the environment ([`proxy`]), the roots that it trusts ([`tls`],
//! [`ca_file`]), whether they have changed ([`trust_note`]), the certificate that a server may
//! ask for ([`client_identity`]), a client of the control socket (`unix_client`), addresses of names (`address`), whether a request opened its
//! connection (`connection_use`), connections to receivers whose user is known
//! (`receiver_connection`, from the kernel's `tcp_table`), and errors without URLs
//! ([`error_text`]).

mod address;
pub mod body;
pub mod ca_file;
pub mod client;
pub mod client_identity;
pub mod connect_check;
pub(crate) mod connection_use;
pub mod error_text;
pub(crate) mod http_server;
pub mod proxy;
mod proxy_tunnel;
pub(crate) mod receiver_connection;
pub mod retry_after;
pub mod signature;
pub mod target;
pub(crate) mod tcp_table;
pub mod tls;
pub mod trust_note;
pub(crate) mod unix_client;
