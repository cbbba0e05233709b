//! The configuration file: read and checked, with every problem at once.
//!
//! [`load`] returns the settings, or every problem that only an edit of the
//! file can repair; [`host_problems`] lists those that the host may repair.
//! Whether a server answers at the configured addresses is deliberately not
//! checked here.

mod claims;
mod control;
mod environment;
mod host_checks;
mod key_options;
mod keys;
mod load;
mod log;
mod notify;
pub mod options;
mod policy;
mod private_paths;
mod provider;
mod security;
pub mod settings;
mod sinks;
mod source_file;
mod top_table;
mod unit;
mod unknown_key;

pub use crate::config_reader::problem::{Problem, ProblemKind};
pub use crate::config_reader::render::render_problems;
pub(crate) use crate::config_reader::suggestion::closest_match;
pub use control::DEFAULT_SOCKET;
pub use environment::Environment;
pub(crate) use host_checks::OPEN_METRICS_HINT;
pub use host_checks::host_problems;
pub use load::{digest, load, load_lenient, parse, parse_loaded};
pub use private_paths::{ledger_files, private_paths};
pub(crate) use provider::{DEFAULT_LEDGER, DEFAULT_SNAPSHOT};
pub use unit::{DEFAULT_FILE, find_unit, stored_admin_key, units_in_use};
pub(crate) use unknown_key::{KnownKeys, describe_unknown_key};
