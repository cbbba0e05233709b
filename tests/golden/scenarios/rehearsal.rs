//! The deliveries that `demo --rehearse` records instead of making them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::configuration::rehearsal as configuration;
use crate::recording::Recording;
use crate::scenario::Scenario;

pub(crate) fn run() -> Recording {
    let mut scenario = Scenario::start(&[]);
    scenario.configure(&configuration::every_recorded_sink());
    let folder = scenario.path("rehearsal");
    let config = scenario.path("config.toml").display().to_string();
    let dir = folder.display().to_string();
    scenario.ledger = folder.join("ledger.db");
    let rehearsal =
        scenario.spawn(scenario.command(&["demo", "--rehearse", &config, "--dir", &dir]));
    scenario.wait("the key is rotated and the notification recorded", || {
        scenario.phase("billing").as_deref() == Some("current")
            && first_line(&folder.join("notices.jsonl")).is_some()
    });
    rehearsal.signal(rustix::process::Signal::INT);
    let code = rehearsal.wait().code();
    let mut names = Vec::new();
    list(&folder, &folder, &mut names);
    names.sort();
    scenario.record("rehearsal", "exit code", json!(code));
    scenario.record("rehearsal", "files", json!(names));
    for name in [
        "webhooks/billing.webhook.jsonl",
        "commands/billing.command.jsonl",
        "notices.jsonl",
    ] {
        let line = first_line(&folder.join(name)).unwrap();
        scenario.record("rehearsal", name, line);
    }
    scenario.finish()
}

fn first_line(path: &Path) -> Option<Value> {
    let text = fs::read_to_string(path).ok()?;
    serde_json::from_str(text.lines().next()?).ok()
}

/// Collects the files below a folder, by their paths in it.
fn list(top: &Path, folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(top, &path, names);
        } else {
            let name = path.strip_prefix(top).unwrap();
            names.push(name.display().to_string());
        }
    }
}
