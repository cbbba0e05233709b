//! What the rest asks of this host: files with secrets, programs, users and
//! groups, time zones.

mod aside;
pub(crate) mod look;
pub mod machine;
pub mod program;
pub mod secret_file;
pub mod users;
pub mod zones;

pub(crate) use aside::aside;
