//! HTTP as rekeyd uses it: every limit written out, in one place.
//!
//! The adapters build their requests themselves; what they share is here: a
//! client that never repeats, redirects or wanders through a proxy it should
//! not ([`client`]), bodies that cannot be too long ([`body`]), a probe that
//! sends nothing ([`reach`]), signatures of what is posted ([`signature`]), URLs as
//! they may be shown ([`target`]), and errors without URLs ([`failure`]).

pub mod body;
pub mod client;
pub mod failure;
pub mod reach;
pub mod signature;
pub mod target;
mod tls;
