//! The request of a webhook, and the two ways to send it: by the HTTP client, or on a
//! connection to a known user.

use axum::http::Request;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    InvalidHeaderValue, USER_AGENT,
};
use secrecy::zeroize::Zeroizing;
use tokio::time::{Instant, timeout_at};

use super::options::WebhookTarget;
use super::receiver::{KnownReceiver, Transport};
use super::response::{self, SendFailure};
use super::secrets::WebhookSecrets;
use super::send_tracker::{SendTracker, TrackedBody};
use crate::core::secret::Secret;
use crate::net::client::{ClientOptions, USER_AGENT_TEXT, build_client};
use crate::net::error_text;
use crate::net::target::query_secrets;
use crate::sink::DeliveryError;

/// What a request is made of.
pub(super) struct RequestParts {
    pub(super) target: WebhookTarget,
    /// The URL for messages: without its query.
    pub(super) redacted_url: String,
    pub(super) transport: Transport,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The end of the attempt.
    pub(super) deadline: Instant,
    /// The content of the files with secrets.
    pub(super) secrets: WebhookSecrets,
}

/// A request that is ready to be sent.
pub(super) struct PreparedRequest {
    target: WebhookTarget,
    redacted_url: String,
    transport: Transport,
    headers: HeaderMap,
    body: TrackedBody,
    /// Tracks whether the client has started to send the body.
    send_tracker: SendTracker,
    deadline: Instant,
    /// Kept until the response is classified: only secrets that are alive are masked in it,
    /// and a receiver may echo them.
    secrets: WebhookSecrets,
    /// Kept likewise: the query may hold a token.
    _query_secrets: Vec<Secret>,
}

/// Returns the headers that both ways have in common.
///
/// # Errors
/// If a value is none, which a bug would cause.
pub(super) fn headers(
    id: &str,
    timestamp: i64,
    signature: &str,
    bearer: Option<&HeaderValue>,
) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-id"), id.parse()?);
    headers.insert(
        HeaderName::from_static("webhook-timestamp"),
        HeaderValue::from(timestamp),
    );
    headers.insert(
        HeaderName::from_static("webhook-signature"),
        signature.parse()?,
    );
    if let Some(bearer) = bearer {
        headers.insert(AUTHORIZATION, bearer.clone());
    }
    Ok(headers)
}

impl PreparedRequest {
    pub(super) fn new(parts: RequestParts) -> Self {
        let (body, send_tracker) = TrackedBody::new(parts.body);
        Self {
            _query_secrets: query_secrets(&parts.target.url),
            target: parts.target,
            redacted_url: parts.redacted_url,
            transport: parts.transport,
            headers: parts.headers,
            body,
            send_tracker,
            deadline: parts.deadline,
            secrets: parts.secrets,
        }
    }

    /// Sends it once, and classifies the response, which may quote the values that were
    /// `sent`.
    pub(super) async fn send(mut self, sent: &[&str]) -> Result<(), DeliveryError> {
        let headers = std::mem::take(&mut self.headers);
        let body = std::mem::take(&mut self.body);
        match std::mem::replace(&mut self.transport, Transport::HttpClient) {
            Transport::HttpClient => self.send_by_client(headers, body, sent).await,
            Transport::KnownUser(known) => self.send_to_known(&known, headers, body, sent).await,
        }
    }

    async fn send_by_client(
        &self,
        headers: HeaderMap,
        body: TrackedBody,
        sent: &[&str],
    ) -> Result<(), DeliveryError> {
        let options = ClientOptions {
            url: &self.target.url,
            timeout: self.deadline.saturating_duration_since(Instant::now()),
            ca_file: self.target.ca_file.as_deref(),
            identity: self.secrets.identity.as_ref(),
        };
        let client = build_client(&options).map_err(|error| self.not_posted(&error.to_string()))?;
        let request = client
            .post(self.target.url.clone())
            .headers(headers)
            .body(reqwest::Body::wrap(body));
        match request.send().await {
            Ok(response) => self.classify(response, sent).await,
            Err(error) => {
                let is_unsent = self.send_tracker.cancel_if_unsent();
                Err(SendFailure::new(error, is_unsent).at(&self.redacted_url))
            }
        }
    }

    async fn send_to_known(
        &self,
        known: &KnownReceiver,
        headers: HeaderMap,
        body: TrackedBody,
        sent: &[&str],
    ) -> Result<(), DeliveryError> {
        let connection = known.connect(self.deadline).await;
        let connection =
            connection.map_err(|problem| DeliveryError::not_accepted(problem.message))?;
        let request = self
            .to_known(headers, body)
            .map_err(|error| self.not_posted(&error.to_string()))?;
        let failure = match timeout_at(self.deadline, connection.send(request)).await {
            Ok(Ok((response, _transfer))) => {
                let response = reqwest::Response::from(response.map(reqwest::Body::wrap));
                return self.classify(response, sent).await;
            }
            Ok(Err(error)) => error_text::explain_causes(&error),
            Err(_elapsed) => "timed out".to_owned(),
        };
        Err(self.failure(failure))
    }

    /// Returns the request as the HTTP client would send it.
    fn to_known(
        &self,
        headers: HeaderMap,
        body: TrackedBody,
    ) -> Result<Request<TrackedBody>, Box<dyn std::error::Error + Send + Sync>> {
        let url = &self.target.url;
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = Request::post(path).body(body)?;
        *request.headers_mut() = headers;
        let further = [
            (HOST, HeaderValue::from_str(host)?),
            (ACCEPT, HeaderValue::from_static("*/*")),
            (USER_AGENT, HeaderValue::from_static(USER_AGENT_TEXT)),
        ];
        request.headers_mut().extend(further);
        Ok(request)
    }

    async fn classify(
        &self,
        response: reqwest::Response,
        sent: &[&str],
    ) -> Result<(), DeliveryError> {
        response::classify(response, &self.target.url, self.deadline, sent).await
    }

    fn failure(&self, reason: String) -> DeliveryError {
        let is_unsent = self.send_tracker.cancel_if_unsent();
        SendFailure { reason, is_unsent }.at(&self.redacted_url)
    }

    fn not_posted(&self, reason: &str) -> DeliveryError {
        DeliveryError::not_accepted(format!("cannot post to {}: {reason}", self.redacted_url))
    }
}
