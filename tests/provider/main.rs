//! The adapter of the provider over HTTP, and the credential with which it authenticates.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../support/adapter.rs"]
mod adapter;
#[path = "../support/canned_server.rs"]
mod canned_server;
#[path = "../support/provider_contract.rs"]
mod provider_contract;
#[path = "../support/tls.rs"]
mod tls;

mod certificates;
mod failover;
mod obligations;
mod odd_answers;
mod paging;
mod proxy;
mod responses;
