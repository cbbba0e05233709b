//! A path that leads elsewhere than when the configuration was read: the folder of a
//! sink's file, or one above it, was exchanged for another folder or for a symbolic link.

use std::fs;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rekeyd::core::ids::SinkId;
use rekeyd::platform::file_identity::{LookedUpPath, find_identities};
use rekeyd::sink::file::FileSink;
use rekeyd::sink::file::settings::{FileTarget, WriteMode};
use rekeyd::sink::protected_files::{ProtectedFile, ProtectedFiles};
use rekeyd::sink::target::SinkSettings;
use rekeyd::sink::{Acceptance, Sink};

use crate::file::{SECRET_VALUE, payload};
use crate::support::host::has_root;

/// A user who is neither root nor the one of this process.
const STRANGER: u32 = 4_711;
const OLD: &str = "old content\n";

/// A consumer's home with a folder for the sink's file `key`, the folder `own` with
/// rekeyd's own files `key` and `ledger.db`, and the folder `web` with another sink's.
struct World {
    root: PathBuf,
    sink: FileSink,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(write: WriteMode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["home/secrets", "own", "web", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for file in ["home/secrets/key", "own/key", "own/ledger.db", "web/key"] {
            fs::write(root.join(file), OLD).unwrap();
        }
        let claim = |path: &str, owner: &str| ProtectedFile {
            file: LookedUpPath::new(root.join(path)),
            owner: owner.to_owned(),
        };
        let own = vec![
            claim("own/key", "the credential file"),
            claim("own/ledger.db", "the ledger"),
            claim("own/.hidden.rekeyd", "beside the credential file"),
        ];
        let of_sinks = vec![
            claim("home/secrets/key", "written by key.billing.sink[0]"),
            claim("web/key", "written by key.web.sink[0]"),
        ];
        let paths = own.iter().chain(&of_sinks).map(|claim| claim.file.clone());
        let found = find_identities(paths.collect(), Duration::from_secs(60));
        let protected = Arc::new(ProtectedFiles::new(own, of_sinks, found));
        let target = Arc::new(FileTarget {
            write,
            ..FileTarget::with_defaults(root.join("home/secrets/key"))
        });
        let settings = SinkSettings {
            id: SinkId {
                name: "file".to_owned(),
                target: format!("file:{}", target.path.display()),
            },
            required: true,
            timeout: Duration::from_secs(30),
            target: Arc::<FileTarget>::clone(&target),
        };
        let sink = FileSink::new(&Arc::new(settings), &target, &protected);
        Self {
            root,
            sink,
            _dir: dir,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Puts a symbolic link in the place of a folder of the path.
    fn link(&self, name: &str, target: &Path) {
        fs::rename(self.at(name), self.at("aside")).unwrap();
        symlink(target, self.at(name)).unwrap();
    }

    /// Gives a link to another user. Returns whether this process may.
    fn give_away_link(&self, name: &str) -> bool {
        lchown(self.at(name), Some(STRANGER), None).is_ok()
    }

    /// Checks that neither the preflight nor a delivery writes, for a reason with `expected`.
    async fn assert_refused(&self, case: &str, expected: &str) {
        let before = self.protected_content();
        let refused = self.sink.preflight().await.unwrap_err().to_string();
        assert!(refused.contains(expected), "{case}: {refused}");
        let error = self.sink.deliver(&payload(SECRET_VALUE)).await.unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted, "{case}");
        assert!(error.message.contains(expected), "{case}: {error}");
        assert_eq!(self.protected_content(), before, "{case}");
    }

    async fn assert_delivered(&self, case: &str) {
        assert_eq!(self.sink.preflight().await, Ok(()), "{case}");
        let delivered = self.sink.deliver(&payload(SECRET_VALUE)).await;
        assert_eq!(delivered, Ok(()), "{case}");
        let content = fs::read_to_string(self.at("home/secrets/key")).unwrap();
        assert_eq!(content.trim_end(), SECRET_VALUE, "{case}");
    }

    /// Returns every file of the folders that are not the sink's.
    fn protected_content(&self) -> Vec<(PathBuf, String)> {
        let folders = ["own", "web", "other"].map(|folder| self.at(folder));
        let files = folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok())
            .flatten()
            .map(|entry| entry.unwrap().path());
        let mut content: Vec<_> = files
            .filter(|path| path.is_file())
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect();
        content.sort();
        content
    }
}

const MODES: [WriteMode; 2] = [WriteMode::Replace, WriteMode::InPlace];

#[tokio::test]
async fn file_of_another_owner_is_not_written_by_an_exchanged_folder() {
    type Change = fn(&World);
    let cases: [(&str, Change, &str); 6] = [
        (
            "a link to the folder of the credential file",
            |world| world.link("home/secrets", &world.at("own")),
            "own/key, which is the credential file",
        ),
        (
            "a relative link",
            |world| world.link("home/secrets", Path::new("../own")),
            "which is the credential file",
        ),
        (
            "a link to another sink's folder",
            |world| world.link("home/secrets", &world.at("web")),
            "web/key, which is written by key.web.sink[0]",
        ),
        (
            "a link above the folder",
            |world| {
                fs::rename(world.at("web"), world.at("other/secrets")).unwrap();
                symlink("other/secrets", world.at("web")).unwrap();
                world.link("home", &world.at("other"));
            },
            "which is written by key.web.sink[0]",
        ),
        (
            "a link to a link",
            |world| {
                symlink("own", world.at("second")).unwrap();
                world.link("home/secrets", &world.at("second"));
            },
            "which is the credential file",
        ),
        (
            "the folder itself",
            |world| {
                fs::rename(world.at("home/secrets"), world.at("aside")).unwrap();
                fs::rename(world.at("web"), world.at("home/secrets")).unwrap();
                symlink("home/secrets", world.at("web")).unwrap();
            },
            "which is written by key.web.sink[0]",
        ),
    ];
    for write in MODES {
        for (case, change, expected) in cases {
            let world = World::new(write);
            world.assert_delivered(case).await;
            change(&world);
            world.assert_refused(case, expected).await;
        }
    }
}

/// The file would be new there, and nothing protects its name.
#[tokio::test]
async fn folder_of_own_files_is_refused_under_any_name() {
    for write in MODES {
        let world = World::new(write);
        fs::remove_file(world.at("own/key")).unwrap();
        fs::rename(world.at("own/ledger.db"), world.at("own/x")).unwrap();
        fs::remove_file(world.at("home/secrets/key")).unwrap();
        world.assert_delivered("before").await;
        // Its entry is protected, whether or not it exists.
        world.link("home/secrets", &world.at("own"));
        world.assert_refused("absent file", "own/key, which").await;
    }
}

#[tokio::test]
async fn second_name_of_an_own_file_is_not_written() {
    for (write, expected) in [
        (WriteMode::Replace, "which is the ledger"),
        (WriteMode::InPlace, "which is the ledger"),
    ] {
        let world = World::new(write);
        fs::remove_file(world.at("home/secrets/key")).unwrap();
        fs::hard_link(world.at("own/ledger.db"), world.at("home/secrets/key")).unwrap();
        world.assert_refused("a hard link", expected).await;
    }
}

#[tokio::test]
async fn folder_made_again_by_its_owner_is_written_and_told() {
    for write in MODES {
        for is_linked in [false, true] {
            let case = format!("{write:?} {is_linked}");
            let world = World::new(write);
            world.assert_delivered(&case).await;
            if is_linked {
                world.link("home/secrets", &world.at("other"));
            } else {
                fs::rename(world.at("home/secrets"), world.at("aside")).unwrap();
                fs::create_dir(world.at("home/secrets")).unwrap();
            }
            world.assert_delivered(&case).await;
            let former = fs::read_to_string(world.at("aside/key")).unwrap();
            assert_eq!(former.trim_end(), SECRET_VALUE);
        }
    }
}

/// Only root can make files of other users.
#[tokio::test]
async fn folder_of_another_owner_is_refused_until_a_reload() {
    if !has_root() {
        return;
    }
    for write in MODES {
        let world = World::new(write);
        world.assert_delivered("before").await;
        fs::rename(world.at("home/secrets"), world.at("aside")).unwrap();
        fs::create_dir(world.at("home/secrets")).unwrap();
        chown(world.at("home/secrets"), Some(STRANGER), None).unwrap();
        let expected = "was replaced: it belonged to root (uid 0) and now belongs to uid 4711";
        world.assert_refused("another owner", expected).await;
        // The former one counts at once.
        fs::remove_dir(world.at("home/secrets")).unwrap();
        fs::rename(world.at("aside"), world.at("home/secrets")).unwrap();
        world.assert_delivered("put back").await;
    }
}

const fn expected_link() -> &'static str {
    "is a symbolic link of uid 4711, so another user could"
}

#[tokio::test]
async fn link_of_another_user_leads_nowhere() {
    for write in MODES {
        let world = World::new(write);
        world.link("home/secrets", &world.at("other"));
        if !world.give_away_link("home/secrets") {
            return;
        }
        let expected = expected_link();
        world.assert_refused("a folder of root", expected).await;
        // Nor does a link of root's behind it help.
        fs::remove_file(world.at("home/secrets")).unwrap();
        symlink("other", world.at("second")).unwrap();
        symlink(world.at("second"), world.at("home/secrets")).unwrap();
        assert!(world.give_away_link("home/secrets"));
        world.assert_refused("by a second link", expected).await;
    }
    // Not even to folders of its own: a consumer that switches between them at each release
    // needs `trusted-paths`.
    let world = World::new(WriteMode::Replace);
    fs::create_dir_all(world.at("other")).unwrap();
    for folder in ["home/secrets", "other"] {
        chown(world.at(folder), Some(STRANGER), None).unwrap();
    }
    world.link("home/secrets", &world.at("other"));
    assert!(world.give_away_link("home/secrets"));
    world
        .assert_refused("a folder of theirs", expected_link())
        .await;
}

/// Removing what a killed process left must not reach another sink's either.
#[tokio::test]
async fn temporary_file_in_a_foreign_folder_stays() {
    let world = World::new(WriteMode::Replace);
    fs::write(world.at("web/.key.rekeyd"), "half").unwrap();
    world.link("home/secrets", &world.at("web"));
    assert!(world.sink.remove_stale_temp().await.is_err());
    assert!(world.at("web/.key.rekeyd").exists());
}
