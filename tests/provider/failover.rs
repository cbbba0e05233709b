//! Which admin key is in use: the first that the provider accepts, and after a
//! switch the previous one until it is revoked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::adapter::{adapter_with, credential_with};
use async_trait::async_trait;
use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::core::scope::Scope;
use rekeyd::core::secret::Secret;
use rekeyd::platform::admin_key_place::AdminKeyPlace;
use rekeyd::provider::candidate::{
    CandidateError, RecordedCredential, RecordedCredentials, RecordedState,
};
use rekeyd::provider::failover::{CredentialSource, FailoverProvider};
use rekeyd::provider::openai::OpenAiProvider;
use rekeyd::provider::{ErrorKind, Provider as _};
use rekeyd::sandbox::{Sandbox, SandboxOptions};

/// The readable secrets, by source.
#[derive(Clone, Default)]
struct FakeSources(Arc<Mutex<Vec<(AdminKeyPlace, Secret)>>>);

impl FakeSources {
    fn set(&self, secrets: &[(&str, &Secret)]) {
        let secrets = secrets.iter();
        *self.0.lock().unwrap() = secrets
            .map(|(place, secret)| (AdminKeyPlace::File(place.into()), (*secret).clone()))
            .collect();
    }
}

#[async_trait]
impl CredentialSource for FakeSources {
    async fn read_all(&self) -> (Vec<(AdminKeyPlace, Secret)>, Vec<String>) {
        (
            self.0.lock().unwrap().clone(),
            vec!["a: unreadable".to_owned()],
        )
    }
}

/// The credentials of a ledger.
#[derive(Clone, Default)]
struct FakeLedger(Arc<Mutex<Vec<RecordedCredential>>>);

impl FakeLedger {
    fn add(&self, id: &CredentialId, secret: &Secret, state: RecordedState) {
        let value = secret.expose();
        let shown = format!("sk-admin...{}", &value[value.len() - 6..]);
        self.0.lock().unwrap().push(RecordedCredential {
            id: id.clone(),
            redacted_value: Some(shown),
            state,
        });
    }
}

#[async_trait]
impl RecordedCredentials for FakeLedger {
    async fn read(&self) -> Option<Vec<RecordedCredential>> {
        Some(self.0.lock().unwrap().clone())
    }
}

struct FailoverFixture {
    /// A provider client with the sandbox's own admin key, which always works.
    owner: OpenAiProvider,
    subject: FailoverProvider<OpenAiProvider, FakeSources>,
    active_credential: ActiveCredential,
    sources: FakeSources,
    _sandbox: Sandbox,
}

impl FailoverFixture {
    async fn new() -> Self {
        let sandbox = Sandbox::start(SandboxOptions::default()).await.unwrap();
        let cell = ActiveCredential::new();
        let shelf = FakeSources::default();
        let adapter = |cell| adapter_with(&sandbox.base_url(), Duration::from_secs(10), cell);
        let inner = adapter(cell.clone());
        Self {
            owner: adapter(credential_with(sandbox.admin_key().expose())),
            subject: FailoverProvider::new(inner, cell.clone(), shelf.clone()),
            active_credential: cell,
            sources: shelf,
            _sandbox: sandbox,
        }
    }

    async fn create_credential(&self, name: &str) -> (CredentialId, Secret) {
        let label = Label::from_recorded(name.to_owned());
        let made = self.owner.create(&label, None).await.unwrap().value;
        (made.metadata.id, made.secret.unwrap())
    }

    fn uses(&self, secret: &Secret) -> bool {
        self.active_credential
            .get()
            .is_some_and(|used| used.same_as(secret))
    }
}

#[tokio::test]
async fn missing_credential_is_reported_until_one_is_found() {
    let world = FailoverFixture::new().await;
    let error = world.subject.list(&Scope::AdminKeys).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoCredential);
    assert!(error.to_string().contains("a: unreadable"), "{error}");
    let (_, secret) = world.create_credential("late").await;
    world.sources.set(&[("file", &secret)]);
    world.subject.list(&Scope::AdminKeys).await.unwrap();
    assert!(world.uses(&secret));
}

#[tokio::test]
async fn the_first_accepted_credential_stays_in_use() {
    let world = FailoverFixture::new().await;
    let (_, good) = world.create_credential("good").await;
    let wrong = Secret::new("sk-admin-wrong-one".to_owned());
    world.sources.set(&[("file", &wrong), ("directory", &good)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&good));
    let (_, other) = world.create_credential("other").await;
    world.sources.set(&[("file", &other), ("directory", &good)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&good), "a credential that works is not left");
}

#[tokio::test]
async fn a_check_switches_when_the_credential_is_refused() {
    let world = FailoverFixture::new().await;
    let (id, first) = world.create_credential("first").await;
    let (_, second) = world.create_credential("second").await;
    world.sources.set(&[("file", &first)]);
    world.subject.check().await.unwrap();
    world.owner.delete(&id).await.unwrap();
    let error = world.subject.check().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRefused);
    assert!(
        error.to_string().contains("(for the key from file)"),
        "{error}"
    );
    let advice = world.subject.admin_key_advice();
    assert_eq!(advice, "store a valid admin key in file");
    world.sources.set(&[("file", &second)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&second));
}

#[tokio::test]
async fn a_switch_keeps_the_previous_credential_for_failover() {
    let world = FailoverFixture::new().await;
    let (old_id, old) = world.create_credential("old").await;
    let (new_id, new) = world.create_credential("new").await;
    world.sources.set(&[("file", &old)]);
    world.subject.check().await.unwrap();
    world.sources.set(&[("file", &new)]);
    world
        .active_credential
        .switch_to(new.clone(), Some(old_id.clone()));
    world.subject.check().await.unwrap();
    assert!(world.uses(&new));

    world.owner.delete(&new_id).await.unwrap();
    world.subject.check().await.unwrap();
    assert!(world.uses(&old));
    assert!(world.active_credential.is_using_previous());

    // rekeyd switches forward as soon as the file has a working key.
    let (_, newer) = world.create_credential("newer").await;
    world.sources.set(&[("file", &newer)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&newer));
    world.subject.delete(&old_id).await.unwrap();
    assert!(
        world.active_credential.previous().is_none(),
        "what is revoked is dropped"
    );
}

#[tokio::test]
async fn a_repeated_delivery_keeps_the_previous_credential() {
    let world = FailoverFixture::new().await;
    let (old_id, old) = world.create_credential("old").await;
    let (_, new) = world.create_credential("new").await;
    world.active_credential.set(old.clone());
    for _ in 0..2 {
        world
            .active_credential
            .switch_to(new.clone(), Some(old_id.clone()));
    }
    assert!(
        world
            .active_credential
            .previous()
            .is_some_and(|previous| previous.same_as(&old))
    );
}

/// A key of another organization sees none of the credentials of the ledger.
#[tokio::test]
async fn given_credential_shows_a_live_one_and_is_none_that_ends() {
    let mut world = FailoverFixture::new().await;
    let ledger = FakeLedger::default();
    world.subject = world.subject.with_ledger(Arc::new(ledger.clone()));
    let (_, first) = world.create_credential("first").await;
    let (live_id, live) = world.create_credential("live").await;
    let (retired_id, retired) = world.create_credential("retired").await;
    let (revoked_id, revoked) = world.create_credential("revoked").await;
    let (_, second) = world.create_credential("second").await;
    world.sources.set(&[("file", &first)]);
    world.subject.check().await.unwrap();

    let elsewhere = Secret::new("sk-admin-elsewhere-xyzxyz".to_owned());
    ledger.add(
        &CredentialId::new("key_elsewhere".to_owned()),
        &elsewhere,
        RecordedState::Kept,
    );
    let foreign = world.subject.give(second.clone()).await.unwrap_err();
    assert!(
        matches!(foreign, CandidateError::Foreign { .. }),
        "{foreign}"
    );
    assert!(foreign.to_string().contains("key_elsewhere"), "{foreign}");
    // A reload takes no such key from a file either.
    world.sources.set(&[("file", &second)]);
    world.subject.reselect().await;
    assert!(world.uses(&first));
    world.sources.set(&[("file", &first)]);

    ledger.add(&live_id, &live, RecordedState::Kept);
    ledger.add(&retired_id, &retired, RecordedState::Ending);
    let ended = world.subject.give(retired).await.unwrap_err();
    assert!(matches!(ended, CandidateError::Retired { .. }), "{ended}");
    // The provider still accepts it for a moment.
    ledger.add(&revoked_id, &revoked, RecordedState::Revoked);
    let ended = world.subject.give(revoked).await.unwrap_err();
    assert!(matches!(ended, CandidateError::Revoked { .. }), "{ended}");
    let unknown = Secret::new("sk-admin-of-nobody".to_owned());
    let refused = world.subject.give(unknown).await.unwrap_err();
    assert!(matches!(refused, CandidateError::Refused(_)), "{refused}");
    assert!(world.uses(&first));
    assert!(world.active_credential.given().is_none());

    let generation = world.active_credential.generation();
    world.subject.give(second.clone()).await.unwrap();
    assert!(world.uses(&second));
    assert_eq!(world.active_credential.generation(), generation);
    world.subject.reselect().await;
    assert!(world.uses(&second), "it counts before the file");
    world.sources.set(&[("file", &second)]);
    world.subject.reselect().await;
    assert!(
        world.active_credential.given().is_none(),
        "the file holds it"
    );
    assert!(world.uses(&second));
}
