//! HTTP as rekeyd uses it: every limit written out, in one place.
//!
//! The adapters build their requests themselves; what they share is here: a
//! client that never repeats, redirects or wanders through a proxy it should
//! not ([`client`]), bodies that cannot be too long ([`body`]), a probe that
//! sends nothing ([`connect_check`]), signatures of what is posted ([`signature`]), URLs as
//! they may be shown ([`target`]), and errors without URLs ([`error_text`]).

pub mod body;
pub mod client;
pub mod connect_check;
pub mod error_text;
pub(crate) mod http_server;
pub mod signature;
pub mod target;
mod tls;
