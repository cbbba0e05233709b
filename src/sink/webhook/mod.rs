//! An HTTP receiver that understands Standard Webhooks.
//!
//! Each delivery reads the files with secrets again and opens a connection of
//! its own: the receiver might close a pooled one just when the secret is sent,
//! and the outcome would be uncertain. The sink deliberately follows no
//! redirects and does not retry by itself.

mod body;
mod options;
mod receiver;
mod rehearsal;
mod request;
mod response;
mod secrets;
mod send_tracker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::core::ids::SinkId;
use crate::net::ca_file;
use crate::net::connect_check::check_connection;
use crate::net::proxy::check_proxy;
use crate::platform::path_walk::{self, TrustedPaths};
use crate::platform::run_blocking;
use crate::sink::target::{
    ReadContext, Rehearsal, RehearsalPaths, SigningClock, SinkServices, SinkSettings, SinkTarget,
    SinkType, Substitute,
};
use crate::sink::webhook::receiver::Transport;
use crate::sink::webhook::request::PreparedRequest;
use crate::sink::webhook::secrets::{WebhookSecrets, read_secrets};
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

    /// Returns the URL without its query, which may hold a token. Who receives there does
    /// not make it another target.
    fn identity(&self) -> String {
        self.redacted_url()
    }

    fn rehearsal(&self, _: &RehearsalPaths<'_>) -> Rehearsal {
        let Self {
            url: _,
            socket: _,
            owner,
            unauthenticated_receiver,
            signing_secret_file: _,
            bearer_token_file,
            ca_file: _,
            identity: _,
        } = self;
        let url = self.identity();
        let ignored = [
            (bearer_token_file.is_some(), "bearer-token-file"),
            (owner.is_some(), "owner"),
            (*unauthenticated_receiver, "unauthenticated-receiver"),
        ];
        let ignored = ignored.into_iter().filter(|(is_set, _)| *is_set);
        Rehearsal {
            original: url.clone(),
            ignored_options: ignored.map(|(_, option)| option.to_owned()).collect(),
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
            redacted_url: target.redacted_url(),
            clock,
            trusted_paths: trusted_paths.clone(),
        }
    }

    /// Reads the files with secrets and how the receiver is known, off the event loop's
    /// thread. Refuses them with a file of roots that another user could exchange, who could
    /// then read what is sent.
    async fn load_secrets(&self) -> Result<(WebhookSecrets, Transport), SinkError> {
        let target = self.target.clone();
        let describe = || format!("reading {}", self.target.signing_secret_file.display());
        let trusted_paths = self.trusted_paths.clone();
        let secrets = run_blocking(describe, self.timeout, move || {
            match ca_file_exchange(&target, &trusted_paths) {
                Some(problem) => Err(problem.into()),
                None => {
                    let transport = receiver::choose_transport(&target, &trusted_paths)?;
                    Ok((read_secrets(&target, &trusted_paths)?, transport))
                }
            }
        });
        secrets.await.map_err(SinkProblem::from)?
    }

    /// Does everything that can fail before a byte of the request is sent.
    async fn prepare(&self, payload: &Payload) -> Result<PreparedRequest, String> {
        let deadline = Instant::now() + self.timeout;
        let (secrets, transport) = self
            .load_secrets()
            .await
            .map_err(|error| error.to_string())?;
        let body = body::render_body(payload).map_err(|error| {
            format!(
                "cannot prepare the request to {}: {error}",
                self.redacted_url
            )
        })?;
        let id = body::message_id(&payload.rotation, &self.id);
        let timestamp = (self.clock)().as_second();
        let signature = secrets.signing_keys.sign(&id, timestamp, &body);
        let bearer = secrets.bearer_token.as_ref().map(|(header, _)| header);
        let headers = request::headers(&id, timestamp, &signature, bearer)
            .map_err(|error| format!("cannot post to {}: {error}", self.redacted_url))?;
        Ok(PreparedRequest::new(request::RequestParts {
            target: self.target.clone(),
            redacted_url: self.redacted_url.clone(),
            transport,
            headers,
            body,
            deadline,
            secrets,
        }))
    }
}

#[async_trait]
impl Sink for WebhookSink {
    fn destination(&self) -> Destination {
        self.target.destination()
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
            problems.extend(receiver::choose_transport(&target, &trusted_paths).err());
            problems
        };
        run_blocking(describe, self.timeout, check)
            .await
            .unwrap_or_else(|error| vec![error.into()])
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        SinkError::if_any(self.check().await)?;
        let (secrets, transport) = self.load_secrets().await?;
        let connected = match transport {
            Transport::HttpClient => {
                let (url, ca_file) = (&self.target.url, self.target.ca_file.as_deref());
                let identity = secrets.identity.as_ref();
                let checked = check_connection(url, ca_file, identity, self.timeout).await;
                checked.map_err(|error| SinkProblem {
                    kind: SinkProblemKind::Unreachable,
                    message: error.to_string(),
                })
            }
            Transport::KnownUser(known) => known.check(self.timeout).await,
        };
        connected.map_err(SinkError::from)
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        let prepared = self
            .prepare(payload)
            .await
            .map_err(DeliveryError::not_accepted)?;
        let sent = [
            payload.label.as_str(),
            payload.credential.id.as_str(),
            payload.rotation.as_str(),
        ];
        prepared.send(&sent).await
    }
}

fn ca_file_exchange(target: &WebhookTarget, trusted_paths: &TrustedPaths) -> Option<SinkProblem> {
    let problem = path_walk::describe_exchange(target.ca_file.as_deref()?, trusted_paths);
    problem.map(SinkProblem::host)
}
