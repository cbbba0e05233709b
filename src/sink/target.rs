//! The part of a type of sink that depends on its options: the identity of its
//! target, its rehearsal and its construction.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::contract::Sink;
use super::file::settings::FileTarget;
use super::protected_files::ProtectedFiles;
use super::recording::DeliveryRecorder;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::location::Location;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use crate::config_reader::values::timeout_option;
use crate::core::active_credential::ActiveCredential;
use crate::core::ids::SinkId;

/// The options that every sink has besides those of its type.
pub const COMMON_OPTIONS: Section = Section {
    name: "sink",
    about: "Where rekeyd delivers the secret of the key: one or more sinks. A rotation is complete \
            when every required sink has accepted the secret. The previous credential is revoked \
            one overlap later.",
    options: &[
        ConfigOption::new(
            "type",
            ValueType::TypeName,
            r#""file""#,
            "The type of the sink.",
        )
        .required(),
        ConfigOption::new(
            "name",
            ValueType::Text("^[a-z0-9][a-z0-9-]{0,47}$"),
            r#""billing-host""#,
            "The sink's name in the history. Required when a key has two sinks of one type.",
        )
        .with_default(DefaultValue::Described("the type"))
        .with_details("A renamed sink counts as a new sink."),
        ConfigOption::new(
            "required",
            ValueType::Flag,
            "false",
            "`false`: nothing waits for this sink, and it may be left with a dead key. A key \
             needs at least one required sink.",
        )
        .or("true"),
        timeout_option("timeout", "The time limit of one attempt."),
    ],
};

/// A type of sink, as [`super::SINK_TYPES`] lists it.
#[derive(Debug)]
pub struct SinkType {
    /// The value of the option `type`, and the first part of a target's text.
    pub name: &'static str,
    /// The options that only this type has.
    pub options: Section,
    /// Whether the rest of a target's text is the path of a file that the sink
    /// replaces, so that a killed process may have left a temporary file beside
    /// it.
    pub replaces_file: bool,
    /// The folder of this type's records in a rehearsal, if it records
    /// deliveries.
    pub record_folder: Option<&'static str>,
    /// Reads the options of one sink.
    pub(crate) read: ReadTarget,
}

/// Reads the options of one sink, after unknown ones have been refused. Adds
/// the sink's files to the context even when another option is wrong. Reports
/// every problem, and returns a target only if there is none.
pub(crate) type ReadTarget = fn(
    &ConfigTable<'_>,
    &mut ReadContext<'_, '_>,
    &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>>;

/// The input that the options of a sink depend on besides their table.
pub(crate) struct ReadContext<'c, 'f> {
    /// The files that the sink names.
    pub(crate) files: NamedFiles,
    /// The state that all sinks of the file share.
    pub(crate) file_wide: &'c mut FileWideContext<'f>,
}

/// The state that all sinks of a configuration file share while they are read.
pub(crate) struct FileWideContext<'f> {
    /// `[provider] credential-file`.
    pub(crate) credential_file: Option<&'f Path>,
    /// The location of each sink whose type a file may have once.
    singletons: BTreeMap<&'static str, Location>,
}

impl<'f> FileWideContext<'f> {
    pub(crate) const fn new(credential_file: Option<&'f Path>) -> Self {
        Self {
            credential_file,
            singletons: BTreeMap::new(),
        }
    }

    /// Records a sink whose type a file may have once.
    ///
    /// # Errors
    /// The location of the sink of that type that was recorded before.
    pub(crate) fn claim_only_one(
        &mut self,
        type_name: &'static str,
        location: &Location,
    ) -> Result<(), Location> {
        if let Some(other) = self.singletons.get(type_name) {
            return Err(other.clone());
        }
        self.singletons.insert(type_name, location.clone());
        Ok(())
    }
}

/// The target of one sink: the checked options of its type.
pub trait SinkTarget: fmt::Debug + Send + Sync {
    /// Returns its type.
    fn sink_type(&self) -> &'static SinkType;

    /// Returns the text that identifies the target among those of its type: a
    /// path, or a URL without its query. The ledger stores it. It MUST NOT hold
    /// a secret, and MUST change exactly when the sink delivers to another
    /// target.
    fn identity(&self) -> String;

    /// Whether it replaces the credential that rekeyd itself works with.
    fn is_self_credential(&self) -> bool {
        false
    }

    /// Returns the file that the sink replaces through a temporary file beside
    /// it.
    fn replaced_file(self: Arc<Self>) -> Option<Arc<FileTarget>> {
        None
    }

    /// Names who reads the target by an access control list, which no option shows, for
    /// people. None without any. Blocks.
    fn describe_listed_readers(&self) -> Option<String> {
        None
    }

    /// Returns the substitute for the sink in `rekeyd demo --rehearse`.
    /// Destructure the options without `..`: an option that is added later must
    /// be considered here before it can reach out of the rehearsal.
    fn rehearsal(&self, paths: &RehearsalPaths<'_>) -> Rehearsal;

    /// Builds the sink. Reads no file and opens no connection.
    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink>;
}

/// Returns the text of a target in the ledger and in `deliveries`: its type and
/// its identity.
#[must_use]
pub fn target_text(target: &dyn SinkTarget) -> String {
    format!("{}:{}", target.sink_type().name, target.identity())
}

impl SinkSettings {
    /// Builds the sink. Reads no file and opens no connection.
    #[must_use]
    pub fn build(self: &Arc<Self>, services: &SinkServices) -> Arc<dyn Sink> {
        Arc::clone(&self.target).build(self, services)
    }
}

/// The services that sinks are built with besides their settings.
pub struct SinkServices {
    /// The clock of an attempt, for its signature.
    pub now: SigningClock,
    /// The credential in use.
    pub active_credential: ActiveCredential,
    /// The files that no sink may write by another name.
    pub protected_files: Arc<ProtectedFiles>,
}

/// Returns the time of an attempt.
pub type SigningClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One sink of a key.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Its name and the text of its target.
    pub id: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
    /// The time limit of one attempt.
    pub timeout: Duration,
    /// The target that it delivers to.
    pub target: Arc<dyn SinkTarget>,
}

/// The paths that the sinks of a rehearsal may use.
#[derive(Debug, Clone, Copy)]
pub struct RehearsalPaths<'a> {
    /// The folder that contains all of them.
    pub folder: &'a Path,
    /// The subfolder for the files of file sinks, relative to the folder.
    pub files: &'a str,
    /// The file with the admin key of the sandbox, below the folder.
    pub credential_file: &'a Path,
}

/// How one sink is rehearsed.
pub struct Rehearsal {
    /// The configured target, as a person reads it.
    pub original: String,
    /// The options that have no effect in the rehearsal.
    pub ignored_options: Vec<String>,
    /// The substitute for the target.
    pub substitute: Substitute,
}

/// The substitute for a target.
pub enum Substitute {
    /// Another target on this host.
    Target {
        /// The target, below the rehearsal's folder.
        target: Arc<dyn SinkTarget>,
        /// Its path relative to the folder, as a person reads it.
        display: PathBuf,
        /// The folder that it needs.
        folder: Option<PathBuf>,
    },
    /// A recorder that writes each delivery as a line of JSON.
    Record(DeliveryRecorder),
}
