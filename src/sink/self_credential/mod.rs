//! rekeyd's own admin key: the file that holds it for the next start,
//! and the credential in use.
//!
//! The file is replaced first. A process that ends later leaves the new
//! credential to the next one; a process that ends earlier leaves the old
//! credential, which is not revoked until a newer one was delivered.

mod options;

use std::sync::Arc;

use async_trait::async_trait;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::active_credential::ActiveCredential;
use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::SinkId;
use crate::core::secret::Secret;
use crate::core::secret_text::{SecretForm, check_token};
use crate::core::state::{FileAccess, LeftFile};
use crate::sink::file::FileSink;
use crate::sink::file::settings::FileTarget;
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SinkServices, SinkSettings, SinkTarget, SinkType,
    Substitute,
};
use crate::sink::{
    AccessReport, BlockingAccessCheck, BlockingInspection, DeliveryError, Destination, Drift,
    Payload, Sink, SinkError, SinkProblem, TargetContent,
};

/// The type of these sinks.
pub static TYPE: SinkType = SinkType {
    name: options::NAME,
    options: options::OPTIONS,
    replaces_file: true,
    record_folder: None,
    read,
};

/// The checked options of a sink with `type = "self"`.
#[derive(Debug, Clone)]
pub struct SelfCredentialTarget {
    /// The file that holds rekeyd's own admin key.
    pub file: Arc<FileTarget>,
}

fn read(
    table: &ConfigTable<'_>,
    context: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    let file = options::read(table, context.file_wide, report)?;
    Some(Arc::new(SelfCredentialTarget { file }))
}

impl SinkTarget for SelfCredentialTarget {
    fn sink_type(&self) -> &'static SinkType {
        &TYPE
    }

    fn identity(&self) -> String {
        self.file.path.to_string_lossy().into_owned()
    }

    fn is_self_credential(&self) -> bool {
        true
    }

    fn replaced_file(self: Arc<Self>) -> Option<Arc<FileTarget>> {
        Some(Arc::clone(&self.file))
    }

    /// Returns the file with the admin key of the sandbox.
    fn rehearsal(&self, paths: &RehearsalPaths<'_>) -> Rehearsal {
        let Self { file } = self;
        let path = paths.credential_file;
        let display = path.strip_prefix(paths.folder).unwrap_or(path);
        let target = Self {
            file: Arc::new(FileTarget::with_defaults(path.to_owned())),
        };
        Rehearsal {
            original: file.path.display().to_string(),
            ignored_options: Vec::new(),
            substitute: Substitute::Target {
                target: Arc::new(target),
                display: display.to_owned(),
                folder: None,
            },
        }
    }

    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink> {
        let file = Arc::new(FileSink::new(
            settings,
            &self.file,
            &services.protected_files,
        ));
        let credential = services.active_credential.clone();
        Arc::new(SelfCredentialSink::new(file, credential))
    }
}

/// A sink that replaces the credential that rekeyd works with.
pub struct SelfCredentialSink {
    file: Arc<dyn Sink>,
    active_credential: ActiveCredential,
}

impl SelfCredentialSink {
    /// Returns a sink that replaces the credential's file with `file` and the
    /// credential of the provider's client in `active_credential`.
    #[must_use]
    pub fn new(file: Arc<dyn Sink>, active_credential: ActiveCredential) -> Self {
        Self {
            file,
            active_credential,
        }
    }
}

#[async_trait]
impl Sink for SelfCredentialSink {
    fn destination(&self) -> Destination {
        Destination::File
    }

    fn id(&self) -> &SinkId {
        self.file.id()
    }

    async fn check(&self) -> Vec<SinkProblem> {
        self.file.check().await
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        self.file.preflight().await
    }

    async fn check_drift(&self, expected: &ExpectedSecret) -> Option<Drift> {
        self.file.check_drift(expected).await
    }

    /// Returns no key for a file with the credential that rekeyd works with: it stays
    /// known after it is replaced.
    async fn inspect(&self) -> TargetContent {
        let content = self.file.inspect().await;
        let in_use = self.active_credential.get();
        let is_in_use = |key: &Secret| in_use.as_ref().is_some_and(|used| used.same_as(key));
        if content.keys().iter().any(is_in_use) {
            TargetContent::NoKey
        } else {
            content
        }
    }

    fn blocking_inspection(&self) -> Option<BlockingInspection> {
        self.file.blocking_inspection()
    }

    fn inspection_may_block(&self) -> bool {
        self.file.inspection_may_block()
    }

    fn note_recorded_access(&self, recorded: Option<FileAccess>) {
        self.file.note_recorded_access(recorded);
    }

    async fn look_at_access(&self) -> Option<FileAccess> {
        self.file.look_at_access().await
    }

    fn blocking_access_check(&self, recorded: Option<FileAccess>) -> Option<BlockingAccessCheck> {
        self.file.blocking_access_check(recorded)
    }

    async fn keep_access(&self, recorded: Option<FileAccess>) -> AccessReport {
        self.file.keep_access(recorded).await
    }

    fn has_foreign_folder(&self) -> bool {
        self.file.has_foreign_folder()
    }

    fn rotates_self_credential(&self) -> bool {
        true
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        self.deliver_with_note(payload).await.map(|_| ())
    }

    /// Returns no note: the secret is never taken from this file again.
    async fn deliver_with_note(
        &self,
        payload: &Payload,
    ) -> Result<Option<LeftFile>, DeliveryError> {
        // The file is read by the next start: one that it refuses would lock rekeyd out.
        check_token(payload.secret.expose(), SecretForm::AdminKey).map_err(|error| {
            DeliveryError::not_accepted(format!(
                "cannot write the new secret, because rekeyd could not read it at its next start: it {error}"
            ))
        })?;
        let left = self.file.deliver_with_note(payload).await?;
        let previous = payload.previous.as_ref();
        let previous = previous.map(|previous| previous.id.clone());
        self.active_credential
            .switch_to(payload.secret.clone(), previous);
        Ok(left.map(|left| LeftFile { note: None, ..left }))
    }
}
