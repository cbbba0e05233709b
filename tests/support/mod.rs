//! A sandbox and a configuration in a scratch folder, and the real binary.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use self::limit::TestLimit;

pub mod clock;
pub mod control_socket;
pub mod daemon;
pub mod host;
pub mod limit;
pub mod unprivileged;

/// Returns an address that is free now, and that no other test uses.
pub fn free_address() -> String {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let listener = TcpListener::bind(format!("127.{high}.{low}.{last}:0")).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Requests a page, and returns its status, head and body.
pub fn get(address: &str, path: &str) -> (u16, String, String) {
    get_with(address, path, "accept: */*")
}

/// Requests a page with a header, and returns its status, head and body.
pub fn get_with(address: &str, path: &str, header: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    let limit = std::time::Duration::from_secs(120);
    stream.set_read_timeout(Some(limit)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\n{header}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_owned(), body.to_owned())
}

/// Returns the path of the program: Cargo's build, or `REKEYD_BINARY`.
pub fn binary() -> PathBuf {
    let given = std::env::var_os("REKEYD_BINARY");
    given.map_or_else(|| env!("CARGO_BIN_EXE_rekeyd").into(), PathBuf::from)
}

/// Copies the binary under test to `path`, where every user can run it.
///
/// `cp` writes it: a descriptor of this process would be inherited by whatever another
/// test starts at that moment, and a program that is open for writing does not run.
pub fn copy_binary(path: &Path) {
    let status = Command::new("cp").arg(binary()).arg(path).status();
    assert!(status.unwrap().success(), "cp to {}", path.display());
}

/// Returns a key with one file sink and the given overlap; see [`TestEnv::configure`].
pub fn file_key_text(overlap: &str) -> String {
    format!(
        "[key.billing]\nschedule = \"@monthly\"\noverlap = \"{overlap}\"\nverify-interval = \"0s\"\n\
         [[key.billing.sink]]\ntype = \"file\"\npath = \"DIR/billing.key\"\n"
    )
}

/// A child process that is killed with its test.
pub struct ChildGuard(pub Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct TestEnv {
    pub dir: TempDir,
    pub base_url: String,
    pub admin_key: String,
    environment: Vec<(String, String)>,
    sandbox: Option<ChildGuard>,
    /// The folder of the configuration, if it is not the one of everything else.
    config_dir: Option<TempDir>,
    _limit: TestLimit,
}

/// Opens a ledger read-only, as an operator with `sqlite3` does.
pub fn read_ledger(path: &Path) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    rusqlite::Connection::open_with_flags(path, flags).unwrap()
}

/// Returns whether this host has an id that a ledger records.
pub fn has_machine_id() -> bool {
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    id.trim().len() == 32
}

/// Opens a ledger for writing, as only a test may.
pub fn write_ledger(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

pub fn write(path: &Path, text: &str) {
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Returns a folder that no other user can enter.
pub fn scratch_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

impl TestEnv {
    /// Returns an environment whose sandbox has `arguments`, without keys.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with_env(Vec::new(), arguments)
    }

    /// Returns such an environment with variables for the sandbox and every command.
    pub fn start_with_env(environment: Vec<(String, String)>, arguments: &[&str]) -> Self {
        let dir = scratch_dir();
        let (child, base_url) = sandbox(dir.path(), "127.0.0.1:0", &environment, arguments);
        let mut world = Self::without_sandbox(base_url, rekeyd::sandbox::DEFAULT_ADMIN_KEY, dir);
        world.environment = environment;
        world.sandbox = Some(child);
        world
    }

    /// Restarts the sandbox at the same address, with other `arguments` and its keys.
    pub fn restart_sandbox(&mut self, arguments: &[&str]) {
        self.stop_sandbox();
        let url: url::Url = self.base_url.parse().unwrap();
        let address = format!("127.0.0.1:{}", url.port().unwrap());
        let (child, base_url) = sandbox(self.dir.path(), &address, &self.environment, arguments);
        assert_eq!(base_url, self.base_url);
        self.sandbox = Some(child);
    }

    /// Returns an environment with another provider, which accepts `admin_key`.
    pub fn without_sandbox(base_url: String, admin_key: &str, dir: TempDir) -> Self {
        write(&dir.path().join("admin-key"), admin_key);
        Self {
            dir,
            base_url,
            admin_key: admin_key.to_owned(),
            environment: Vec::new(),
            sandbox: None,
            config_dir: None,
            _limit: TestLimit::start(),
        }
    }

    /// Moves the configuration to a folder of its own, which belongs to the user of the test
    /// and which all users can read, as /etc/rekeyd.
    pub fn keep_configuration_apart(&mut self) {
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), mode(0o755)).unwrap();
        let file = folder.path().join("config.toml");
        std::fs::rename(self.config_path(), &file).unwrap();
        std::fs::set_permissions(file, mode(0o644)).unwrap();
        self.config_dir = Some(folder);
    }

    /// Returns the path of the configuration.
    pub fn config_path(&self) -> PathBuf {
        let folder = self.config_dir.as_ref().unwrap_or(&self.dir);
        folder.path().join("config.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the configuration: the provider and ledger of this environment, and `keys`,
    /// in which `DIR` stands for its folder.
    pub fn configure(&self, keys: &str) {
        let dir = self.dir.path().display();
        let own_user = rustix::process::geteuid().as_raw().to_string();
        let keys = keys.replace("DIR", &dir.to_string());
        let keys = keys.replace("OWN-USER", &own_user);
        write(
            &self.config_path(),
            &format!(
                "[provider]\nbase-url = \"{}\"\ncredential-file = \"{dir}/admin-key\"\n\
                 [ledger]\npath = \"{dir}/ledger.db\"\n\
                 [control]\nsocket = \"{dir}/control.sock\"\n{keys}",
                self.base_url
            ),
        );
    }

    /// Sets a variable in the environment of every later command.
    pub fn set_env(&mut self, variable: &str, value: &str) {
        self.environment
            .push((variable.to_owned(), value.to_owned()));
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .arg("--config")
            .arg(self.config_path())
            .args(arguments);
        for variable in [
            "OPENAI_ADMIN_KEY",
            "CREDENTIALS_DIRECTORY",
            "STATE_DIRECTORY",
            "REKEYD_CONFIG",
            "REKEYD_LOG",
        ] {
            command.env_remove(variable);
        }
        let set = self.environment.iter().map(|(name, value)| (name, value));
        command.envs(set);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().unwrap();
        assert_no_error_number(&text(&output.stdout));
        assert_no_error_number(&text(&output.stderr));
        output
    }

    /// Runs a command that must succeed, and returns its output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub fn history(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.ok(&["history", "--json"])).unwrap()
    }

    /// Returns every key in the sandbox's state file.
    pub fn keys(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("sandbox.json")).unwrap();
        let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let keys = state.get_mut("keys").map(serde_json::Value::take);
        serde_json::from_value(keys.unwrap_or(state)).unwrap()
    }

    /// Stops the sandbox.
    pub fn stop_sandbox(&mut self) {
        self.sandbox = None;
    }

    /// Returns the secret of a credential, as the sandbox created it.
    pub fn secret_of(&self, id: &str) -> String {
        let keys = self.keys();
        let key = keys.iter().find(|key| key["id"] == id).unwrap();
        key["value"].as_str().unwrap().to_owned()
    }

    /// Returns the ids of the live keys, without the admin key's.
    pub fn live_ids(&self) -> Vec<String> {
        let live = self
            .keys()
            .into_iter()
            .filter(|key| key["deleted_at"].is_null());
        live.filter(|key| key["name"] != "sandbox-owner")
            .map(|key| key["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Starts a sandbox that keeps its keys in `dir`, and returns its base URL.
fn sandbox(
    dir: &Path,
    address: &str,
    environment: &[(String, String)],
    arguments: &[&str],
) -> (ChildGuard, String) {
    let mut child = Command::new(binary())
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .args(["sandbox", "--listen", address, "--state"])
        .arg(dir.join("sandbox.json"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    let base_url = first.split('"').nth(1).unwrap().to_owned();
    (ChildGuard(child), base_url)
}

/// Asserts that no message has the number of a system's error: it says nothing to people.
pub fn assert_no_error_number(messages: &str) {
    assert!(!messages.contains("(os error"), "{messages}");
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
