//! The service's view of this host. Root sees and may do what the service cannot, so that
//! its checks would find nothing, and its advice and its files would lock the service out.
//! So a command that root runs on the service's files runs as the service does: with its
//! user, groups and capabilities, its environment and its admin key.
//!
//! The process executes itself again with the other identity. The admin key,
//! which only root can read, is passed on standard input, so that it is in no
//! file, argument or environment.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Access, AtFlags, CWD, FileType, Gid, MemfdFlags, SeekFrom, Uid, accessat};
use secrecy::zeroize::Zeroizing;

use crate::cli::context::{GlobalOptions, read_environment};
use crate::cli::failure::Failure;
use crate::cli::passed_file::FILE_VARIABLE;
use crate::cli::passed_key::{KEY_VARIABLE, PROBLEM_VARIABLE};
use crate::config;
use crate::config::settings::Settings;
use crate::core::os_error;
use crate::core::redact::sanitize;
use crate::platform::path_walk::{self, PathTrust, WalkedPath, Weakness, WeaknessKind};
use crate::platform::process_identity::ProcessIdentity;
use crate::platform::secret_file::{self, ADMIN_CREDENTIAL_NAME, ADMIN_KEY_VARIABLE};
use crate::platform::service_unit::{ServiceUnit, StoredCredential};
use crate::platform::users;

/// The variable that describes whose view this process has.
const VIEW_VARIABLE: &str = "REKEYD_SERVICE_VIEW";

/// The variables of the invoker that the command keeps.
const KEPT_VARIABLES: [&str; 6] = [
    "TERM",
    "NO_COLOR",
    "COLUMNS",
    "REKEYD_CONFIG",
    "REKEYD_LOG",
    "TZ",
];

/// The variables of the invoker that a command gets as the owner of a ledger, of which no unit
/// is known: those that rekeyd reads. Others may be secrets of root's.
const OWNER_VARIABLES: [&str; 11] = [
    "OPENAI_ADMIN_KEY",
    "CREDENTIALS_DIRECTORY",
    "STATE_DIRECTORY",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// The number of the group `nogroup`, which owns nothing.
const NO_GROUP: u32 = 65_534;

/// The service whose view a command takes.
struct Service {
    identity: ProcessIdentity,
    /// Such as `rekeyd, as rekeyd.service has it`.
    description: String,
    unit: Option<ServiceUnit>,
}

impl Service {
    /// Returns the service of a ledger's owner, of which no unit is known.
    fn of_owner(user: Uid, group: Gid) -> Self {
        Self {
            description: format!("{}, the owner of the ledger", user_text(user)),
            identity: ProcessIdentity::of_user(user, group),
            unit: None,
        }
    }
}

/// Returns whose view this process has, if it is another user's than the
/// invoker's.
pub(super) fn description() -> Option<String> {
    std::env::var(VIEW_VARIABLE).ok()
}

/// Executes this command again as the service, if root runs it and the service has another
/// user. Returns if the command continues as it is.
pub(super) fn enter(options: &GlobalOptions, as_invoker: bool) -> Result<(), Failure> {
    enter_with(options, as_invoker, "", || None)
}

/// As [`enter`], and passes on what only root can find out: the value of `variable`, which
/// `find` returns.
pub(super) fn enter_with(
    options: &GlobalOptions,
    as_invoker: bool,
    variable: &str,
    find: impl FnOnce() -> Option<OsString>,
) -> Result<(), Failure> {
    if as_invoker || !is_root() {
        return Ok(());
    }
    let Some(service) = find_service(options)? else {
        return Ok(());
    };
    let found = find().map(|value| (variable, value));
    Err(cannot_run(&service, &execute_as(&service, found)))
}

/// As [`enter_to_work`], and passes a file of root's on to the command.
pub(super) fn enter_with_file(
    options: &GlobalOptions,
    open: impl FnOnce() -> Option<File>,
) -> Result<(), Failure> {
    make_state_folders(options)?;
    if !is_root() {
        return Ok(());
    }
    let Some(service) = find_service(options)? else {
        return Ok(());
    };
    let mut command = command_as(&service)?;
    if let Some(file) = open() {
        command.env(FILE_VARIABLE, "1").stdin(Stdio::from(file));
    }
    Err(cannot_run(&service, &become_and_execute(&service, command)))
}

/// Executes this command again as the owner of the ledger with a file of root's, if root runs
/// it and the ledger has another owner. Returns whether it did so.
///
/// # Errors
/// That of `open`; [`Failure::Reported`] if the command failed.
pub(super) fn run_with_file(
    settings: &Settings,
    open: impl FnOnce() -> Result<File, Failure>,
) -> Result<bool, Failure> {
    let Some((user, group)) = ledger_owner(settings).filter(|_| is_root()) else {
        return Ok(false);
    };
    let service = Service::of_owner(user, group);
    let mut command = command_as(&service)?;
    command
        .env_remove(ADMIN_KEY_VARIABLE)
        .env(FILE_VARIABLE, "1")
        .stdin(Stdio::from(open()?));
    // The identity is that of one thread, and ends with it.
    let work = || {
        service.identity.assume()?;
        command.status()
    };
    let status = std::thread::scope(|scope| scope.spawn(work).join());
    let status = status.map_err(|_| std::io::Error::other("its thread ended early"));
    let status = status.and_then(|status| status);
    let status = status.map_err(|error| cannot_run(&service, &error))?;
    match (status.success(), status.signal()) {
        (true, _) => Ok(true),
        (false, None) => Err(Failure::Reported),
        (false, Some(signal)) => {
            let error = std::io::Error::other(format!("signal {signal} ended it"));
            Err(cannot_run(&service, &error))
        }
    }
}

/// Executes this command again as the owner of the ledger, if root runs it and the ledger has
/// another owner. Returns if the command continues as it is.
pub(super) fn enter_as_owner(settings: &Settings) -> Result<(), Failure> {
    match ledger_owner(settings).filter(|_| is_root()) {
        Some((user, group)) => {
            let service = Service::of_owner(user, group);
            Err(cannot_run(&service, &execute_as(&service, None)))
        }
        None => Ok(()),
    }
}

/// Whether root runs this command, and not yet as another user.
fn is_root() -> bool {
    rustix::process::geteuid().is_root() && description().is_none()
}

fn cannot_run(service: &Service, error: &std::io::Error) -> Failure {
    Failure::Other(format!(
        "cannot run as {}: {}; hint: install rekeyd where that user can run it",
        service.description,
        os_error::describe(error)
    ))
}

/// As [`enter`], for a command that may be the first to write the ledger of a unit that has
/// never run. As root, it first makes the folder of the ledger, as the service manager does
/// when the unit starts.
pub(super) fn enter_to_work(options: &GlobalOptions) -> Result<(), Failure> {
    make_state_folders(options)?;
    enter(options, false)
}

fn make_state_folders(options: &GlobalOptions) -> Result<(), Failure> {
    if is_root()
        && let Some(unit) = config::find_unit(&options.config)
    {
        let identity = unit_identity(&unit)?;
        let owner = identity.map(|identity| (identity.user, identity.group));
        unit.make_state_folders(owner).map_err(|error| {
            let (unit, error) = (&unit.name, os_error::describe(&error));
            Failure::Other(format!("cannot make the folder of {unit}'s state: {error}"))
        })?;
    }
    Ok(())
}

fn unit_identity(unit: &ServiceUnit) -> Result<Option<ProcessIdentity>, Failure> {
    ProcessIdentity::of_unit(unit)
        .map_err(|error| Failure::Other(format!("cannot run as {} does: {error}", unit.name)))
}

fn find_service(options: &GlobalOptions) -> Result<Option<Service>, Failure> {
    if let Some(unit) = config::find_unit(&options.config) {
        return Ok(unit_identity(&unit)?.map(|identity| Service {
            description: format!("{}, the user of {}", user_text(identity.user), unit.name),
            identity,
            unit: Some(unit),
        }));
    }
    // Without a unit the ledger shows who works with it.
    let settings = config::load_lenient(&options.config, &read_environment());
    let owner = settings.and_then(|settings| ledger_owner(&settings));
    Ok(owner.map(|(user, group)| Service::of_owner(user, group)))
}

/// Returns the user and the group of a ledger; none if it is root's.
///
/// The owner of a folder or link on its way can lead it to a file of root's, and so is its owner
/// as well. Each command checks as this user who else could lead it elsewhere.
fn ledger_owner(settings: &Settings) -> Option<(Uid, Gid)> {
    let trust = settings.trusted_paths().and_users(&[]);
    let walked = walk_as_far_as_possible(&settings.ledger, &trust)?;
    let ledger = walked.stat().ok().filter(|found| {
        // A folder is what the ledger is to be in.
        FileType::from_raw_mode(found.st_mode) != FileType::Directory
    });
    let folder = walked.stat_folder().ok()?;
    if folder.st_uid != 0 {
        let folder_path = walked.path.parent().unwrap_or(Path::new("/"));
        let is_roots = ledger.is_some_and(|ledger| ledger.st_uid == 0);
        // As in a container, where root works in a folder of another user.
        let is_accepted = is_roots && trust.is_allowed(folder_path);
        let owner = (Uid::from_raw(folder.st_uid), Gid::from_raw(folder.st_gid));
        return (!is_accepted).then_some(owner);
    }
    let leader = walked.weaknesses.iter().find_map(leader);
    let owner = ledger.map(|ledger| ledger.st_uid);
    let owner = owner.filter(|owner| trust.is_foreign_owner(*owner));
    // Without an account of his own, he has no group.
    let with_group = |user| (Uid::from_raw(user), Gid::from_raw(NO_GROUP));
    leader.or(owner).map(with_group)
}

/// Follows the path of a ledger, or of the last folder on it that is there.
fn walk_as_far_as_possible(ledger: &Path, trust: &PathTrust<'_>) -> Option<WalkedPath> {
    let whole = path_walk::walk_to_file(ledger, trust).ok();
    let mut folders = ledger.ancestors().skip(1);
    whole.or_else(|| folders.find_map(|folder| path_walk::walk_to_folder(folder, trust).ok()))
}

/// Returns the user who can lead a path elsewhere, because a part of it belongs to him.
const fn leader(weakness: &Weakness) -> Option<u32> {
    match weakness.kind {
        WeaknessKind::Owner(user) | WeaknessKind::Link(user) => Some(user),
        WeaknessKind::Others
        | WeaknessKind::Shared
        | WeaknessKind::Group(..)
        | WeaknessKind::ListedUser(_)
        | WeaknessKind::UnreadableList => None,
    }
}

/// Notes if this process is neither root nor the user of the service, or else of its ledger,
/// and returns what to say about that.
#[must_use]
pub(super) fn note_onlooker(settings: &Settings) -> Option<String> {
    let own = rustix::process::geteuid();
    if own.is_root() {
        return None;
    }
    let unit = config::find_unit(&settings.file);
    let of_unit = unit.and_then(|unit| {
        let identity = ProcessIdentity::of_unit(&unit).ok()?;
        Some(identity.map_or(Uid::ROOT, |identity| identity.user))
    });
    let user = match of_unit {
        Some(user) => user,
        // Whoever can write it may run rekeyd: a container's folder may belong to root.
        None if may_write(&settings.ledger) => return None,
        None => ledger_user(&settings.ledger)?,
    };
    (user != own).then(|| {
        secret_file::note_onlooker();
        let service = if of_unit.is_some() || !user.is_root() {
            user_text(user)
        } else {
            // The ledger's folder does not show its user to everybody.
            "rekeyd's user".to_owned()
        };
        onlooker_note(&users::describe_user(own.as_raw()), &service)
    })
}

fn onlooker_note(own: &str, service: &str) -> String {
    format!("running as {own}, not as {service}; hint: run it with sudo")
}

/// Whether this process may write a ledger, or create it.
fn may_write(ledger: &Path) -> bool {
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    let (path, access) = match ledger.symlink_metadata() {
        Ok(_) => (ledger, Access::WRITE_OK),
        Err(_) => (folder, Access::WRITE_OK | Access::EXEC_OK),
    };
    accessat(CWD, path, access, AtFlags::EACCESS).is_ok()
}

/// Returns the user of a ledger, or of its folder; root if this process may not enter the
/// folder.
fn ledger_user(ledger: &Path) -> Option<Uid> {
    use std::os::unix::fs::MetadataExt as _;
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    for path in [ledger, folder] {
        match path.metadata() {
            Ok(found) => return Some(Uid::from_raw(found.uid())),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Some(Uid::ROOT),
            Err(_) => {}
        }
    }
    None
}

fn user_text(user: Uid) -> String {
    let number = user.as_raw();
    users::user_name(number).unwrap_or_else(|| users::describe_user(number))
}

/// Executes this process again as `service`. Returns only why it cannot.
fn execute_as(service: &Service, found: Option<(&str, OsString)>) -> std::io::Error {
    let mut command = match command_as(service) {
        Ok(command) => command,
        Err(error) => return error,
    };
    if let Some((variable, value)) = found {
        command.env(variable, value);
    }
    let credential = service.unit.as_ref();
    let credential = credential.and_then(|unit| unit.stored_credential(ADMIN_CREDENTIAL_NAME));
    // Without it the command reports that there is none.
    if let Some(credential) = credential {
        let file = read_stored(&credential).and_then(|key| memory_file(&key));
        match file {
            Ok(file) => command.env(KEY_VARIABLE, "1").stdin(Stdio::from(file)),
            Err(error) => command.env(PROBLEM_VARIABLE, os_error::describe(&error)),
        };
    }
    become_and_execute(service, command)
}

/// Gives this process the identity of `service`, and executes `command` in its place. Returns
/// only why it cannot.
fn become_and_execute(service: &Service, mut command: Command) -> std::io::Error {
    match service.identity.assume() {
        Ok(()) => command.exec(),
        Err(error) => error,
    }
}

/// Returns the command line of this process in the environment of `service`.
fn command_as(service: &Service) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut arguments = std::env::args_os();
    command
        .arg0(arguments.next().unwrap_or_default())
        .args(arguments)
        .env_clear()
        .envs(service_environment(service))
        .env(VIEW_VARIABLE, &service.description)
        .stdin(Stdio::null());
    Ok(command)
}

/// Returns the environment that the service manager gives the service, with
/// what concerns the invoker's terminal.
fn service_environment(service: &Service) -> Vec<(String, OsString)> {
    let of_invoker = |name: &&str| {
        let value = std::env::var_os(name)?;
        Some(((*name).to_owned(), value))
    };
    let mut variables: Vec<_> = KEPT_VARIABLES
        .iter()
        .chain(&["PATH"])
        .filter_map(of_invoker)
        .collect();
    match &service.unit {
        Some(unit) => {
            variables.extend(unit.environment());
            let state = unit.state_directory().map(PathBuf::into_os_string);
            variables.extend(state.map(|folder| ("STATE_DIRECTORY".to_owned(), folder)));
        }
        // Nobody knows the environment of a service without a unit.
        None => variables.extend(OWNER_VARIABLES.iter().filter_map(of_invoker)),
    }
    variables
}

/// Reads a credential as the service manager does.
fn read_stored(credential: &StoredCredential) -> std::io::Result<Zeroizing<Vec<u8>>> {
    if !credential.is_encrypted {
        return std::fs::read(&credential.path).map(Zeroizing::new);
    }
    let other = std::io::Error::other;
    let decrypted = Command::new("systemd-creds")
        .arg("decrypt")
        .arg(format!("--name={}", credential.name))
        .arg(&credential.path)
        .arg("-")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| other(format!("systemd-creds: {}", os_error::describe(&error))))?;
    let text = Zeroizing::new(decrypted.stdout);
    if decrypted.status.success() {
        return Ok(text);
    }
    let said = String::from_utf8_lossy(&decrypted.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    let last = last.map_or_else(
        || decrypted.status.to_string(),
        |line| sanitize(line.trim().trim_end_matches('.')),
    );
    Err(other(format!("systemd-creds: {last}")))
}

/// Returns a file without a name that holds the key.
fn memory_file(key: &[u8]) -> std::io::Result<File> {
    let file = rustix::fs::memfd_create("admin-key", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(file);
    file.write_all(key)?;
    rustix::fs::seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It is there, so the command must not say that there is none.
    #[test]
    fn credential_that_cannot_be_read_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "garbage\n").unwrap();
        let stored = |path: &Path, is_encrypted| StoredCredential {
            name: ADMIN_CREDENTIAL_NAME.to_owned(),
            path: path.to_owned(),
            is_encrypted,
            unit: "rekeyd.service".to_owned(),
        };
        assert_eq!(*read_stored(&stored(&path, false)).unwrap(), b"garbage\n");
        let error = read_stored(&stored(folder.path(), false)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        // Whether or not this host has the program.
        let error = read_stored(&stored(&path, true)).unwrap_err().to_string();
        let reason = error.strip_prefix("systemd-creds: ").unwrap();
        assert!(!reason.is_empty() && !reason.contains('\n'), "{error}");
    }
}
