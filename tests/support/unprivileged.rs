//! Runs the program as a user to whom file permissions apply: if the tests run as root,
//! as the user nobody.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::{TestEnv, copy_binary};

/// The id of the user nobody: a host may lack the name.
const NOBODY_UID: u32 = 65_534;

/// Returns whether the tests run as root.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A test environment that belongs to that user.
pub struct UnprivilegedEnv {
    pub env: TestEnv,
    program: PathBuf,
}

impl UnprivilegedEnv {
    /// Changes the owner of the folder of `world`, its configuration, and `names` in it.
    pub fn new(world: TestEnv, names: &[&str]) -> Self {
        // The user nobody may not enter the folder in which the program was built.
        let program = world.path("rekeyd");
        copy_binary(&program);
        if is_root() {
            for name in ["", "admin-key"].iter().chain(names) {
                chown(world.path(name), Some(NOBODY_UID), Some(NOBODY_UID)).unwrap();
            }
            if world.config_path().parent() == Some(world.dir.path()) {
                chown(world.config_path(), Some(NOBODY_UID), Some(NOBODY_UID)).unwrap();
            }
        }
        Self {
            env: world,
            program,
        }
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        if is_root() {
            command.uid(NOBODY_UID).gid(NOBODY_UID);
        }
        command.output().unwrap()
    }

    /// Whether the tests may choose the groups of a command.
    pub fn can_choose_groups(&self) -> bool {
        is_root()
    }

    /// Runs a command whose process has no other group than this one.
    pub fn run_in_group(&self, group: u32, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command.uid(NOBODY_UID).gid(group);
        command.output().unwrap()
    }

    /// Runs a command as the user of the test, with a program that both users can run.
    pub fn run_as_invoker(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(self.env.config_path())
            .args(arguments)
            .env_clear();
        command
    }
}
