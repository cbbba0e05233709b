//! `--rehearse CONFIG`: the keys and schedules of a real configuration, and
//! nothing else of the real world.
//!
//! The configuration is checked as `run` checks it. What is wrong with this
//! host, a folder that does not exist or a secret that cannot be read, is not
//! asked: a configuration is rehearsed before it comes to its host.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::demo::folder::Folder;
use crate::cli::demo::introduction::introduction;
use crate::cli::demo::record;
use crate::cli::demo::replace::{self, Instead, replace};
use crate::cli::demo::stage::{self, Stage};
use crate::cli::history::History;
use crate::cli::{Failure, environment, load, output};
use crate::core::record::KeyState;
use crate::core::settings::{Settings, SinkTarget};
use crate::engine::clock::{Clock as _, HostClock};
use crate::ledger::read;

pub(super) async fn rehearse(
    file: &Path,
    dir: Option<&Path>,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let real = load(file, &environment())?;
    if real.keys.is_empty() {
        let text = format!(
            "no key is configured in {}: there is nothing to rehearse\n",
            real.file.display()
        );
        return output::print(text.as_bytes());
    }
    let made = [replace::FOLDER, record::NOTICES];
    let names = [&stage::FILES[..], &made, &record::FOLDERS].concat();
    let folder = Folder::open(dir, &names)?;
    let witness = record::witness(&real.keys, folder.path());
    let stage = Stage::set(&folder, witness).await?;
    let instead = Instead {
        folder: folder.path(),
        provider_url: &stage.provider_url,
        credential_file: &stage.credential_file,
        ledger: folder.path().join(stage::LEDGER),
        receiver_url: &stage.receiver_url,
        signing_secret_file: &stage.signing_secret_file,
    };
    let (settings, sinks) = replace(Settings::clone(&real), &instead);
    make_folders(&settings, &folder)?;
    let text = introduction(&real, &sinks, folder.path(), limit, HostClock.now());
    output::print(text.as_bytes())?;

    let settings = Arc::new(settings);
    stage.run(&settings, limit).await?;

    output::print(b"\nThe history, as `rekeyd history` shows it:\n\n")?;
    History::print_all(&settings.ledger)?;
    conclude(&settings, folder.path())
}

/// The folders that sinks and records need, for nobody but us.
fn make_folders(settings: &Settings, folder: &Folder) -> Result<(), Failure> {
    for records in record::FOLDERS {
        folder.make(Path::new(records))?;
    }
    for sink in settings.keys.iter().flat_map(|key| &key.sinks) {
        match &sink.target {
            SinkTarget::File(file) => {
                if let Some(parent) = file.path.parent() {
                    folder.make(parent)?;
                }
            }
            SinkTarget::Webhook(_) | SinkTarget::Command(_) | SinkTarget::Own(_) => {}
        }
    }
    Ok(())
}

/// Says which keys rotated, and fails if one did not.
fn conclude(settings: &Settings, folder: &Path) -> Result<(), Failure> {
    let connection = read::open(&settings.ledger)?;
    let states = read::all_key_states(&connection)?;
    let mut failed = 0;
    for key in &settings.keys {
        let state = states.get(&key.name);
        if state.and_then(KeyState::current).is_some() {
            continue;
        }
        failed += 1;
        let why = state.and_then(why_not);
        let why = why.unwrap_or("the rehearsal ended before; give it longer with --for");
        output::complain(&format!("{} did not rotate: {why}", key.name));
    }
    let (all, folder) = (settings.keys.len(), folder.display());
    let text = format!(
        "\n{} of {all} keys rotated. Everything is in {folder}; look again:\n\
         sqlite3 {folder}/{} 'select * from journal'\n",
        all - failed,
        stage::LEDGER,
    );
    output::print(text.as_bytes())?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Told)
    }
}

/// What kept a key without a current credential from getting one.
fn why_not(state: &KeyState) -> Option<&str> {
    let open = state.open();
    let delivery = open.and_then(|open| {
        open.deliveries
            .iter()
            .find_map(|delivery| delivery.error.as_deref())
    });
    let step = open.and_then(|open| open.error.as_deref());
    delivery.or(step).or(state.problem.as_deref())
}
