//! The behaviour of the sandbox that no provider contract tests, over HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin_keys;
mod client;
mod faults;
mod models;
mod official_document;
mod policies;
mod project_keys;
mod projects;
mod service_accounts;
mod start;
