//! Files that hold a secret. They are read only if no other user can read or
//! change them.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::core::os_error;
use crate::core::secret::Secret;
use crate::core::secret_text::{self, SecretForm, SecretTextError};
use crate::core::shell;
use crate::platform::own_files::{self, NarrowedMode};
use crate::platform::path_walk::{self, TrustedPaths, Weakness};
use crate::platform::users;

/// The largest file that is read as a secret, in bytes.
const MAX_FILE_SIZE: u64 = 64 * 1024;

/// The bits that the mode of a file with a secret may have.
const ALLOWED_MODE: u32 = 0o740;

/// The name of rekeyd's own admin key in `$CREDENTIALS_DIRECTORY`.
pub const ADMIN_CREDENTIAL_NAME: &str = "openai-admin-key";

/// The variable with the admin key, for rehearsals.
pub const ADMIN_KEY_VARIABLE: &str = "OPENAI_ADMIN_KEY";

/// The required permissions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermissionCheck {
    /// Access for its owner (root or the process's user) and read access for
    /// its group, and no more. Nobody else can write the folders on its path but where these
    /// parts allow it.
    Enforce(TrustedPaths),
    /// None: systemd protects the file's folder.
    Skip,
}

/// The reason why a file was not read as a secret. Never shows the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file does not exist.
    #[error(
        "{} does not exist; hint: {}",
        path.display(),
        create_advice(path)
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error(
        "cannot read {path}: {}{}",
        os_error::describe(source),
        read_advice(path, source),
        path = path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The content is not a secret of the form that is needed.
    #[error("{} {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretTextError,
    },
    /// The path is that of a folder, a device or a FIFO.
    #[error("{} is not a regular file", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The file is too long for a secret.
    #[error("{} is longer than {} KiB, too long for a secret", path.display(), MAX_FILE_SIZE / 1024)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to another user, who can read and replace it.
    #[error(
        "{path} belongs to {owner}, but this process runs as {process} and accepts only its own \
         files and those of root; hint: {advice}",
        path = path.display(),
        owner = users::describe_user(*owner),
        process = users::describe_user(*process_uid),
        advice = owner_advice(path, *process_uid)
    )]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// The user that owns it.
        owner: u32,
        /// The user that rekeyd runs as.
        process_uid: u32,
    },
    /// Another user could put another file in its place.
    #[error("{weakness}, so another user could exchange {path}; hint: {hint}",
        path = path.display(), hint = weakness.hint())]
    Exchangeable {
        /// The file.
        path: PathBuf,
        /// The part of its path that the user owns or can write.
        weakness: Box<Weakness>,
    },
    /// The mode of the file grants others access.
    #[error(
        "{path} has mode {mode:04o}: {exposure}; hint: {command}",
        path = path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The access that the mode grants.
        exposure: FileExposure,
        /// The command that leaves this process its own access.
        command: String,
    },
}

impl SecretFileError {
    /// Returns whether its text says what to do about it.
    #[must_use]
    pub fn has_hint(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Unusable { .. }
            | Self::WrongOwner { .. }
            | Self::Exchangeable { .. }
            | Self::Exposed { .. } => true,
            Self::Unreadable { source, .. } => source.kind() == ErrorKind::PermissionDenied,
            Self::NotRegular { .. } | Self::TooLong { .. } => false,
        }
    }
}

impl SecretFileError {
    /// Returns the problem alone if its hint says no more than to write the file: in a place
    /// that nobody can write, that is no remedy.
    #[must_use]
    pub fn problem_of_content(&self) -> Option<String> {
        match self {
            Self::NotFound { path } => Some(format!("{} does not exist", path.display())),
            Self::Unusable { path, source } => {
                let problem = source.problem_of_content()?;
                Some(format!("{} {problem}", path.display()))
            }
            Self::Unreadable { .. }
            | Self::NotRegular { .. }
            | Self::TooLong { .. }
            | Self::WrongOwner { .. }
            | Self::Exchangeable { .. }
            | Self::Exposed { .. } => None,
        }
    }
}

/// The access that the mode of a file with a secret must not grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileExposure {
    /// Write access for its group.
    GroupWrite,
    /// Read or write access for everybody.
    Others,
}

impl fmt::Display for FileExposure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::GroupWrite => "its group can write to it",
            Self::Others => "other users can read or write it",
        })
    }
}

/// Returns the check for the file at `path`; `credentials` is
/// `$CREDENTIALS_DIRECTORY`, whose files need none.
#[must_use]
pub fn permission_check_for(
    path: &Path,
    credentials_directory: Option<&Path>,
    trusted_paths: &TrustedPaths,
) -> PermissionCheck {
    let has_parent_component = path
        .components()
        .any(|part| part == std::path::Component::ParentDir);
    match credentials_directory {
        Some(folder) if path.starts_with(folder) && !has_parent_component => PermissionCheck::Skip,
        Some(_) | None => PermissionCheck::Enforce(trusted_paths.clone()),
    }
}

/// Reads a secret from a configured file, with the permission check that
/// applies to it in this process.
///
/// # Errors
/// As [`read`].
pub fn read_configured(
    path: &Path,
    form: SecretForm,
    trusted_paths: &TrustedPaths,
) -> Result<Secret, SecretFileError> {
    let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let directory = directory.filter(|folder| folder.is_absolute());
    let check = permission_check_for(path, directory.as_deref(), trusted_paths);
    read(path, &check, form)
}

/// Reads a secret of this form from a file, without surrounding white space.
///
/// # Errors
/// If the file is missing, cannot be read, is longer than 64 KiB, open to
/// others, or has no text of this form; the message names the file and, if
/// there is one, the command that repairs it.
pub fn read(
    path: &Path,
    permission_check: &PermissionCheck,
    form: SecretForm,
) -> Result<Secret, SecretFileError> {
    let file = open_checked(path, permission_check)?;
    // With its full capacity, since a buffer that grows leaves copies.
    let size = usize::try_from(MAX_FILE_SIZE).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size));
    file.take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SecretFileError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
    // The system does not show the size of every file.
    if bytes.len() == size {
        return Err(SecretFileError::TooLong {
            path: path.to_owned(),
        });
    }
    secret_text::parse(&bytes, form).map_err(|source| SecretFileError::Unusable {
        path: path.to_owned(),
        source,
    })
}

/// Checks a file that holds a secret as [`read`] does, and drops the secret at
/// once.
///
/// # Errors
/// As [`read`].
pub fn check(
    path: &Path,
    permission_check: &PermissionCheck,
    form: SecretForm,
) -> Result<(), SecretFileError> {
    read(path, permission_check, form).map(drop)
}

/// Opens the file before checking it, so that it cannot be exchanged in
/// between.
fn open_checked(path: &Path, permission_check: &PermissionCheck) -> Result<File, SecretFileError> {
    let open_error = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == ErrorKind::NotFound {
            SecretFileError::NotFound { path }
        } else {
            SecretFileError::Unreadable { path, source }
        }
    };
    let (file, weakness) = open(path, permission_check).map_err(open_error)?;
    let metadata = file.metadata().map_err(open_error)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotRegular {
            path: path.to_owned(),
        });
    }
    if metadata.len() > MAX_FILE_SIZE {
        return Err(SecretFileError::TooLong {
            path: path.to_owned(),
        });
    }
    match permission_check {
        // Whoever leads the path elsewhere must not choose the file whose mode is changed.
        PermissionCheck::Enforce(_) if weakness.is_none() => {
            keep_permissions(path, &file, &metadata)?;
        }
        PermissionCheck::Enforce(_) => check_permissions(path, &metadata)?,
        PermissionCheck::Skip => {}
    }
    match weakness {
        None => Ok(file),
        Some(weakness) => Err(SecretFileError::Exchangeable {
            path: path.to_owned(),
            weakness: Box::new(weakness),
        }),
    }
}

/// Opens the file that the path leads to, and returns who else could have led it there.
fn open(path: &Path, permission_check: &PermissionCheck) -> io::Result<(File, Option<Weakness>)> {
    // Opening a FIFO would block for ever.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    match permission_check {
        PermissionCheck::Enforce(trusted_paths) => {
            let path = std::path::absolute(path)?;
            let walked = path_walk::walk_to_file(&path, &trusted_paths.and_users(&[]))?;
            let file = walked.open(flags)?;
            Ok((File::from(file), walked.weaknesses.into_iter().next()))
        }
        PermissionCheck::Skip => {
            let flags = flags | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
            Ok((File::from(file), None))
        }
    }
}

/// Whether this process checks the files of a service that runs as another user, and has
/// neither its rights nor root's.
static IS_ONLOOKER: AtomicBool = AtomicBool::new(false);

/// Notes that this process is neither root nor the user of the service whose files it
/// checks: advice that gave it the rights of that user would let every user read the
/// secrets, and could lock the service out.
pub fn note_onlooker() {
    IS_ONLOOKER.store(true, Ordering::Relaxed);
}

/// Returns whether this process is such an onlooker.
pub(crate) fn is_onlooker() -> bool {
    IS_ONLOOKER.load(Ordering::Relaxed)
}

/// Returns the advice for such a process, if this is one.
fn onlooker_advice() -> Option<&'static str> {
    is_onlooker().then_some(
        "run this command as root or as rekeyd's user, because only they see whether rekeyd can read it",
    )
}

/// Whether this process narrows the modes of its own files before it reads them.
static IS_NARROWING: AtomicBool = AtomicBool::new(false);

/// Narrows the modes of this process's own files from now on, before they are read. A process
/// that only checks leaves them to the one that works.
pub fn narrow_own_files() {
    IS_NARROWING.store(true, Ordering::Relaxed);
}

/// Checks who else can get a file that was opened. A file of this process's own that is open
/// to others is narrowed, or left to the process that works to be narrowed.
fn keep_permissions(path: &Path, file: &File, metadata: &Metadata) -> Result<(), SecretFileError> {
    let checked = check_permissions(path, metadata);
    match checked {
        Err(SecretFileError::Exposed { .. }) if own_files::can_narrow(file) => {}
        checked => return checked,
    }
    if !IS_NARROWING.load(Ordering::Relaxed) {
        return Ok(());
    }
    match own_files::narrow_opened(file, ALLOWED_MODE) {
        Ok(narrowed) => {
            log_narrowing(path, narrowed, metadata.gid());
            Ok(())
        }
        Err(_) => checked,
    }
}

fn log_narrowing(path: &Path, narrowed: Option<NarrowedMode>, group: u32) {
    let Some(NarrowedMode { from, to }) = narrowed else {
        return;
    };
    let path = path.display();
    if own_files::is_fs_group_widening(from, to, group) {
        tracing::info!(
            "{path} had the rights that fsGroup gives (mode {from:04o}), and is narrowed to \
             {to:04o}"
        );
    } else {
        tracing::warn!(
            "{path} was open to other users (mode {from:04o}), and is narrowed to {to:04o}; hint: \
             if they are not to have its secret, replace it"
        );
    }
}

/// Narrows a file with a secret as its next reader would, if this process may narrow any. What
/// is wrong with it otherwise is left to that reader. Blocks.
pub fn narrow(path: &Path, trusted_paths: &TrustedPaths) {
    let check = PermissionCheck::Enforce(trusted_paths.clone());
    if let Ok((file, None)) = open(path, &check)
        && let Ok(metadata) = file.metadata()
    {
        let _ = keep_permissions(path, &file, &metadata);
    }
}

/// Describes for people that a file with a secret is open to others, and that the next start
/// narrows it. `None` for one that is not, or that is refused. Blocks.
#[must_use]
pub fn describe_narrowing(path: &Path, trusted_paths: &TrustedPaths) -> Option<String> {
    let check = PermissionCheck::Enforce(trusted_paths.clone());
    let (file, weakness) = open(path, &check).ok()?;
    let metadata = file.metadata().ok()?;
    let Err(SecretFileError::Exposed { mode, exposure, .. }) = check_permissions(path, &metadata)
    else {
        return None;
    };
    let is_narrowed = weakness.is_none() && own_files::can_narrow(&file);
    is_narrowed.then(|| {
        format!(
            "{} has mode {mode:04o}: {exposure}; rekeyd narrows it to {:04o} before it reads it; \
             hint: if others are not to have its secret, replace it",
            path.display(),
            mode & ALLOWED_MODE
        )
    })
}

fn check_permissions(path: &Path, metadata: &Metadata) -> Result<(), SecretFileError> {
    let (owner, process_uid) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != 0 && owner != process_uid {
        return Err(SecretFileError::WrongOwner {
            path: path.to_owned(),
            owner,
            process_uid,
        });
    }
    // An execute bit on a file that is no program grants no access.
    let exposure = match (metadata.mode() & 0o006, metadata.mode() & 0o020) {
        (0, 0) => return Ok(()),
        (0, _) => FileExposure::GroupWrite,
        (_, _) => FileExposure::Others,
    };
    Err(SecretFileError::Exposed {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        exposure,
        command: mode_command(path, metadata),
    })
}

/// Returns the command that closes a file to others, and takes no access from
/// its owner, from its group, or from this process.
fn mode_command(path: &Path, metadata: &Metadata) -> String {
    if let Some(advice) = onlooker_advice() {
        return advice.to_owned();
    }
    let path = path.display();
    let is_owner = metadata.uid() == rustix::process::geteuid().as_raw();
    let own_group = rustix::process::getegid();
    let groups = rustix::process::getgroups().unwrap_or_default();
    let is_in_group = [own_group]
        .iter()
        .chain(&groups)
        .any(|group| group.as_raw() == metadata.gid());
    match (is_owner, metadata.mode() & 0o040 != 0) {
        (true, false) => format!("chmod 0600 {path}"),
        (true, true) => format!("chmod 0640 {path}"),
        (false, _) if is_in_group => format!("chmod 0640 {path}"),
        (false, _) => {
            let group = users::group_text(own_group);
            format!("chgrp {group} {path} && chmod 0640 {path}")
        }
    }
}

/// Returns how a person creates a file that this process can read, and nobody else but root:
/// root, who follows the advice, is often another user than this process.
fn create_advice(path: &Path) -> String {
    if is_onlooker() {
        return "write the secret into it as root, with rekeyd's user as its owner and mode 0600"
            .to_owned();
    }
    let owner = owner_option();
    let folder = path.parent().filter(|folder| !folder.exists());
    let parents = if folder.is_some() { " -D" } else { "" };
    let path = shell::quote(&path.to_string_lossy());
    format!("enter the secret into the command `install{parents} -m 0600{owner} /dev/stdin {path}`")
}

/// Returns the option of `install` that gives a file to the user of this process: none for
/// root, to whom the file belongs anyway.
fn owner_option() -> String {
    let user = rustix::process::geteuid().as_raw();
    if user == 0 {
        return String::new();
    }
    let name = users::user_name(user).unwrap_or_else(|| user.to_string());
    format!(" -o {}", shell::quote(&name))
}

/// Returns what to do about a file that this process may not read.
fn read_advice(path: &Path, error: &io::Error) -> String {
    if error.kind() != ErrorKind::PermissionDenied {
        return String::new();
    }
    if let Some(advice) = onlooker_advice() {
        return format!("; hint: {advice}");
    }
    let (path, group) = (
        path.display(),
        users::group_text(rustix::process::getegid()),
    );
    format!("; hint: let rekeyd's group read it: chgrp {group} {path} && chmod 0640 {path}")
}

/// Returns what to do about a file of another user's. Root's own view says
/// nothing about a service, whose file it may be.
fn owner_advice(path: &Path, process_uid: u32) -> String {
    if let Some(advice) = onlooker_advice() {
        advice.to_owned()
    } else if process_uid == 0 {
        "run this command as that user".to_owned()
    } else {
        let user = users::user_name(process_uid).unwrap_or_else(|| process_uid.to_string());
        format!("chown {user} {}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn read_error(path: &Path) -> String {
        let read = read(path, &enforce(), SecretForm::AdminKey);
        read.unwrap_err().to_string()
    }

    fn enforce() -> PermissionCheck {
        PermissionCheck::Enforce(TrustedPaths::default())
    }

    /// A file in a folder of its own.
    struct TempSecret {
        _folder: tempfile::TempDir,
        path: PathBuf,
    }

    impl TempSecret {
        fn path(&self) -> &Path {
            &self.path
        }
    }

    fn temp_secret_file(text: &str, mode: u32) -> TempSecret {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        TempSecret {
            _folder: folder,
            path,
        }
    }

    #[test]
    fn file_in_a_folder_that_others_write_is_rejected() {
        let file = temp_secret_file("sk-admin-exchangeable", 0o600);
        let folder = file.path().parent().unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let folder_path = folder.canonicalize().unwrap();
        let message = format!(
            "{} is world-writable, so another user could exchange {}; hint: use a folder of its \
             own: run `install -d -m 2750 -o root /etc/billing`",
            folder_path.display(),
            file.path().display()
        );
        assert_eq!(read_error(file.path()), message);
        let trusted = TrustedPaths::from(vec![folder_path]);
        let read = read(
            file.path(),
            &PermissionCheck::Enforce(trusted),
            SecretForm::AdminKey,
        );
        assert_eq!(read.unwrap().expose(), "sk-admin-exchangeable");
    }

    #[test]
    fn protected_file_is_read_and_trimmed() {
        for mode in [0o600, 0o400, 0o640] {
            let file = temp_secret_file(" sk-admin-in-a-file \n", mode);
            assert_eq!(
                read(file.path(), &enforce(), SecretForm::AdminKey)
                    .unwrap()
                    .expose(),
                "sk-admin-in-a-file"
            );
        }
    }

    #[test]
    fn file_open_to_others_is_rejected_with_a_fix() {
        for (mode, problem) in [
            (0o604, "other users can read or write it"),
            (0o602, "other users can read or write it"),
            (0o666, "other users can read or write it"),
            (0o620, "its group can write to it"),
        ] {
            let file = temp_secret_file("sk-admin-open-file", mode);
            // Only what has no other name is rekeyd's own.
            std::fs::hard_link(file.path(), file.path().with_extension("other")).unwrap();
            let path_text = file.path().display();
            let kept = if mode & 0o040 == 0 { "0600" } else { "0640" };
            let message = format!(
                "{path_text} has mode {mode:04o}: {problem}; hint: chmod {kept} {path_text}"
            );
            assert_eq!(read_error(file.path()), message);
            let checked = check(file.path(), &enforce(), SecretForm::AdminKey);
            assert_eq!(checked.unwrap_err().to_string(), message);
            assert!(describe_narrowing(file.path(), &TrustedPaths::default()).is_none());
            assert!(read(file.path(), &PermissionCheck::Skip, SecretForm::AdminKey).is_ok());
        }
    }

    /// A process that works narrows it; the tests of the program show that.
    #[test]
    fn own_file_that_is_open_to_others_is_read_and_described() {
        for (mode, narrowed) in [(0o660, 0o640), (0o604, 0o600), (0o666, 0o640)] {
            let file = temp_secret_file("sk-admin-open-file", mode);
            let (path, trusted) = (file.path(), TrustedPaths::default());
            assert!(check(path, &enforce(), SecretForm::AdminKey).is_ok());
            let description = describe_narrowing(path, &trusted).unwrap();
            let expected = format!("rekeyd narrows it to {narrowed:04o} before it reads it");
            assert!(description.contains(&expected), "{description}");
            let found = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode);
        }
        let closed = temp_secret_file("sk-admin-closed-file", 0o640);
        assert!(describe_narrowing(closed.path(), &TrustedPaths::default()).is_none());
    }

    #[test]
    fn missing_file_is_reported_with_a_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin-key");
        let path_text = path.display();
        let own = owner_option();
        let message = format!(
            "{path_text} does not exist; hint: enter the secret into the command \
             `install -m 0600{own} /dev/stdin {path_text}`"
        );
        let error = check(&path, &PermissionCheck::Skip, SecretForm::AdminKey).unwrap_err();
        assert_eq!(error.to_string(), message);
        // The folder may be missing as well.
        let path = folder.path().join("new/admin-key");
        let error = check(&path, &PermissionCheck::Skip, SecretForm::AdminKey).unwrap_err();
        assert!(error.to_string().contains("`install -D -m 0600"), "{error}");
    }

    #[test]
    fn file_of_another_user_is_rejected() {
        let file = temp_secret_file("sk-admin-foreign", 0o600);
        // Only root can give a file away.
        if std::os::unix::fs::chown(file.path(), Some(4_711), None).is_ok() {
            let message = read_error(file.path());
            assert!(
                message.contains("belongs to uid 4711, but this process runs as root (uid 0)"),
                "{message}"
            );
            // Advice to chown it would lock the service out of its own key.
            assert!(
                message.ends_with("hint: run this command as that user"),
                "{message}"
            );
            assert_eq!(
                owner_advice(Path::new("/k"), 3_999_999_995),
                "chown 3999999995 /k"
            );
        }
    }

    #[test]
    fn only_files_in_the_credentials_directory_skip_checks() {
        let folder = Some(Path::new("/run/credentials/rekeyd.service"));
        for (path, expected) in [
            ("/run/credentials/rekeyd.service/a", PermissionCheck::Skip),
            ("/run/credentials/rekeyd.service2/a", enforce()),
            ("/run/credentials/rekeyd.service/../a", enforce()),
            ("/etc/a", enforce()),
        ] {
            assert_eq!(
                permission_check_for(Path::new(path), folder, &TrustedPaths::default()),
                expected,
                "{path}"
            );
            assert_eq!(
                permission_check_for(Path::new(path), None, &TrustedPaths::default()),
                enforce(),
                "{path}"
            );
        }
    }

    #[test]
    fn empty_irregular_and_oversized_files_are_rejected() {
        let blank = temp_secret_file(" \n", 0o600);
        let long = temp_secret_file(&"x".repeat(70_000), 0o600);
        for (path, expected) in [
            (blank.path(), "is empty; hint: write the secret into it"),
            (Path::new("/dev/null"), "is not a regular file"),
            (long.path(), "is longer than 64 KiB, too long for a secret"),
        ] {
            assert_eq!(read_error(path), format!("{} {expected}", path.display()));
        }
        let empty = temp_secret_file("", 0o600);
        assert!(check(empty.path(), &enforce(), SecretForm::AdminKey).is_err());
    }
}
