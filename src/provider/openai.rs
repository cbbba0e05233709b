//! The OpenAI Admin API over HTTP.
//!
//! Deliberately not here: any repetition. Each call is one request (a list is
//! one for each page), and says what became of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};

use crate::core::names::{CredentialId, Label};
use crate::core::outside;
use crate::core::secret::{CredentialCell, Secret};
use crate::core::settings::ProviderSettings;
use crate::net::body::{self, BodyError};
use crate::net::client::{ClientLimits, client};
use crate::net::failure;
use crate::provider::classify::{Heard, bad_answer, classify, not_sent};
use crate::provider::wire::{Deleted, Key, Page};
use crate::provider::{
    Answer, Cause, Credential, NewCredential, Outcome, Provider, ProviderError, Retry,
};

/// The most pages of a list: a hundred thousand credentials.
const MOST_PAGES: usize = 1_000;

/// Credentials a page; the API takes up to this many.
const PAGE_SIZE: &str = "100";

/// The OpenAI Admin API.
pub struct OpenAi {
    settings: ProviderSettings,
    cell: CredentialCell,
    /// Built at first use: loading the system's roots takes time that commands
    /// without a request can spare.
    client: Mutex<Option<reqwest::Client>>,
}

/// One request and who is to be told of it.
struct Request<'a> {
    operation: String,
    method: Method,
    path: Vec<&'a str>,
    query: Vec<(&'a str, String)>,
    body: Option<String>,
    secret: Option<&'a Secret>,
}

impl OpenAi {
    /// The API at `settings.base_url`, asked with the credential in `cell`.
    #[must_use]
    pub fn new(settings: &ProviderSettings, cell: CredentialCell) -> Self {
        Self {
            settings: settings.clone(),
            cell,
            client: Mutex::new(None),
        }
    }

    fn client(&self) -> Result<reqwest::Client, String> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let built = client(&ClientLimits {
            url: &self.settings.base_url,
            timeout: self.settings.request_timeout,
            ca_file: self.settings.ca_file.as_deref(),
        })?;
        Ok(kept.insert(built).clone())
    }

    /// Sends one request and hears the whole answer. Ok is a 2xx.
    async fn ask(&self, request: Request<'_>) -> Result<Heard, ProviderError> {
        let operation = request.operation.clone();
        let unsent = |cause, why| not_sent(&operation, cause, why);
        // Such an id would name the list itself, or what is above it.
        if request.path.iter().any(|id| matches!(*id, "" | "." | "..")) {
            return Err(unsent(
                Cause::Refused,
                "it is no credential's id".to_owned(),
            ));
        }
        let client = self
            .client()
            .map_err(|why| unsent(Cause::Unreachable, why))?;
        let secret = match request.secret {
            Some(secret) => secret.clone(),
            None => self.cell.get().ok_or_else(|| {
                unsent(
                    Cause::NoCredential,
                    "there is no admin credential to ask with".to_owned(),
                )
            })?,
        };
        let headers = self
            .headers(&secret)
            .map_err(|why| unsent(Cause::NoCredential, why))?;
        let mut call = client.request(request.method, self.url(&request.path, &request.query));
        call = call.headers(headers);
        if let Some(json) = request.body {
            call = call.header(CONTENT_TYPE, "application/json").body(json);
        }
        let begun = Instant::now();
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() || error.is_builder() => {
                return Err(unsent(Cause::Unreachable, failure::text(&error)));
            }
            Err(error) => {
                return Err(ProviderError {
                    operation,
                    outcome: Outcome::Unknown,
                    retry: Retry::Later(None),
                    cause: Cause::NoAnswer,
                    message: failure::text(&error),
                    request_id: None,
                    date: None,
                });
            }
        };
        hear(operation, answer, begun).await
    }

    fn headers(&self, secret: &Secret) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {}", secret.expose())).map_err(|_| {
                "the admin credential has characters that no header can carry".to_owned()
            })?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
        if let Some(organization) = &self.settings.organization {
            let value = HeaderValue::try_from(organization.as_str()).map_err(|_| {
                "the organization has characters that no header can carry".to_owned()
            })?;
            headers.insert("OpenAI-Organization", value);
        }
        Ok(headers)
    }

    fn url(&self, path: &[&str], query: &[(&str, String)]) -> url::Url {
        let mut url = self.settings.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // Encodes what an opaque id may have in it.
            segments
                .pop_if_empty()
                .extend(["organization", "admin_api_keys"])
                .extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn page(
        &self,
        after: Option<&str>,
        limit: &str,
        secret: Option<&Secret>,
        operation: &str,
    ) -> Result<(Page, Heard), ProviderError> {
        let mut query = vec![("limit", limit.to_owned()), ("order", "asc".to_owned())];
        query.extend(after.map(|after| ("after", after.to_owned())));
        let heard = self
            .ask(Request {
                operation: operation.to_owned(),
                method: Method::GET,
                path: vec![],
                query,
                body: None,
                secret,
            })
            .await?;
        let page = serde_json::from_slice(&heard.body)
            .map_err(|error| bad_answer(&heard, &format!("not a list of credentials: {error}")))?;
        Ok((page, heard))
    }
}

/// Reads the answer to the end and says what it means.
async fn hear(
    operation: String,
    mut answer: Response,
    begun: Instant,
) -> Result<Heard, ProviderError> {
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let date = header(DATE.as_str()).and_then(|text| {
        let parsed = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&text);
        parsed.ok()
    });
    let mut heard = Heard {
        operation,
        status: answer.status(),
        request_id: header("x-request-id").map(|id| outside::shown(&id)),
        date,
        retry_after_ms: header("retry-after-ms"),
        retry_after: header("retry-after"),
        body: Vec::new(),
    };
    let read = body::read(&mut answer).await;
    tracing::debug!(
        operation = heard.operation,
        status = heard.status.as_u16(),
        request_id = heard.request_id.as_deref().unwrap_or_default(),
        elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "asked the provider"
    );
    match read {
        Ok(body) => heard.body = body,
        Err(why) => {
            let cause = match why {
                BodyError::TooLong => Cause::BadAnswer,
                BodyError::BrokenOff(_) => Cause::NoAnswer,
            };
            return Err(ProviderError {
                cause,
                ..bad_answer(&heard, &why.to_string())
            });
        }
    }
    if heard.status.is_success() {
        Ok(heard)
    } else {
        Err(classify(&heard))
    }
}

#[async_trait]
impl Provider for OpenAi {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        let mut asked = serde_json::json!({ "name": label });
        if let Some(span) = expires_in {
            asked["expires_in_seconds"] = span.as_secs().into();
        }
        let heard = self
            .ask(Request {
                operation: format!("create credential {label}"),
                method: Method::POST,
                path: vec![],
                query: vec![],
                body: Some(asked.to_string()),
                secret: None,
            })
            .await?;
        let key: Key = serde_json::from_slice(&heard.body)
            .map_err(|error| bad_answer(&heard, &format!("not a credential: {error}")))?;
        let facts = key.facts();
        let secret = key.value.filter(|value| !value.is_empty()).map(Secret::new);
        Ok(Answer {
            value: NewCredential { facts, secret },
            date: heard.date,
        })
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        const OPERATION: &str = "list credentials";
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let mut after: Option<Arc<str>> = None;
        for _ in 0..MOST_PAGES {
            let (page, heard) = self
                .page(after.as_deref(), PAGE_SIZE, None, OPERATION)
                .await?;
            let last = page.data.last().map(|key| Arc::<str>::from(key.id()));
            let more = page.has_more.unwrap_or(false);
            for key in page.data {
                if seen.insert(key.id().to_owned()) {
                    found.push(key.into_credential());
                }
            }
            match last {
                _ if !more => {
                    return Ok(Answer {
                        value: found,
                        date: heard.date,
                    });
                }
                Some(last) if after.as_ref() != Some(&last) => after = Some(last),
                Some(_) => return Err(bad_answer(&heard, "the list repeats its cursor")),
                None => return Err(bad_answer(&heard, "the list says more and gives nothing")),
            }
        }
        Err(ProviderError {
            operation: OPERATION.to_owned(),
            outcome: Outcome::NotDone,
            retry: Retry::Later(None),
            cause: Cause::BadAnswer,
            message: format!("the list has more than {MOST_PAGES} pages"),
            request_id: None,
            date: None,
        })
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        let asked = self
            .ask(Request {
                operation: format!("retrieve credential {id}"),
                method: Method::GET,
                path: vec![id.as_str()],
                query: vec![],
                body: None,
                secret: None,
            })
            .await;
        let heard = match asked {
            Err(error) if error.cause == Cause::NotFound => {
                return Ok(Answer {
                    value: None,
                    date: error.date,
                });
            }
            asked => asked?,
        };
        let key: Key = serde_json::from_slice(&heard.body)
            .map_err(|error| bad_answer(&heard, &format!("not a credential: {error}")))?;
        if key.id() != id.as_str() {
            return Err(bad_answer(&heard, "the answer is about another credential"));
        }
        Ok(Answer {
            value: Some(key.into_credential()),
            date: heard.date,
        })
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        let (_, heard) = self.page(None, "1", None, "ask the provider").await?;
        Ok(Answer {
            value: (),
            date: heard.date,
        })
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.cell.may_be(redacted_value)
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        let (_, heard) = self
            .page(None, "1", Some(secret), "verify the new credential")
            .await?;
        Ok(Answer {
            value: (),
            date: heard.date,
        })
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        let asked = self
            .ask(Request {
                operation: format!("delete credential {id}"),
                method: Method::DELETE,
                path: vec![id.as_str()],
                query: vec![],
                body: None,
                secret: None,
            })
            .await;
        let heard = match asked {
            Err(error) if error.cause == Cause::NotFound => {
                return Ok(Answer {
                    value: (),
                    date: error.date,
                });
            }
            asked => asked?,
        };
        let said: Deleted = serde_json::from_slice(&heard.body)
            .map_err(|error| bad_answer(&heard, &format!("not an answer to a delete: {error}")))?;
        if said.deleted != Some(true) {
            return Err(bad_answer(
                &heard,
                "the answer does not say that it was deleted",
            ));
        }
        if said.id.is_some_and(|said| said != id.as_str()) {
            return Err(bad_answer(&heard, "the answer is about another credential"));
        }
        Ok(Answer {
            value: (),
            date: heard.date,
        })
    }
}
