//! What the configuration says, as plain values: checked where the file is
//! read, used by the parts that do the work.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::core::command::CommandLine;
use crate::core::ids::{KeyName, SinkId};
use crate::core::policy::KeyPolicy;
use crate::core::subscriptions::{Subscription, Subscriptions};

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
    /// `[[notify]]`: who is told what is wrong.
    pub notify: Vec<NotifySettings>,
    /// The keys, in the order of their names.
    pub keys: Vec<KeySettings>,
}

/// `[provider]`: whom rekeyd asks for credentials, and how.
#[derive(Debug, Clone)]
pub struct ProviderSettings {
    /// Without a slash at its end: `https://api.openai.com/v1`.
    pub base_url: url::Url,
    /// The file with our own admin key.
    pub credential_file: Option<PathBuf>,
    /// The `OpenAI-Organization` header.
    pub organization: Option<String>,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// The time one request may take, from connecting to the last byte.
    pub request_timeout: Duration,
    /// How many keys are worked on at once.
    pub max_in_flight: usize,
    /// How often every row of the ledger is compared with the provider.
    pub reconcile_every: Duration,
}

/// `[control]`: how a running daemon is asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlSettings {
    /// The socket; none for a daemon that is not to be asked.
    pub socket: Option<PathBuf>,
    /// Groups that may change things, beside root and the daemon's user.
    pub admins: Vec<String>,
}

/// One key: when it rotates and where its secrets go.
#[derive(Debug, Clone)]
pub struct KeySettings {
    /// Its name.
    pub name: KeyName,
    /// When and how patiently it rotates.
    pub policy: Arc<KeyPolicy>,
    /// Its sinks in the order of delivery: the required ones first. Shared with
    /// what delivers to them.
    pub sinks: Vec<Arc<SinkSettings>>,
}

/// One sink of a key.
#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// Name and target.
    pub id: SinkId,
    /// Whether the rotation waits for it.
    pub required: bool,
    /// The time one attempt may take.
    pub timeout: Duration,
    /// What kind of sink it is.
    pub target: SinkTarget,
}

/// The kinds of sink.
#[derive(Debug, Clone)]
pub enum SinkTarget {
    /// A file on this host.
    File(Arc<FileTarget>),
    /// An HTTP receiver that understands Standard Webhooks.
    Webhook(Arc<WebhookTarget>),
    /// A program that takes the secret on its standard input.
    Command(Arc<CommandTarget>),
    /// The file that rekeyd's own admin credential is read from, and the
    /// credential in use.
    SelfCredential(Arc<FileTarget>),
}

/// `type = "file"`.
#[derive(Debug, Clone)]
pub struct FileTarget {
    /// The file that is replaced; absolute.
    pub path: PathBuf,
    /// What stands in it.
    pub format: FileFormat,
    /// Its permission bits.
    pub mode: u32,
    /// The user it is given to, by name or number.
    pub owner: Option<String>,
    /// The group it is given to, by name or number.
    pub group: Option<String>,
    /// What is run once it has changed.
    pub on_change: Option<Box<OnChange>>,
}

/// A program that is run once a file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnChange {
    /// What is run.
    pub argv: CommandLine,
    /// The time that one run may take.
    pub timeout: Duration,
}

/// What stands in a file sink's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFormat {
    /// The secret and a newline.
    Raw,
    /// `VARIABLE=secret` and a newline.
    Env {
        /// The variable's name.
        variable: String,
    },
    /// One JSON object with the secret as `value`, and a newline.
    Json,
}

/// `type = "webhook"`.
#[derive(Debug, Clone)]
pub struct WebhookTarget {
    /// Where it is posted to; https, or http on loopback, without userinfo.
    pub url: url::Url,
    /// One or two lines `whsec_<base64>`; read anew for each delivery.
    pub signing_secret_file: PathBuf,
    /// A token for the `Authorization: Bearer` header; read anew for each
    /// delivery.
    pub bearer_token_file: Option<PathBuf>,
    /// Roots (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// `type = "command"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandTarget {
    /// What is run.
    pub argv: CommandLine,
}

/// One `[[notify]]`: who is told, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySettings {
    /// Who, and of what.
    pub subscription: Subscription,
    /// How.
    pub target: NotifyTarget,
}

/// The ways to tell people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotifyTarget {
    /// An HTTP receiver that understands Standard Webhooks.
    Webhook(NotifyWebhook),
    /// A program that reads the notice from its standard input.
    Command(CommandTarget),
    /// A mail by this host's sendmail.
    Sendmail(SendmailTarget),
    /// A file to which a line is added: of a rehearsal, where nobody is told.
    File(PathBuf),
}

/// `[[notify]]` with `type = "webhook"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyWebhook {
    /// Where it is posted to; https, or http on loopback, without userinfo.
    pub url: url::Url,
    /// One or two lines `whsec_<base64>`; read anew for each try.
    pub signing_secret_file: PathBuf,
}

/// `[[notify]]` with `type = "sendmail"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendmailTarget {
    /// The addresses it goes to.
    pub to: Vec<String>,
}

impl Settings {
    /// Everybody who is told of something.
    #[must_use]
    pub fn subscriptions(&self) -> Subscriptions {
        let listeners = self.notify.iter().map(|one| one.subscription.clone());
        Subscriptions::new(listeners.collect())
    }
}
