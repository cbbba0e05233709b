//! The interface to this host: clocks, files with secrets, names of files, the log,
//! programs, users and groups, time zones.

pub mod access_list;
pub mod admin_key_place;
pub mod clock;
pub mod crash;
pub mod descriptor_limit;
pub mod entropy;
pub mod file_access;
pub mod file_identity;
pub mod file_locks;
pub mod file_stamp;
pub(crate) mod folder_sync;
#[cfg(test)]
pub(crate) mod json_schema;
pub mod log;
pub mod machine;
pub mod name_service;
pub mod own_files;
pub mod passed_sockets;
pub mod path_walk;
pub mod pid_namespace;
pub mod process;
pub mod process_identity;
mod run_blocking;
pub mod secret_file;
pub mod service_unit;
pub mod signals;
pub mod users;
pub mod zones;

pub use run_blocking::BlockingError;
pub(crate) use run_blocking::{BlockingPool, run_blocking};
