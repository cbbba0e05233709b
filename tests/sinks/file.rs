//! The file sink on a real file system.
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use rekeyd::core::names::SinkId;
use rekeyd::core::record::CredentialFacts;
use rekeyd::core::secret::Secret;
use rekeyd::core::settings::{FileFormat, FileTarget, SinkSettings, SinkTarget};
use rekeyd::sink::file::FileSink;
use rekeyd::sink::{Parcel, Sink, Taken};

const VALUE: &str = "sk-admin-file-test-0123456789";

/// Where a test that runs as a second process of this binary is told the
/// folder to work in.
const CHILD_FOLDER: &str = "REKEYD_TEST_CHILD_FOLDER";

#[tokio::test]
async fn raw_is_the_secret_and_a_newline() {
    let place = Place::new();
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    assert_eq!(place.content(), format!("{VALUE}\n"));
    assert_eq!(place.names(), ["target"]);
}

#[tokio::test]
async fn env_is_one_assignment() {
    let mut place = Place::new();
    place.target.format = FileFormat::Env {
        variable: "OPENAI_ADMIN_KEY".to_owned(),
    };
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    assert_eq!(place.content(), format!("OPENAI_ADMIN_KEY={VALUE}\n"));
}

#[tokio::test]
async fn json_is_the_object_of_the_contract() {
    let mut place = Place::new();
    place.target.format = FileFormat::Json;
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    let wanted = concat!(
        r#"{"key":"billing","credential_id":"key_abc","created_at":1711471533,"#,
        r#""expires_at":null,"redacted_value":"sk-admin...789","sequence":42,"#,
        r#""value":"sk-admin-file-test-0123456789"}"#,
        "\n"
    );
    assert_eq!(place.content(), wanted);
}

#[tokio::test]
async fn the_mode_is_the_one_asked_for_whatever_the_old_file_had() {
    for mode in [0o600, 0o640, 0o444, 0o400, 0o040] {
        let mut place = Place::new();
        place.target.mode = mode;
        fs::write(&place.target.path, "old").unwrap();
        set_mode(&place.target.path, 0o666);
        place.sink().deliver(&parcel(VALUE)).await.unwrap();
        let found = fs::metadata(&place.target.path).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{mode:o}");
        assert_eq!(found.size(), VALUE.len() as u64 + 1);
    }
}

#[tokio::test]
async fn the_old_file_is_replaced_and_never_written_to() {
    let place = Place::new();
    fs::write(&place.target.path, "old").unwrap();
    let open = fs::File::open(&place.target.path).unwrap();
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    assert_eq!(std::io::read_to_string(open).unwrap(), "old");
    place.sink().deliver(&parcel("sk-admin-2")).await.unwrap();
    assert_eq!(place.content(), "sk-admin-2\n");
}

#[tokio::test]
async fn an_owner_is_given_with_privileges_and_refused_without() {
    let mut place = Place::new();
    if !is_root() {
        place.target.owner = Some("root".to_owned());
        place.refuses("without privileges").await;
        return;
    }
    place.target.owner = Some("daemon".to_owned());
    place.target.group = Some("4242".to_owned());
    place.target.mode = 0o640;
    let daemon = rekeyd::host::users::user("daemon").unwrap().as_raw();
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    let found = fs::metadata(&place.target.path).unwrap();
    assert_eq!((found.uid(), found.gid()), (daemon, 4242));
    assert_eq!(found.mode() & 0o7777, 0o640);

    // Without a word about them they stay unchanged.
    place.target.owner = None;
    place.target.group = None;
    place.sink().deliver(&parcel("sk-admin-2")).await.unwrap();
    let found = fs::metadata(&place.target.path).unwrap();
    assert_eq!((found.uid(), found.gid()), (daemon, 4242));
}

#[tokio::test]
async fn a_setgid_folder_gives_its_group() {
    let own = rustix::process::getegid();
    let groups = rustix::process::getgroups().unwrap();
    let other = groups.iter().map(|group| group.as_raw());
    let mut other = other.filter(|group| *group != own.as_raw());
    // A user of one group cannot make such a folder: its own will have to do.
    let group = if is_root() {
        4242
    } else {
        other.next().unwrap_or(own.as_raw())
    };
    let place = Place::new();
    fs::write(&place.target.path, "old, of our own group").unwrap();
    chown(place.folder(), None, Some(group)).unwrap();
    set_mode(place.folder(), 0o2750);
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    assert_eq!(fs::metadata(&place.target.path).unwrap().gid(), group);
}

#[tokio::test]
async fn every_problem_is_told_at_once() {
    let mut place = Place::new();
    place.target.owner = Some("no-such-user".to_owned());
    place.target.group = Some("no-such-group".to_owned());
    fs::create_dir(&place.target.path).unwrap();
    set_mode(place.folder(), 0o777);
    let problems = place.sink().inspect().await;
    let wanted = ["chmod o-w", "regular", "no-such-user", "no-such-group"];
    assert_eq!(problems.len(), wanted.len(), "{problems:?}");
    for (problem, wanted) in problems.iter().zip(wanted) {
        assert!(problem.contains(wanted), "{problem}");
        place.refuses_beforehand(wanted).await;
    }
}

#[tokio::test]
async fn a_symbolic_link_is_not_followed() {
    let place = Place::new();
    let elsewhere = place.folder().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, &place.target.path).unwrap();
    place.refuses("symbolic link").await;
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
    assert!(place.target.path.is_symlink());
}

#[tokio::test]
async fn a_target_that_is_no_file_is_refused() {
    let place = Place::new();
    fs::create_dir(&place.target.path).unwrap();
    place.refuses("not a regular file").await;
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_refused_sticky_or_not() {
    for mode in [0o777, 0o1777, 0o703] {
        let place = Place::new();
        set_mode(place.folder(), mode);
        place.refuses("chmod o-w").await;
        assert!(place.names().is_empty());
    }
}

#[tokio::test]
async fn a_missing_folder_is_refused_and_not_made() {
    let mut place = Place::new();
    place.target.path = place.folder().join("missing/target");
    place.refuses("does not exist").await;
    assert!(place.names().is_empty());
}

#[tokio::test]
async fn a_name_too_long_for_its_neighbour_is_refused() {
    let mut place = Place::new();
    place.target.path = place.folder().join("n".repeat(250));
    place.refuses("too long by 3").await;
}

#[tokio::test]
async fn a_left_over_is_removed_before_a_delivery_and_at_start() {
    let place = Place::new();
    fs::write(place.temporary(), "sk-admin-left-over").unwrap();
    place.sink().deliver(&parcel(VALUE)).await.unwrap();
    assert_eq!(place.names(), ["target"]);

    fs::write(place.temporary(), "sk-admin-left-over").unwrap();
    assert_eq!(place.sink().remove_leftover().await, Ok(true));
    assert_eq!(place.sink().remove_leftover().await, Ok(false));
    assert_eq!(place.content(), format!("{VALUE}\n"));
}

#[tokio::test]
async fn what_is_no_left_over_of_ours_stays() {
    let place = Place::new();
    let elsewhere = place.folder().join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    symlink(&elsewhere, place.temporary()).unwrap();
    let problem = place.sink().remove_leftover().await.unwrap_err();
    assert!(problem.contains("no regular file of ours"), "{problem}");
    let error = place.sink().deliver(&parcel(VALUE)).await.unwrap_err();
    assert_eq!(error.taken, Taken::No);
    assert!(place.temporary().is_symlink());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");

    fs::remove_file(place.temporary()).unwrap();
    fs::create_dir(place.temporary()).unwrap();
    assert!(place.sink().remove_leftover().await.is_err());
    assert!(place.temporary().is_dir());

    if is_root() {
        fs::remove_dir(place.temporary()).unwrap();
        fs::write(place.temporary(), "somebody else's").unwrap();
        chown(place.temporary(), Some(4242), None).unwrap();
        assert!(place.sink().remove_leftover().await.is_err());
        assert!(place.temporary().is_file());
    }
}

#[tokio::test]
async fn a_write_that_fails_half_way_leaves_the_old_content() {
    let place = Place::new();
    fs::write(&place.target.path, "old").unwrap();
    // A shell sets the limit, so that this process keeps its own. Without the
    // trap the signal would end the child.
    let output = Command::new("sh")
        .arg("-c")
        .arg("trap '' XFSZ; ulimit -f 2; exec \"$0\" --exact file::child_writes_too_much")
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_FOLDER, place.folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    assert_eq!(place.content(), "old");
    assert_eq!(place.names(), ["target"]);
    // The child leaves a trace outside, or the test would prove nothing.
    assert!(fs::metadata(place.folder()).unwrap().mode() & 0o7777 == 0o750);
}

/// Does nothing unless the test above runs it.
#[tokio::test]
async fn child_writes_too_much() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let place = Place::lent(folder.into());
    let long = format!("sk-admin-{}", "x".repeat(64 * 1024));
    let error = place.sink().deliver(&parcel(&long)).await.unwrap_err();
    assert_eq!(error.taken, Taken::No);
    assert!(error.message.contains("old content stands"), "{error}");
    assert!(!error.message.contains("xxxx"), "{error}");
    set_mode(place.folder(), 0o750);
}

#[tokio::test]
async fn never_more_permissive_than_the_final_mode() {
    let mut place = Place::new();
    place.target.mode = 0o440;
    let temporary = place.temporary();
    let (running, ended) = channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut seen = 0;
        while ended.try_recv() == Err(TryRecvError::Empty) {
            if let Ok(found) = fs::symlink_metadata(&temporary) {
                seen |= found.mode() & 0o7777;
            }
        }
        seen
    });
    for _ in 0..100 {
        place.sink().deliver(&parcel(VALUE)).await.unwrap();
    }
    drop(running);
    assert_eq!(watcher.join().unwrap() & !0o440, 0);
}

#[tokio::test]
async fn a_healthy_place_has_nothing_to_say_and_stays_as_it_is() {
    let place = Place::new();
    assert!(place.sink().inspect().await.is_empty());
    assert_eq!(place.sink().preflight().await, Ok(()));
    assert!(place.names().is_empty());
}

/// A target, and the folder it is in.
struct Place {
    target: FileTarget,
    folder: PathBuf,
    /// Removed with the test.
    _own: Option<tempfile::TempDir>,
}

impl Place {
    fn new() -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut place = Self::lent(own.path().to_owned());
        place._own = Some(own);
        place
    }

    fn lent(folder: PathBuf) -> Self {
        let target = FileTarget {
            after: None,
            path: folder.join("target"),
            format: FileFormat::Raw,
            mode: 0o600,
            owner: None,
            group: None,
        };
        Self {
            target,
            folder,
            _own: None,
        }
    }

    fn sink(&self) -> FileSink {
        let target = Arc::new(self.target.clone());
        let settings = SinkSettings {
            id: SinkId {
                name: "file".to_owned(),
                target: format!("file:{}", self.target.path.display()),
            },
            required: true,
            timeout: Duration::from_secs(30),
            target: SinkTarget::File(Arc::clone(&target)),
        };
        FileSink::new(&Arc::new(settings), &target)
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(".target.rekeyd")
    }

    fn content(&self) -> String {
        fs::read_to_string(&self.target.path).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Inspection and preflight both say so.
    async fn refuses_beforehand(&self, why: &str) {
        let problems = self.sink().inspect().await;
        assert!(problems.iter().any(|one| one.contains(why)), "{problems:?}");
        let problem = self.sink().preflight().await.unwrap_err();
        assert!(problem.contains(why), "{problem}");
    }

    /// So does a delivery, which leaves nothing behind.
    async fn refuses(&self, why: &str) {
        self.refuses_beforehand(why).await;
        let error = self.sink().deliver(&parcel(VALUE)).await.unwrap_err();
        assert_eq!(error.taken, Taken::No);
        assert!(error.message.contains(why), "{error}");
        assert!(!error.message.contains(VALUE), "{error}");
        assert!(!self.temporary().exists());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn parcel(value: &str) -> Parcel {
    let plain = crate::hook::parcel();
    Parcel {
        credential: CredentialFacts {
            redacted_value: Some("sk-admin...789".to_owned()),
            ..plain.credential
        },
        secret: Secret::new(value.to_owned()),
        ..plain
    }
}
