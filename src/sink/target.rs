//! What a type of sink implements beside its behaviour: its options, the
//! identity of its target, and its rehearsal.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::contract::Sink;
use super::file::settings::FileTarget;
use super::recording::DeliveryRecorder;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::location::Location;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::Section;
use crate::core::ids::SinkId;
use crate::core::secret::ActiveCredential;

/// The options that every sink has, beside those of its type.
pub const COMMON_OPTIONS: Section = Section {
    name: "sink",
    options: &["type", "name", "required", "timeout"],
};

/// A type of sink, as [`super::SINK_TYPES`] lists it.
#[derive(Debug)]
pub struct SinkType {
    /// The value of the option `type`, and the first part of a target's text.
    pub name: &'static str,
    /// The options that only this type has.
    pub options: Section,
    /// Whether the rest of a target's text is the path of a file that the sink
    /// replaces, so that a process that was killed may have left a temporary
    /// file beside it.
    pub replaces_file: bool,
    /// The folder of a rehearsal with the records of this type's deliveries,
    /// if it records them.
    pub record_folder: Option<&'static str>,
    /// Reads the options of one sink.
    pub(crate) read: ReadTarget,
}

/// Reads the options of one sink; unknown ones are refused already. Names the
/// sink's files in the context even when something else is wrong. Reports every
/// problem, and returns a target only if there is none.
pub(crate) type ReadTarget = fn(
    &ConfigTable<'_>,
    &mut ReadContext<'_, '_>,
    &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>>;

/// What the options of a sink may depend on besides their table.
pub(crate) struct ReadContext<'c, 'f> {
    /// The files that the sink names.
    pub(crate) files: NamedFiles,
    /// What all sinks of the file share.
    pub(crate) file_wide: &'c mut FileWideContext<'f>,
}

/// What all sinks of a configuration file share while they are read.
pub(crate) struct FileWideContext<'f> {
    /// `[provider] credential-file`.
    pub(crate) credential_file: Option<&'f Path>,
    /// The sinks of types of which a file may have one.
    only_ones: BTreeMap<&'static str, Location>,
}

impl<'f> FileWideContext<'f> {
    pub(crate) const fn new(credential_file: Option<&'f Path>) -> Self {
        Self {
            credential_file,
            only_ones: BTreeMap::new(),
        }
    }

    /// Records a sink of a type of which a file may have one. The error is the
    /// location of the one that was recorded before.
    pub(crate) fn claim_only_one(
        &mut self,
        type_name: &'static str,
        location: &Location,
    ) -> Result<(), Location> {
        if let Some(other) = self.only_ones.get(type_name) {
            return Err(other.clone());
        }
        self.only_ones.insert(type_name, location.clone());
        Ok(())
    }
}

/// What the configuration says about one sink's target: the checked options of
/// its type.
pub trait SinkTarget: fmt::Debug + Send + Sync {
    /// Its type.
    fn sink_type(&self) -> &'static SinkType;

    /// Identifies the target among those of its type: a path, or a URL without
    /// its query. The ledger keeps it. It MUST NOT hold a secret, and MUST
    /// change exactly when the sink delivers to another place.
    fn identity(&self) -> String;

    /// The file with roots to trust, for `rekeyd check`. All else on this host
    /// is checked by [`Sink::inspect`].
    fn ca_file(&self) -> Option<&Path> {
        None
    }

    /// Whether it replaces the credential that rekeyd itself works with.
    fn is_self_credential(&self) -> bool {
        false
    }

    /// The file that the sink replaces by way of a temporary file beside it.
    fn replaced_file(self: Arc<Self>) -> Option<Arc<FileTarget>> {
        None
    }

    /// What stands in for the sink in `rekeyd demo --rehearse`. Take the
    /// options apart by name, without `..`: an option that is added later must
    /// be considered here before it can reach out of the rehearsal.
    fn rehearsal(&self, places: &RehearsalPlaces<'_>) -> Rehearsal;

    /// The sink, ready to take secrets. Reads nothing and connects nowhere.
    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink>;
}

/// The text of a target in the ledger and in `deliveries`: its type and its
/// identity.
#[must_use]
pub fn target_text(target: &dyn SinkTarget) -> String {
    format!("{}:{}", target.sink_type().name, target.identity())
}

impl SinkSettings {
    /// The sink, ready to take secrets.
    #[must_use]
    pub fn build(self: &Arc<Self>, services: &SinkServices) -> Arc<dyn Sink> {
        Arc::clone(&self.target).build(self, services)
    }
}

/// What sinks are built with besides their settings.
pub struct SinkServices {
    /// The time of a try, such as a signature bears.
    pub now: SigningClock,
    /// The credential in use.
    pub active_credential: ActiveCredential,
}

/// Tells the time of a try.
pub type SigningClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One sink of a key.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Its name and the text of its target.
    pub id: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
    /// The time one attempt may take.
    pub timeout: Duration,
    /// Where it delivers to.
    pub target: Arc<dyn SinkTarget>,
}

/// The places that a rehearsal offers.
#[derive(Debug, Clone, Copy)]
pub struct RehearsalPlaces<'a> {
    /// The folder below which everything stays.
    pub folder: &'a Path,
    /// The subfolder for files that stand in for those of file sinks, relative
    /// to the folder.
    pub files: &'a str,
    /// The file with the admin key of the sandbox, below the folder.
    pub credential_file: &'a Path,
}

/// How one sink is rehearsed.
pub struct Rehearsal {
    /// The target that the configuration names, for people.
    pub original: String,
    /// The options that have no effect in the rehearsal.
    pub ignored_options: Vec<String>,
    /// What takes the target's place.
    pub substitute: Substitute,
}

/// What takes the place of a target.
pub enum Substitute {
    /// Another target of the same host.
    Target {
        /// It, below the rehearsal's folder.
        target: Arc<dyn SinkTarget>,
        /// Its path relative to the folder, for people.
        display: PathBuf,
        /// The folder that it needs.
        folder: Option<PathBuf>,
    },
    /// Nothing: each delivery is recorded as a line of JSON.
    Record(DeliveryRecorder),
}
