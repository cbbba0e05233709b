//! The program as a user whom file permissions bind: where the tests run as root,
//! that is nobody.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::{TestEnv, binary};

/// The user without any rights, by its number: a host may lack the name.
const NOBODY_UID: u32 = 65_534;

/// Whether the tests run as root.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A world that belongs to that user.
pub struct UnprivilegedEnv {
    pub env: TestEnv,
    program: PathBuf,
}

impl UnprivilegedEnv {
    /// Gives away the folder of `world`, its configuration, and `names` in it.
    pub fn new(world: TestEnv, names: &[&str]) -> Self {
        // Nobody may not look into the folder where it was built.
        let program = world.path("rekeyd");
        std::fs::copy(binary(), &program).unwrap();
        if is_root() {
            for name in ["", "admin-key", "config.toml"].iter().chain(names) {
                chown(world.path(name), Some(NOBODY_UID), Some(NOBODY_UID)).unwrap();
            }
        }
        Self {
            env: world,
            program,
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(self.env.path("config.toml"))
            .args(arguments)
            .env_clear();
        if is_root() {
            command.uid(NOBODY_UID).gid(NOBODY_UID);
        }
        loop {
            match command.output() {
                // A test beside this one forked while the copy was written.
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {}
                output => return output.unwrap(),
            }
        }
    }
}
