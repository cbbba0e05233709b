//! Golden files of the tables, and the sample that they show: a fixed time, a configuration
//! with three keys, and rotations of them.

use std::path::Path;

use jiff::Timestamp;

use crate::cli::screen::{Screen, TimeStyle};
use crate::config::settings::Settings;
use crate::config::{self, Environment};
use crate::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use crate::core::lifecycle::Phase;
use crate::core::scope::Scope;
use crate::core::state::{CredentialMetadata, Delivery, DeliveryState, Rotation, Trigger};
use crate::core::time;

/// A terminal of 80 columns. Its colours are tested with the table.
pub(crate) const TERMINAL: Screen = Screen {
    width: Some(80),
    has_color: false,
    times: TimeStyle::Relative,
};

/// The same terminal with `--verbose`.
pub(crate) const VERBOSE: Screen = Screen {
    times: TimeStyle::Both,
    ..TERMINAL
};

const CONFIGURATION: &str = r#"
[provider]
credential-file = "/srv/admin-key"

[key.billing-exporter]
schedule = "0 3 * * Mon"
timezone = "Europe/Berlin"
[[key.billing-exporter.sink]]
type = "file"
path = "/etc/billing/openai-admin.key"
[[key.billing-exporter.sink]]
type = "webhook"
url = "https://vault.example.com/hooks/openai-admin-key"
signing-secret-file = "/etc/rekeyd/webhook-secret"
required = false

[key.deploy]
every = "30d"
[[key.deploy.sink]]
type = "file"
path = "/etc/deploy/openai.key"

[key.reports]
schedule = "@daily"
[[key.reports.sink]]
type = "file"
path = "/etc/reports/openai.key"
"#;

/// The present of the sample.
pub(crate) fn now() -> Timestamp {
    at("2026-11-24T12:00:00Z")
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn settings() -> Settings {
    let environment = Environment::empty(now());
    config::parse(Path::new("/srv/config.toml"), CONFIGURATION, &environment).unwrap()
}

/// Returns a rotation of a key whose credential has an id of the usual length.
pub(crate) fn rotation(key: &str, number: u8, phase: Phase, started_at: &str) -> Rotation {
    let started_at = at(started_at);
    let sequence = u64::try_from(started_at.as_second()).unwrap();
    let id = RotationId::new([number; 8]);
    let mut rotation = Rotation::new(
        id,
        Scope::AdminKeys,
        sequence,
        Trigger::Schedule,
        phase,
        started_at,
    );
    let label = Label::new(&KeyName::new(key).unwrap(), started_at, [number; 3]);
    rotation.name = Some(label.to_string());
    rotation.label = Some(label);
    rotation.credential = Some(CredentialMetadata {
        id: credential_id(number),
        redacted_value: Some("sk-admin...AbC".to_owned()),
        created_at: Some(started_at),
        expires_at: None,
    });
    rotation
}

pub(crate) fn credential_id(number: u8) -> CredentialId {
    CredentialId::new(format!("key_AbCdEfGhIjKlMnOpQrStUv{number:02}"))
}

pub(crate) fn delivery(sink: SinkId, state: DeliveryState, error: Option<&str>) -> Delivery {
    let is_accepted = state == DeliveryState::Accepted;
    Delivery {
        required: sink.name == "file",
        sink,
        state,
        maybe_accepted: is_accepted,
        attempts: 1,
        last_attempt_at: None,
        written_at: None,
        accepted_at: is_accepted.then(|| time::before(now(), time::HOUR)),
        removed_at: None,
        file: None,
        file_access: None,
        sighting: None,
        retry_at: None,
        error: error.map(str::to_owned),
    }
}

/// Renders a table for each kind of output.
pub(crate) fn on_each_screen(title: &str, render: impl Fn(Screen) -> String) -> String {
    let screens = [
        ("terminal of 80 columns", TERMINAL),
        ("the same with --verbose", VERBOSE),
        ("no terminal", Screen::FILE),
    ];
    let texts = screens.map(|(name, screen)| format!("## {title}: {name}\n\n{}\n", render(screen)));
    texts.concat()
}

/// Compares a text with its golden file, or writes that anew.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tables");
    let path = folder.join(format!("{name}.txt"));
    if std::env::var_os("REKEYD_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let changed = text.lines().find(|line| !golden.contains(line));
    assert!(
        golden == text,
        "{} differs, first in {changed:?}; hint: if that is intended, write it again: \
         REKEYD_GOLDEN=write cargo test --lib golden",
        path.display()
    );
}

/// Asserts that no line is wider than the terminal, unless it is one word, or a command that
/// is copied as a whole.
pub(crate) fn assert_fits(text: &str, screen: Screen) {
    let Some(width) = screen.width else {
        return;
    };
    for line in text.lines().filter(|line| line.chars().count() > width) {
        let line = line.trim();
        assert!(!line.contains(' ') || line.starts_with('`'), "{line}");
    }
}
