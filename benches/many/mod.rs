//! Many keys, each with a current credential from an earlier rotation.
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use rekeyd::config::settings::{KeySettings, Settings};
use rekeyd::config::{self, Environment};
use rekeyd::core::change::{
    Change, DeliveryResult, DeliveryStart, OnChangeState, RotationIntent, ScheduleChange,
    Transition,
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

/// The numbers of keys of a measurement, which shows how a cost grows.
pub(crate) const COUNTS: [usize; 3] = [1, 100, 10_000];

/// Creates a folder on the disk of the build: a system's temporary folder may
/// be in memory, where a sync costs nothing.
pub(crate) fn folder() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

/// Returns a configuration in `dir` with `count` keys; `schedule` returns the
/// schedule of each.
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

/// Parses a configuration.
pub(crate) fn settings(text: &str, now: Timestamp) -> Settings {
    config::parse(
        Path::new("/etc/rekeyd/config.toml"),
        text,
        &Environment::empty(now),
    )
    .unwrap()
}

/// Opens the ledger of these settings.
pub(crate) fn open_ledger(settings: &Settings, now: Timestamp) -> Ledger {
    let options = LedgerOptions::new(ledger_identity(settings));
    Ledger::open_unlocked(&settings.ledger, &options, now, WriterDriver::Thread).unwrap()
}

/// Records that each key was rotated at `rotated_at`; `create` returns the
/// provider's id for a label.
pub(crate) async fn rotate_all(
    ledger: &Ledger,
    settings: &Settings,
    rotated_at: Timestamp,
    create: impl Fn(&Label) -> String,
) {
    let mut recording = JoinSet::new();
    for (number, key) in settings.keys.iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        let changes = rotation(number, key, rotated_at, &create);
        let (ledger, state) = (ledger.clone(), KeyState::unknown(key.name.clone()));
        recording.spawn(async move { ledger.record(&state, rotated_at, &changes).await.map(drop) });
    }
    while let Some(recorded) = recording.join_next().await {
        recorded.unwrap().unwrap();
    }
}

/// Returns the changes of a rotation from the intent to the current credential.
fn rotation(
    number: u32,
    key: &KeySettings,
    rotated_at: Timestamp,
    create: impl Fn(&Label) -> String,
) -> Vec<Change> {
    let bytes = number.to_be_bytes();
    let id = RotationId::new([0, 0, 0, 0, bytes[0], bytes[1], bytes[2], bytes[3]]);
    let label = Label::new(&key.name, rotated_at, [bytes[1], bytes[2], bytes[3]]);
    let metadata = CredentialMetadata {
        id: CredentialId::new(create(&label)),
        redacted_value: None,
        created_at: Some(time::whole_seconds(rotated_at)),
        expires_at: None,
    };
    let sink = &key.sinks[0].id;
    let transition = |event| Change::from(Transition::new(&id, event));
    vec![
        Change::from(RotationIntent {
            rotation: id.clone(),
            scope: Scope::AdminKeys,
            sequence: KeyState::unknown(key.name.clone()).next_sequence(rotated_at),
            label,
            trigger: Trigger::First,
            scheduled_for: None,
            not_created_before: None,
            timetable: key.policy.timetable.to_text(),
            sinks: vec![(sink.clone(), true)],
            operator: None,
        }),
        Change::from(Transition {
            credential: Some(metadata),
            ..Transition::new(&id, LifecycleEvent::Created)
        }),
        transition(LifecycleEvent::Verified),
        Change::from(DeliveryStart {
            rotation: id.clone(),
            sink: sink.clone(),
        }),
        Change::from(DeliveryResult {
            on_change: OnChangeState::NotPending,
            rotation: id.clone(),
            sink: sink.clone(),
            state: DeliveryState::Accepted,
            accepted_at: Some(time::next_whole_second(rotated_at)),
            retry_at: None,
            file: None,
            error: None,
        }),
        transition(LifecycleEvent::Delivered),
        Change::Schedule(ScheduleChange::Recovered),
    ]
}
