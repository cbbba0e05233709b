//! An HTTP receiver that understands Standard Webhooks.
//!
//! Signed as the webhooks that carry secrets are. What this deliberately does
//! not do: follow redirects, or try again by itself.

mod options;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;

use crate::alerting::channel::support::run_off_thread;
use crate::alerting::channel::target::{ChannelTarget, ChannelType, ClockFn};
use crate::alerting::channel::{Channel, ChannelError, ChannelErrorKind, TIMEOUT, message};
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::notification::{ChannelId, Notification};
use crate::core::redact::sanitize_bytes;
use crate::core::secret::Secret;
use crate::net::client::{ClientOptions, build_client};
use crate::net::connect_check::check_connection;
use crate::net::signature::SigningKeys;
use crate::net::target::{query_secrets, sanitized_url};
use crate::net::{body, error_text};
use crate::platform::secret_file;

pub use self::options::WebhookChannelTarget;

/// The type of these channels.
pub static TYPE: ChannelType = ChannelType {
    name: "webhook",
    options: options::OPTIONS,
    read,
};

fn read(
    table: &ConfigTable<'_>,
    files: &mut NamedFiles,
    report: &mut ProblemReport,
) -> Option<Arc<dyn ChannelTarget>> {
    Some(Arc::new(options::read(table, files, report)?))
}

impl ChannelTarget for WebhookChannelTarget {
    fn type_name(&self) -> &'static str {
        TYPE.name
    }

    /// Without the query, which may hold a token.
    fn identity(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.into()
    }

    fn build(self: Arc<Self>, id: ChannelId, now: &ClockFn) -> Arc<dyn Channel> {
        Arc::new(WebhookChannel::new(id, &self, Arc::clone(now)))
    }
}

/// A receiver of notifications.
pub struct WebhookChannel {
    id: ChannelId,
    target: WebhookChannelTarget,
    /// The URL as it may be shown: without its query.
    redacted_url: String,
    now: ClockFn,
}

impl std::fmt::Debug for WebhookChannel {
    // By hand, since the derived form would show the URL's query.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Webhook({})", self.redacted_url)
    }
}

impl WebhookChannel {
    /// A channel that posts to `target`. Nothing is read or connected to yet.
    /// `now` gives the time that each try is signed with.
    #[must_use]
    pub fn new(id: ChannelId, target: &WebhookChannelTarget, now: ClockFn) -> Self {
        Self {
            id,
            target: target.clone(),
            redacted_url: sanitized_url(&target.url),
            now,
        }
    }

    async fn read_signing_keys(&self) -> Result<SigningKeys, ChannelError> {
        let path = self.target.signing_secret_file.clone();
        let shown = path.display().to_string();
        let read = run_off_thread(&shown, move || {
            let text = secret_file::read_configured(&path)?;
            SigningKeys::parse(text.expose())
                .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
        });
        read.await?.map_err(ChannelError::host)
    }

    async fn send_request(
        &self,
        notice: &Notification,
        host: &str,
        keys: &SigningKeys,
    ) -> Result<(), ChannelError> {
        let (url, shown) = (&self.target.url, &self.redacted_url);
        let limits = ClientOptions {
            url,
            timeout: TIMEOUT,
            ca_file: None,
        };
        let client = build_client(&limits)
            .map_err(|problem| ChannelError::host(format!("cannot post to {shown}: {problem}")))?;
        let body = message::to_json(notice, host)?;
        let id = message::webhook_id(notice, &self.id);
        let timestamp = (self.now)().as_second();
        let signature = keys.sign(&id, timestamp, &body);
        let request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body);
        let response = request.send().await.map_err(|error| {
            let why = error_text::explain(error);
            unreachable(format!("cannot post to {shown}: {why}"))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let quoted = match body::read(response).await {
            Ok(body) if !body.is_empty() => format!(": {}", sanitize_bytes(&body)),
            Ok(_) | Err(_) => String::new(),
        };
        Err(ChannelError::new(
            ChannelErrorKind::Rejected,
            format!("posted to {shown}, the answer was {status}{quoted}"),
        ))
    }
}

#[async_trait]
impl Channel for WebhookChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        self.read_signing_keys().await.err().into_iter().collect()
    }

    async fn check_reachable(&self) -> Result<(), ChannelError> {
        check_connection(&self.target.url, None, TIMEOUT)
            .await
            .map_err(unreachable)
    }

    async fn send(&self, notice: &Notification, host: &str) -> Result<(), ChannelError> {
        let keys = self.read_signing_keys().await?;
        // Kept until the answer is judged: only living secrets are masked in
        // what the receiver may echo.
        let _query: Vec<Secret> = query_secrets(&self.target.url);
        match tokio::time::timeout(TIMEOUT, self.send_request(notice, host, &keys)).await {
            Ok(told) => told,
            Err(_) => Err(unreachable(format!(
                "posted to {}, no answer came in time",
                self.redacted_url
            ))),
        }
    }
}

const fn unreachable(message: String) -> ChannelError {
    ChannelError::new(ChannelErrorKind::Unreachable, message)
}
