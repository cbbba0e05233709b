//! The users of the attacks.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread::JoinHandle;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::support::daemon::Daemon;
use crate::support::{TestEnv, copy_binary, file_key_text};

/// A member of the group of the control socket, who may only look.
pub const LOOKER: u32 = 4_711;

/// A user who has nothing to do with rekeyd.
pub const OTHER: u32 = 4_712;

/// The group of the control socket.
pub const SOCKET_GROUP: u32 = 4_713;

/// A user, and a group, of `[control] admins`.
pub const OPERATOR: u32 = 4_714;

/// A user, and a group, of `[control] super-admins`.
pub const SUPER_OPERATOR: u32 = 4_715;

/// A user who reads the file of a sink.
pub const CONSUMER: u32 = 4_716;

/// The user of a daemon that is not root's.
pub const DAEMON: u32 = 4_717;

/// Runs `work` on a thread of a user with this group.
pub fn run_as<T: Send + 'static>(
    user: u32,
    group: u32,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        set_thread_groups(&[]).unwrap();
        set_thread_gid(Gid::from_raw(group)).unwrap();
        set_thread_uid(Uid::from_raw(user)).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// An environment of root's whose socket and program other users may reach.
pub struct SharedHost {
    pub env: TestEnv,
    program: PathBuf,
}

impl SharedHost {
    /// Makes an environment with one key, whose ledger is in a folder of its own.
    pub fn new() -> Self {
        let env = TestEnv::start(&[]);
        let keys = file_key_text("24h").replace("schedule = \"@monthly\"", "every = \"30d\"");
        env.configure(&keys);
        let program = env.path("rekeyd");
        copy_binary(&program);
        for (name, mode) in [("", 0o755), ("config.toml", 0o644), ("rekeyd", 0o755)] {
            std::fs::set_permissions(env.path(name), Permissions::from_mode(mode)).unwrap();
        }
        Self { env, program }
    }

    /// Starts the daemon, and gives its socket to the group.
    pub fn start(&self) -> Daemon {
        let mut daemon = Daemon::start(&self.env);
        daemon.wait_for("started with");
        chown(self.env.path("control.sock"), None, Some(SOCKET_GROUP)).unwrap();
        daemon
    }

    /// Starts the daemon as the user [`DAEMON`], to whom the folder then belongs, and lets
    /// every user connect. The configuration stays root's.
    pub fn start_as_service(&mut self) -> Daemon {
        self.give_to_service();
        let mut daemon = Daemon::from_command(self.command_as(DAEMON, DAEMON, &["run"]));
        daemon.wait_for("is the current credential key=billing");
        let mode = Permissions::from_mode(0o666);
        std::fs::set_permissions(self.env.path("control.sock"), mode).unwrap();
        daemon
    }

    /// Gives the folder to the user [`DAEMON`], and the configuration a folder of its own.
    pub fn give_to_service(&mut self) {
        self.env.keep_configuration_apart();
        for name in ["", "admin-key"] {
            chown(self.env.path(name), Some(DAEMON), Some(DAEMON)).unwrap();
        }
    }

    /// Runs a command as a user with this group.
    pub fn run_as(&self, user: u32, group: u32, arguments: &[&str]) -> Output {
        self.command_as(user, group, arguments).output().unwrap()
    }

    /// Starts a command as a user with this group, on a thread that returns its result.
    pub fn run_as_later(&self, user: u32, group: u32, arguments: &[&str]) -> JoinHandle<Output> {
        let mut command = self.command_as(user, group, arguments);
        std::thread::spawn(move || command.output().unwrap())
    }

    fn command_as(&self, user: u32, group: u32, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg("--config")
            .arg(self.env.config_path())
            .args(arguments)
            .env_clear()
            .uid(user)
            .gid(group);
        command
    }
}
