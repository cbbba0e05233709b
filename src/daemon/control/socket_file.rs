//! The file of the control socket: whose it is, and whether a daemon can listen there.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, accessat};
use rustix::process::umask;
use tokio::net::{UnixListener, UnixStream};

use crate::core::os_error;

/// The reason why the server cannot listen on its socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlListenError {
    /// The folder of the socket does not exist.
    #[error("cannot listen on {}: its folder does not exist; hint: create the folder, or change \
        [control] socket", path.display())]
    FolderNotFound {
        /// The socket.
        path: PathBuf,
    },
    /// The path is that of a file, which is not overwritten.
    #[error("cannot listen on {}: the path is a file, not a socket; hint: remove the file, or \
        change [control] socket", path.display())]
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// Another process has the socket.
    #[error(
        "cannot listen on {}: another process listens on it; hint: give each rekeyd its own \
         [control] socket",
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// The folder gives every user access to the files that are made in it.
    #[error(
        "cannot listen on {}: the default ACL of its folder lets every user connect; hint: remove \
         it with `setfacl -k`, or change [control] socket",
        path.display()
    )]
    OpenToOthers {
        /// The socket.
        path: PathBuf,
    },
    /// The socket cannot be created, or the one of an ended process removed.
    #[error("cannot listen on {}: {}", path.display(), os_error::describe(source))]
    Io {
        /// The socket.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// The permissions that the socket does not have: its owner and its group may connect, and
/// they write for that.
const WITHHELD: Mode = Mode::XUSR.union(Mode::XGRP).union(Mode::RWXO);

/// The time limit of the connection that shows whether a process listens on a socket.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Whose socket is at the path of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SocketOwner {
    /// The server's own one.
    ThisServer,
    /// Another one, or a file.
    Other,
    /// There is nothing.
    Absent,
}

/// What is at the path of a socket at which nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FreePath {
    Absent,
    /// The socket of a process that has ended.
    StaleSocket,
}

/// Listens on a new socket at `path`, and returns its device and inode.
///
/// # Errors
/// The system's, or others than its owner and its group could connect.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, (u64, u64)), ControlListenError> {
    // Not by the path afterwards: another user may have put another file there. A file that
    // another thread makes meanwhile gets fewer permissions, never more.
    let mask = umask(WITHHELD);
    let bound = UnixListener::bind(path);
    umask(mask);
    let listener = bound.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == ErrorKind::NotFound {
            ControlListenError::FolderNotFound { path }
        } else {
            ControlListenError::Io { path, source }
        }
    })?;
    let metadata = std::fs::symlink_metadata(path).map_err(|error| failed(path, error))?;
    // A default ACL of the folder takes the place of the mask.
    if metadata.mode() & Mode::RWXO.bits() != 0 {
        return Err(ControlListenError::OpenToOthers {
            path: path.to_owned(),
        });
    }
    Ok((listener, (metadata.dev(), metadata.ino())))
}

/// Removes the socket of a process that has ended.
///
/// # Errors
/// If a process listens there, or something else is there.
pub(super) async fn remove_stale_socket(path: &Path) -> Result<(), ControlListenError> {
    match probe(path).await? {
        FreePath::Absent => Ok(()),
        FreePath::StaleSocket => std::fs::remove_file(path).map_err(|error| failed(path, error)),
    }
}

/// Checks that this process could listen on `path`, without changing anything.
///
/// # Errors
/// That of listening there.
pub(crate) async fn check_path(path: &Path) -> Result<(), ControlListenError> {
    probe(path).await?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, folder, access, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOENT) => Err(ControlListenError::FolderNotFound {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(path, error.into())),
    }
}

/// Returns the device and inode of what is at `path`.
pub(super) fn socket_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Looks whether a process listens on `path`.
async fn probe(path: &Path) -> Result<FreePath, ControlListenError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FreePath::Absent),
        Err(error) => return Err(failed(path, error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ControlListenError::NoSocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let in_use = || ControlListenError::InUse {
        path: path.to_owned(),
    };
    // The queue of a process that does not accept connections may be full.
    match tokio::time::timeout(PROBE_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Ok(_)) | Err(_) => Err(in_use()),
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Err(in_use()),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Ok(FreePath::StaleSocket),
        Ok(Err(error)) => Err(failed(path, error)),
    }
}

fn failed(path: &Path, source: io::Error) -> ControlListenError {
    ControlListenError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// The mode is that of the moment of its creation, whatever the mask of the process.
    #[tokio::test]
    async fn socket_is_made_for_its_owner_and_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (_listener, identity) = bind(&path).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o660);
        assert_eq!((found.dev(), found.ino()), identity);
    }

    /// A check finds what a start would, and leaves everything as it is.
    #[tokio::test]
    async fn each_obstacle_is_found_without_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        drop(UnixListener::bind(at("stale")).unwrap());
        let _listener = UnixListener::bind(at("taken")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
        for (path, expected) in [
            ("free", None),
            ("stale", None),
            ("taken", Some("another process listens on it")),
            ("file", Some("is a file, not a socket")),
            ("folder", Some("is a file, not a socket")),
            ("dangling", Some("is a file, not a socket")),
            ("away/free", Some("its folder does not exist")),
            ("file/free", Some("not a directory")),
        ] {
            let checked = check_path(&at(path))
                .await
                .map_err(|error| error.to_string());
            match (checked, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) if error.contains(part) => {}
                (checked, expected) => panic!("{path}: {checked:?}, not {expected:?}"),
            }
        }
        assert!(at("stale").exists());
        remove_stale_socket(&at("stale")).await.unwrap();
        assert!(!at("stale").exists());
    }
}
