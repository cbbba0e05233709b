//! A provider whose requests are counted and timed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::core::active_credential::{CredentialUsage, OwnSecrets, SecretOrigin};
use crate::core::expected_secret::ExpectedSecret;
use crate::core::ids::{CredentialId, Label};
use crate::core::scope::Scope;
use crate::core::secret::{EndMatch, Secret};
use crate::core::state::CredentialMetadata;
use crate::daemon::metrics::registry::Metrics;
use crate::provider::{
    CreatedCredential, ListedCredential, Provider, ProviderError, ProviderResponse,
};

/// A provider whose requests are counted and timed, if there are metrics.
pub(crate) struct InstrumentedProvider<P> {
    pub(crate) inner: P,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

impl<P> InstrumentedProvider<P> {
    async fn measure<T>(
        &self,
        operation: &str,
        request: impl Future<Output = Result<ProviderResponse<T>, ProviderError>>,
    ) -> Result<ProviderResponse<T>, ProviderError> {
        let start = Instant::now();
        let response = request.await;
        if let Some(metrics) = &self.metrics {
            let outcome = match &response {
                Ok(_) => "ok",
                Err(error) => error.kind.as_str(),
            };
            metrics.observe_request(operation, outcome, start.elapsed());
        }
        response
    }
}

#[async_trait]
impl<P: Provider> Provider for InstrumentedProvider<P> {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        self.measure("create", self.inner.create(label, expires_in))
            .await
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.measure("check", self.inner.check()).await
    }

    fn usage(&self, id: &CredentialId, redacted_value: Option<&str>) -> CredentialUsage {
        self.inner.usage(id, redacted_value)
    }

    fn record_created(
        &self,
        id: &CredentialId,
        secret: &Secret,
        redacted_value: Option<&str>,
    ) -> bool {
        self.inner.record_created(id, secret, redacted_value)
    }

    fn origin(&self, secret: &Secret) -> SecretOrigin {
        self.inner.origin(secret)
    }

    fn record_refused(&self, secret: &Secret) {
        self.inner.record_refused(secret);
    }

    fn compare_secret(
        &self,
        secret: &Secret,
        id: &CredentialId,
        redacted_value: Option<&str>,
    ) -> EndMatch {
        self.inner.compare_secret(secret, id, redacted_value)
    }

    fn own_secrets(&self) -> OwnSecrets {
        self.inner.own_secrets()
    }

    fn record_newer(&self, id: &CredentialId, own: OwnSecrets) {
        self.inner.record_newer(id, own);
    }

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.inner.expected_secret(credential)
    }

    fn distrust_redacted_values(&self) {
        self.inner.distrust_redacted_values();
    }

    async fn list(
        &self,
        scope: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.measure("list", self.inner.list(scope)).await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.measure("retrieve", self.inner.retrieve(id)).await
    }

    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        self.measure("verify", self.inner.verify(secret)).await
    }

    async fn sees(&self, secret: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        let asking = async {
            let value = self.inner.sees(secret, id).await?;
            Ok::<_, ProviderError>(ProviderResponse {
                value,
                server_time: None,
            })
        };
        let seen = self.measure("retrieve", asking).await?;
        Ok(seen.value)
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        self.measure("delete", self.inner.delete(id)).await
    }
}
