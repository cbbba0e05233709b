//! The file of a server's Unix socket: whose it is, and whether a daemon can listen there.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, RenameFlags, accessat, renameat_with};
use rustix::io::Errno;
use rustix::process::umask;
use tokio::net::{UnixListener, UnixStream};

use crate::core::os_error;
use crate::platform::users::describe_user;

/// The Unix socket of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketPlace {
    /// Its path.
    pub(crate) path: PathBuf,
    /// The option that names it, for people.
    pub(crate) option: &'static str,
}

impl fmt::Display for SocketPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.path.display())
    }
}

/// The reason why a server cannot listen on its socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketListenError {
    /// The folder of the socket does not exist.
    #[error(
        "cannot listen on {place}: its folder does not exist; hint: create the folder, or change {}",
        place.option
    )]
    FolderNotFound {
        /// The socket.
        place: SocketPlace,
    },
    /// The path is that of a file, which is not overwritten.
    #[error(
        "cannot listen on {place}: the path is a file, not a socket; hint: remove the file, or \
         change {}",
        place.option
    )]
    NoSocket {
        /// The socket.
        place: SocketPlace,
    },
    /// The path is a symbolic link, which is not followed.
    #[error(
        "cannot listen on {place}: the path is a symbolic link; hint: remove the link, or change {} \
         to the path that it leads to",
        place.option
    )]
    Link {
        /// The socket.
        place: SocketPlace,
    },
    /// The socket of an ended process belongs to another user.
    #[error(
        "cannot listen on {place}: the socket there belongs to {}, and nobody listens on it; hint: \
         remove it, or change {}",
        describe_user(*owner),
        place.option
    )]
    ForeignSocket {
        /// The socket.
        place: SocketPlace,
        /// Its owner.
        owner: u32,
    },
    /// Another process has the socket.
    #[error(
        "cannot listen on {place}: another process listens on it; hint: give each rekeyd its own {}",
        place.option
    )]
    InUse {
        /// The socket.
        place: SocketPlace,
    },
    /// The folder gives every user access to the files that are made in it.
    #[error(
        "cannot listen on {place}: the default ACL of its folder lets every user connect; hint: \
         remove it with `setfacl -k`, or change {}",
        place.option
    )]
    OpenToOthers {
        /// The socket.
        place: SocketPlace,
    },
    /// The socket cannot be created, or the one of an ended process removed.
    #[error("cannot listen on {place}: {}", os_error::describe(source))]
    Io {
        /// The socket.
        place: SocketPlace,
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
    /// The socket of a process that has ended, with its device and inode.
    StaleSocket((u64, u64)),
}

/// The socket of a server, which is removed on drop: later clients must find that nobody
/// listens.
#[derive(Debug)]
pub(crate) struct BoundSocket {
    place: SocketPlace,
    /// Its device and inode.
    identity: (u64, u64),
}

impl BoundSocket {
    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.place.path
    }

    /// Returns its device and inode.
    pub(crate) const fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns whose socket is at the path. A socket that cannot be checked counts as this
    /// server's.
    pub(crate) fn owner(&self) -> SocketOwner {
        match socket_identity(self.path()) {
            Ok(found) if found == self.identity => SocketOwner::ThisServer,
            Ok(_) => SocketOwner::Other,
            Err(error) if error.kind() == ErrorKind::NotFound => SocketOwner::Absent,
            Err(_) => SocketOwner::ThisServer,
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // Another rekeyd's socket stays.
        let _ = remove_if_same(self.path(), self.identity);
    }
}

/// Listens on a new socket, once that of an ended process is removed.
///
/// # Errors
/// If a process listens there, something else is there, or others than its owner and its
/// group could connect.
pub(super) async fn listen(
    place: &SocketPlace,
) -> Result<(UnixListener, BoundSocket), SocketListenError> {
    remove_stale_socket(place).await?;
    bind(place)
}

fn bind(place: &SocketPlace) -> Result<(UnixListener, BoundSocket), SocketListenError> {
    // Not by the path afterwards: another user may have put another file there. Meanwhile no
    // program starts, since this thread starts them all, and other threads set the mode of
    // each file that they make.
    let mask = umask(WITHHELD);
    let bound = UnixListener::bind(&place.path);
    umask(mask);
    let listener = bound.map_err(|source| {
        let place = place.clone();
        if source.kind() == ErrorKind::NotFound {
            SocketListenError::FolderNotFound { place }
        } else {
            SocketListenError::Io { place, source }
        }
    })?;
    let metadata = std::fs::symlink_metadata(&place.path).map_err(|error| failed(place, error))?;
    let socket = BoundSocket {
        place: place.clone(),
        identity: (metadata.dev(), metadata.ino()),
    };
    // A default ACL of the folder takes the place of the mask.
    if metadata.mode() & Mode::RWXO.bits() != 0 {
        return Err(SocketListenError::OpenToOthers {
            place: place.clone(),
        });
    }
    Ok((listener, socket))
}

/// Removes the socket of a process that has ended.
///
/// # Errors
/// If a process listens there, or something else is there.
async fn remove_stale_socket(place: &SocketPlace) -> Result<(), SocketListenError> {
    match probe(place).await? {
        FreePath::Absent => Ok(()),
        FreePath::StaleSocket(identity) => {
            remove_if_same(&place.path, identity).map_err(|error| failed(place, error))
        }
    }
}

/// Removes the file at `path`, if it is still the one with this device and inode. Another file
/// stays, also if it gets the name in between: the file is moved to a name of its own first.
fn remove_if_same(path: &Path, identity: (u64, u64)) -> io::Result<()> {
    if socket_identity(path)? != identity {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut moved = path.as_os_str().to_owned();
    moved.push(format!(".{}.ended", std::process::id()));
    let moved = PathBuf::from(moved);
    rename_to_free(path, &moved)?;
    if socket_identity(&moved)? == identity {
        return std::fs::remove_file(&moved);
    }
    rename_to_free(&moved, path)?;
    Err(ErrorKind::AlreadyExists.into())
}

/// Renames a file to a name that no other file has.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // The file system has no such operation.
        Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(from, to),
        renamed => Ok(renamed?),
    }
}

/// Checks that this process could listen there, without changing anything.
///
/// # Errors
/// That of listening there.
pub(crate) async fn check_place(place: &SocketPlace) -> Result<(), SocketListenError> {
    probe(place).await?;
    let folder = place.path.parent().unwrap_or(Path::new("/"));
    let access = Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, folder, access, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOENT) => Err(SocketListenError::FolderNotFound {
            place: place.clone(),
        }),
        Err(error) => Err(failed(place, error.into())),
    }
}

/// Returns the device and inode of what is at `path`.
fn socket_identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Looks whether a process listens there.
async fn probe(place: &SocketPlace) -> Result<FreePath, SocketListenError> {
    let found = match std::fs::symlink_metadata(&place.path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FreePath::Absent),
        Err(error) => return Err(failed(place, error)),
        Ok(metadata) if metadata.file_type().is_symlink() => {
            return Err(SocketListenError::Link {
                place: place.clone(),
            });
        }
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketListenError::NoSocket {
                place: place.clone(),
            });
        }
        Ok(metadata) => metadata,
    };
    let in_use = || SocketListenError::InUse {
        place: place.clone(),
    };
    // The queue of a process that does not accept connections may be full.
    match tokio::time::timeout(PROBE_TIMEOUT, UnixStream::connect(&place.path)).await {
        Ok(Ok(_)) | Err(_) => Err(in_use()),
        Ok(Err(error)) if error.kind() == ErrorKind::WouldBlock => Err(in_use()),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            check_owner(place, found.uid())?;
            Ok(FreePath::StaleSocket((found.dev(), found.ino())))
        }
        Ok(Err(error)) => Err(failed(place, error)),
    }
}

/// Checks that the socket of an ended process may be removed: it is this user's, root's, or that
/// of the owner of its folder.
fn check_owner(place: &SocketPlace, owner: u32) -> Result<(), SocketListenError> {
    let folder = place.path.parent().unwrap_or(Path::new("/"));
    let of_folder = folder.metadata().map(|folder| folder.uid()).ok();
    let is_ours = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if is_ours || of_folder == Some(owner) {
        return Ok(());
    }
    Err(SocketListenError::ForeignSocket {
        place: place.clone(),
        owner,
    })
}

fn failed(place: &SocketPlace, source: io::Error) -> SocketListenError {
    SocketListenError::Io {
        place: place.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn place(path: &Path) -> SocketPlace {
        SocketPlace {
            path: path.to_owned(),
            option: "[control] socket",
        }
    }

    /// The mode is that of the moment of its creation, whatever the mask of the process.
    #[tokio::test]
    async fn socket_is_made_for_its_owner_and_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let (_listener, socket) = bind(&place(&path)).unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o660);
        assert_eq!(socket.owner(), SocketOwner::ThisServer);
        std::fs::rename(&path, dir.path().join("other")).unwrap();
        assert_eq!(socket.owner(), SocketOwner::Absent);
        std::fs::write(&path, "").unwrap();
        assert_eq!(socket.owner(), SocketOwner::Other);
        drop(socket);
        assert!(path.exists());
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
        std::os::unix::fs::symlink("stale", at("link")).unwrap();
        for (path, expected) in [
            ("free", None),
            ("stale", None),
            ("taken", Some("another process listens on it")),
            ("file", Some("is a file, not a socket")),
            ("folder", Some("is a file, not a socket")),
            ("dangling", Some("is a symbolic link")),
            ("link", Some("is a symbolic link")),
            ("away/free", Some("its folder does not exist")),
            ("file/free", Some("not a directory")),
        ] {
            let checked = check_place(&place(&at(path)))
                .await
                .map_err(|error| error.to_string());
            match (checked, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) if error.contains(part) => {}
                (checked, expected) => panic!("{path}: {checked:?}, not {expected:?}"),
            }
        }
        let names = || std::fs::read_dir(dir.path()).unwrap().count();
        let before = names();
        for left in ["file", "folder", "taken", "dangling", "link"] {
            let left = at(left);
            assert!(remove_stale_socket(&place(&left)).await.is_err());
            assert!(left.symlink_metadata().is_ok(), "{}", left.display());
        }
        assert_eq!(names(), before);
        remove_stale_socket(&place(&at("stale"))).await.unwrap();
        assert!(at("stale").symlink_metadata().is_err());
        assert_eq!(names(), before - 1);
    }

    /// Another file may get the name of a socket that is about to be removed.
    #[test]
    fn only_the_same_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let (device, inode) = socket_identity(&path).unwrap();
        remove_if_same(&path, (device, inode + 1)).unwrap_err();
        assert!(path.exists());
        remove_if_same(&path, (device, inode)).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn ended_socket_of_another_user_is_left() {
        // Only root can give a file to another user.
        if !crate::test_host::has_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).unwrap();
        give(&path, 4_711);
        let refused = remove_stale_socket(&place(&path)).await.unwrap_err();
        assert!(
            refused.to_string().contains("belongs to uid 4711"),
            "{refused}"
        );
        assert!(path.exists());
        // The folder is that user's own, as where rekeyd ran as that user before.
        give(dir.path(), 4_711);
        remove_stale_socket(&place(&path)).await.unwrap();
        assert!(!path.exists());
    }
}
