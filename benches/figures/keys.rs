//! Configurations whose keys have a file sink each.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use rekeyd::platform::clock::{Clock as _, SystemClock};

use crate::support;

/// A URL at which no server listens.
pub(crate) const UNUSED_URL: &str = "http://127.0.0.1:9/v1";

/// Returns the name of a key. The first one is that of the book's examples.
pub(crate) fn key_name(number: usize) -> String {
    match number {
        0 => "billing-exporter".to_owned(),
        number => format!("key-{number}"),
    }
}

/// Returns a configuration in `dir` with `count` keys, each with `options` and
/// a file.
pub(crate) fn text(count: usize, dir: &Path, base_url: &str, options: &str) -> String {
    let dir = dir.display();
    let mut text = format!(
        "[provider]\nbase-url = \"{base_url}\"\ncredential-file = \"{dir}/admin-key\"\n\
         max-in-flight = 64\n[ledger]\npath = \"{dir}/ledger.db\"\n\
         [control]\nsocket = \"{dir}/control.sock\"\n"
    );
    for number in 0..count {
        let name = key_name(number);
        write!(
            text,
            "[key.{name}]\n{options}\n[[key.{name}.sink]]\ntype = \"file\"\n\
             path = \"{dir}/{name}.key\"\n"
        )
        .unwrap();
    }
    text
}

/// Returns a schedule that fires once a year, next in half a year.
pub(crate) fn yearly_schedule() -> String {
    let next_firing: Timestamp = SystemClock.now() + SignedDuration::from_hours(180 * 24);
    let next_firing = next_firing.to_zoned(jiff::tz::TimeZone::UTC);
    format!(
        "schedule = \"0 0 {} {} *\"",
        next_firing.day().min(28),
        next_firing.month()
    )
}

/// Writes a secret to each key's file.
pub(crate) fn write_files(count: usize, dir: &Path) {
    for number in 0..count {
        let file = dir.join(format!("{}.key", key_name(number)));
        support::write(&file, "sk-admin-bench-T3BlbkFJ-000000\n");
    }
}

/// Returns the program's command with the configuration in `dir`.
pub(crate) fn rekeyd(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(support::binary());
    let config = dir.join("config.toml");
    command.arg("--config").arg(config).args(arguments);
    for variable in ["OPENAI_ADMIN_KEY", "CREDENTIALS_DIRECTORY", "REKEYD_CONFIG"] {
        command.env_remove(variable);
    }
    command
}
