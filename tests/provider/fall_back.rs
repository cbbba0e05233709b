//! Which admin credential is in use: the first that the provider accepts, and
//! after a change over the former one until that is revoked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::adapter::{holding, with};
use rekeyd::core::names::{CredentialId, Label};
use rekeyd::core::secret::{CredentialCell, Secret};
use rekeyd::daemon::credential::{Places, WithCredential};
use rekeyd::provider::openai::OpenAi;
use rekeyd::provider::{Cause, Provider as _};
use rekeyd::sandbox::{Options, Sandbox};

/// What can be read, by place.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<(String, Secret)>>>);

impl Shelf {
    fn put(&self, secrets: &[(&str, &Secret)]) {
        let secrets = secrets.iter();
        *self.0.lock().unwrap() = secrets
            .map(|(place, secret)| ((*place).to_owned(), (*secret).clone()))
            .collect();
    }
}

impl Places for Shelf {
    fn read(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        (
            self.0.lock().unwrap().clone(),
            vec!["a: unreadable".to_owned()],
        )
    }
}

struct World {
    /// Asks with the sandbox's own key, which always works.
    owner: OpenAi,
    subject: WithCredential<OpenAi, Shelf>,
    cell: CredentialCell,
    shelf: Shelf,
    _sandbox: Sandbox,
}

impl World {
    async fn new() -> Self {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let cell = CredentialCell::new();
        let shelf = Shelf::default();
        let adapter = |cell| with(&sandbox.base_url(), Duration::from_secs(10), cell);
        let inner = adapter(cell.clone());
        Self {
            owner: adapter(holding(sandbox.admin_key().expose())),
            subject: WithCredential::new(inner, cell.clone(), shelf.clone()),
            cell,
            shelf,
            _sandbox: sandbox,
        }
    }

    async fn make(&self, name: &str) -> (CredentialId, Secret) {
        let label = Label::recorded(name.to_owned());
        let made = self.owner.create(&label, None).await.unwrap().value;
        (made.facts.id, made.secret.unwrap())
    }

    fn uses(&self, secret: &Secret) -> bool {
        self.cell.get().is_some_and(|used| used.same_as(secret))
    }
}

#[tokio::test]
async fn without_a_credential_the_problem_is_named_until_there_is_one() {
    let world = World::new().await;
    let error = world.subject.list().await.unwrap_err();
    assert_eq!(error.cause, Cause::NoCredential);
    assert!(error.to_string().contains("a: unreadable"), "{error}");
    let (_, secret) = world.make("late").await;
    world.shelf.put(&[("file", &secret)]);
    world.subject.list().await.unwrap();
    assert!(world.uses(&secret));
}

#[tokio::test]
async fn the_first_that_is_accepted_is_used_and_kept() {
    let world = World::new().await;
    let (_, good) = world.make("good").await;
    let wrong = Secret::new("sk-admin-wrong-one".to_owned());
    world.shelf.put(&[("file", &wrong), ("directory", &good)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&good));
    let (_, other) = world.make("other").await;
    world.shelf.put(&[("file", &other), ("directory", &good)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&good), "a credential that works is not left");
}

#[tokio::test]
async fn a_check_finds_another_when_the_one_in_use_is_refused() {
    let world = World::new().await;
    let (id, first) = world.make("first").await;
    let (_, second) = world.make("second").await;
    world.shelf.put(&[("file", &first)]);
    world.subject.check().await.unwrap();
    world.owner.delete(&id).await.unwrap();
    let error = world.subject.check().await.unwrap_err();
    assert_eq!(error.cause, Cause::CredentialRefused);
    assert!(error.to_string().contains("that of file"), "{error}");
    world.shelf.put(&[("file", &second)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&second));
}

#[tokio::test]
async fn after_a_change_over_the_former_one_is_there_to_fall_back_to() {
    let world = World::new().await;
    let (old_id, old) = world.make("old").await;
    let (new_id, new) = world.make("new").await;
    world.shelf.put(&[("file", &old)]);
    world.subject.check().await.unwrap();
    world.shelf.put(&[("file", &new)]);
    world.cell.change_over(new.clone(), Some(old_id.clone()));
    world.subject.check().await.unwrap();
    assert!(world.uses(&new));

    world.owner.delete(&new_id).await.unwrap();
    world.subject.check().await.unwrap();
    assert!(world.uses(&old));
    assert!(world.cell.has_fallen_back());

    // Once the file holds one that works it is left again.
    let (_, newer) = world.make("newer").await;
    world.shelf.put(&[("file", &newer)]);
    world.subject.check().await.unwrap();
    assert!(world.uses(&newer));
    world.subject.delete(&old_id).await.unwrap();
    assert!(world.cell.former().is_none(), "what is revoked is dropped");
}

#[tokio::test]
async fn a_second_delivery_of_one_secret_keeps_the_former() {
    let world = World::new().await;
    let (old_id, old) = world.make("old").await;
    let (_, new) = world.make("new").await;
    world.cell.set(old.clone());
    for _ in 0..2 {
        world.cell.change_over(new.clone(), Some(old_id.clone()));
    }
    assert!(
        world
            .cell
            .former()
            .is_some_and(|former| former.same_as(&old))
    );
}
