//! An HTTP receiver that understands Standard Webhooks.
//!
//! Its requests are signed as the webhooks that carry secrets are. It
//! deliberately follows no redirects and does not retry by itself.

mod options;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;

use crate::alerting::channel::support::run_off_thread;
use crate::alerting::channel::target::{ChannelServices, ChannelTarget, ChannelType, ClockFn};
use crate::alerting::channel::{Channel, ChannelError, ChannelErrorKind, TIMEOUT, message};
use crate::config_reader::files::NamedFiles;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::duration;
use crate::core::notification::{ChannelId, Notification};
use crate::core::redact::sanitize_bytes;
use crate::core::secret::Secret;
use crate::core::secret_text::SecretForm;
use crate::net::client::{ClientOptions, build_client};
use crate::net::client_identity::ClientIdentity;
use crate::net::connect_check::check_connection;
use crate::net::proxy::check_proxy;
use crate::net::retry_after::requested_pause;
use crate::net::signature::SigningKeys;
use crate::net::target::{query_secrets, sanitized_url};
use crate::net::{body, error_text, target};
use crate::platform::path_walk::TrustedPaths;
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

    /// Returns the URL without its query, which may hold a token.
    fn identity(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.into()
    }

    fn build(self: Arc<Self>, id: ChannelId, services: &ChannelServices) -> Arc<dyn Channel> {
        Arc::new(WebhookChannel::new(id, &self, services))
    }
}

/// A channel that posts each notification to an HTTP receiver.
pub struct WebhookChannel {
    id: ChannelId,
    target: WebhookChannelTarget,
    /// The URL for messages: without its query.
    redacted_url: String,
    now: ClockFn,
    trusted_paths: TrustedPaths,
}

impl std::fmt::Debug for WebhookChannel {
    // Not derived, since that form would show the URL's query.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Webhook({})", self.redacted_url)
    }
}

impl WebhookChannel {
    /// Returns a channel that posts to `target`, without reading a file or
    /// connecting. `now` returns the time that each attempt is signed with.
    #[must_use]
    pub fn new(id: ChannelId, target: &WebhookChannelTarget, services: &ChannelServices) -> Self {
        Self {
            id,
            target: target.clone(),
            redacted_url: sanitized_url(&target.url),
            now: Arc::clone(&services.now),
            trusted_paths: services.trusted_paths.clone(),
        }
    }

    async fn read_signing_keys(&self) -> Result<SigningKeys, ChannelError> {
        let path = self.target.signing_secret_file.clone();
        let path_text = path.display().to_string();
        let trusted_paths = self.trusted_paths.clone();
        let keys = run_off_thread(&path_text, move || {
            let text = secret_file::read_configured(&path, SecretForm::Lines, &trusted_paths)
                .map_err(|error| error.to_string())?;
            SigningKeys::parse(text.expose())
                .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
        });
        keys.await?.map_err(ChannelError::host)
    }

    /// Reads the certificate to show the receiver, if there is one.
    async fn read_identity(&self) -> Result<Option<ClientIdentity>, ChannelError> {
        let Some(files) = self.target.identity.clone() else {
            return Ok(None);
        };
        let path_text = files.certificate.display().to_string();
        let trusted_paths = self.trusted_paths.clone();
        let identity = run_off_thread(&path_text, move || {
            let read_key = |path: &Path| {
                secret_file::read_configured(path, SecretForm::Lines, &trusted_paths)
                    .map_err(|error| error.to_string())
            };
            files.read(read_key).map_err(|error| error.to_string())
        });
        identity.await?.map(Some).map_err(ChannelError::host)
    }

    async fn send_request(
        &self,
        notification: &Notification,
        host: &str,
        keys: &SigningKeys,
        identity: Option<&ClientIdentity>,
    ) -> Result<(), ChannelError> {
        let (url, url_text) = (&self.target.url, &self.redacted_url);
        let options = ClientOptions {
            url,
            timeout: TIMEOUT,
            ca_file: None,
            identity,
        };
        let client = build_client(&options)
            .map_err(|error| ChannelError::host(format!("cannot post to {url_text}: {error}")))?;
        let body = message::to_json(notification, host)?;
        let id = message::webhook_id(notification, &self.id);
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
            let reason = error_text::explain(error);
            unreachable(format!("cannot post to {url_text}: {reason}"))
        })?;
        let status = response.status();
        let parts = target::quotable_parts(response.url());
        let sent: Vec<&str> = parts.iter().map(String::as_str).collect();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = requested_pause(response.headers());
        let quoted_body = match body::read(response).await {
            Ok(body) if !body.is_empty() => format!(": {}", sanitize_bytes(&body, &sent)),
            Ok(_) | Err(_) => String::new(),
        };
        let message = format!("{url_text} answered {status}{quoted_body}");
        Err(ChannelError {
            retry_after,
            is_refusal: refuses_one(status),
            ..ChannelError::new(ChannelErrorKind::Rejected, message)
        })
    }
}

#[async_trait]
impl Channel for WebhookChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        let keys = self.read_signing_keys().await.err();
        let proxy = check_proxy(&self.target.url).err();
        let proxy = proxy.map(|error| ChannelError::host(error.to_string()));
        let identity = self.read_identity().await.err();
        keys.into_iter().chain(identity).chain(proxy).collect()
    }

    async fn check_reachable(&self) -> Result<(), ChannelError> {
        let identity = self.read_identity().await?;
        check_connection(&self.target.url, None, identity.as_ref(), TIMEOUT)
            .await
            .map_err(|error| unreachable(error.to_string()))
    }

    async fn send(&self, notification: &Notification, host: &str) -> Result<(), ChannelError> {
        let keys = self.read_signing_keys().await?;
        let identity = self.read_identity().await?;
        // Kept until the response is classified: only secrets that are alive
        // are masked in it, and a receiver may echo them.
        let _query_secrets: Vec<Secret> = query_secrets(&self.target.url);
        let sending = self.send_request(notification, host, &keys, identity.as_ref());
        match tokio::time::timeout(TIMEOUT, sending).await {
            Ok(result) => result,
            Err(_) => Err(unreachable(format!(
                "{} did not answer within {}",
                self.redacted_url,
                duration::to_text(TIMEOUT)
            ))),
        }
    }
}

/// Returns whether a status is about the request that was sent, and another one may succeed.
fn refuses_one(status: StatusCode) -> bool {
    let asks_for_patience = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !asks_for_patience
}

const fn unreachable(message: String) -> ChannelError {
    ChannelError::new(ChannelErrorKind::Unreachable, message)
}
