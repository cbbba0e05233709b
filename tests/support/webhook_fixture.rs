//! A webhook sink with its files in a scratch folder, and its payload.
#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::ids::{CredentialId, KeyName, Label, RotationId, SinkId};
use rekeyd::core::secret::Secret;
use rekeyd::core::state::CredentialMetadata;
use rekeyd::sink::target::SinkSettings;
use rekeyd::sink::webhook::{WebhookSink, WebhookTarget};
use rekeyd::sink::{DeliveryError, Payload, Sink as _};
use tempfile::TempDir;

use crate::support::limit::TestLimit;
use crate::support::write;
use rekeyd::platform::path_walk::TrustedPaths;

/// The delivered secret.
pub(crate) const SECRET_VALUE: &str = "sk-admin-webhook-test-0123456789-abcdefghijklmnopqrstuvwxyz";

/// The first content of the signing-secret file.
pub(crate) const SIGNING_SECRET: &str = "whsec_c2lnbmluZy1zZWNyZXQtb2YtdGhlLXRlc3RzLTEyMzQ1Njc4";

/// The time of the first attempt's signature; each later one is a second later.
pub(crate) const FIRST_ATTEMPT_AT: i64 = 1_795_400_000;

pub(crate) struct WebhookFixture {
    folder: TempDir,
    pub(crate) settings: SinkSettings,
    pub(crate) target: WebhookTarget,
    attempts: Arc<AtomicI64>,
    _limit: TestLimit,
}

impl WebhookFixture {
    pub(crate) fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = WebhookTarget {
            url: url.parse().unwrap(),
            socket: None,
            owner: (!url.starts_with("https")).then(own_user),
            unauthenticated_receiver: false,
            signing_secret_file: folder.path().join("signing"),
            bearer_token_file: None,
            ca_file: None,
            identity: None,
        };
        let settings = SinkSettings {
            id: SinkId {
                name: "webhook".to_owned(),
                target: "webhook:test".to_owned(),
            },
            required: true,
            timeout: Duration::from_secs(20),
            target: Arc::new(target.clone()),
        };
        let hook = Self {
            folder,
            settings,
            target,
            attempts: Arc::new(AtomicI64::new(FIRST_ATTEMPT_AT)),
            _limit: TestLimit::start(),
        };
        hook.sign_with(SIGNING_SECRET);
        hook
    }

    /// Replaces the lines of the signing-secret file.
    pub(crate) fn sign_with(&self, lines: &str) {
        write(&self.target.signing_secret_file, lines);
    }

    /// Makes the sink send a bearer token from now on.
    pub(crate) fn set_bearer_token(&mut self, token: &str) -> PathBuf {
        let path = self.folder.path().join("token");
        write(&path, token);
        self.target.bearer_token_file = Some(path.clone());
        path
    }

    pub(crate) fn sink(&self) -> WebhookSink {
        let tries = Arc::clone(&self.attempts);
        let now = move || Timestamp::from_second(tries.fetch_add(1, Ordering::SeqCst)).unwrap();
        WebhookSink::new(
            &self.settings,
            &self.target,
            Arc::new(now),
            &TrustedPaths::default(),
        )
    }

    pub(crate) async fn deliver(&self) -> Result<(), DeliveryError> {
        self.sink().deliver(&payload()).await
    }
}

/// Returns the number of this process's user.
pub(crate) fn own_user() -> String {
    rustix::process::geteuid().as_raw().to_string()
}

pub(crate) fn payload() -> Payload {
    Payload {
        key: KeyName::new("billing").unwrap(),
        rotation: RotationId::new([7; 8]),
        sequence: 42,
        label: Label::from_recorded("billing-20261123T030000Z-5f3a9c".to_owned()),
        credential: CredentialMetadata {
            id: CredentialId::new("key_abc".to_owned()),
            redacted_value: Some("sk-admin...def".to_owned()),
            created_at: Some(Timestamp::from_second(1_711_471_533).unwrap()),
            expires_at: None,
        },
        secret: Secret::new(SECRET_VALUE.to_owned()),
        verified_at: "2026-11-23T03:00:01.5Z".parse().unwrap(),
        previous: None,
    }
}
