//! The part of a type of channel that depends on its options: the identity of
//! its target and its construction.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::contract::Channel;
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, DefaultValue, Section, ValueType};
use crate::core::duration::MAX_DURATION;
use crate::core::notification::{ChannelId, EventKind};
use crate::core::subscriptions::Subscription;
use crate::platform::path_walk::TrustedPaths;

/// The options that every `[[notify]]` has besides those of its type.
pub const COMMON_OPTIONS: Section = Section {
    name: "notify",
    about: "Notifications to people: once when a problem begins, and once when it is over. There \
            may be any number of `[[notify]]`; all send the same JSON, which the documentation \
            describes. Without any, rekeyd notifies nobody.",
    options: &[
        ConfigOption::new(
            "type",
            ValueType::TypeName,
            r#""sendmail""#,
            "The type of the channel.",
        )
        .required(),
        ConfigOption::new(
            "on",
            ValueType::Choices(&EventKind::NAMES),
            r#"["failure", "recovered"]"#,
            "The events to send: `failure`, `recovered`, `overdue`, `expiring`, `rotated`, \
             `orphan`, `lookalike`, `clock`, `hold` and `operator`.",
        )
        .or(r#"["failure", "recovered", "overdue", "expiring", "lookalike", "operator"]"#),
        ConfigOption::new(
            "keys",
            ValueType::Texts(""),
            r#"["billing"]"#,
            "The keys to send events about. Problems of rekeyd as a whole are always included.",
        )
        .with_default(DefaultValue::Described("all keys")),
        ConfigOption::new(
            "remind-every",
            ValueType::Duration(Duration::from_secs(1), MAX_DURATION),
            r#""1d""#,
            "How often to send a problem again that lasts.",
        )
        .with_default(DefaultValue::Described("never")),
        ConfigOption::new(
            "name",
            ValueType::Text("^[a-z0-9][a-z0-9-]{0,47}$"),
            r#""pager""#,
            "A name for `rekeyd notify --test NAME`, `rekeyd status` and the metrics.",
        )
        .with_default(DefaultValue::Described(
            "the type, and a number from the second on",
        )),
    ],
};

/// A type of channel, as [`super::CHANNEL_TYPES`] lists it.
#[derive(Debug)]
pub struct ChannelType {
    /// The value of the option `type`, and the first part of a channel's id.
    pub name: &'static str,
    /// The options that only this type has.
    pub options: Section,
    /// Reads the options of one channel.
    pub(crate) read: ReadChannel,
}

/// Reads the options of one channel, after unknown ones have been refused.
/// Reports every problem, and returns a target only if there is none.
pub(crate) type ReadChannel =
    fn(&ConfigTable<'_>, &mut NamedFiles, &mut ProblemReport) -> Option<Arc<dyn ChannelTarget>>;

/// The target of one channel: the checked options of its type.
pub trait ChannelTarget: fmt::Debug + Send + Sync + DynEq {
    /// Returns the name of its type, as ids contain it.
    fn type_name(&self) -> &'static str;

    /// Returns the text that identifies the channel among those of its type.
    /// The ledger stores it. It MUST NOT hold a secret.
    fn identity(&self) -> String;

    /// Builds the channel. Reads no file and opens no connection.
    fn build(self: Arc<Self>, id: ChannelId, services: &ChannelServices) -> Arc<dyn Channel>;
}

impl dyn ChannelTarget {
    /// Whether `other` has the same type and the same options.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.dyn_eq(other)
    }
}

/// Compares values whose types may differ.
pub trait DynEq: Any {
    /// Whether `other` has the same type and is equal.
    fn dyn_eq(&self, other: &dyn Any) -> bool;
}

impl<T: Any + PartialEq> DynEq for T {
    fn dyn_eq(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<Self>() == Some(self)
    }
}

/// What channels are built with besides their target.
pub struct ChannelServices {
    /// The clock of an attempt, for its signature.
    pub now: ClockFn,
    /// The parts of paths that others may own or write.
    pub trusted_paths: TrustedPaths,
}

/// Returns the time of an attempt.
pub type ClockFn = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Returns the id of a channel in the ledger: its type and its identity.
#[must_use]
pub fn channel_id(target: &dyn ChannelTarget) -> ChannelId {
    ChannelId::new(format!("{}:{}", target.type_name(), target.identity()))
}

/// One `[[notify]]`: a channel, and its subscription.
#[derive(Debug, Clone)]
pub struct NotifySettings {
    /// Its name, which no other channel has.
    pub name: String,
    /// The channel's id, and the notifications that it subscribes to.
    pub subscription: Subscription,
    /// The target that it sends to.
    pub target: Arc<dyn ChannelTarget>,
    /// The parts of paths that others may own or write.
    pub trusted_paths: TrustedPaths,
}

impl NotifySettings {
    /// Builds the channel. Reads no file and opens no connection.
    #[must_use]
    pub fn build(&self, now: ClockFn) -> Arc<dyn Channel> {
        let services = ChannelServices {
            now,
            trusted_paths: self.trusted_paths.clone(),
        };
        Arc::clone(&self.target).build(self.subscription.channel.clone(), &services)
    }
}
