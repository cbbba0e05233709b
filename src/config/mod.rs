//! The configuration file: read, checked, every problem at once.
//!
//! [`load`] gives what the program works with, or everything that only an edit
//! of the file can repair; [`host_problems`] is what the host may repair.
//! Deliberately not here: whether anything answers at the addresses that the
//! file names.

mod claims;
mod control;
mod environment;
mod host_checks;
mod key_options;
mod keys;
mod load;
mod notify;
pub mod options;
mod policy;
mod provider;
pub mod settings;
mod sinks;
mod source_file;

pub use crate::config_reader::problem::{Problem, ProblemKind};
pub use environment::Environment;
pub use host_checks::host_problems;
pub use load::{load, load_lenient, parse};
