//! HTTP as rekeyd uses it: every limit written out, in one place.

pub mod client;
pub mod reach;
