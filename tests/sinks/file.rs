//! The file sink on a real file system.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use crate::support::limit::TestLimit;
use rekeyd::core::ids::SinkId;
use rekeyd::core::secret::Secret;
use rekeyd::core::state::CredentialMetadata;
use rekeyd::sink::file::FileSink;
use rekeyd::sink::file::settings::{FileFormat, FileTarget, WriteMode};
use rekeyd::sink::target::SinkSettings;
use rekeyd::sink::{Acceptance, Payload, Sink};

pub(crate) const SECRET_VALUE: &str = "sk-admin-file-test-0123456789";

/// The variable with the folder of a test that runs as a second process of this binary.
pub(crate) const CHILD_FOLDER: &str = "REKEYD_TEST_CHILD_FOLDER";

#[tokio::test]
async fn raw_format_is_secret_and_newline() {
    let place = FileFixture::new();
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
    assert_eq!(place.file_names(), ["target"]);
}

#[tokio::test]
async fn env_format_is_one_assignment() {
    let mut place = FileFixture::new();
    place.target.format = FileFormat::Env {
        variable: "OPENAI_ADMIN_KEY".to_owned(),
    };
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(
        place.content(),
        format!("OPENAI_ADMIN_KEY={SECRET_VALUE}\n")
    );
}

#[tokio::test]
async fn json_format_matches_documentation() {
    let mut place = FileFixture::new();
    place.target.format = FileFormat::Json;
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    let expected = concat!(
        r#"{"key":"billing","credential_id":"key_abc","created_at":1711471533,"#,
        r#""expires_at":null,"redacted_value":"sk-admin...789","sequence":42,"#,
        r#""value":"sk-admin-file-test-0123456789"}"#,
        "\n"
    );
    assert_eq!(place.content(), expected);
}

#[tokio::test]
async fn configured_mode_replaces_old_mode() {
    for mode in [0o600, 0o640, 0o444, 0o400, 0o040] {
        let mut place = FileFixture::new();
        place.target.mode = mode;
        fs::write(&place.target.path, "old").unwrap();
        set_mode(&place.target.path, 0o666);
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
        let found = fs::metadata(&place.target.path).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{mode:o}");
        assert_eq!(found.size(), SECRET_VALUE.len() as u64 + 1);
    }
}

#[tokio::test]
async fn old_file_is_replaced_not_overwritten() {
    let place = FileFixture::new();
    fs::write(&place.target.path, "old").unwrap();
    let open = fs::File::open(&place.target.path).unwrap();
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(std::io::read_to_string(open).unwrap(), "old");
    place.sink().deliver(&payload("sk-admin-2")).await.unwrap();
    assert_eq!(place.content(), "sk-admin-2\n");
}

#[tokio::test]
async fn owner_change_needs_privileges() {
    let mut place = FileFixture::new();
    if !is_root() {
        place.target.owner = Some("root".to_owned());
        place.assert_delivery_refused("without CAP_CHOWN").await;
        return;
    }
    place.target.owner = Some("daemon".to_owned());
    place.target.group = Some("4242".to_owned());
    place.target.mode = 0o640;
    let daemon = rekeyd::platform::users::find_user("daemon")
        .unwrap()
        .as_raw();
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    let found = fs::metadata(&place.target.path).unwrap();
    assert_eq!((found.uid(), found.gid()), (daemon, 4242));
    assert_eq!(found.mode() & 0o7777, 0o640);

    // Without the options, owner and group stay unchanged.
    place.target.owner = None;
    place.target.group = None;
    place.sink().deliver(&payload("sk-admin-2")).await.unwrap();
    let found = fs::metadata(&place.target.path).unwrap();
    assert_eq!((found.uid(), found.gid()), (daemon, 4242));
}

#[tokio::test]
async fn setgid_folder_determines_group() {
    let own = rustix::process::getegid();
    let groups = rustix::process::getgroups().unwrap();
    let other = groups.iter().map(|group| group.as_raw());
    let mut other = other.filter(|group| *group != own.as_raw());
    // A user with one group cannot create such a folder, so its own group must do.
    let group = if is_root() {
        4242
    } else {
        other.next().unwrap_or(own.as_raw())
    };
    let place = FileFixture::new();
    fs::write(&place.target.path, "old, of our own group").unwrap();
    chown(place.folder(), None, Some(group)).unwrap();
    set_mode(place.folder(), 0o2750);
    place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    assert_eq!(fs::metadata(&place.target.path).unwrap().gid(), group);
}

#[tokio::test]
async fn all_problems_are_reported_at_once() {
    let mut place = FileFixture::new();
    place.target.owner = Some("no-such-user".to_owned());
    place.target.group = Some("no-such-group".to_owned());
    fs::create_dir(&place.target.path).unwrap();
    set_mode(place.folder(), 0o777);
    let problems = place.sink().check().await;
    let expected = [
        "is world-writable",
        "regular",
        "no-such-user",
        "no-such-group",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.message.contains(expected), "{problem}");
        place.assert_preflight_refused(expected).await;
    }
}

#[tokio::test]
async fn symlink_is_not_followed() {
    let place = FileFixture::new();
    let elsewhere = place.folder().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, &place.target.path).unwrap();
    place.assert_delivery_refused("symbolic link").await;
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert!(place.target.path.is_symlink());
}

#[tokio::test]
async fn non_regular_target_is_refused() {
    let place = FileFixture::new();
    fs::create_dir(&place.target.path).unwrap();
    place.assert_delivery_refused("not a regular file").await;
}

#[tokio::test]
async fn world_writable_folder_is_refused() {
    for mode in [0o777, 0o1777, 0o703] {
        let place = FileFixture::new();
        set_mode(place.folder(), mode);
        place.assert_delivery_refused("is world-writable").await;
        assert!(place.file_names().is_empty());
    }
}

#[tokio::test]
async fn missing_folder_is_refused_and_not_created() {
    let mut place = FileFixture::new();
    place.target.path = place.folder().join("missing/target");
    place.assert_delivery_refused("does not exist").await;
    assert!(place.file_names().is_empty());
}

#[tokio::test]
async fn too_long_temp_name_is_refused() {
    let mut place = FileFixture::new();
    place.target.path = place.folder().join("n".repeat(250));
    place.assert_delivery_refused("is 20 bytes too long").await;
}

#[tokio::test]
async fn stale_temp_is_removed_before_delivery_and_at_start() {
    let place = FileFixture::new();
    for temp_path in place.temp_paths() {
        fs::write(&temp_path, "sk-admin-left-over").unwrap();
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
        assert_eq!(place.file_names(), ["target"]);

        fs::write(&temp_path, "sk-admin-left-over").unwrap();
        assert_eq!(place.sink().remove_stale_temp().await, Ok(true));
        assert_eq!(place.sink().remove_stale_temp().await, Ok(false));
        assert_eq!(place.content(), format!("{SECRET_VALUE}\n"));
    }
}

#[tokio::test]
async fn what_others_put_at_a_temp_name_stays_and_is_not_in_the_way() {
    for number in 0..2 {
        let place = FileFixture::new();
        let temp_path = &place.temp_paths()[number];
        let elsewhere = place.folder().join("elsewhere");
        fs::write(&elsewhere, "untouched").unwrap();
        let assert_stays = async || {
            assert_eq!(place.sink().remove_stale_temp().await, Ok(false));
            place.sink().preflight().await.unwrap();
            place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
            assert!(temp_path.symlink_metadata().is_ok());
            assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        };
        symlink(&elsewhere, temp_path).unwrap();
        assert_stays().await;
        fs::remove_file(temp_path).unwrap();
        // Its content has another name.
        fs::hard_link(&elsewhere, temp_path).unwrap();
        assert_stays().await;
        fs::remove_file(temp_path).unwrap();
        fs::create_dir(temp_path).unwrap();
        assert_stays().await;
        fs::remove_dir(temp_path).unwrap();
        if is_root() {
            fs::write(temp_path, "somebody else's").unwrap();
            chown(temp_path, Some(4242), None).unwrap();
            assert_stays().await;
        }
    }
}

#[tokio::test]
async fn failed_write_leaves_old_content() {
    let place = FileFixture::new();
    fs::write(&place.target.path, "old").unwrap();
    // A shell sets the limit, so that this process keeps its own. Without the trap, the
    // signal would end the child.
    let output = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact file::child_writes_too_much")
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_FOLDER, place.folder())
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output_text}");
    assert!(output_text.contains("1 passed"), "{output_text}");
    assert_eq!(place.content(), "old");
    assert_eq!(place.file_names(), ["target"]);
    // The child leaves a trace outside; without it, the test would prove nothing.
    assert!(fs::metadata(place.folder()).unwrap().mode() & 0o7777 == 0o750);
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_writes_too_much() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let place = FileFixture::in_folder(folder.into());
    let long = format!("sk-admin-{}", "x".repeat(64 * 1024));
    let error = place.sink().deliver(&payload(&long)).await.unwrap_err();
    assert_eq!(error.acceptance, Acceptance::NotAccepted);
    assert!(
        error.message.contains("cannot write the new content"),
        "{error}"
    );
    assert!(!error.message.contains("xxxx"), "{error}");
    set_mode(place.folder(), 0o750);
}

#[tokio::test]
async fn temp_file_is_never_more_permissive_than_final_mode() {
    let mut place = FileFixture::new();
    place.target.mode = 0o440;
    let folder = place.folder().to_owned();
    let (running, ended) = channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut observed_mode = 0;
        while ended.try_recv() == Err(TryRecvError::Empty) {
            for entry in fs::read_dir(&folder).unwrap().map_while(Result::ok) {
                let is_temp = entry.file_name() != "target";
                if let Some(found) = entry.metadata().ok().filter(|_| is_temp) {
                    observed_mode |= found.mode() & 0o7777;
                }
            }
        }
        observed_mode
    });
    for _ in 0..100 {
        place.sink().deliver(&payload(SECRET_VALUE)).await.unwrap();
    }
    drop(running);
    assert_eq!(watcher.join().unwrap() & !0o440, 0);
}

#[tokio::test]
async fn healthy_target_has_no_problems_and_is_not_changed() {
    let place = FileFixture::new();
    assert!(place.sink().check().await.is_empty());
    assert_eq!(place.sink().preflight().await, Ok(()));
    assert!(place.file_names().is_empty());
}

/// A target and its folder.
pub(crate) struct FileFixture {
    pub(crate) target: FileTarget,
    folder: PathBuf,
    /// The folder, which is removed with the test.
    _tempdir: Option<tempfile::TempDir>,
    _limit: TestLimit,
}

impl FileFixture {
    pub(crate) fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut place = Self::in_folder(own.path().to_owned());
        place._tempdir = Some(own);
        place
    }

    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        let target = FileTarget {
            on_change: None,
            path: folder.join("target"),
            write: WriteMode::Replace,
            format: FileFormat::Raw,
            mode: 0o600,
            has_mode_option: true,
            owner: None,
            group: None,
        };
        Self {
            target,
            folder,
            _tempdir: None,
            _limit: TestLimit::start(),
        }
    }

    pub(crate) fn sink(&self) -> FileSink {
        let target = Arc::new(self.target.clone());
        let settings = SinkSettings {
            id: SinkId {
                name: "file".to_owned(),
                target: format!("file:{}", self.target.path.display()),
            },
            required: true,
            timeout: Duration::from_secs(30),
            target: Arc::<FileTarget>::clone(&target),
        };
        FileSink::new(&Arc::new(settings), &target, &Arc::default())
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the paths that a temporary file may have: that of 0.1.0, and one of many.
    fn temp_paths(&self) -> [PathBuf; 2] {
        [".target.rekeyd", ".target.0123456789abcdef.rekeyd"].map(|name| self.folder.join(name))
    }

    pub(crate) fn content(&self) -> String {
        fs::read_to_string(&self.target.path).unwrap()
    }

    pub(crate) fn file_names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Asserts that inspection and preflight report this problem.
    pub(crate) async fn assert_preflight_refused(&self, reason: &str) {
        let problems = self.sink().check().await;
        assert!(
            problems
                .iter()
                .any(|problem| problem.message.contains(reason)),
            "{problems:?}"
        );
        let error = self.sink().preflight().await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    }

    /// Asserts that a delivery reports this problem, and leaves no file behind.
    pub(crate) async fn assert_delivery_refused(&self, reason: &str) {
        self.assert_preflight_refused(reason).await;
        let error = self
            .sink()
            .deliver(&payload(SECRET_VALUE))
            .await
            .unwrap_err();
        assert_eq!(error.acceptance, Acceptance::NotAccepted);
        assert!(error.message.contains(reason), "{error}");
        assert!(!error.message.contains(SECRET_VALUE), "{error}");
        let is_temp = |name: &String| name.starts_with(".target");
        assert!(!self.file_names().iter().any(is_temp));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn payload(value: &str) -> Payload {
    let plain = crate::webhook_fixture::payload();
    Payload {
        credential: CredentialMetadata {
            redacted_value: Some("sk-admin...789".to_owned()),
            ..plain.credential
        },
        secret: Secret::new(value.to_owned()),
        ..plain
    }
}

/// A member of the folder's group exchanges the new file before the rename.
#[tokio::test]
async fn exchanged_file_is_not_a_certain_delivery() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let place = FileFixture::new();
    let stop = Arc::new(AtomicBool::new(false));
    let (folder, stopped) = (place.folder().to_owned(), Arc::clone(&stop));
    let attacker = std::thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            let stolen = folder.join("stolen");
            let entries = fs::read_dir(&folder).unwrap().map_while(Result::ok);
            for temporary in entries.map(|entry| entry.path()) {
                let is_temp = temporary
                    .extension()
                    .is_some_and(|suffix| suffix == "rekeyd");
                if is_temp && fs::rename(&temporary, &stolen).is_ok() {
                    // Only its owner may write a file that rekeyd has made again.
                    drop(fs::File::create_new(&temporary));
                }
            }
        }
    });
    for _ in 0..200 {
        match place.sink().deliver(&payload(SECRET_VALUE)).await {
            Ok(()) => assert_eq!(place.content(), format!("{SECRET_VALUE}\n")),
            Err(error) => assert_ne!(error.to_string(), ""),
        }
    }
    stop.store(true, Ordering::Relaxed);
    attacker.join().unwrap();
}
