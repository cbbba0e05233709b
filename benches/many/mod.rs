//! So many keys, each with a current credential that was rotated before.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use rekeyd::config::settings::{KeySettings, Settings};
use rekeyd::config::{self, Environment};
use rekeyd::core::change::{
    Change, DeliveryResult, DeliveryStart, RotationIntent, ScheduleChange, Transition,
};
use rekeyd::core::ids::{CredentialId, Label, RotationId};
use rekeyd::core::lifecycle::LifecycleEvent;
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, DeliveryState, KeyState, Trigger};
use rekeyd::core::time;
use rekeyd::daemon::runtime::ledger_identity;
use rekeyd::ledger::{Ledger, LedgerOptions, WriterDriver};
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
pub(crate) fn config_text(
    count: usize,
    dir: &Path,
    base_url: &str,
    schedule: impl Fn(usize) -> String,
) -> String {
    let dir = dir.display();
    let mut text = format!(
        "[provider]\nbase-url = \"{base_url}\"\ncredential-file = \"{dir}/admin-key\"\n\
         [ledger]\npath = \"{dir}/ledger.db\"\n[defaults]\nverify-interval = \"0s\"\noverlap = \"1s\"\n"
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
pub(crate) fn open_ledger(settings: &Settings, now: Timestamp) -> Ledger {
    let options = LedgerOptions::new(ledger_identity(settings));
    Ledger::open(&settings.ledger, &options, now, WriterDriver::Thread).unwrap()
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
        let (ledger, new) = (ledger.clone(), KeyState::unknown(key.name.clone()));
        recording.spawn(async move { ledger.record(&new, born, &changes).await.map(drop) });
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
    let facts = CredentialMetadata {
        id: CredentialId::new(make(&label)),
        redacted_value: None,
        created_at: Some(time::whole_seconds(born)),
        expires_at: None,
    };
    let sink = &key.sinks[0].id;
    let moved = |event| Change::from(Transition::new(&id, event));
    vec![
        Change::from(RotationIntent {
            rotation: id.clone(),
            scope: Scope::AdminKeys,
            sequence: KeyState::unknown(key.name.clone()).next_sequence(born),
            label,
            trigger: Trigger::First,
            scheduled_for: None,
            timetable: key.policy.timetable.to_text(),
            sinks: vec![(sink.clone(), true)],
            operator: None,
        }),
        Change::from(Transition {
            credential: Some(facts),
            ..Transition::new(&id, LifecycleEvent::Created)
        }),
        moved(LifecycleEvent::Verified),
        Change::from(DeliveryStart {
            rotation: id.clone(),
            sink: sink.clone(),
        }),
        Change::from(DeliveryResult {
            is_written: false,
            rotation: id.clone(),
            sink: sink.clone(),
            state: DeliveryState::Accepted,
            accepted_at: Some(time::next_whole_second(born)),
            retry_at: None,
            error: None,
        }),
        moved(LifecycleEvent::Delivered),
        Change::Schedule(ScheduleChange::Recovered),
    ]
}
