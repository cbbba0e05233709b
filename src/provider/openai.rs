//! The OpenAI Admin API over HTTP.
//!
//! Each operation is one request (a list: one a page), sent once. Nothing is
//! repeated, remembered or decided here; what an operation makes of its answer is
//! in `reading`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method};
use serde_json::json;
use url::Url;

use crate::core::names::{CredentialId, Label};
use crate::core::outside::shown;
use crate::core::secret::{CredentialCell, Secret};
use crate::core::settings::ProviderSettings;
use crate::net::client::{ClientLimits, Clients, clients};
use crate::provider::exchange::{Reply, bearer, never_sent, not_sent, send};
use crate::provider::reading::{self, About, answer};
use crate::provider::refusal::Head;
use crate::provider::wire;
use crate::provider::{
    Answer, Cause, Credential, NewCredential, Outcome, Provider, ProviderError, Retry,
};

/// Credentials on one page: as many as the API gives.
const PAGE: usize = 100;

/// A list that does not end after this many pages is going in circles.
const MOST_PAGES: usize = 1000;

/// The Admin API at one base URL, for one organization.
#[derive(Debug)]
pub struct OpenAi {
    base_url: Url,
    organization: Option<String>,
    ca_file: Option<PathBuf>,
    timeout: Duration,
    credential: CredentialCell,
    clients: OnceLock<Clients>,
}

impl OpenAi {
    /// Prepares for the provider of the configuration. Nothing is asked or
    /// loaded before the first request; the credential is read from the cell
    /// at each.
    #[must_use]
    pub fn new(settings: &ProviderSettings, credential: CredentialCell) -> Self {
        Self {
            base_url: settings.base_url.clone(),
            organization: settings.organization.clone(),
            ca_file: settings.ca_file.clone(),
            timeout: settings.request_timeout,
            credential,
            clients: OnceLock::new(),
        }
    }

    /// Sends one request and reads all of its answer; every answer but that of
    /// a success is an error.
    async fn ask(
        &self,
        operation: &str,
        secret: Option<&Secret>,
        method: Method,
        url: Url,
        body: Option<String>,
    ) -> Result<Reply, ProviderError> {
        let in_use = self.credential.get();
        let secret = secret.or(in_use.as_ref()).ok_or_else(|| {
            not_sent(
                operation,
                Cause::NoCredential,
                "there is no admin key to ask with; put one into the file that \
                 credential-file names"
                    .to_owned(),
            )
        })?;
        let mut request = self
            .client(operation, &method)?
            .request(method, url)
            .header(AUTHORIZATION, bearer(operation, secret)?);
        if let Some(organization) = &self.organization {
            request = request.header("OpenAI-Organization", organization);
        }
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        reading::success(operation, send(operation, request).await?)
    }

    /// Who sends a request of this method: what makes a credential is not to be
    /// sent into a connection that the other side may just be closing.
    fn client(&self, operation: &str, method: &Method) -> Result<&Client, ProviderError> {
        let clients = self.clients(operation)?;
        Ok(if *method == Method::POST {
            &clients.opening
        } else {
            &clients.keeping
        })
    }

    fn clients(&self, operation: &str) -> Result<&Clients, ProviderError> {
        if let Some(clients) = self.clients.get() {
            return Ok(clients);
        }
        let limits = ClientLimits {
            url: &self.base_url,
            timeout: self.timeout,
            ca_file: self.ca_file.as_deref(),
        };
        let built =
            clients(&limits).map_err(|message| not_sent(operation, Cause::Unreachable, message))?;
        Ok(self.clients.get_or_init(|| built))
    }

    /// `…/organization/admin_api_keys`, or one credential below it. Segments
    /// are percent-encoded: an id is opaque.
    fn url(&self, operation: &str, id: Option<&CredentialId>) -> Result<Url, ProviderError> {
        let refuse = |why: &str| never_sent(operation, Cause::Refused, why.to_owned());
        let mut url = self.base_url.clone();
        let mut path = url
            .path_segments_mut()
            .map_err(|()| refuse("base-url is no URL that has a path"))?;
        path.pop_if_empty()
            .extend(["organization", "admin_api_keys"]);
        if let Some(id) = id {
            // These would name the collection, or what is above it.
            if matches!(id.as_str(), "" | "." | "..") {
                return Err(refuse("that is no credential's id"));
            }
            path.push(id.as_str());
        }
        drop(path);
        Ok(url)
    }

    /// Asks about one credential, which may be gone.
    async fn about(
        &self,
        operation: &str,
        method: Method,
        id: &CredentialId,
    ) -> Result<About, ProviderError> {
        let url = self.url(operation, Some(id))?;
        reading::about(self.ask(operation, None, method, url, None).await)
    }

    async fn page(
        &self,
        operation: &str,
        secret: Option<&Secret>,
        limit: usize,
        after: Option<&CredentialId>,
    ) -> Result<(wire::Page, Head), ProviderError> {
        let mut url = self.url(operation, None)?;
        // The oldest first: what is made while pages are read comes at the end,
        // and moves nothing over a page's edge.
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string())
            .append_pair("order", "asc");
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after.as_str());
        }
        let reply = self.ask(operation, secret, Method::GET, url, None).await?;
        reading::page(operation, reply)
    }
}

#[async_trait]
impl Provider for OpenAi {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        let operation = format!("create credential {label}");
        let mut wish = json!({ "name": label.as_str() });
        if let Some(span) = expires_in {
            wish["expires_in_seconds"] = json!(span.as_secs());
        }
        let url = self.url(&operation, None)?;
        let reply = self
            .ask(&operation, None, Method::POST, url, Some(wish.to_string()))
            .await?;
        reading::created(&operation, &reply)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        let operation = "list credentials";
        let mut all = Vec::new();
        let mut known = BTreeSet::new();
        let mut cursors = BTreeSet::new();
        let mut after: Option<CredentialId> = None;
        for _ in 0..MOST_PAGES {
            let (page, head) = self.page(operation, None, PAGE, after.as_ref()).await?;
            let count = page.credentials.len();
            let last = page
                .credentials
                .last()
                .map(|credential| credential.facts.id.clone());
            for credential in page.credentials {
                if known.insert(credential.facts.id.clone()) {
                    all.push(credential);
                }
            }
            // Where the answer does not say it, a full page is not the end.
            if !page.has_more.unwrap_or(count >= PAGE) {
                return Ok(answer(all, head.date));
            }
            let Some(last) = last else {
                return Err(head.unreadable(operation, "it promises more and has no items"));
            };
            if !cursors.insert(last.clone()) {
                return Err(head.unreadable(operation, "it leads back to a page that was seen"));
            }
            after = Some(last);
        }
        Err(ProviderError {
            operation: operation.to_owned(),
            outcome: Outcome::Unknown,
            retry: Retry::Later(None),
            cause: Cause::BadAnswer,
            message: format!("there is no end after {MOST_PAGES} pages"),
            request_id: None,
            date: None,
        })
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        let operation = format!("retrieve credential {}", shown(id.as_str()));
        let about = self.about(&operation, Method::GET, id).await?;
        reading::retrieved(&operation, id, about)
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        let (_, head) = self.page("ask the provider", None, 1, None).await?;
        Ok(answer((), head.date))
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.credential.may_be(redacted_value)
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        let (_, head) = self.page("verify a secret", Some(secret), 1, None).await?;
        Ok(answer((), head.date))
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        let operation = format!("delete credential {}", shown(id.as_str()));
        let about = self.about(&operation, Method::DELETE, id).await?;
        reading::deleted(&operation, id, about)
    }
}
