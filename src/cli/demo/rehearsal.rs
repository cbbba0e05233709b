//! `--rehearse CONFIG`: runs the keys and schedules of a real configuration in
//! isolation.
//!
//! The configuration is checked as `run` checks it. Problems of this host, such
//! as a missing folder or an unreadable secret, are not reported, since a
//! configuration is rehearsed before it reaches its host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::cli::context::{load_configuration, read_environment};
use crate::cli::demo::follow_up;
use crate::cli::demo::narration::Narration;
use crate::cli::demo::rehearsal_intro::rehearsal_intro;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::config::settings::Settings;
use crate::core::plural::counted;
use crate::core::state::KeyState;
use crate::ledger::LedgerReader;
use crate::platform::clock::{Clock as _, SystemClock};
use crate::sandbox::demo::environment::{self, DemoEnvironment};
use crate::sandbox::demo::folder::DemoFolder;
use crate::sandbox::demo::recording;
use crate::sandbox::demo::replacements::{RehearsalTargets, replace_settings};

pub(super) async fn rehearse(
    file: &Path,
    dir: Option<&Path>,
    limit: Option<Duration>,
    narration: &Narration,
) -> Result<(), Failure> {
    let real = load_configuration(file, &read_environment())?;
    if real.keys.is_empty() {
        let text = format!(
            "no keys are configured in {}; there is nothing to rehearse\n",
            real.file.display()
        );
        return output::print(text.as_bytes());
    }
    let own_files = [recording::FILES_FOLDER, recording::NOTIFICATIONS_FILE];
    let names = [
        &environment::ENVIRONMENT_FILES[..],
        &own_files,
        &recording::record_folders(),
    ]
    .concat();
    let folder = DemoFolder::open(dir, &names)?;
    let recorder = recording::build_recorder(&real.keys, folder.path());
    let environment = DemoEnvironment::start(&folder, recorder).await?;
    let targets = RehearsalTargets {
        folder: folder.path(),
        provider_url: &environment.provider_url,
        credential_file: &environment.credential_file,
        ledger: folder.path().join(environment::LEDGER_FILE),
        receiver_url: &environment.receiver_url,
        signing_secret_file: &environment.signing_secret_file,
    };
    let plan = replace_settings(Settings::clone(&real), &targets);
    create_folders(&plan.folders, &folder)?;
    let text = rehearsal_intro(&real, &plan.sinks, folder.path(), limit, SystemClock.now());
    output::print(text.as_bytes())?;

    let settings = Arc::new(plan.settings);
    environment
        .run(&settings, limit, |engine| {
            narration.announce_next_step(engine)
        })
        .await?;

    follow_up::print_history(&settings.ledger)?;
    report_results(&settings, folder.path())
}

/// Creates the folders for sinks and records.
fn create_folders(paths: &[PathBuf], folder: &DemoFolder) -> Result<(), Failure> {
    for records in recording::record_folders() {
        folder.create_subfolder(Path::new(records))?;
    }
    for path in paths {
        folder.create_subfolder(path)?;
    }
    Ok(())
}

/// Reports which keys rotated, and fails if one did not.
fn report_results(settings: &Settings, folder: &Path) -> Result<(), Failure> {
    let reader = LedgerReader::open(&settings.ledger)?;
    let states = reader.snapshot()?.key_states()?;
    let mut failed = 0;
    for key in &settings.keys {
        let state = states.get(&key.name);
        if state.and_then(KeyState::current).is_some() {
            continue;
        }
        failed += 1;
        let reason = state.and_then(failure_reason);
        let reason =
            reason.unwrap_or("the rehearsal ended first; hint: allow more time with --for");
        output::report_error(&format!("{} did not rotate: {reason}", key.name));
    }
    let (total, folder) = (settings.keys.len(), folder.display());
    let ledger = settings.ledger.to_string_lossy();
    let text = format!(
        "\n{} of {} rotated. All files are in {folder}\nTry next:\n{}{}",
        total - failed,
        counted(total, "key"),
        follow_up::command_lines(&[&["history", "--ledger", &ledger]]),
        follow_up::event_query(&settings.ledger),
    );
    output::print(text.as_bytes())?;
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Reported)
    }
}

/// Returns the reason why a key has no current credential.
fn failure_reason(state: &KeyState) -> Option<&str> {
    let rotation = state.open_rotation();
    let delivery = rotation.and_then(|rotation| {
        rotation
            .deliveries
            .iter()
            .find_map(|delivery| delivery.error.as_deref())
    });
    let step = rotation.and_then(|rotation| rotation.error.as_deref());
    delivery.or(step).or(state.last_error.as_deref())
}
