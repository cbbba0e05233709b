//! The paths that programs must not reach: rekeyd's state, its secrets and its sockets.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::provider::{DEFAULT_LEDGER, DEFAULT_SNAPSHOT};
use super::settings::{MetricsAddress, Settings};
use crate::core::path::LEDGER_FILE_ENDINGS;
use crate::platform::crash::CRASH_FILE_NAMES;
use crate::platform::own_files::ACCESS_OF_OTHERS;

/// The folder in which the service manager keeps the credentials of every unit.
const CREDENTIALS_OF_UNITS: &str = "/run/credentials";

/// The bit of a mode that lets every user make files in a folder.
const WRITTEN_BY_OTHERS: u32 = 0o002;

/// Returns the paths that programs must not reach. `credentials` is `$CREDENTIALS_DIRECTORY`.
///
/// The default folders and the credentials of other units are among them, since several
/// instances may share one user.
#[must_use]
pub fn private_paths(settings: &Settings, credentials: Option<&Path>) -> Vec<PathBuf> {
    let mut paths = state_paths(&settings.ledger);
    paths.extend(socket_paths(settings));
    let snapshot = settings.snapshot.as_ref();
    let snapshot = snapshot.and_then(|snapshot| snapshot.path.parent());
    let defaults = [DEFAULT_LEDGER, DEFAULT_SNAPSHOT].map(|file| Path::new(file).parent());
    paths.extend(
        defaults
            .into_iter()
            .flatten()
            .chain(snapshot)
            .map(PathBuf::from),
    );
    paths.extend(
        credentials.map(|folder| match folder.starts_with(CREDENTIALS_OF_UNITS) {
            true => CREDENTIALS_OF_UNITS.into(),
            false => folder.to_owned(),
        }),
    );
    paths.extend_from_slice(settings.protected_files.secrets());
    paths.sort();
    paths.dedup();
    paths
}

/// Returns the sockets at which rekeyd listens. In the folder of a hidden path, a program can
/// neither make, rename nor remove a file, so that it puts no socket of its own there. A folder
/// that every user may write is not rekeyd's, and programs may have their files there.
fn socket_paths(settings: &Settings) -> Vec<PathBuf> {
    let metrics = match &settings.metrics {
        Some(MetricsAddress::Socket(path)) => Some(path),
        Some(MetricsAddress::Tcp(_) | MetricsAddress::ServiceManager) | None => None,
    };
    let sockets = settings.control.socket.iter().chain(metrics);
    let is_shared = |socket: &PathBuf| {
        let folder = socket.parent().map(Path::metadata);
        folder.is_some_and(|found| found.is_ok_and(|folder| folder.mode() & WRITTEN_BY_OTHERS != 0))
    };
    sockets
        .filter(|socket| !is_shared(socket))
        .cloned()
        .collect()
}

/// Returns the folder of the ledger; if it is not rekeyd's alone, only the ledger's files,
/// since the folder may be the home of programs, too. What a link in its place leads to counts
/// as well.
fn state_paths(ledger: &Path) -> Vec<PathBuf> {
    let target = ledger.canonicalize().unwrap_or_else(|_| ledger.to_owned());
    let mut paths = state_paths_at(ledger);
    if target != ledger {
        paths.extend(state_paths_at(&target));
    }
    paths
}

fn state_paths_at(ledger: &Path) -> Vec<PathBuf> {
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    let is_private = folder.metadata().is_ok_and(|folder| {
        let own = rustix::process::geteuid().as_raw();
        folder.uid() == own && folder.mode() & ACCESS_OF_OTHERS == 0
    });
    if is_private {
        vec![folder.to_owned()]
    } else {
        ledger_files(ledger)
    }
}

/// Returns the ledger and the files beside it by their names: those that may be made, and those
/// that are there, as the ledgers that each restore has kept.
#[must_use]
pub fn ledger_files(ledger: &Path) -> Vec<PathBuf> {
    let endings = [""].into_iter().chain(LEDGER_FILE_ENDINGS);
    let files = endings.map(|ending| {
        let mut file = OsString::from(ledger);
        file.push(ending);
        file.into()
    });
    let crash_files = CRASH_FILE_NAMES.map(|name| ledger.with_file_name(name));
    let folder = ledger.parent().unwrap_or(Path::new("/"));
    let name = ledger.file_name().unwrap_or_default().as_bytes();
    let is_beside = |other: &OsString| {
        let rest = other.as_bytes().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(b".") || rest.starts_with(b"-"))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let present = entries.map(|entry| entry.file_name()).filter(is_beside);
    let mut files: Vec<PathBuf> = files
        .chain(crash_files)
        .chain(present.map(|name| folder.join(name)))
        .collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::Timestamp;

    use super::*;
    use crate::config::{Environment, parse};

    #[test]
    fn state_and_secrets_are_private() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().display();
        let text = format!(
            "[provider]\ncredential-file = \"{folder}/secrets/admin-key\"\n\
             client-certificate = \"/etc/rekeyd/client.pem\"\nclient-key = \"/etc/rekeyd/client.key\"\n\
             [ledger]\npath = \"{folder}/ledger.db\"\nsnapshot = \"/srv/shown/ledger.db\"\n\
             [control]\nsocket = \"{folder}/control.sock\"\n\
             [metrics]\nlisten = \"unix:{folder}/metrics.sock\"\n\
             password-file = \"/etc/rekeyd/metrics.password\"\n\
             [[notify]]\ntype = \"webhook\"\nurl = \"https://example.com\"\n\
             signing-secret-file = \"/etc/rekeyd/hook.secret\"\n\
             [key.billing]\nschedule = \"@monthly\"\noverlap = \"24h\"\n\
             [[key.billing.sink]]\ntype = \"webhook\"\nurl = \"https://example.com/x\"\n\
             signing-secret-file = \"/etc/rekeyd/billing.secret\"\n\
             bearer-token-file = \"/etc/rekeyd/billing.token\"\nca-file = \"/etc/rekeyd/ca.pem\"\n\
             client-certificate = \"/etc/rekeyd/client.pem\"\n\
             client-key = \"/etc/rekeyd/billing.client.key\"\n"
        );
        let environment = Environment::empty(Timestamp::UNIX_EPOCH);
        let settings = parse(Path::new("/etc/rekeyd/config.toml"), &text, &environment).unwrap();
        let shown = |credentials: Option<&str>| {
            let paths = private_paths(&settings, credentials.map(Path::new));
            let paths = paths.iter().map(|path| path.display().to_string());
            paths
                .map(|path| path.replace(&folder.to_string(), "DIR"))
                .collect::<Vec<_>>()
        };
        let mode = |mode| fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        mode(0o700);
        let of_unit = shown(Some("/run/credentials/rekeyd@acme.service"));
        let mut expected = vec![
            "/etc/rekeyd/billing.client.key",
            "/etc/rekeyd/billing.secret",
            "/etc/rekeyd/billing.token",
            "/etc/rekeyd/client.key",
            "/etc/rekeyd/hook.secret",
            "/etc/rekeyd/metrics.password",
            "/run/credentials",
            "/srv/shown",
            "DIR",
            "DIR/control.sock",
            "DIR/metrics.sock",
            "DIR/secrets/admin-key",
            "/var/cache/rekeyd",
            "/var/lib/rekeyd",
        ];
        assert_eq!(of_unit, expected);
        expected.retain(|path| *path != "/run/credentials");
        assert_eq!(shown(None), expected);
        // Others may have files there.
        mode(0o750);
        for name in ["ledger.db.before-restore-2-wal", "ledger.dbx"] {
            fs::write(place.path().join(name), "").unwrap();
        }
        let shared = shown(Some("/secrets"));
        for file in ["DIR", "DIR/ledger.dbx"] {
            assert!(!shared.contains(&file.to_owned()), "{shared:?}");
        }
        for file in [
            "DIR/ledger.db",
            "DIR/ledger.db-wal",
            "DIR/ledger.db.before-restore",
            "DIR/ledger.db.before-restore-2-wal",
            "DIR/last-crash",
            "/secrets",
        ] {
            assert!(shared.contains(&file.to_owned()), "{file} {shared:?}");
        }
        // As /tmp, where programs have files.
        assert!(shared.contains(&"DIR/control.sock".to_owned()));
        mode(0o1777);
        let world = shown(None);
        assert!(
            !world.iter().any(|path| path.ends_with(".sock")),
            "{world:?}"
        );
    }
}
