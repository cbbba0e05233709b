//! HTTP as rekeyd uses it: every limit written out, in one place.
//!
//! The adapters build their requests themselves; what they share is here: a
//! client that never repeats, redirects or wanders through a proxy it should
//! not ([`client`]), bodies that cannot be too long ([`body`]), a probe that
//! sends nothing ([`reach`]), and errors without URLs ([`failure`]).

pub mod body;
pub mod client;
pub mod failure;
pub mod reach;
mod tls;
