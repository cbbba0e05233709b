//! What stands between rekeyd and its provider: the adapter over HTTP and the
//! credential that it works with.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/adapter.rs"]
mod adapter;
#[path = "../support/canned.rs"]
mod canned;
#[path = "../support/contract.rs"]
mod contract;
#[path = "../support/tls.rs"]
mod tls;

mod answers;
mod certificates;
mod fall_back;
mod obligations;
mod paging;
mod proxy;
