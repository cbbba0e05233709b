//! The simulated provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rekeyd::core::active_credential::{
    ActiveCredential, CredentialUsage, OwnSecrets, SecretOrigin,
};
use rekeyd::core::expected_secret::ExpectedSecret;
use rekeyd::core::gate::RequestClass;
use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::core::reported_time::{ReportedTime, ShownEnd};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::{EndMatch, Secret};
use rekeyd::core::state::CredentialMetadata;
use rekeyd::core::time;
use rekeyd::platform::admin_key_place::AdminKeyPlace;
use rekeyd::provider::failover::CredentialSource;
use rekeyd::provider::{
    CreatedCredential, Effect, ErrorKind, ListedCredential, Provider, ProviderError,
    ProviderResponse, RetryAdvice,
};

use crate::fault::{FalseAnswer, SimFault, SimOperation};
use crate::scenario::PERIOD;
use crate::world::{BOOTSTRAP_SECRET, INVENTED_ID, SimCredential, SimWorld};

/// The age of a stale list.
const STALE_LIST_AGE: Duration = Duration::from_secs(600);

/// The delays after which a late create is applied, counted from the timeout of its
/// request: before and after each reconciliation that searches for it.
const LATE_CREATE_DELAYS: [Duration; 3] = [
    Duration::from_secs(45),
    Duration::from_secs(600),
    Duration::from_secs(3_000),
];

/// The provider, as one process uses it.
pub(crate) struct SimProvider {
    pub(crate) world: Arc<SimWorld>,
    pub(crate) process: u64,
    pub(crate) active_credential: ActiveCredential,
}

fn provider_error(
    operation: &str,
    effect: Effect,
    kind: ErrorKind,
    server_time: Option<Timestamp>,
) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        effect,
        retry: RetryAdvice::Later(None),
        kind,
        message: format!("{kind:?}"),
        class: RequestClass::Read,
        code: None,
        request_id: None,
        server_time,
    }
}

/// Returns the error of a request that timed out.
fn timeout_error(operation: SimOperation) -> ProviderError {
    let operation = format!("{operation:?}");
    provider_error(&operation, Effect::Unknown, ErrorKind::NoAnswer, None)
}

impl SimProvider {
    fn respond<T>(&self, value: T) -> Result<ProviderResponse<T>, ProviderError> {
        let server_time = Some(time::whole_seconds(self.world.true_now()));
        Ok(ProviderResponse { value, server_time })
    }

    fn error_response(&self, operation: &str, kind: ErrorKind) -> ProviderError {
        let effect = if kind.is_outage() {
            Effect::Unknown
        } else {
            Effect::NotApplied
        };
        provider_error(operation, effect, kind, Some(self.world.true_now()))
    }

    /// Starts a request with the active credential. Returns the request's fault, or the
    /// error if the fault or a refused credential ends the request.
    async fn request(
        &self,
        operation: SimOperation,
        subject: &str,
    ) -> Result<Option<SimFault>, ProviderError> {
        let fault = self
            .world
            .begin_operation(self.process, operation, subject)
            .await;
        let name = format!("{operation:?}");
        let secret = self.active_credential.get();
        if let Some(secret) = &secret {
            self.world.record_own_secret(secret.expose());
        }
        if !secret.is_some_and(|secret| self.world.accepts_secret(secret.expose())) {
            return Err(self.error_response(&name, ErrorKind::CredentialRefused));
        }
        match fault {
            Some(SimFault::Rejection) => Err(self.error_response(&name, ErrorKind::Refused)),
            Some(SimFault::Failure) => Err(self.error_response(&name, ErrorKind::ServerError)),
            Some(SimFault::Timeout) => {
                self.world.wait_for_timeout().await;
                Err(timeout_error(operation))
            }
            fault => Ok(fault),
        }
    }

    fn record_shown(&self, shown: &ListedCredential) {
        let metadata = &shown.metadata;
        self.active_credential
            .record_shown(&metadata.id, metadata.redacted_value.as_deref());
    }

    /// Returns the response to a completed request.
    async fn complete<T>(
        &self,
        operation: SimOperation,
        fault: Option<SimFault>,
        value: T,
    ) -> Result<ProviderResponse<T>, ProviderError> {
        self.world.end_operation(fault).await;
        if matches!(fault, Some(SimFault::LostResponse | SimFault::LateEffect)) {
            self.world.wait_for_timeout().await;
            return Err(timeout_error(operation));
        }
        self.respond(value)
    }
}

fn metadata(world: &SimWorld, credential: &SimCredential) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(credential.id.clone()),
        redacted_value: world.scenario.redaction.redact(&credential.secret),
        created_at: Some(time::whole_seconds(credential.created_at)),
        expires_at: None,
    }
}

/// Returns the end that the provider shows of a credential: none at first, and then one that
/// somebody sets, and shortens an hour after the creation.
pub(crate) fn shown_end(world: &SimWorld, credential: &SimCredential) -> ShownEnd {
    if !world.scenario.shows_ends {
        return ShownEnd::Unknown;
    }
    let created_at = time::whole_seconds(credential.created_at);
    let age = time::until(created_at, world.true_now());
    let life = match age.as_secs() / 1_800 {
        0 => return ShownEnd::Never,
        1 => PERIOD * 6,
        _ => PERIOD * 2,
    };
    ShownEnd::At(time::after(created_at, life))
}

fn listed_credential(world: &SimWorld, credential: &SimCredential) -> ListedCredential {
    ListedCredential {
        metadata: metadata(world, credential),
        name: Some(world.scenario.names.apply(&credential.name)),
        end: shown_end(world, credential),
        last_used: ReportedTime::None,
        unreadable_times: Vec::new(),
        owner: None,
    }
}

#[async_trait]
impl Provider for SimProvider {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        let sent = self.world.begin_create(self.process);
        let fault = match self.request(SimOperation::Create, label.as_str()).await {
            Ok(fault) => fault,
            Err(error) => {
                self.world.record_sent_label(label);
                return Err(error.in_class(RequestClass::Create));
            }
        };
        if let Some(pause) = self.world.refuse_create(sent) {
            self.world.record_sent_label(label);
            let error = self.error_response("Create", ErrorKind::RateLimited);
            return Err(ProviderError {
                retry: RetryAdvice::Later(pause),
                ..error.in_class(RequestClass::Create)
            });
        }
        let delay = (fault == Some(SimFault::LateEffect)).then(|| {
            let seconds = usize::try_from(self.world.true_now().as_second()).unwrap();
            LATE_CREATE_DELAYS[seconds % LATE_CREATE_DELAYS.len()]
        });
        let answer = match fault {
            Some(SimFault::FalseAnswer(answer)) => Some(answer),
            _ => None,
        };
        let created = if answer == Some(FalseAnswer::NothingCreated) {
            self.world.record_sent_label(label);
            Some(
                self.world
                    .other_credential(label, FalseAnswer::NothingCreated),
            )
        } else {
            self.world.create(label, delay)
        };
        let of_created = |credential| metadata(&self.world, credential);
        let mut metadata = created.as_ref().map_or_else(empty_metadata, of_created);
        metadata.expires_at = metadata
            .created_at
            .zip(expires_in)
            .map(|(created_at, lifetime)| time::after(created_at, lifetime));
        let mut response = CreatedCredential {
            metadata,
            name: Some(self.world.scenario.names.apply(label.as_str())),
            secret: created.map(|created| Secret::new(created.secret)),
            unreadable_times: Vec::new(),
        };
        if let Some(answer) = answer {
            let other = self.world.other_credential(label, answer);
            match answer {
                FalseAnswer::UnmanagedId
                | FalseAnswer::EarlierId
                | FalseAnswer::OtherKeyId
                | FalseAnswer::NothingCreated => {
                    response.metadata.id = CredentialId::new(other.id);
                }
                FalseAnswer::InventedId => {
                    response.metadata.id = CredentialId::new(INVENTED_ID.to_owned());
                }
                FalseAnswer::EarlierTime => {
                    response.metadata.created_at = Some(other.created_at);
                }
                FalseAnswer::OtherName => response.name = Some(other.name),
                FalseAnswer::OwnSecret
                | FalseAnswer::EarlierSecret
                | FalseAnswer::OtherKeySecret => {
                    response.secret = Some(Secret::new(other.secret));
                }
            }
        }
        self.complete(SimOperation::Create, fault, response).await
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.request(SimOperation::Check, "").await?;
        self.respond(())
    }

    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        self.active_credential.usage(id, redacted_value)
    }

    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        self.active_credential
            .record_created(id, secret, redacted_value)
    }

    fn origin(&self, secret: &Secret) -> SecretOrigin {
        self.active_credential.origin(secret)
    }

    fn record_refused(&self, secret: &Secret) {
        self.active_credential.record_refused(secret);
    }

    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.active_credential.compare(secret, id, redacted_value)
    }

    fn own_secrets(&self) -> OwnSecrets {
        self.active_credential.own_secrets()
    }

    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.active_credential.record_newer(id, own);
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.active_credential.expected_secret(credential)
    }

    fn distrust_redacted_values(&self) {
        self.active_credential.distrust_redacted_values();
    }

    async fn list(
        &self,
        _: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        let fault = self.request(SimOperation::List, "").await?;
        let now = self.world.true_now();
        let at = if fault == Some(SimFault::StaleResponse) {
            time::before(now, STALE_LIST_AGE)
        } else {
            now
        };
        let credentials = self.world.credentials_at(at);
        let listed = credentials
            .iter()
            .map(|credential| listed_credential(&self.world, credential));
        let listed: Vec<_> = listed.collect();
        for shown in &listed {
            self.record_shown(shown);
        }
        self.respond(listed)
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.request(SimOperation::Retrieve, id.as_str()).await?;
        let credentials = self.world.credentials_at(self.world.true_now());
        let mut credentials = credentials.iter();
        let found = credentials.find(|credential| credential.id == id.as_str());
        let found = found.map(|credential| listed_credential(&self.world, credential));
        if let Some(shown) = &found {
            self.record_shown(shown);
        }
        self.respond(found)
    }

    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        let fault = self
            .world
            .begin_operation(self.process, SimOperation::Verify, "")
            .await;
        match fault {
            Some(SimFault::Failure) => Err(self.error_response("verify", ErrorKind::ServerError)),
            Some(SimFault::Rejection) => {
                Err(self.error_response("verify", ErrorKind::CredentialRefused))
            }
            _ if !self.world.accepts_secret(secret.expose()) => {
                Err(self.error_response("verify", ErrorKind::CredentialRefused))
            }
            _ => {
                self.active_credential.record_working(secret);
                self.respond(())
            }
        }
    }

    async fn sees(&self, _: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        Ok(self.retrieve(id).await?.value.is_some())
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        let configuration = self.world.configuration_number();
        let own = self.active_credential.get();
        let fault = self.request(SimOperation::Delete, id.as_str()).await;
        let fault = fault.map_err(|error| error.in_class(RequestClass::Delete))?;
        let own = own.as_ref().map_or("", |own| own.expose());
        self.world.delete(id.as_str(), own, configuration);
        self.complete(SimOperation::Delete, fault, ()).await
    }
}

/// Returns the metadata in the response to a create that is not applied yet.
fn empty_metadata() -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(String::new()),
        redacted_value: None,
        created_at: None,
        expires_at: None,
    }
}

/// The file from which rekeyd reads its own credential.
pub(crate) struct SelfCredentialFile(pub(crate) Arc<SimWorld>);

#[async_trait]
impl CredentialSource for SelfCredentialFile {
    async fn read_all(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>) {
        let location = self.0.scenario.own_file();
        let content = location.and_then(|location| self.0.sink_content(&location));
        let secret = Secret::new(content.unwrap_or_else(|| BOOTSTRAP_SECRET.to_owned()));
        (
            vec![(AdminKeyPlace::File("file".into()), secret)],
            Vec::new(),
        )
    }
}
