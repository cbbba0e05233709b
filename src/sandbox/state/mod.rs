//! The state of the sandbox: projects, service accounts and keys, with their secrets in
//! plain text.
//!
//! The sandbox acts as another host. It has its own clock, and its secrets are
//! not registered with the redaction of rekeyd's output, since in one process
//! that would hide a leak of rekeyd's own. Nothing here is ever logged.

pub(super) mod account;
mod accounts;
pub(super) mod admin_keys;
pub(super) mod clock;
pub(super) mod collection;
pub(super) mod key;
pub(super) mod project;
pub(super) mod project_keys;
mod projects;
pub(super) mod sandbox_state;
