//! The OpenAI Admin API over HTTP.
//!
//! Each operation is one request, or one for each page of a list, sent once.
//! Retries and decisions are elsewhere; `decode` interprets the responses.

mod clients;
mod decode;
mod errors;
mod http;
mod schema;
mod time_field;

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::json;
use url::Url;

use crate::core::active_credential::{ActiveCredential, CredentialUsage, OwnSecrets, SecretOrigin};
use crate::core::duration;
use crate::core::expected_secret::ExpectedSecret;
use crate::core::gate::RequestClass;
use crate::core::ids::{CredentialId, Label, ProjectId};
use crate::core::redact::sanitize_name;
use crate::core::scope::Scope;
use crate::core::secret::{EndMatch, Secret};
use crate::core::state::CredentialMetadata;
use crate::provider::openai::clients::ProviderClients;
use crate::provider::openai::decode::{CredentialLookup, provider_response};
use crate::provider::openai::errors::ResponseHead;
use crate::provider::openai::http::{
    RawResponse, authorization_header, error_before_send, fatal_error_before_send, send_request,
};
use crate::provider::settings::ProviderSettings;
use crate::provider::{
    CreatedCredential, Effect, ErrorKind, ListedCredential, Provider, ProviderError,
    ProviderResponse, RetryAdvice,
};

/// The number of credentials on one page, the API's maximum.
const PAGE_SIZE: usize = schema::MAX_ITEMS;

/// The limit of a list's pages, and so of its credentials, 100,000: one that does not end
/// by then repeats itself.
const MAX_PAGES: usize = 1000;

/// The time limit of a whole list: a thousand pages that each take a third of a second.
/// Without it, a list without an end would keep rekeyd from starting any rotation for
/// hours.
const LIST_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The Admin API at one base URL, for one organization.
#[derive(Debug)]
pub struct OpenAiProvider {
    clients: ProviderClients,
    credential: ActiveCredential,
}

impl OpenAiProvider {
    /// Returns the configured provider, without sending a request or reading a
    /// file. Each request reads the credential from `credential`.
    #[must_use]
    pub fn new(settings: &ProviderSettings, credential: ActiveCredential) -> Self {
        Self {
            clients: ProviderClients::new(settings),
            credential,
        }
    }

    /// Sends one request and reads the whole response. Every response but a
    /// success is an error.
    async fn request(
        &self,
        operation: &str,
        secret: Option<&Secret>,
        method: Method,
        url: Url,
        body: Option<String>,
    ) -> Result<RawResponse, ProviderError> {
        let in_use = self.credential.get();
        let secret = secret.or(in_use.as_ref()).ok_or_else(|| {
            error_before_send(
                operation,
                ErrorKind::NoCredential,
                "no admin key is available".to_owned(),
            )
        })?;
        let authorization = authorization_header(operation, secret)?;
        let clients = self.clients.get().await;
        let clients = clients
            .map_err(|problem| error_before_send(operation, ErrorKind::Unreachable, problem))?;
        let may_repeat = method != Method::POST;
        let prepare = |client: &Client| -> RequestBuilder {
            let mut request = client.request(method.clone(), url.clone());
            request = request.header(AUTHORIZATION, authorization.clone());
            if let Some(organization) = &self.clients.settings().organization {
                request = request.header("OpenAI-Organization", organization);
            }
            if let Some(body) = body.clone() {
                let content_type = request.header("content-type", "application/json");
                request = content_type.body(body);
            }
            request
        };
        // A create must not be sent on a connection that the server may be
        // closing.
        let fresh = prepare(&clients.fresh);
        let sent = if may_repeat {
            send_request(operation, prepare(&clients.pooled), Some(fresh)).await
        } else {
            send_request(operation, fresh, None).await
        };
        let response = sent.map_err(|failed| {
            if failed.rejects_certificate {
                self.clients.forget(&clients);
            }
            failed.error
        })?;
        decode::require_success(operation, response)
    }

    /// Returns the URL `…/organization/admin_api_keys`, or that of one
    /// credential below it. Percent-encodes the id, which is opaque.
    fn credential_url(
        &self,
        operation: &str,
        id: Option<&CredentialId>,
    ) -> Result<Url, ProviderError> {
        let invalid_url = |reason: &str| {
            fatal_error_before_send(operation, ErrorKind::Refused, reason.to_owned())
        };
        let mut url = self.clients.settings().base_url.clone();
        let mut path = url.path_segments_mut().map_err(|()| {
            invalid_url(
                "base-url cannot have a path; hint: use a URL such as https://api.openai.com/v1",
            )
        })?;
        path.pop_if_empty()
            .extend(["organization", "admin_api_keys"]);
        if let Some(id) = id {
            // It could be the URL of the collection, or of something else.
            if !CredentialId::is_valid(id.as_str()) {
                return Err(invalid_url("the credential's id is not valid"));
            }
            path.push(id.as_str());
        }
        drop(path);
        Ok(url)
    }

    /// Sends a request about one credential, which may not exist any more.
    async fn lookup(
        &self,
        operation: &str,
        method: Method,
        id: &CredentialId,
    ) -> Result<CredentialLookup, ProviderError> {
        let url = self.credential_url(operation, Some(id))?;
        decode::into_lookup(self.request(operation, None, method, url, None).await)
    }

    /// Lists every credential, page by page.
    async fn list_pages(
        &self,
        operation: &str,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        let mut credentials = Vec::new();
        let mut ids = BTreeSet::new();
        let mut cursors = BTreeSet::new();
        let mut after: Option<CredentialId> = None;
        for _ in 0..MAX_PAGES {
            let (page, head) = self
                .fetch_page(operation, None, PAGE_SIZE, after.as_ref())
                .await?;
            let count = page.credentials.len();
            let last = page
                .credentials
                .last()
                .map(|credential| credential.metadata.id.clone());
            let known_count = credentials.len();
            for credential in page.credentials {
                if ids.insert(credential.metadata.id.clone()) {
                    credentials.push(credential);
                }
            }
            // Without `has_more`, the list ends with an empty page: a server may have
            // pages of any size. One without pages sends the whole list again.
            let has_news = credentials.len() > known_count;
            let may_continue = has_news || count >= PAGE_SIZE;
            if !page.has_more.unwrap_or(may_continue) {
                return Ok(provider_response(credentials, head.server_time));
            }
            let Some(last) = last else {
                return Err(head
                    .unusable_body_error(operation, "it is empty although \"has_more\" is true"));
            };
            if !cursors.insert(last.clone()) {
                return Err(head.unusable_body_error(operation, "it repeats an earlier page"));
            }
            after = Some(last);
        }
        Err(endless_list_error(
            operation,
            format!("the list does not end after {MAX_PAGES} pages"),
        ))
    }

    async fn fetch_page(
        &self,
        operation: &str,
        secret: Option<&Secret>,
        limit: usize,
        after: Option<&CredentialId>,
    ) -> Result<(schema::CredentialPage, ResponseHead), ProviderError> {
        let mut url = self.credential_url(operation, None)?;
        // Oldest first: credentials that are created meanwhile come last, and
        // shift no others across pages.
        url.query_pairs_mut()
            .append_pair("limit", &limit.to_string())
            .append_pair("order", "asc");
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after.as_str());
        }
        let response = self
            .request(operation, secret, Method::GET, url, None)
            .await?;
        decode::decode_page(operation, response, &self.credential)
    }
}

/// Returns the error of a list that does not end.
fn endless_list_error(operation: &str, message: String) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        effect: Effect::Unknown,
        retry: RetryAdvice::Later(None),
        kind: ErrorKind::BadAnswer,
        message,
        class: RequestClass::Read,
        code: None,
        request_id: None,
        server_time: None,
    }
}

/// Returns the error of a request in a project, which a ledger of a later version
/// of rekeyd may contain.
fn unsupported_project_error(operation: &str, project: &ProjectId) -> ProviderError {
    let message =
        format!("this version of rekeyd does not support project keys, such as those of {project}");
    fatal_error_before_send(operation, ErrorKind::Refused, message)
}

#[async_trait]
impl Provider for OpenAiProvider {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        let operation = format!("create credential {label}");
        let mut request = json!({ "name": label.as_str() });
        if let Some(lifetime) = expires_in {
            request["expires_in_seconds"] = json!(lifetime.as_secs());
        }
        let url = self.credential_url(&operation, None)?;
        let response = self
            .request(
                &operation,
                None,
                Method::POST,
                url,
                Some(request.to_string()),
            )
            .await;
        let created = response
            .and_then(|response| decode::decode_create(&operation, &response, &self.credential));
        created.map_err(|error| error.in_class(RequestClass::Create))
    }

    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        let operation = "list credentials";
        if let Scope::Project(id) = scope {
            return Err(unsupported_project_error(operation, id));
        }
        let listing = self.list_pages(operation);
        match tokio::time::timeout(LIST_TIMEOUT, listing).await {
            Ok(listed) => listed,
            Err(_) => Err(endless_list_error(
                operation,
                format!(
                    "the list did not end within {}",
                    duration::to_text(LIST_TIMEOUT)
                ),
            )),
        }
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        let operation = format!("retrieve credential {}", sanitize_name(id.as_str()));
        let lookup = self.lookup(&operation, Method::GET, id).await?;
        decode::decode_retrieve(&operation, id, lookup, &self.credential)
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        let (_, head) = self.fetch_page("use the admin key", None, 1, None).await?;
        Ok(provider_response((), head.server_time))
    }

    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        self.credential.usage(id, redacted_value)
    }

    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        self.credential.record_created(id, secret, redacted_value)
    }

    fn origin(&self, secret: &Secret) -> SecretOrigin {
        self.credential.origin(secret)
    }

    fn record_refused(&self, secret: &Secret) {
        self.credential.record_refused(secret);
    }

    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.credential.compare(secret, id, redacted_value)
    }

    fn own_secrets(&self) -> OwnSecrets {
        self.credential.own_secrets()
    }

    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.credential.record_newer(id, own);
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.credential.expected_secret(credential)
    }

    fn distrust_redacted_values(&self) {
        self.credential.distrust_redacted_values();
    }

    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        let (_, head) = self
            .fetch_page("verify the secret", Some(secret), 1, None)
            .await?;
        self.credential.record_working(secret);
        Ok(provider_response((), head.server_time))
    }

    async fn sees(&self, secret: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        let operation = format!("retrieve credential {}", sanitize_name(id.as_str()));
        let url = self.credential_url(&operation, Some(id))?;
        let response = self
            .request(&operation, Some(secret), Method::GET, url, None)
            .await;
        let lookup = decode::into_lookup(response)?;
        let retrieved = decode::decode_retrieve(&operation, id, lookup, &self.credential)?;
        Ok(retrieved.value.is_some())
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        let operation = format!("delete credential {}", sanitize_name(id.as_str()));
        let lookup = self.lookup(&operation, Method::DELETE, id).await;
        let deleted = lookup.and_then(|lookup| decode::decode_delete(&operation, id, lookup));
        deleted.map_err(|error| error.in_class(RequestClass::Delete))
    }
}
