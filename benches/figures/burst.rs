//! A thousand keys due at once, with a slow provider.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rekeyd::core::active_credential::{CredentialUsage, SecretOrigin};
use rekeyd::core::expected_secret::ExpectedSecret;
use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::{EndMatch, Secret};
use rekeyd::core::state::CredentialMetadata;
use rekeyd::engine::{Engine, RunMode, Services};
use rekeyd::platform::clock::{Clock as _, SystemClock};
use rekeyd::provider::{
    CreatedCredential, ListedCredential, Provider, ProviderError, ProviderResponse,
};

use crate::instant::InstantProvider;
use crate::table::{TableRow, ms, time_ratio};
use crate::{engine, instant, many, process};

const KEYS: usize = 1_000;
const MAX_IN_FLIGHT: u32 = 64;
const REQUEST_TIME: Duration = Duration::from_millis(50);

const OPTIONS: &str = "schedule = \"@monthly\"\noverlap = \"24h\"\nverify-interval = \"0s\"";

/// A provider whose creates and verifications take [`REQUEST_TIME`].
struct SlowProvider {
    inner: Arc<InstantProvider>,
    requests: AtomicU32,
}

impl SlowProvider {
    async fn delay(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REQUEST_TIME).await;
    }
}

#[async_trait]
impl Provider for SlowProvider {
    async fn create(
        &self,
        label: &Label,
        expires: Option<Duration>,
    ) -> Result<ProviderResponse<CreatedCredential>, ProviderError> {
        self.delay().await;
        self.inner.create(label, expires).await
    }

    async fn check(&self) -> Result<ProviderResponse<()>, ProviderError> {
        self.inner.check().await
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

    fn expected_secret(&self, credential: &CredentialMetadata) -> ExpectedSecret {
        self.inner.expected_secret(credential)
    }

    fn distrust_redacted_values(&self) {
        self.inner.distrust_redacted_values();
    }

    async fn list(
        &self,
        _: &Scope,
    ) -> Result<ProviderResponse<Vec<ListedCredential>>, ProviderError> {
        self.inner.list(&Scope::AdminKeys).await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<ProviderResponse<Option<ListedCredential>>, ProviderError> {
        self.inner.retrieve(id).await
    }

    async fn verify(&self, secret: &Secret) -> Result<ProviderResponse<()>, ProviderError> {
        self.delay().await;
        self.inner.verify(secret).await
    }

    async fn sees(&self, secret: &Secret, id: &CredentialId) -> Result<bool, ProviderError> {
        self.inner.sees(secret, id).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<ProviderResponse<()>, ProviderError> {
        self.inner.delete(id).await
    }
}

/// The number of measurements.
const ROUNDS: usize = 3;

pub(crate) fn rows() -> Vec<TableRow> {
    // No folder is removed before the last one has its files: see
    // `MEASUREMENTS`.
    let folders = [(); ROUNDS].map(|()| process::folder());
    let rounds = folders.iter().map(|dir| rotate_all(dir.path()));
    let (walls, request_counts): (Vec<_>, Vec<_>) = rounds.unzip();
    let (time, request_count) = (process::median(walls), request_counts[0]);
    let bound = REQUEST_TIME * request_count / MAX_IN_FLIGHT;
    vec![
        TableRow::new("1,000 keys due at once, 64 at a time", ms(time))
            .beside(format!(
                "{request_count} requests of {} ms, 64 at a time: {}",
                REQUEST_TIME.as_millis(),
                ms(bound)
            ))
            .times_as_long(time_ratio(time, bound))
            .reach("1.25 times as long"),
    ]
}

/// Rotates keys for the first time. Returns the time, and the number of
/// requests.
fn rotate_all(dir: &Path) -> (Duration, u32) {
    let clock = Arc::new(InstantProvider::new(SystemClock.now()));
    let settings = engine::settings(KEYS, dir, OPTIONS, &clock);
    let provider = Arc::new(SlowProvider {
        inner: Arc::clone(&clock),
        requests: AtomicU32::new(0),
    });
    let time = engine::runtime().block_on(async {
        let ledger = many::open_ledger(&settings, clock.now());
        let services = Services {
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
            ..instant::services(&clock, &settings, ledger)
        };
        let managed_keys = engine::managed_keys(&settings, &clock);
        let mut engine = Engine::open(services, managed_keys, RunMode::Daemon)
            .await
            .unwrap();
        let started = Instant::now();
        engine::run_until_idle(&mut engine).await;
        let time = started.elapsed();
        let views = engine.key_views().filter_map(|view| view.state?.current());
        assert_eq!(views.count(), KEYS, "each is delivered");
        time
    });
    assert_eq!(clock.created_count(), KEYS);
    (time, provider.requests.load(Ordering::Relaxed))
}
