//! The checked values of the configuration, for the modules that use them.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::alerting::channel::target::NotifySettings;
use crate::core::ids::KeyName;
use crate::core::policy::KeyPolicy;
use crate::core::scope::Scope;
use crate::core::subscriptions::Subscriptions;
use crate::platform::file_stamp::FileStamp;
use crate::platform::log::filter::LogFilter;
use crate::platform::log::format::LogFormat;
use crate::platform::path_walk::TrustedPaths;
use crate::provider::settings::ProviderSettings;
use crate::sink::protected_files::ProtectedFiles;
use crate::sink::target::SinkSettings;

/// The value of `[metrics] listen` for the socket that the service manager passes.
pub(super) const FROM_SERVICE_MANAGER: &str = "systemd";

/// Where the metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAddress {
    /// At an IP address and a port.
    Tcp(SocketAddr),
    /// On a Unix socket.
    Socket(PathBuf),
    /// On the socket that the service manager passes.
    ServiceManager,
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Socket(path) => write!(formatter, "unix:{}", path.display()),
            Self::ServiceManager => formatter.write_str(FROM_SERVICE_MANAGER),
        }
    }
}

/// Who may read `/metrics`, which names keys and sinks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetricsAccess {
    /// `password-file`: the file with the password that a request needs; read for each.
    pub password_file: Option<PathBuf>,
    /// `unprotected`: whether everybody may read it who can reach the address.
    pub unprotected: bool,
}

impl MetricsAccess {
    /// Whether nobody may read it at an address that other hosts reach.
    #[must_use]
    pub const fn refuses_other_hosts(&self) -> bool {
        self.password_file.is_none() && !self.unprotected
    }
}

/// The checked content of the configuration file.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The absolute path of the file.
    pub file: PathBuf,
    /// `[provider]`.
    pub provider: ProviderSettings,
    /// SHA-256 of its text, in hexadecimal digits.
    pub digest: String,
    /// The file that was read; none if the text is from elsewhere.
    pub stamp: Option<FileStamp>,
    /// Its text.
    pub text: ConfigText,
    /// `[ledger] path`.
    pub ledger: PathBuf,
    /// Whether the file or the service manager names the ledger: that of another
    /// organization may be at the default path.
    pub is_ledger_named: bool,
    /// `[ledger] snapshot`.
    pub snapshot: Option<SnapshotSettings>,
    /// `[control]`.
    pub control: ControlSettings,
    /// `[metrics] listen`.
    pub metrics: Option<MetricsAddress>,
    /// The other options of `[metrics]`.
    pub metrics_access: MetricsAccess,
    /// `[log]`.
    pub log: LogSettings,
    /// `[[notify]]`: the notification channels.
    pub notify: Vec<NotifySettings>,
    /// The keys, in the order of their names.
    pub keys: Vec<KeySettings>,
    /// The files that no sink may write by another name.
    pub protected_files: Arc<ProtectedFiles>,
}

impl Settings {
    /// Returns the parts of paths that others may own or write.
    #[must_use]
    pub fn trusted_paths(&self) -> &TrustedPaths {
        self.protected_files.trusted_paths()
    }
}

/// The text of a configuration. It is not shown, since a URL in it may have a
/// token.
#[derive(Clone, Default)]
pub struct ConfigText(pub Arc<str>);

impl fmt::Debug for ConfigText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ConfigText(…)")
    }
}

/// `[ledger] snapshot`: the copy for users who may not open the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Its path.
    pub path: PathBuf,
    /// Whether the file names it.
    pub is_named: bool,
}

/// `[log]`: what `rekeyd run` and `rekeyd once` log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// Which lines; none if the file does not say.
    pub level: Option<LogFilter>,
    /// Their form.
    pub format: LogFormat,
}

/// `[control]`: the socket that commands reach a running daemon by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// The path of the socket, if the daemon has one.
    pub socket: Option<PathBuf>,
    /// Groups that may operate rekeyd, besides root and the owner of the ledger.
    pub admins: Vec<String>,
    /// Groups that may also destroy; none if the file does not say.
    pub super_admins: Option<Vec<String>>,
    /// Whether a running daemon takes a changed file by itself.
    pub reload_on_change: bool,
    /// Whether the file names the socket or the ledger: a daemon of another file may use
    /// the default ones.
    pub is_named: bool,
}

/// One key: its rotation policy and its sinks.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Its name.
    pub name: KeyName,
    /// The name that it had before.
    pub was: Option<KeyName>,
    /// The scope of its credentials.
    pub scope: Scope,
    /// Its timetable, its deadlines and its limits.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery, the required ones first. The
    /// engine's sinks share them.
    pub sinks: Vec<Arc<SinkSettings>>,
}

impl Settings {
    /// Returns the subscriptions of all channels.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        let subscriptions = self
            .notify
            .iter()
            .map(|settings| settings.subscription.clone());
        Subscriptions::new(subscriptions.collect())
    }
}
