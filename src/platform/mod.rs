//! The interface to this host: clocks, files with secrets, programs, users and
//! groups, time zones.

pub mod clock;
pub mod entropy;
pub mod machine;
pub mod process;
mod run_blocking;
pub mod secret_file;
pub mod signals;
pub mod users;
pub mod zones;

pub use run_blocking::BlockingError;
pub(crate) use run_blocking::{BlockingPool, run_blocking};
