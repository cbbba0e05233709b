//! The modes of rekeyd's own files and folders.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::settings::{MetricsAddress, Settings};
use crate::config::{self, DEFAULT_LEDGER, DEFAULT_SNAPSHOT};
use crate::platform::own_files::{self, ACCESS_OF_OTHERS, OwnFile};
use crate::platform::secret_file;

/// The interval of the checks besides those after each program.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The rights of others at the folder of the snapshot: its group reads it.
const SNAPSHOT_FOLDER_RIGHTS: u32 = 0o050;

/// Keeps the modes of rekeyd's own files from now on.
pub(super) fn watch_own_files(settings: &Settings) {
    let ledger_files = config::ledger_files(&settings.ledger).into_iter();
    let mut files: Vec<_> = ledger_files
        .map(|path| OwnFile::with_rights(path, 0))
        .collect();
    let own = own_folders(settings);
    let others = folders_of_rekeyd(settings)
        .filter(|folder| !own.iter().any(|own| own.path == *folder))
        .map(|folder| OwnFile::folder_as_it_is(folder.to_owned()));
    files.extend(others);
    let own = own.into_iter();
    files.extend(own.map(|own| OwnFile::with_rights(own.path, own.allowed)));
    if let Some(snapshot) = &settings.snapshot {
        files.push(OwnFile::with_rights(snapshot.path.clone(), 0o040));
    }
    let secrets = settings.protected_files.secrets().iter();
    files.extend(secrets.cloned().map(OwnFile::secret));
    own_files::watch(files);
}

/// Returns the folders with what others must not exchange: the ledger, its snapshot and the
/// sockets at which rekeyd listens.
fn folders_of_rekeyd(settings: &Settings) -> impl Iterator<Item = &Path> {
    let metrics = match &settings.metrics {
        Some(MetricsAddress::Socket(path)) => Some(path),
        Some(MetricsAddress::Tcp(_) | MetricsAddress::ServiceManager) | None => None,
    };
    let snapshot = settings.snapshot.as_ref().map(|snapshot| &snapshot.path);
    let files = [Some(&settings.ledger), snapshot];
    let sockets = [settings.control.socket.as_ref(), metrics];
    let paths = files.into_iter().chain(sockets).flatten();
    paths.filter_map(|path| path.parent())
}

/// A folder that is rekeyd's alone.
struct OwnFolder {
    path: PathBuf,
    /// The rights of others that it may have, as bits of a mode.
    allowed: u32,
}

/// Narrows the folders that are rekeyd's own, as the units make them. Another folder may
/// hold files of others, and stays as it is.
pub(super) fn narrow_own_folders(settings: &Settings) {
    for folder in own_folders(settings) {
        if let Ok(Some(narrowed)) = own_files::narrow_mode(&folder.path, folder.allowed) {
            tracing::info!(
                "the folder {} is rekeyd's own and was open to other users: changed its mode from \
                 {:04o} to {:04o}",
                folder.path.display(),
                narrowed.from,
                narrowed.to
            );
        }
    }
}

/// Logs that others can enter the folder of the ledger, which is not rekeyd's own and stays as
/// it is. Blocks.
pub(super) fn report_open_folder(settings: &Settings) {
    if let Some(description) = describe_open_folder(settings) {
        tracing::info!("{description}");
    }
}

/// Narrows the files with secrets that are rekeyd's own from now on, and those that are open to
/// others at once: the modes that they have at the start are kept later.
pub(super) fn narrow_own_secrets(settings: &Settings) {
    secret_file::narrow_own_files();
    for path in settings.protected_files.secrets() {
        secret_file::narrow(path, settings.trusted_paths());
    }
}

/// Says that files with secrets of rekeyd's own are open to others, and are narrowed. Blocks.
pub(crate) fn describe_open_secrets(settings: &Settings) -> Vec<String> {
    let secrets = settings.protected_files.secrets().iter();
    let trusted = settings.trusted_paths();
    let found = secrets.filter_map(|path| secret_file::describe_narrowing(path, trusted));
    found.collect()
}

/// Says that others than the owner can enter the folder of the ledger. Blocks.
pub(crate) fn describe_open_folder(settings: &Settings) -> Option<String> {
    let folder = settings.ledger.parent()?;
    let mode = folder.metadata().ok()?.permissions().mode() & 0o7777;
    let advice = if own_folders(settings).iter().any(|own| own.path == folder) {
        "the next start of rekeyd changes that to 0700".to_owned()
    } else {
        let folder = folder.display();
        format!("if nothing else is in it, run `chmod 0700 {folder}`")
    };
    (mode & ACCESS_OF_OTHERS != 0).then(|| {
        format!(
            "other users can enter {}, the folder of the ledger (mode {mode:04o}), though they can \
             read none of its files; hint: {advice}",
            folder.display()
        )
    })
}

/// Checks the modes of rekeyd's own files for as long as it is polled.
pub(super) async fn keep_modes() {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        own_files::narrow_again(None).await;
    }
}

/// Returns the folders of the ledger and of its snapshot, if they are rekeyd's alone: those
/// that the service manager makes, and the default ones.
fn own_folders(settings: &Settings) -> Vec<OwnFolder> {
    let snapshot = settings.snapshot.as_ref().map(|found| &found.path);
    let places = [
        (Some(&settings.ledger), "STATE_DIRECTORY", DEFAULT_LEDGER, 0),
        (
            snapshot,
            "CACHE_DIRECTORY",
            DEFAULT_SNAPSHOT,
            SNAPSHOT_FOLDER_RIGHTS,
        ),
    ];
    let trust = settings.trusted_paths().and_users(&[]);
    let own = places
        .into_iter()
        .filter_map(|(file, variable, default, allowed)| {
            let folder = file?.parent()?;
            let made = std::env::var_os(variable).unwrap_or_default();
            let is_rekeyds = is_rekeyds(folder, &made, Path::new(default))
                && !trust.is_allowed(folder)
                && !holds_a_sinks_file(settings, folder);
            is_rekeyds.then(|| OwnFolder {
                path: folder.to_owned(),
                allowed,
            })
        });
    own.collect()
}

/// Whether consumers read the file of a sink below this folder.
fn holds_a_sinks_file(settings: &Settings, folder: &Path) -> bool {
    let sinks = settings.keys.iter().flat_map(|key| &key.sinks);
    let files = sinks.filter_map(|sink| Arc::clone(&sink.target).replaced_file());
    files.into_iter().any(|file| file.path.starts_with(folder))
}

/// Whether a folder is one of those in `made`, the variable of the service manager, or the
/// folder of the `default` file.
fn is_rekeyds(folder: &Path, made: &OsStr, default: &Path) -> bool {
    let mut made = made.as_bytes().split(|byte| *byte == b':');
    let made_here = made.any(|path| folder.as_os_str().as_bytes() == path);
    made_here || default.parent() == Some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_service_manager_and_the_default_one_are_own() {
        let default = Path::new("/var/lib/rekeyd/ledger.db");
        for (folder, made, expected) in [
            ("/var/lib/rekeyd", "", true),
            ("/var/lib/rekeyd/acme", "", false),
            ("/var/lib/rekeyd/acme", "/var/lib/rekeyd/acme", true),
            ("/srv/two", "/srv/one:/srv/two", true),
            ("/srv", "/srv/one:/srv/two", false),
            ("/", "", false),
        ] {
            let found = is_rekeyds(Path::new(folder), OsStr::new(made), default);
            assert_eq!(found, expected, "{folder}");
        }
    }
}
