//! A provider whose answers are counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::core::names::{CredentialId, Label};
use crate::core::secret::Secret;
use crate::daemon::metrics::counts::Metrics;
use crate::provider::{Answer, Credential, NewCredential, Provider, ProviderError};

/// A provider whose answers are counted, where somebody wants to know.
pub(crate) struct Metered<P> {
    pub(crate) inner: P,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

impl<P> Metered<P> {
    async fn count<T>(
        &self,
        operation: &str,
        asking: impl Future<Output = Result<Answer<T>, ProviderError>>,
    ) -> Result<Answer<T>, ProviderError> {
        let begun = Instant::now();
        let answer = asking.await;
        if let Some(metrics) = &self.metrics {
            let outcome = match &answer {
                Ok(_) => "ok",
                Err(error) => error.cause.as_str(),
            };
            metrics.asked(operation, outcome, begun.elapsed());
        }
        answer
    }
}

#[async_trait]
impl<P: Provider> Provider for Metered<P> {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        self.count("create", self.inner.create(label, expires_in))
            .await
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.count("check", self.inner.check()).await
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.inner.may_be_in_use(redacted_value)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.count("list", self.inner.list()).await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.count("retrieve", self.inner.retrieve(id)).await
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        self.count("verify", self.inner.verify(secret)).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.count("delete", self.inner.delete(id)).await
    }
}
