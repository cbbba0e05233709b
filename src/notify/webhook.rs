//! An HTTP receiver that understands Standard Webhooks.
//!
//! Signed as the webhooks that carry secrets are. What this deliberately does
//! not do: follow redirects, or try again by itself.

use async_trait::async_trait;
use reqwest::header::CONTENT_TYPE;

use crate::core::notice::{Notice, NotifierId};
use crate::core::outside::shown_bytes;
use crate::core::secret::Secret;
use crate::core::settings::NotifyWebhook;
use crate::host::secret_file;
use crate::net::client::{ClientLimits, client};
use crate::net::reach::reach;
use crate::net::signature::SigningKeys;
use crate::net::target::{query_secrets, shown_url};
use crate::net::{body, failure};
use crate::notify::{Notifier, Now, TIMEOUT, message, off_thread};

/// A receiver that is told.
pub struct Webhook {
    id: NotifierId,
    target: NotifyWebhook,
    /// The URL as it may be shown: without its query.
    shown_url: String,
    now: Now,
}

impl std::fmt::Debug for Webhook {
    // By hand, since the derived form would show the URL's query.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Webhook({})", self.shown_url)
    }
}

impl Webhook {
    /// Tells `target`; nothing is read or connected to yet. `now` gives the
    /// time that each try is signed with.
    #[must_use]
    pub fn new(id: NotifierId, target: &NotifyWebhook, now: Now) -> Self {
        Self {
            id,
            target: target.clone(),
            shown_url: shown_url(&target.url),
            now,
        }
    }

    async fn keys(&self) -> Result<SigningKeys, String> {
        let path = self.target.signing_secret_file.clone();
        let shown = path.display().to_string();
        let read = off_thread(&shown, move || {
            let text = secret_file::read_configured(&path)?;
            SigningKeys::parse(text.expose())
                .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
        });
        read.await?
    }

    async fn post(&self, notice: &Notice, host: &str, keys: &SigningKeys) -> Result<(), String> {
        let (url, shown) = (&self.target.url, &self.shown_url);
        let limits = ClientLimits {
            url,
            timeout: TIMEOUT,
            ca_file: None,
        };
        let client =
            client(&limits).map_err(|problem| format!("cannot post to {shown}: {problem}"))?;
        let body = message::body(notice, host)?;
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
        let response = request
            .send()
            .await
            .map_err(|error| format!("cannot post to {shown}: {}", failure::explain(error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let quoted = match body::read(response).await {
            Ok(body) if !body.is_empty() => format!(": {}", shown_bytes(&body)),
            Ok(_) | Err(_) => String::new(),
        };
        Err(format!(
            "posted to {shown}, the answer was {status}{quoted}"
        ))
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn id(&self) -> &NotifierId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        self.keys().await.err().into_iter().collect()
    }

    async fn reach(&self) -> Result<(), String> {
        reach(&self.target.url, None, TIMEOUT).await
    }

    async fn tell(&self, notice: &Notice, host: &str) -> Result<(), String> {
        let keys = self.keys().await?;
        // Kept until the answer is judged: only living secrets are masked in
        // what the receiver may echo.
        let _query: Vec<Secret> = query_secrets(&self.target.url);
        match tokio::time::timeout(TIMEOUT, self.post(notice, host, &keys)).await {
            Ok(told) => told,
            Err(_) => Err(format!(
                "posted to {}, no answer came in time",
                self.shown_url
            )),
        }
    }
}
