//! What the configuration says, as checked values for the modules that do the
//! work.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alerting::channel::target::NotifySettings;
use crate::core::ids::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::scope::Scope;
use crate::core::subscriptions::Subscriptions;
use crate::provider::settings::ProviderSettings;
use crate::sink::target::SinkSettings;

/// Everything the configuration file says, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file this was read from, absolute.
    pub file: PathBuf,
    /// `[provider]`.
    pub provider: ProviderSettings,
    /// SHA-256 of its text, in hexadecimal digits.
    pub digest: String,
    /// `[ledger] path`.
    pub ledger: PathBuf,
    /// `[control]`.
    pub control: ControlSettings,
    /// `[metrics] listen`.
    pub metrics: Option<SocketAddr>,
    /// `[[notify]]`: the notification channels.
    pub notify: Vec<NotifySettings>,
    /// The keys, in the order of their names.
    pub keys: Vec<KeySettings>,
}

/// `[control]`: the socket that commands reach a running daemon by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// The socket; none for a daemon without one.
    pub socket: Option<PathBuf>,
    /// Groups that may change things, beside root and the daemon's user.
    pub admins: Vec<String>,
}

/// One key: when it rotates and where its secrets go.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Its name.
    pub name: KeyName,
    /// The scope of its credentials.
    pub scope: Scope,
    /// When and how patiently it rotates.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery: the required ones first. Shared with
    /// what delivers to them.
    pub sinks: Vec<Arc<SinkSettings>>,
}

impl Settings {
    /// The subscriptions of all channels.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        let listeners = self.notify.iter().map(|one| one.subscription.clone());
        Subscriptions::new(listeners.collect())
    }
}
