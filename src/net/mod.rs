//! HTTP as rekeyd uses it: every limit written out, in one place.

pub mod body;
pub mod client;
pub mod failure;
pub mod reach;
mod tls;
