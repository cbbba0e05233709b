//! Checks of the host. `check` prints their problems; `run` logs them, starts nevertheless,
//! and retries. Without its ledger it does not start.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::alerting::channel::target::ClockFn;
use crate::cli::channel_status::ChannelStatus;
use crate::cli::failure::{Failure, exit_code};
use crate::config::settings::Settings;
use crate::config::{self, DEFAULT_SOCKET, Problem, ProblemKind};
use crate::core::active_credential::ActiveCredential;
use crate::core::decide::key_names::plan_renames;
use crate::core::ids::KeyName;
use crate::core::notification::ChannelId;
use crate::core::state::KeyState;
use crate::daemon::error::ServiceError;
use crate::daemon::key_names::rename_states;
use crate::daemon::ledger_access;
use crate::daemon::runtime;
use crate::ledger::{self, Ledger, LedgerError, LedgerNotes, LedgerReader};
use crate::platform::clock::{Clock, SystemClock};
use crate::platform::service_unit::{ServiceUnit, WriteProblem};
use crate::platform::{machine, own_files, run_blocking, secret_file};
use crate::sink::target::SinkSettings;
use crate::sink::{Sink, SinkProblem};

/// The time limit of the check of the ledger, every page and index of which is read while no
/// rekeyd runs.
const LEDGER_CHECK_TIMEOUT: Duration = Duration::from_secs(120);

/// The time limit of the check of the folders of sinks' files.
const FOLDER_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// The bit of a mode that lets the group of a folder make and remove files in it.
const GROUP_WRITE: u32 = 0o020;

/// The number of sinks that are checked at once.
const SINKS_AT_ONCE: usize = 16;

/// The extent of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckLevel {
    /// Local state alone.
    Local,
    /// Also whether remote targets accept a connection; nothing is sent.
    Online,
}

/// Lists the problems of the notification channels.
pub(crate) async fn check_channels(settings: &Settings, level: CheckLevel) -> Vec<Problem> {
    let now: ClockFn = Arc::new(|| SystemClock.now());
    let mut failing = match level {
        CheckLevel::Online => failing_channels(settings).await,
        CheckLevel::Local => BTreeMap::new(),
    };
    let mut problems = Vec::new();
    for (number, settings_entry) in settings.notify.iter().enumerate() {
        let channel = settings_entry.build(Arc::clone(&now));
        let local_errors = channel.check().await;
        let mut messages: Vec<_> = local_errors.iter().map(ToString::to_string).collect();
        if level == CheckLevel::Online && messages.is_empty() {
            let unreachable = channel.check_reachable().await.err();
            messages.extend(unreachable.map(|error| error.to_string()));
        }
        if messages.is_empty() {
            let failing = failing.remove(channel.id());
            messages.extend(failing);
        }
        let location = format!("notify[{number}]");
        problems.extend(
            messages
                .into_iter()
                .map(|message| Problem::for_host(&settings.file, location.clone(), message)),
        );
    }
    problems
}

/// Returns the problem of each channel whose notifications fail, as far as this user can read
/// the ledger.
async fn failing_channels(settings: &Settings) -> BTreeMap<ChannelId, String> {
    let path = settings.ledger.clone();
    let describe = || format!("reading {}", settings.ledger.display());
    let read = run_blocking(describe, LEDGER_CHECK_TIMEOUT, move || {
        let reader = LedgerReader::open_untouched(&path).ok()??;
        reader.snapshot().ok()?.channel_states().ok()
    });
    let recorded = read.await.ok().flatten().unwrap_or_default();
    let statuses = ChannelStatus::of_channels(settings, recorded).into_iter();
    let failing = statuses.filter_map(|status| {
        let problem = status.problem()?;
        Some((status.id().clone(), problem))
    });
    failing.collect()
}

/// Checks whether a writing process could open the ledger.
pub(crate) async fn check_ledger(settings: &Settings) -> Result<LedgerNotes, Problem> {
    let location = "ledger.path".to_owned();
    let (path, identity) = (settings.ledger.clone(), runtime::ledger_identity(settings));
    let configuration = runtime::configuration_identity(settings);
    let host = machine::id();
    let checked = settings.clone();
    let check = move || {
        let used = ledger::check_usable(&path, &identity, &configuration, host.as_deref())?;
        // Another user than the writer would miss himself among those who are trusted.
        if !secret_file::is_onlooker() {
            ledger_access::check_worker(&checked)?;
        }
        Ok::<_, ServiceError>(used)
    };
    let describe = || format!("checking {}", settings.ledger.display());
    let error = match run_blocking(describe, LEDGER_CHECK_TIMEOUT, check).await {
        Ok(Ok(notes)) => return Ok(notes),
        Ok(Err(ServiceError::Ledger(error))) if is_made_by_unit(settings, &error) => {
            return Ok(LedgerNotes::default());
        }
        Ok(Err(error)) => error,
        Err(error) => {
            return Err(Problem::for_host(
                &settings.file,
                location,
                error.to_string(),
            ));
        }
    };
    let mut problem = Problem::for_host(&settings.file, location, error.to_string());
    if Failure::Service(error).exit_code() == exit_code::CONFIGURATION {
        problem.kind = ProblemKind::Configuration;
    }
    Err(problem)
}

/// Returns whether the folder that a ledger lacks is one that the unit makes at its start.
pub(crate) fn is_made_by_unit(settings: &Settings, error: &LedgerError) -> bool {
    let LedgerError::FolderMissing { folder, .. } = error else {
        return false;
    };
    config::find_unit(&settings.file).is_some_and(|unit| unit.makes_at_start(folder))
}

/// Lists the folders of sinks' files in which others than their owners can write.
pub(crate) async fn group_writable_folders(settings: &Settings) -> BTreeSet<PathBuf> {
    let sinks = settings.keys.iter().flat_map(|key| &key.sinks);
    let targets = sinks.filter_map(|sink| Arc::clone(&sink.target).replaced_file());
    let folders: BTreeSet<_> = targets
        .filter_map(|target| target.path.parent().map(Path::to_owned))
        .collect();
    let describe = || "checking the folders of files".to_owned();
    let look = move || {
        let is_writable = |folder: &PathBuf| {
            let found = folder.metadata();
            found.is_ok_and(|found| found.mode() & GROUP_WRITE != 0)
        };
        folders.into_iter().filter(is_writable).collect()
    };
    let found = run_blocking(describe, FOLDER_CHECK_TIMEOUT, look).await;
    found.unwrap_or_default()
}

/// Says who reads the files of sinks and rekeyd's own secrets by access control lists, which
/// neither their options nor their modes show.
pub(crate) async fn listed_readers(settings: &Settings) -> Vec<String> {
    let sinks = settings.keys.iter().flat_map(|key| &key.sinks);
    let targets: Vec<_> = sinks.map(|sink| Arc::clone(&sink.target)).collect();
    let secrets = settings.protected_files.secrets().to_vec();
    let describe = || "checking the access control lists of files".to_owned();
    let look = move || {
        let of_targets = targets.iter();
        let of_targets = of_targets.filter_map(|target| target.describe_listed_readers());
        let of_secrets = secrets.iter();
        let of_secrets = of_secrets.filter_map(|path| own_files::describe_listed_readers(path));
        of_targets.chain(of_secrets).collect()
    };
    let found = run_blocking(describe, FOLDER_CHECK_TIMEOUT, look).await;
    found.unwrap_or_default()
}

/// A folder or a file that a unit may not write.
pub(crate) struct UnitProblem {
    /// What is wrong.
    pub(crate) problem: Problem,
    /// Whether the path is in a folder that the service sees in another way than this process,
    /// so that its other problems do not matter.
    pub(crate) is_private: bool,
}

/// Lists the folders and files that the units of this configuration may not
/// write, whatever their permissions are.
pub(crate) fn check_unit_paths(settings: &Settings) -> Vec<UnitProblem> {
    let folder_of = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
    let beside = |file: &Path| (folder_of(file), file.to_owned());
    let mut written = vec![("ledger.path".to_owned(), beside(&settings.ledger))];
    let socket = settings.control.socket.as_deref().map(beside);
    written.extend(socket.map(|paths| ("control.socket".to_owned(), paths)));
    for key in &settings.keys {
        for sink in &key.sinks {
            let Some(target) = Arc::clone(&sink.target).replaced_file() else {
                continue;
            };
            // The right to write there would not help.
            if target.needs_other_folder() {
                continue;
            }
            let paths = (target.written_path().to_owned(), target.path.clone());
            written.push((format!("key.{}.sink.{}", key.name, sink.id.name), paths));
        }
    }
    let mut problems = Vec::new();
    for unit in config::units_in_use(&settings.file) {
        for (location, (path, file)) in &written {
            let Some(problem) = unit.write_problem(path) else {
                continue;
            };
            let problem = problem.of_file(file);
            let own = own_place(settings, &unit, location);
            let text = own.unwrap_or_else(|| problem.to_string());
            let location = location.clone();
            problems.push(UnitProblem {
                is_private: matches!(problem, WriteProblem::Private { .. }),
                problem: Problem::for_host(&settings.file, location, text),
            });
        }
    }
    problems
}

/// Returns what to do about a default place that is not an instance's, but the main unit's:
/// the instance needs one of its own, and not the rights to that.
fn own_place(settings: &Settings, unit: &ServiceUnit, location: &str) -> Option<String> {
    let instance = unit.instance()?;
    let default_socket = Path::new(DEFAULT_SOCKET);
    let (folder, advice) = match location {
        "ledger.path" if !settings.is_ledger_named => (
            settings.ledger.parent()?,
            format!("set path = \"/var/lib/rekeyd/{instance}/ledger.db\" in [ledger]"),
        ),
        "control.socket" if settings.control.socket.as_deref() == Some(default_socket) => (
            default_socket.parent()?,
            format!("set socket = \"/run/rekeyd-{instance}/control.sock\" in [control]"),
        ),
        _ => return None,
    };
    Some(format!(
        "{} may not write to {}, which is another unit's; hint: {advice}",
        unit.name,
        folder.display()
    ))
}

/// Where a check of the sinks finds who could get the files that earlier deliveries left.
pub(crate) enum DeliveryRecords {
    /// The states of the keys, which were read.
    Read(BTreeMap<KeyName, KeyState>),
    /// The writer of the ledger in this process.
    Writer(Ledger),
}

impl DeliveryRecords {
    /// Reads the ledger of a configuration, as far as this user can.
    pub(crate) async fn read(settings: &Settings) -> Self {
        let path = settings.ledger.clone();
        let keys = settings.keys.iter();
        let keys: Vec<_> = keys
            .map(|key| (key.name.clone(), key.was.clone()))
            .collect();
        let describe = || format!("reading {}", settings.ledger.display());
        let read = run_blocking(describe, LEDGER_CHECK_TIMEOUT, move || {
            let reader = LedgerReader::open_untouched(&path).ok()??;
            let snapshot = reader.snapshot().ok()?;
            let mut states = snapshot.key_states().ok()?;
            let keys = keys.iter().map(|(key, was)| (key, was.as_ref()));
            let renames = plan_renames(keys, &snapshot.recorded_names().ok()?);
            rename_states(&mut states, &renames.unwrap_or_default());
            Some(states)
        });
        Self::Read(read.await.ok().flatten().unwrap_or_default())
    }

    /// Lists the problems of a sink that this host can detect.
    async fn check(&self, key: &KeyName, sink: &dyn Sink) -> Vec<SinkProblem> {
        let target = &sink.id().target;
        match self {
            Self::Read(states) => {
                let state = states.get(key);
                sink.note_recorded_access(state.and_then(|state| state.recorded_access(target)));
                sink.check().await
            }
            Self::Writer(ledger) => {
                let problems = sink.check().await;
                if problems.is_empty() {
                    return problems;
                }
                // The ledger is asked about few sinks so.
                let Ok(Some(recorded)) = ledger.recorded_access(key, target).await else {
                    return problems;
                };
                sink.note_recorded_access(Some(recorded));
                sink.check().await
            }
        }
    }
}

/// Lists the problems of the sinks, in their order. Several are checked at once, so that a
/// few receivers that do not answer delay no others. A file whose folder `unit` makes at its
/// start cannot be checked before.
pub(crate) async fn check_sinks(
    settings: &Settings,
    level: CheckLevel,
    unit: Option<&ServiceUnit>,
    records: DeliveryRecords,
) -> Vec<Problem> {
    let records = Arc::new(records);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let places = Arc::new(Semaphore::new(SINKS_AT_ONCE));
    let mut checks = Vec::new();
    for key in &settings.keys {
        let protected = &settings.protected_files;
        let unmade: BTreeSet<_> = key
            .sinks
            .iter()
            .filter(|sink| unit.is_some_and(|unit| is_made_at_start(sink, unit)))
            .map(|sink| sink.id.clone())
            .collect();
        for (sink, _) in runtime::build_sinks(key, &clock, &ActiveCredential::new(), protected) {
            if unmade.contains(sink.id()) {
                continue;
            }
            let location = format!("key.{}.sink.{}", key.name, sink.id().name);
            let (places, records) = (Arc::clone(&places), Arc::clone(&records));
            let key = key.name.clone();
            let check = async move {
                let _place = places.acquire_owned().await;
                check_sink(&key, &*sink, level, &records).await
            };
            checks.push((location, tokio::spawn(check)));
        }
    }
    let mut problems = Vec::new();
    for (location, check) in checks {
        let messages = match check.await {
            Ok(messages) => messages,
            Err(error) => vec![format!("the check failed: {error}")],
        };
        let messages = messages.into_iter();
        problems.extend(
            messages.map(|message| Problem::for_host(&settings.file, location.clone(), message)),
        );
    }
    problems
}

fn is_made_at_start(sink: &SinkSettings, unit: &ServiceUnit) -> bool {
    let file = Arc::clone(&sink.target).replaced_file();
    file.is_some_and(|file| {
        let folder = file.written_path();
        !folder.exists() && unit.makes_at_start(folder)
    })
}

async fn check_sink(
    key: &KeyName,
    sink: &dyn Sink,
    level: CheckLevel,
    records: &DeliveryRecords,
) -> Vec<String> {
    let local_problems = records.check(key, sink).await;
    if level == CheckLevel::Online && local_problems.is_empty() {
        let error = sink.preflight().await.err();
        error.map(|error| error.to_string()).into_iter().collect()
    } else {
        let messages = local_problems.into_iter().map(|problem| problem.message);
        messages.collect()
    }
}
