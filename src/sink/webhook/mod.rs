//! An HTTP receiver that understands Standard Webhooks.
//!
//! Each delivery reads the files with secrets anew and uses a connection of
//! its own: one that was kept might be closed by the receiver just when the
//! secret is sent, and nobody would know whether it arrived. What this
//! deliberately does not do: follow redirects, or try again by itself.

mod answer;
mod body;
mod outgoing;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;

use crate::core::duration;
use crate::core::names::SinkId;
use crate::core::secret::Secret;
use crate::core::settings::{SinkSettings, WebhookTarget};
use crate::host::secret_file;
use crate::net::client::{ClientLimits, client};
use crate::net::reach::reach;
use crate::net::signature::SigningKeys;
use crate::net::target::{query_secrets, shown_url};
use crate::sink::webhook::outgoing::{Outgoing, Trace};
use crate::sink::{DeliveryError, Parcel, Sink, Taken};

/// Tells the time of a try.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A receiver that takes each new secret by HTTP.
pub struct WebhookSink {
    id: SinkId,
    timeout: Duration,
    target: WebhookTarget,
    /// The URL as it may be shown: without its query.
    shown_url: String,
    now: Now,
}

impl std::fmt::Debug for WebhookSink {
    // By hand, since the derived form would show the URL's query.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "WebhookSink({}, {})", self.id, self.shown_url)
    }
}

/// A request that is ready to be sent.
struct Prepared {
    request: reqwest::RequestBuilder,
    /// Whether its body has left.
    trace: Trace,
    /// Kept until the answer is judged: only living secrets are masked in what
    /// the receiver may echo.
    _credentials: Credentials,
    /// The same for the query, which may hold a token.
    _query: Vec<Secret>,
}

/// What the files with secrets say.
struct Credentials {
    keys: SigningKeys,
    /// The `Authorization` header; the token beside it so that it is masked
    /// while it is in use.
    bearer: Option<(HeaderValue, Secret)>,
}

impl WebhookSink {
    /// A sink for `target`; nothing is read or connected to yet. `now` gives
    /// the time that each try is signed with.
    #[must_use]
    pub fn new(settings: &SinkSettings, target: &WebhookTarget, now: Now) -> Self {
        Self {
            id: settings.id.clone(),
            timeout: settings.timeout,
            target: target.clone(),
            shown_url: shown_url(&target.url),
            now,
        }
    }

    /// Reads the files with secrets, off the loop's thread.
    async fn credentials(&self) -> Result<Credentials, Vec<String>> {
        let target = self.target.clone();
        let work = tokio::task::spawn_blocking(move || read_credentials(&target));
        match tokio::time::timeout(self.timeout, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(vec![
                "reading the webhook's secret files ended unexpectedly; this is a mistake in \
                 rekeyd, please report it"
                    .to_owned(),
            ]),
            Err(_) => Err(vec![format!(
                "reading {} did not come back within {}; see whether its file system hangs",
                self.target.signing_secret_file.display(),
                duration::to_text(self.timeout)
            )]),
        }
    }

    /// Everything that can fail before a byte of the request leaves.
    async fn prepare(&self, parcel: &Parcel) -> Result<Prepared, String> {
        let deadline = Instant::now() + self.timeout;
        let credentials = self
            .credentials()
            .await
            .map_err(|problems| problems.join("; "))?;
        let url = &self.target.url;
        let limits = ClientLimits {
            url,
            timeout: deadline.saturating_duration_since(Instant::now()),
            ca_file: self.target.ca_file.as_deref(),
        };
        let client = client(&limits)
            .map_err(|problem| format!("cannot post to {}: {problem}", self.shown_url))?;
        let body = body::body(parcel).map_err(|error| {
            format!(
                "cannot put together what is posted to {}: {error}",
                self.shown_url
            )
        })?;
        let id = body::message_id(&parcel.rotation, &self.id);
        let timestamp = (self.now)().as_second();
        let signature = credentials.keys.sign(&id, timestamp, &body);
        let (body, trace) = Outgoing::new(body);
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(reqwest::Body::wrap(body));
        if let Some((bearer, _token)) = &credentials.bearer {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        Ok(Prepared {
            request,
            trace,
            _credentials: credentials,
            _query: query_secrets(url),
        })
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        self.credentials().await.err().unwrap_or_default()
    }

    async fn preflight(&self) -> Result<(), String> {
        let problems = self.inspect().await;
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        reach(
            &self.target.url,
            self.target.ca_file.as_deref(),
            self.timeout,
        )
        .await
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<(), DeliveryError> {
        let prepared = self
            .prepare(parcel)
            .await
            .map_err(|message| DeliveryError {
                taken: Taken::No,
                message,
            })?;
        match prepared.request.send().await {
            Ok(response) => answer::judge(&self.shown_url, response).await,
            Err(error) => {
                let unsent = prepared.trace.withdraw();
                Err(answer::no_answer(&self.shown_url, error, unsent))
            }
        }
    }
}

/// Every problem of the files at once.
fn read_credentials(target: &WebhookTarget) -> Result<Credentials, Vec<String>> {
    let keys = read_keys(&target.signing_secret_file);
    let bearer = target
        .bearer_token_file
        .as_deref()
        .map(read_bearer)
        .transpose();
    match (keys, bearer) {
        (Ok(keys), Ok(bearer)) => Ok(Credentials { keys, bearer }),
        (keys, bearer) => Err([keys.err(), bearer.err()].into_iter().flatten().collect()),
    }
}

fn read_keys(path: &Path) -> Result<SigningKeys, String> {
    let text = secret_file::read_configured(path)?;
    SigningKeys::parse(text.expose())
        .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
}

fn read_bearer(path: &Path) -> Result<(HeaderValue, Secret), String> {
    let token = secret_file::read_configured(path)?;
    // The parser's own error may hold the value.
    let mut header =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            format!(
                "the token in {} cannot be sent as a header; put the token alone there, on one \
                 line",
                path.display()
            )
        })?;
    header.set_sensitive(true);
    Ok((header, token))
}
