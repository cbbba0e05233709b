//! `rekeyd ledger prune`: moves rotations that ended long ago from the ledger to an archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::backup::absolute;
use crate::cli::context::GlobalOptions;
use crate::cli::daemon_client::DaemonClient;
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{self, current_operator, report_results};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::passed_file::{self, passed_file};
use crate::cli::service_view;
use crate::config::settings::Settings;
use crate::core::plural::counted;
use crate::core::{duration, os_error, time};
use crate::daemon::control::protocol::{ControlRequest, ControlResponse};
use crate::daemon::control::pruning;
use crate::daemon::runtime;
use crate::ledger::{
    Archive, ArchiveStamp, ArchivedRotation, Ledger, LedgerError, LedgerReader,
    MAX_ARCHIVED_ROTATIONS, MIN_PRUNABLE_AGE,
};
use crate::platform::clock::{Clock as _, SystemClock};

#[derive(Debug, clap::Args)]
pub(crate) struct PruneCommand {
    /// Age of the rotations to remove, such as 2y or 400d, counted from their end; at least 30d
    #[arg(long, value_name = "DURATION", value_parser = parse_age)]
    older_than: Duration,
    /// New file for all that leaves the ledger, or that of a run that was cut short
    #[arg(long, value_name = "FILE")]
    archive: PathBuf,
    /// Reason, for the event log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    daemon: DaemonOptions,
}

impl PruneCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        let settings = self.daemon.settings(options).await?;
        let path = absolute(&self.archive)?;
        if !passed_file::is_roots_path(&path) {
            // Others can lead this path to a file of root's, and the service reads no archive of
            // root's there.
            service_view::enter_as_owner(&settings)?;
        }
        let daemon = dispatch::find_daemon(&self.daemon, &settings).await?;
        let writing = daemon
            .as_ref()
            .filter(|daemon| daemon.writes_ledger(&settings.ledger));
        if let Some(damage) = writing.and_then(DaemonClient::ledger_damage) {
            return Err(Failure::Other(format!(
                "cannot prune the ledger {}, because it is damaged: {damage}",
                settings.ledger.display()
            )));
        }
        let reader = self.open_ledger(&settings).await?;
        let archive = match (passed_file(), path.symlink_metadata().is_ok()) {
            (Some(file), _) => Archive::read(&path, file)?,
            (None, true) => unfinished_archive(&reader, &path)?,
            (None, false) => {
                if !self
                    .write_archive(&reader, &settings, daemon.as_ref(), &path)
                    .await?
                {
                    return Ok(());
                }
                Archive::read(&path, open_archive(&path)?)?
            }
        };
        check_ledger(&reader, &path, &archive.stamp)?;
        // It would keep SQLite from shortening the log.
        drop(reader);
        let kept = match &daemon {
            Some(daemon) => self.prune_by_daemon(daemon, &archive).await?,
            None => {
                // Files of root's would lock the service out.
                let open = || passed_file::open_roots_database(&path);
                service_view::enter_with_file(options, open)?;
                self.prune_alone(&settings, &archive).await?
            }
        };
        report_pruned(&archive, &kept, &self.archive)
    }

    async fn open_ledger(&self, settings: &Settings) -> Result<LedgerReader, Failure> {
        let reader = dispatch::open_ledger(&self.daemon, settings).await?;
        let reader = reader.ok_or_else(|| LedgerError::NotFound {
            path: settings.ledger.clone(),
        })?;
        match reader.as_of() {
            None => Ok(reader),
            Some(_) => Err(Failure::Other(format!(
                "cannot prune the ledger {}: you may only read its snapshot; hint: run this as \
                 root or as the owner of the ledger",
                settings.ledger.display()
            ))),
        }
    }

    /// Writes the archive. Returns whether there is anything to prune.
    async fn write_archive(
        &self,
        reader: &LedgerReader,
        settings: &Settings,
        daemon: Option<&DaemonClient>,
        path: &Path,
    ) -> Result<bool, Failure> {
        let now = SystemClock.now();
        let before = time::whole_seconds(time::before(now, self.older_than));
        let snapshot = reader.snapshot()?;
        if let Some(daemon) = daemon {
            // A caller who may not prune leaves no archive.
            let stamp = ArchiveStamp {
                name: file_name(path),
                digest: "0".repeat(64),
                ledger: snapshot.ledger_number()?,
                before,
            };
            let asked = daemon.send(&self.request(&stamp, &[])).await?;
            refuse_failures(&asked)?;
        }
        let Some(archive) = snapshot.make_archive(before, now)? else {
            let age = duration::to_text(self.older_than);
            output::print_message(&format!(
                "nothing to prune: no rotation that the ledger can do without ended more than \
                 {age} ago"
            ))?;
            return Ok(false);
        };
        archive.write(&settings.ledger, path)?;
        output::print_message(&format!(
            "archived {} in {}",
            counted(archive.rotations(), "rotation"),
            self.archive.display()
        ))?;
        if archive.rotations() == MAX_ARCHIVED_ROTATIONS {
            output::report_note(
                "the archive is full, and more may be to prune; hint: run this again with another \
                 file",
            );
        }
        Ok(true)
    }

    async fn prune_by_daemon(
        &self,
        daemon: &DaemonClient,
        archive: &Archive,
    ) -> Result<Vec<String>, Failure> {
        let mut kept = Vec::new();
        for batch in archive.rotations.chunks(pruning::MAX_BATCH) {
            let response = daemon.send(&self.request(&archive.stamp, batch)).await?;
            kept.extend(kept_rotations(&response)?);
        }
        Ok(kept)
    }

    /// Prunes under the lock of the ledger, where no daemon has it.
    async fn prune_alone(
        &self,
        settings: &Settings,
        archive: &Archive,
    ) -> Result<Vec<String>, Failure> {
        let ledger = runtime::open_ledger_alone(settings, "rekeyd ledger prune")?;
        let kept = self.prune_in(&ledger, archive).await;
        ledger.close().await;
        kept
    }

    async fn prune_in(&self, ledger: &Ledger, archive: &Archive) -> Result<Vec<String>, Failure> {
        let mut kept = Vec::new();
        for batch in archive.rotations.chunks(pruning::MAX_BATCH) {
            let request = self.request(&archive.stamp, batch);
            let now = SystemClock.now();
            let response = pruning::prune(request, current_operator(), ledger, now).await;
            kept.extend(kept_rotations(&response)?);
        }
        Ok(kept)
    }

    fn request(&self, stamp: &ArchiveStamp, rotations: &[ArchivedRotation]) -> ControlRequest {
        let rotations = rotations
            .iter()
            .map(|one| (one.rotation.to_string(), one.last_event));
        ControlRequest::Prune {
            archive: stamp.name.clone(),
            sha256: stamp.digest.clone(),
            ledger: stamp.ledger.clone(),
            before: time::to_text(stamp.before),
            rotations: rotations.collect::<BTreeMap<_, _>>(),
            reason: self.reason.clone(),
        }
    }
}

/// Reads the archive of a run that was cut short. One whose rotations have all left the ledger
/// is complete: nothing is added to it.
fn unfinished_archive(reader: &LedgerReader, path: &Path) -> Result<Archive, Failure> {
    let archive = Archive::read(path, open_archive(path)?)?;
    check_ledger(reader, path, &archive.stamp)?;
    if reader.snapshot()?.count_unpruned(&archive)? == 0 {
        return Err(Failure::Other(format!(
            "cannot write the archive {}: it already exists, and the ledger has none of its \
             rotations any more; hint: use the path of a new file",
            path.display()
        )));
    }
    output::print_message(&format!(
        "{} has {}; finishing the run that made it",
        path.display(),
        counted(archive.rotations.len(), "rotation")
    ))?;
    Ok(archive)
}

/// Refuses the archive of another ledger.
fn check_ledger(reader: &LedgerReader, path: &Path, stamp: &ArchiveStamp) -> Result<(), Failure> {
    if reader.snapshot()?.ledger_number()? == stamp.ledger {
        return Ok(());
    }
    Err(LedgerError::Archive {
        path: path.to_owned(),
        reason: "it is the archive of another ledger; hint: use the path of a new file".to_owned(),
    }
    .into())
}

/// Opens an existing archive. A pipe would never end.
pub(super) fn open_archive(path: &Path) -> Result<File, Failure> {
    let failed = |reason: String| {
        Failure::from(LedgerError::Archive {
            path: path.to_owned(),
            reason,
        })
    };
    let found = path.metadata();
    let found = found.map_err(|error| failed(os_error::describe(&error)))?;
    if !found.is_file() {
        return Err(failed(
            "it is not a regular file; hint: use the path of an archive".to_owned(),
        ));
    }
    File::open(path).map_err(|error| failed(os_error::describe(&error)))
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Returns why each rotation of a batch stays, if one does.
fn kept_rotations(response: &ControlResponse) -> Result<Vec<String>, Failure> {
    refuse_failures(response)?;
    let outcomes = response.outcomes.iter();
    let kept = outcomes.filter(|outcome| outcome.about != pruning::ABOUT);
    Ok(kept.map(|outcome| outcome.message.clone()).collect())
}

fn refuse_failures(response: &ControlResponse) -> Result<(), Failure> {
    if response.outcomes.iter().all(|outcome| outcome.done) {
        return Ok(());
    }
    report_results(response)
}

fn report_pruned(archive: &Archive, kept: &[String], file: &Path) -> Result<(), Failure> {
    for message in kept {
        output::report_note(message);
    }
    let pruned = archive.rotations.len() - kept.len();
    output::print_message(&format!(
        "pruned {}; `rekeyd history --archive {}` shows them",
        counted(pruned, "rotation"),
        file.display()
    ))
}

/// Parses an age: a duration, or a number of years of 365 days.
fn parse_age(text: &str) -> Result<Duration, String> {
    let age = match text.strip_suffix('y') {
        Some(years) => duration::parse(&format!("{years}d")).map(|days| days * 365),
        None => duration::parse(text),
    };
    let age = age.map_err(|_| "expected an age such as 2y or 400d".to_owned())?;
    if age < MIN_PRUNABLE_AGE {
        return Err("at least 30d: rekeyd needs younger rotations".to_owned());
    }
    if age > duration::MAX_DURATION {
        return Err("at most 10y".to_owned());
    }
    Ok(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_is_a_duration_or_a_number_of_years() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        for (text, expected) in [
            ("2y", Ok(days(730))),
            ("10y", Ok(days(3_650))),
            ("30d", Ok(days(30))),
            ("720h", Ok(days(30))),
            ("29d", Err("at least 30d")),
            ("0y", Err("at least 30d")),
            ("11y", Err("at most 10y")),
            ("2", Err("expected an age")),
            ("y", Err("expected an age")),
            ("-2y", Err("expected an age")),
            ("2dy", Err("expected an age")),
        ] {
            match (parse_age(text), expected) {
                (Ok(age), Ok(expected)) => assert_eq!(age, expected, "{text}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{text}: {error}"),
                (found, expected) => panic!("{text}: {found:?} {expected:?}"),
            }
        }
    }
}
