//! A file on this host, replaced atomically.
//!
//! The sink writes the new content to `.NAME.` with 16 random hexadecimal digits
//! and `.rekeyd` beside the target, syncs it to disk, and renames it over the
//! target: readers see the old or the new content, whole. It never follows a target that is a symbolic link and never
//! writes to the old file. It deliberately creates no folders and keeps no copy
//! of the old content.
//!
//! Without a configured owner or group, the new file keeps those of the present
//! one as far as this process may; in a setgid folder the folder determines the
//! group. It always keeps the access control list and the extended attributes.
//!
//! With `write = "in-place"` the sink writes into the present file instead, for
//! a file that cannot be replaced.

mod access_advice;
mod access_check;
mod acl;
mod attempt_guard;
mod attributes;
mod content;
mod disk;
mod folder_guard;
mod in_place;
mod inspect;
mod on_change;
mod options;
mod private_mount;
mod readers;
mod receiver;
mod replace;
mod replaceability;
pub mod settings;
pub(crate) mod stale_temp;
mod target;
mod target_check;
pub(crate) mod temp_name;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use self::attempt_guard::ReplaceAttempt;
use self::folder_guard::FolderGuard;
use self::in_place::InPlaceOutcome;
use self::settings::{FileTarget, WriteMode};
use self::target::TargetLocation;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::SinkId;
use crate::core::state::{FileAccess, FileNote, LeftFile};
use crate::platform::{BlockingError, process, run_blocking};
use crate::sink::drift;
use crate::sink::protected_files::ProtectedFiles;
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SinkServices, SinkSettings, SinkTarget, SinkType,
    Substitute,
};
use crate::sink::{
    AccessReport, BlockingAccessCheck, BlockingDriftCheck, BlockingInspection, DeliveredPayload,
    DeliveryError, Destination, Drift, Payload, Sink, SinkError, SinkProblem, SinkProblemKind,
    TargetContent, UnseenCause,
};

/// The type of these sinks.
pub static TYPE: SinkType = SinkType {
    name: "file",
    options: options::OPTIONS,
    replaces_file: true,
    record_folder: None,
    read,
};

fn read(
    table: &ConfigTable<'_>,
    context: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    Some(Arc::new(options::read(table, &mut context.files, report)?))
}

impl SinkTarget for FileTarget {
    fn sink_type(&self) -> &'static SinkType {
        &TYPE
    }

    fn identity(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    fn replaced_file(self: Arc<Self>) -> Option<Arc<FileTarget>> {
        Some(self)
    }

    fn describe_listed_readers(&self) -> Option<String> {
        readers::describe_listed(self)
    }

    /// Returns a file at the same path below the folder of the rehearsal.
    fn rehearsal(&self, paths: &RehearsalPaths<'_>) -> Rehearsal {
        let Self {
            path,
            write,
            format,
            mode,
            has_mode_option,
            owner,
            group,
            on_change,
        } = self;
        let relative_path = Path::new(paths.files).join(path.strip_prefix("/").unwrap_or(path));
        let ignored_options = [("owner", owner), ("group", group)]
            .into_iter()
            .filter_map(|(option, name)| Some(format!("{option} = {:?}", name.as_ref()?)))
            .chain(
                on_change
                    .iter()
                    .map(|run| format!("on-change ({})", run.argv)),
            );
        let target = Self {
            path: paths.folder.join(&relative_path),
            write: *write,
            format: format.clone(),
            mode: *mode,
            has_mode_option: *has_mode_option,
            // The owner of the real file need not be known on this host.
            owner: None,
            group: None,
            // Consumers of the real file must not be notified of a key that
            // they do not get.
            on_change: None,
        };
        Rehearsal {
            original: path.display().to_string(),
            ignored_options: ignored_options.collect(),
            substitute: Substitute::Target {
                folder: target.path.parent().map(Path::to_owned),
                target: Arc::new(target),
                display: relative_path,
            },
        }
    }

    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink> {
        Arc::new(FileSink::new(settings, &self, &services.protected_files))
    }
}

/// How long a read of the file of a sink that is no longer configured may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns the keys in the file at `path`, if that is the file that a delivery left,
/// unchanged.
pub(super) async fn read_noted_path(path: PathBuf, note: FileNote) -> TargetContent {
    let describe = || format!("reading {}", path.display());
    let read_path = path.clone();
    let read = run_blocking(describe, READ_TIMEOUT, move || {
        inspect::read_noted(&read_path, note)
    });
    read.await.unwrap_or(TargetContent::Unknown)
}

/// How many inspections of one file may hang, each with a thread, before no further one
/// starts.
const MAX_HANGING_LOOKS: usize = 2;

/// A sink that replaces a file with each new secret.
#[derive(Debug)]
pub struct FileSink {
    settings: Arc<SinkSettings>,
    /// The target of the settings.
    target: Arc<FileTarget>,
    /// What is known about its folder.
    guard: Arc<FolderGuard>,
    /// The number of inspections that have not returned.
    looks: Arc<AtomicUsize>,
}

impl FileSink {
    /// Returns a sink for `target`, the target of `settings`, without checking
    /// it. It never writes one of the `protected` files by another name.
    #[must_use]
    pub fn new(
        settings: &Arc<SinkSettings>,
        target: &Arc<FileTarget>,
        protected: &Arc<ProtectedFiles>,
    ) -> Self {
        let folder = target.path.parent().unwrap_or(Path::new("/"));
        let has_owner_option = !settings.target.is_self_credential();
        Self {
            settings: Arc::clone(settings),
            target: Arc::clone(target),
            guard: Arc::new(FolderGuard::new(protected, folder, has_owner_option)),
            looks: Arc::default(),
        }
    }

    fn location(&self) -> TargetLocation {
        TargetLocation::new(Arc::clone(&self.target), Arc::clone(&self.guard))
    }

    /// Removes the temporary files that killed processes may have left, with a
    /// secret in them. Returns whether there was one. What is not a regular file of
    /// rekeyd's stays.
    ///
    /// # Errors
    /// Why a file cannot be removed.
    pub async fn remove_stale_temp(&self) -> Result<bool, SinkProblem> {
        let location = self.location();
        let Some((attempt, _guard)) = ReplaceAttempt::start(location.path()) else {
            return Err(self.busy());
        };
        let removed = self.run_with_timeout(move || {
            let _attempt = attempt;
            replace::remove_stale_temp(&location)
        });
        removed.await?.map_err(SinkProblem::host)
    }

    /// Runs `work` on a thread of its own, and waits no longer than the
    /// timeout.
    async fn run_with_timeout<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BlockingError> {
        let describe = || format!("writing or checking {}", self.target.path.display());
        run_blocking(describe, self.settings.timeout, work).await
    }

    /// Checks the file's folder, its target and its `on-change` program.
    fn local_check(&self) -> impl FnOnce() -> Vec<SinkProblem> + Send + 'static {
        let location = self.location();
        move || {
            let mut problems = location.problems();
            if problems.is_empty() {
                problems.extend(replace::access_problem(&location));
            }
            if problems.is_empty() {
                problems.extend(location.check_free_space().err());
            }
            let on_change = location.target.on_change.as_ref();
            let problem = on_change.and_then(|on_change| {
                process::check_executable(on_change.argv.path(), location.trusted_paths())
            });
            problems.extend(problem.map(|problem| format!("on-change: {problem}")));
            problems.into_iter().map(SinkProblem::host).collect()
        }
    }

    fn busy(&self) -> SinkProblem {
        SinkProblem {
            kind: SinkProblemKind::Busy,
            message: format!(
                "an earlier write or check of {} still hangs; hint: check whether its file system hangs",
                self.target.path.display()
            ),
        }
    }
}

#[async_trait]
impl Sink for FileSink {
    fn destination(&self) -> Destination {
        Destination::File
    }

    fn id(&self) -> &SinkId {
        &self.settings.id
    }

    async fn check(&self) -> Vec<SinkProblem> {
        let check = self.local_check();
        self.run_with_timeout(check)
            .await
            .unwrap_or_else(|error| vec![error.into()])
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        let location = self.location();
        let check = self.local_check();
        // Each check on a file system that hangs would occupy one more thread.
        let Some((attempt, _guard)) = ReplaceAttempt::start(location.path()) else {
            return Err(self.busy().into());
        };
        let checked = self.run_with_timeout(move || {
            let _attempt = attempt;
            SinkError::if_any(check())
        });
        checked.await.map_err(SinkProblem::from)?
    }

    async fn check_drift(&self, expected: &ExpectedSecret) -> Option<Drift> {
        let check = self.blocking_drift_check(expected)?;
        let describe = || format!("checking {}", self.target.path.display());
        drift::run_check(describe, self.settings.timeout, check).await
    }

    fn blocking_drift_check(&self, expected: &ExpectedSecret) -> Option<BlockingDriftCheck> {
        let place = self.location();
        let expected = expected.clone();
        Some(Box::new(move || verify::check_drift(&place, &expected)))
    }

    async fn inspect(&self) -> TargetContent {
        let location = self.location();
        let inspected = self.run_with_timeout(move || inspect::inspect(&location));
        inspected.await.unwrap_or(TargetContent::Unknown)
    }

    /// Returns a look, unless earlier ones hang.
    fn blocking_inspection(&self) -> Option<BlockingInspection> {
        let (location, looks) = (self.location(), Arc::clone(&self.looks));
        Some(Box::new(move || {
            if looks.fetch_add(1, Ordering::Relaxed) >= MAX_HANGING_LOOKS {
                looks.fetch_sub(1, Ordering::Relaxed);
                return TargetContent::Unseen(UnseenCause::Hanging);
            }
            let content = inspect::inspect(&location);
            looks.fetch_sub(1, Ordering::Relaxed);
            content
        }))
    }

    fn note_recorded_access(&self, recorded: Option<FileAccess>) {
        self.guard.note_recorded_access(recorded);
    }

    async fn look_at_access(&self) -> Option<FileAccess> {
        let location = self.location();
        let looked = self.run_with_timeout(move || location.safe_access());
        looked.await.ok().flatten()
    }

    fn blocking_access_check(&self, recorded: Option<FileAccess>) -> Option<BlockingAccessCheck> {
        let location = self.location();
        Some(Box::new(move || {
            access_check::find_differences(&location, recorded)
        }))
    }

    async fn keep_access(&self, recorded: Option<FileAccess>) -> AccessReport {
        self.guard.note_recorded_access(recorded);
        let location = self.location();
        // A file system that hangs says nothing about the file.
        let kept = self.run_with_timeout(move || access_check::keep(&location, recorded));
        kept.await.unwrap_or_default()
    }

    fn has_foreign_folder(&self) -> bool {
        self.location().has_foreign_folder()
    }

    fn has_on_change(&self) -> bool {
        self.target.on_change.is_some()
    }

    async fn run_on_change(&self, delivered: &DeliveredPayload) -> Result<(), SinkProblem> {
        match &self.target.on_change {
            Some(on_change) => {
                let trusted_paths = self.guard.trusted_paths();
                on_change::run_on_change(on_change, trusted_paths, &self.settings.id, delivered)
                    .await
            }
            // A reload has removed the option since the delivery.
            None => Ok(()),
        }
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        self.deliver_with_note(payload).await.map(|_| ())
    }

    async fn read_noted(&self, note: FileNote) -> TargetContent {
        let location = self.location();
        let read = self.run_with_timeout(move || inspect::read_noted(location.path(), note));
        read.await.unwrap_or(TargetContent::Unknown)
    }

    async fn deliver_with_note(
        &self,
        payload: &Payload,
    ) -> Result<Option<LeftFile>, DeliveryError> {
        let content = content::render_content(&self.target.format, payload).map_err(|error| {
            DeliveryError::not_accepted(format!(
                "cannot prepare the content of {}: {error}",
                self.target.path.display()
            ))
        })?;
        let location = self.location();
        let Some((attempt, _guard)) = ReplaceAttempt::start(location.path()) else {
            return Err(DeliveryError::not_accepted(self.busy().message));
        };
        let write = self.target.write;
        let work = move || match write {
            WriteMode::Replace => replace::replace(&location, &content, &attempt),
            WriteMode::InPlace => match in_place::overwrite(&location, &content, &attempt)? {
                InPlaceOutcome::Written(left) => Ok(left),
                InPlaceOutcome::Absent => replace::replace(&location, &content, &attempt),
            },
        };
        self.run_with_timeout(work)
            .await
            .unwrap_or_else(|error| Err(DeliveryError::uncertain(error.to_string())))
    }
}
