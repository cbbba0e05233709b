//! A thousand keys due at once, against a provider that takes its time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rekeyd::core::names::{CredentialId, Label};
use rekeyd::core::secret::Secret;
use rekeyd::engine::clock::{Clock as _, HostClock};
use rekeyd::engine::{Course, Engine, Parts};
use rekeyd::provider::{Answer, Credential, NewCredential, Provider, ProviderError};

use crate::instant::Instantly;
use crate::table::{Row, ms, times};
use crate::{engine, instant, many, process};

const KEYS: usize = 1_000;
const AT_ONCE: u32 = 64;
const TAKES: Duration = Duration::from_millis(50);

const OPTIONS: &str = "schedule = \"@monthly\"\noverlap = \"24h\"\nsettle = \"0s\"";

/// A provider whose creates and verifications take their time.
struct Slow {
    inner: Arc<Instantly>,
    asked: AtomicU32,
}

impl Slow {
    async fn take_time(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(TAKES).await;
    }
}

#[async_trait]
impl Provider for Slow {
    async fn create(
        &self,
        label: &Label,
        expires: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        self.take_time().await;
        self.inner.create(label, expires).await
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.inner.check().await
    }

    fn may_be_in_use(&self, redacted: &str) -> bool {
        self.inner.may_be_in_use(redacted)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        self.inner.list().await
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.inner.retrieve(id).await
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        self.take_time().await;
        self.inner.verify(secret).await
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        self.inner.delete(id).await
    }
}

/// How many times.
const ROUNDS: usize = 3;

pub(crate) fn rows() -> Vec<Row> {
    // None is removed before the last has its files: see `PARTS`.
    let folders = [(); ROUNDS].map(|()| process::folder());
    let rounds = folders.iter().map(|dir| rotate_all(dir.path()));
    let (walls, asked): (Vec<_>, Vec<_>) = rounds.unzip();
    let (took, asked) = (process::median(walls), asked[0]);
    let bound = TAKES * asked / AT_ONCE;
    vec![
        Row::new("1,000 keys due at once, 64 at a time", ms(took))
            .beside(format!(
                "{asked} requests of {} ms, 64 at a time: {}",
                TAKES.as_millis(),
                ms(bound)
            ))
            .longer(times(took, bound))
            .reach("1.25 times as long"),
    ]
}

/// Rotates keys that were never rotated. Tells what that took, and how many
/// requests it was.
fn rotate_all(dir: &Path) -> (Duration, u32) {
    let clock = Arc::new(Instantly::new(HostClock.now()));
    let settings = engine::settings(KEYS, dir, OPTIONS, &clock);
    let provider = Arc::new(Slow {
        inner: Arc::clone(&clock),
        asked: AtomicU32::new(0),
    });
    let took = engine::runtime().block_on(async {
        let ledger = many::open(&settings, clock.now());
        let parts = Parts {
            provider: Arc::clone(&provider) as Arc<dyn Provider>,
            ..instant::parts(&clock, &settings, ledger)
        };
        let managed = engine::managed(&settings, &clock);
        let mut engine = Engine::open(parts, managed, Course::Daemon).await.unwrap();
        let begun = Instant::now();
        engine::rest(&mut engine).await;
        let took = begun.elapsed();
        let views = engine.views().filter_map(|view| view.state?.current());
        assert_eq!(views.count(), KEYS, "each is delivered");
        took
    });
    assert_eq!(clock.made(), KEYS);
    (took, provider.asked.load(Ordering::Relaxed))
}
