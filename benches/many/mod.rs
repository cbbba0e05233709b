//! So many keys, each with a current credential that was rotated before.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use rekeyd::config::{self, Environment};
use rekeyd::core::change::{Answered, Begun, Change, Intent, Moved};
use rekeyd::core::names::{CredentialId, Label, RotationId};
use rekeyd::core::record::{CredentialFacts, DeliveryState, Trigger};
use rekeyd::core::rotation::Event;
use rekeyd::core::settings::{KeySettings, Settings};
use rekeyd::core::time;
use rekeyd::daemon::start::identity;
use rekeyd::ledger::{self, Driver, Ledger};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// With how many keys it is measured how a cost grows with them.
pub(crate) const COUNTS: [usize; 3] = [1, 100, 10_000];

/// A folder on the disk that the build is on: a temporary one may be kept in
/// memory, where a sync costs nothing.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

/// A configuration in `dir` with so many keys; `schedule` gives each its own.
pub(crate) fn text(
    count: usize,
    dir: &Path,
    base_url: &str,
    schedule: impl Fn(usize) -> String,
) -> String {
    let dir = dir.display();
    let mut text = format!(
        "[provider]\nbase-url = \"{base_url}\"\ncredential-file = \"{dir}/admin-key\"\n\
         [ledger]\npath = \"{dir}/ledger.db\"\n[defaults]\nsettle = \"0s\"\noverlap = \"1s\"\n"
    );
    for number in 0..count {
        let schedule = schedule(number);
        write!(
            text,
            "[key.key-{number}]\nschedule = \"{schedule}\"\n[[key.key-{number}.sink]]\n\
             type = \"webhook\"\nurl = \"http://127.0.0.1:9/{number}\"\n\
             signing-secret-file = \"{dir}/webhook-secret\"\n"
        )
        .unwrap();
    }
    text
}

/// What the configuration says.
pub(crate) fn settings(text: &str, now: Timestamp) -> Settings {
    config::parse(
        Path::new("/etc/rekeyd/config.toml"),
        text,
        &Environment::empty(now),
    )
    .unwrap()
}

/// The ledger of these settings.
pub(crate) fn open(settings: &Settings, now: Timestamp) -> Ledger {
    let connection = ledger::open(&settings.ledger, &identity(settings), now).unwrap();
    Ledger::start(connection, Driver::Thread).unwrap()
}

/// Records that each key was rotated at `born`; `make` gives the provider's id
/// for a label.
pub(crate) async fn rotate_all(
    ledger: &Ledger,
    settings: &Settings,
    born: Timestamp,
    make: impl Fn(&Label) -> String,
) {
    let mut recording = JoinSet::new();
    for (number, key) in settings.keys.iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        let changes = rotation(number, key, born, &make);
        let (ledger, name) = (ledger.clone(), key.name.clone());
        recording.spawn(async move { ledger.record(&name, born, changes).await.map(drop) });
    }
    while let Some(recorded) = recording.join_next().await {
        recorded.unwrap().unwrap();
    }
}

/// From the intent to the current credential.
fn rotation(
    number: u32,
    key: &KeySettings,
    born: Timestamp,
    make: impl Fn(&Label) -> String,
) -> Vec<Change> {
    let bytes = number.to_be_bytes();
    let id = RotationId::new([0, 0, 0, 0, bytes[0], bytes[1], bytes[2], bytes[3]]);
    let label = Label::new(&key.name, born, [bytes[1], bytes[2], bytes[3]]);
    let facts = CredentialFacts {
        id: CredentialId::new(make(&label)),
        redacted_value: None,
        created_at: Some(time::whole_seconds(born)),
        expires_at: None,
    };
    let sink = &key.sinks[0].id;
    let moved = |event| Change::Moved(Moved::new(&id, event));
    vec![
        Change::Intended(Intent {
            rotation: id.clone(),
            label,
            trigger: Trigger::First,
            scheduled_for: None,
            timetable: key.policy.timetable.to_text(),
            sinks: vec![(sink.clone(), true)],
            by_hand: None,
        }),
        Change::Moved(Moved {
            credential: Some(facts),
            ..Moved::new(&id, Event::Created)
        }),
        moved(Event::Worked),
        Change::Begun(Begun {
            rotation: id.clone(),
            sink: sink.clone(),
        }),
        Change::Answered(Answered {
            written: false,
            rotation: id.clone(),
            sink: sink.clone(),
            state: DeliveryState::Accepted,
            accepted_at: Some(time::next_whole_second(born)),
            retry_at: None,
            error: None,
        }),
        moved(Event::Delivered),
        Change::Recovered,
    ]
}
