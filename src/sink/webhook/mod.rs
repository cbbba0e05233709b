//! An HTTP receiver that understands Standard Webhooks.
//!
//! Each delivery reads the files with secrets again and opens a connection of
//! its own: the receiver might close a pooled one just when the secret is sent,
//! and the outcome would be uncertain. The sink deliberately follows no
//! redirects and does not retry by itself.

mod body;
mod options;
mod rehearsal;
mod response;
mod send_tracker;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio::time::Instant;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::ids::SinkId;
use crate::core::secret::Secret;
use crate::core::secret_text::SecretForm;
use crate::net::ca_file;
use crate::net::client::{ClientOptions, build_client};
use crate::net::connect_check::check_connection;
use crate::net::proxy::check_proxy;
use crate::net::signature::SigningKeys;
use crate::net::target::{query_secrets, sanitized_url};
use crate::platform::path_walk::{self, TrustedPaths};
use crate::platform::{run_blocking, secret_file};
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SigningClock, SinkServices, SinkSettings, SinkTarget,
    SinkType, Substitute,
};
use crate::sink::webhook::send_tracker::{SendTracker, TrackedBody};
use crate::sink::{
    DeliveryError, Destination, Payload, Sink, SinkError, SinkProblem, SinkProblemKind,
};

pub use self::options::WebhookTarget;

/// The type of these sinks.
pub static TYPE: SinkType = SinkType {
    name: "webhook",
    options: options::OPTIONS,
    replaces_file: false,
    record_folder: Some(rehearsal::FOLDER),
    read,
};

fn read(
    table: &ConfigTable<'_>,
    context: &mut ReadContext<'_, '_>,
    report: &mut ProblemReport,
) -> Option<Arc<dyn SinkTarget>> {
    Some(Arc::new(options::read(table, &mut context.files, report)?))
}

impl SinkTarget for WebhookTarget {
    fn sink_type(&self) -> &'static SinkType {
        &TYPE
    }

    /// Returns the URL without its query, which may hold a token.
    fn identity(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }

    fn rehearsal(&self, _: &RehearsalPaths<'_>) -> Rehearsal {
        let Self {
            url: _,
            signing_secret_file: _,
            bearer_token_file,
            ca_file: _,
        } = self;
        let url = self.identity();
        let token_file = bearer_token_file.iter();
        Rehearsal {
            original: url.clone(),
            ignored_options: token_file.map(|_| "bearer-token-file".to_owned()).collect(),
            substitute: Substitute::Record(rehearsal::recorder(url)),
        }
    }

    fn build(
        self: Arc<Self>,
        settings: &Arc<SinkSettings>,
        services: &SinkServices,
    ) -> Arc<dyn Sink> {
        let clock = Arc::clone(&services.now);
        let trusted_paths = services.protected_files.trusted_paths();
        Arc::new(WebhookSink::new(settings, &self, clock, trusted_paths))
    }
}

/// A sink that posts each new secret to an HTTP receiver.
pub struct WebhookSink {
    id: SinkId,
    timeout: Duration,
    target: WebhookTarget,
    /// The URL for messages: without its query.
    redacted_url: String,
    clock: SigningClock,
    trusted_paths: TrustedPaths,
}

impl std::fmt::Debug for WebhookSink {
    // Not derived, since that form would show the URL's query.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "WebhookSink({}, {})", self.id, self.redacted_url)
    }
}

/// A request that is ready to be sent.
struct PreparedRequest {
    request: reqwest::RequestBuilder,
    /// Tracks whether the client has started to send the body.
    send_tracker: SendTracker,
    /// Kept until the response is classified: only secrets that are alive are
    /// masked in it, and a receiver may echo them.
    _secrets: WebhookSecrets,
    /// Kept likewise: the query may hold a token.
    _query_secrets: Vec<Secret>,
}

/// The content of the files with secrets.
struct WebhookSecrets {
    signing_keys: SigningKeys,
    /// The `Authorization` header, with its token so that the token is masked
    /// while the header is in use.
    bearer_token: Option<(HeaderValue, Secret)>,
}

impl WebhookSink {
    /// Returns a sink for `target`, without reading a file or connecting.
    /// `clock` returns the time that each attempt is signed with.
    #[must_use]
    pub fn new(
        settings: &SinkSettings,
        target: &WebhookTarget,
        clock: SigningClock,
        trusted_paths: &TrustedPaths,
    ) -> Self {
        Self {
            id: settings.id.clone(),
            timeout: settings.timeout,
            target: target.clone(),
            redacted_url: sanitized_url(&target.url),
            clock,
            trusted_paths: trusted_paths.clone(),
        }
    }

    /// Reads the files with secrets, off the event loop's thread. Refuses them with a file
    /// of roots that another user could exchange, who could then read what is sent.
    async fn load_secrets(&self) -> Result<WebhookSecrets, SinkError> {
        let target = self.target.clone();
        let describe = || format!("reading {}", self.target.signing_secret_file.display());
        let trusted_paths = self.trusted_paths.clone();
        let secrets = run_blocking(describe, self.timeout, move || {
            match ca_file_exchange(&target, &trusted_paths) {
                Some(problem) => Err(problem.into()),
                None => read_secrets(&target, &trusted_paths),
            }
        });
        secrets.await.map_err(SinkProblem::from)?
    }

    /// Does everything that can fail before a byte of the request is sent.
    async fn prepare(&self, payload: &Payload) -> Result<PreparedRequest, String> {
        let deadline = Instant::now() + self.timeout;
        let credentials = self
            .load_secrets()
            .await
            .map_err(|error| error.to_string())?;
        let url = &self.target.url;
        let options = ClientOptions {
            url,
            timeout: deadline.saturating_duration_since(Instant::now()),
            ca_file: self.target.ca_file.as_deref(),
        };
        let client = build_client(&options)
            .map_err(|error| format!("cannot post to {}: {error}", self.redacted_url))?;
        let body = body::render_body(payload).map_err(|error| {
            format!(
                "cannot prepare the request to {}: {error}",
                self.redacted_url
            )
        })?;
        let id = body::message_id(&payload.rotation, &self.id);
        let timestamp = (self.clock)().as_second();
        let signature = credentials.signing_keys.sign(&id, timestamp, &body);
        let (body, send_tracker) = TrackedBody::new(body);
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(reqwest::Body::wrap(body));
        if let Some((bearer, _token)) = &credentials.bearer_token {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        Ok(PreparedRequest {
            request,
            send_tracker,
            _secrets: credentials,
            _query_secrets: query_secrets(url),
        })
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn destination(&self) -> Destination {
        Destination::from_url(&self.target.url)
    }

    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn check(&self) -> Vec<SinkProblem> {
        let target = self.target.clone();
        let describe = || format!("reading {}", self.target.signing_secret_file.display());
        let trusted_paths = self.trusted_paths.clone();
        let check = move || {
            let secrets = read_secrets(&target, &trusted_paths).err();
            let mut problems = secrets.map_or_else(Vec::new, |error| error.problems);
            let ca_file = target.ca_file.as_deref();
            let ca_file = ca_file.and_then(|file| ca_file::check(file).err());
            let proxy = check_proxy(&target.url).err();
            problems.extend(ca_file.map(|error| SinkProblem::host(error.to_string())));
            problems.extend(ca_file_exchange(&target, &trusted_paths));
            problems.extend(proxy.map(|error| SinkProblem::host(error.to_string())));
            problems
        };
        run_blocking(describe, self.timeout, check)
            .await
            .unwrap_or_else(|error| vec![error.into()])
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        SinkError::if_any(self.check().await)?;
        check_connection(
            &self.target.url,
            self.target.ca_file.as_deref(),
            self.timeout,
        )
        .await
        .map_err(|error| {
            let kind = SinkProblemKind::Unreachable;
            let message = error.to_string();
            SinkProblem { kind, message }.into()
        })
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        let prepared = self
            .prepare(payload)
            .await
            .map_err(DeliveryError::not_accepted)?;
        match prepared.request.send().await {
            Ok(response) => {
                let sent = [
                    payload.label.as_str(),
                    payload.credential.id.as_str(),
                    payload.rotation.as_str(),
                ];
                response::classify(response, &sent).await
            }
            Err(error) => {
                let is_unsent = prepared.send_tracker.cancel_if_unsent();
                Err(response::send_error(&self.redacted_url, error, is_unsent))
            }
        }
    }
}

fn ca_file_exchange(target: &WebhookTarget, trusted_paths: &TrustedPaths) -> Option<SinkProblem> {
    let problem = path_walk::describe_exchange(target.ca_file.as_deref()?, trusted_paths);
    problem.map(SinkProblem::host)
}

/// Reads the files with secrets, and reports the problems of all of them.
fn read_secrets(
    target: &WebhookTarget,
    trusted_paths: &TrustedPaths,
) -> Result<WebhookSecrets, SinkError> {
    let keys = read_signing_keys(&target.signing_secret_file, trusted_paths);
    let bearer = target
        .bearer_token_file
        .as_deref()
        .map(|path| read_bearer_token(path, trusted_paths))
        .transpose();
    match (keys, bearer) {
        (Ok(keys), Ok(bearer)) => Ok(WebhookSecrets {
            signing_keys: keys,
            bearer_token: bearer,
        }),
        (keys, bearer) => {
            let problems = [keys.err(), bearer.err()].into_iter().flatten();
            Err(SinkError {
                problems: problems.map(SinkProblem::host).collect(),
            })
        }
    }
}

fn read_signing_keys(path: &Path, trusted_paths: &TrustedPaths) -> Result<SigningKeys, String> {
    let text = secret_file::read_configured(path, SecretForm::Lines, trusted_paths)
        .map_err(|error| error.to_string())?;
    SigningKeys::parse(text.expose())
        .map_err(|error| format!("cannot sign with {}: {error}", path.display()))
}

fn read_bearer_token(
    path: &Path,
    trusted_paths: &TrustedPaths,
) -> Result<(HeaderValue, Secret), String> {
    let token = secret_file::read_configured(path, SecretForm::Token, trusted_paths)
        .map_err(|error| error.to_string())?;
    // The parser's own error may hold the value.
    let mut header =
        HeaderValue::from_str(&format!("Bearer {}", token.expose())).map_err(|_| {
            format!(
                "the token in {} is not valid in a header; hint: write only the token there, on \
                 one line",
                path.display()
            )
        })?;
    header.set_sensitive(true);
    Ok((header, token))
}
