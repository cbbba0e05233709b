//! What programs cannot reach: rekeyd's state and its secrets, by Landlock.
//!
//! A program has the user of rekeyd, so permissions do not keep it from the ledger, the admin
//! key or the memory of the daemon. Landlock does, without privileges, for a process that can
//! gain none.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use landlock::{
    ABI, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::thread::no_new_privs;

use super::allowed_paths::{FolderEntry, allowed_paths};
use crate::core::os_error;

/// What is hidden from the programs of this process.
static HIDDEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Whether the log says already that programs are not confined.
static IS_LOGGED: AtomicBool = AtomicBool::new(false);

/// The reason why programs are not confined.
#[derive(Debug, thiserror::Error)]
pub enum Unconfined {
    /// Programs could gain privileges, which Landlock might take away.
    #[error("no_new_privs is not set; hint: set NoNewPrivileges=yes in the unit of rekeyd")]
    PrivilegesAllowed,
    /// The kernel has no Landlock, or one that forbids every move between folders.
    #[error(
        "this kernel has no Landlock, or one before Linux 5.19, or SystemCallFilter= forbids it"
    )]
    NotSupported,
    /// The kernel refuses it.
    #[error(
        "Landlock: {}; hint: allow landlock_create_ruleset, landlock_add_rule and \
         landlock_restrict_self in SystemCallFilter=",
        os_error::describe(_0)
    )]
    Refused(io::Error),
}

/// Hides paths from every program that this process starts from now on.
pub fn hide_from_programs(paths: Vec<PathBuf>) {
    *HIDDEN.lock().unwrap_or_else(PoisonError::into_inner) = paths;
}

/// Returns the paths that the next program must not reach; none if programs cannot be
/// confined, which the log says once.
pub(super) fn paths_to_hide() -> Vec<PathBuf> {
    let paths = HIDDEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    if paths.is_empty() {
        return paths;
    }
    match find_obstacle() {
        None => paths,
        Some(reason) => {
            log_once(&reason);
            Vec::new()
        }
    }
}

/// Says that programs are not confined, unless the log says so already.
pub(super) fn log_once(reason: &Unconfined) {
    if !IS_LOGGED.swap(true, Ordering::Relaxed) {
        tracing::info!("programs are not confined, and can read rekeyd's own files: {reason}");
    }
}

/// Returns the reason why the programs of this process cannot be confined.
#[must_use]
pub fn find_obstacle() -> Option<Unconfined> {
    if !no_new_privs().unwrap_or(false) {
        return Some(Unconfined::PrivilegesAllowed);
    }
    find_kernel_obstacle()
}

/// Returns the reason why the kernel cannot confine programs.
#[must_use]
pub fn find_kernel_obstacle() -> Option<Unconfined> {
    match create_ruleset() {
        Ok(_) => None,
        Err(RulesetError::CreateRuleset(landlock::CreateRulesetError::CreateRulesetCall {
            source,
            ..
        })) => Some(Unconfined::Refused(source)),
        Err(_) => Some(Unconfined::NotSupported),
    }
}

/// Returns the accesses that a program has only where they are allowed. The names in a folder
/// are no secret, and without `READ_DIR` on `/` programs would fail that list it. What can be
/// executed need not be readable.
fn restricted_accesses() -> BitFlags<AccessFs> {
    let not_restricted = AccessFs::ReadDir | AccessFs::Execute;
    (AccessFs::from_read(ABI::V5) | AccessFs::from_write(ABI::V5)) & !not_restricted
}

fn create_ruleset() -> Result<RulesetCreated, RulesetError> {
    // A kernel that does not know REFER forbids every move between folders.
    Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::Refer)?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(restricted_accesses())?
        // From Linux 6.12 on, the program signals no process but its own, not the daemon
        // either, and connects to no abstract socket of others.
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()
}

/// Takes from this process, and from what it executes, everything but the rights to execute
/// files and to list folders, for the `hidden` paths. `program` stays readable.
///
/// # Errors
/// If this process is not confined.
pub(super) fn hide(hidden: &[PathBuf], program: &Path) -> io::Result<()> {
    if hidden.is_empty() {
        return Ok(());
    }
    // One that does not exist cannot be read. If it appears, its folder is not allowed.
    let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let hidden: BTreeSet<_> = hidden.iter().map(real).collect();
    let mut ruleset = create_ruleset().map_err(io_error)?;
    for path in allowed_paths(&hidden, list_folder) {
        // One that is gone needs no rule.
        if let Ok(rule) = rule_for(&path, restricted_accesses()) {
            ruleset = ruleset.add_rule(rule).map_err(io_error)?;
        }
    }
    // A script is read by its interpreter.
    if let Ok(program) = program.canonicalize()
        && let Ok(rule) = rule_for(&program, AccessFs::ReadFile.into())
    {
        ruleset = ruleset.add_rule(rule).map_err(io_error)?;
    }
    let restricted = ruleset.no_new_privs(false).restrict_self();
    restricted.map(drop).map_err(io_error)
}

/// Returns the rule that allows a file, or everything below a folder.
fn rule_for(path: &Path, accesses: BitFlags<AccessFs>) -> io::Result<PathBeneath<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    let is_folder = FileType::from_raw_mode(fstat(&file)?.st_mode).is_dir();
    let accesses = match is_folder {
        true => accesses,
        false => accesses & AccessFs::from_file(ABI::V5),
    };
    Ok(PathBeneath::new(file, accesses))
}

fn list_folder(folder: &Path) -> Vec<FolderEntry> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let entries = entries.map(|entry| FolderEntry {
        name: entry.file_name(),
        is_link: entry.file_type().is_ok_and(|kind| kind.is_symlink()),
    });
    entries.collect()
}

/// Returns the system's error in one of the library.
fn io_error(error: RulesetError) -> io::Error {
    use std::error::Error as _;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.source();
    while let Some(found) = cause {
        if let Some(number) = found
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error)
        {
            return io::Error::from_raw_os_error(number);
        }
        cause = found.source();
    }
    io::Error::other(error)
}
