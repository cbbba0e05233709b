//! What every provider owes the engine: each function is one obligation.

use std::time::Duration;

use rekeyd::core::names::{CredentialId, Label};
use rekeyd::provider::{Cause, Provider};

fn label(text: &str) -> Label {
    Label::recorded(text.to_owned())
}

pub(crate) async fn a_created_credential_works_and_is_found(provider: &dyn Provider) {
    let made = provider.create(&label("found"), None).await.unwrap();
    assert!(made.date.is_some());
    let secret = made.value.secret.unwrap();
    provider.verify(&secret).await.unwrap();
    let found = provider.find(&label("found")).await.unwrap();
    assert!(found.date.is_some());
    assert_eq!(found.value.len(), 1);
    assert_eq!(found.value[0].facts, made.value.facts);
    let retrieved = provider.retrieve(&made.value.facts.id).await.unwrap();
    let retrieved = retrieved.value.unwrap();
    assert_eq!(retrieved.name.as_deref(), Some("found"));
    assert_eq!(retrieved.facts, made.value.facts);
    let redacted = retrieved.facts.redacted_value.unwrap();
    assert!(redacted.starts_with("sk-admin..."));
    assert!(secret.expose().ends_with(&redacted[11..]));
}

pub(crate) async fn two_credentials_of_one_name_are_both_found(provider: &dyn Provider) {
    for _ in 0..2 {
        provider.create(&label("twice"), None).await.unwrap();
    }
    let found = provider.find(&label("twice")).await.unwrap().value;
    assert_eq!(found.len(), 2);
    assert_ne!(found[0].facts.id, found[1].facts.id);
}

pub(crate) async fn a_life_that_was_asked_for_is_given(provider: &dyn Provider) {
    let day = Duration::from_secs(86_400);
    let made = provider.create(&label("lives"), Some(day)).await.unwrap();
    let facts = made.value.facts;
    let life = facts
        .expires_at
        .unwrap()
        .duration_since(facts.created_at.unwrap());
    assert_eq!(life.as_secs(), 86_400);
}

pub(crate) async fn a_deleted_credential_is_gone_and_may_be_deleted_again(provider: &dyn Provider) {
    let made = provider.create(&label("gone"), None).await.unwrap().value;
    provider.delete(&made.facts.id).await.unwrap();
    provider.delete(&made.facts.id).await.unwrap();
    assert_eq!(provider.retrieve(&made.facts.id).await.unwrap().value, None);
    assert_eq!(provider.find(&label("gone")).await.unwrap().value, []);
    let error = provider.verify(&made.secret.unwrap()).await.unwrap_err();
    assert_eq!(error.cause, Cause::CredentialRefused);
}

pub(crate) async fn an_unknown_id_is_none_whatever_stands_in_it(provider: &dyn Provider) {
    for id in ["key_none", "a/b?c#d", "ä %2e", "../admin_api_keys"] {
        let id = CredentialId::new(id.to_owned());
        assert_eq!(provider.retrieve(&id).await.unwrap().value, None, "{id}");
        provider.delete(&id).await.unwrap();
    }
}

pub(crate) async fn a_list_of_many_pages_has_each_once(provider: &dyn Provider) {
    let before = provider.list().await.unwrap().value.len();
    let mut made = Vec::new();
    for number in 0..230 {
        let name = label(&format!("many-{number}"));
        made.push(provider.create(&name, None).await.unwrap().value.facts.id);
    }
    let listed = provider.list().await.unwrap().value;
    assert_eq!(listed.len(), before + 230);
    for id in made {
        let times = listed.iter().filter(|one| one.facts.id == id).count();
        assert_eq!(times, 1);
    }
}

/// A test of every obligation: `$subject` gives a provider, with whatever has
/// to live as long as it.
macro_rules! every_obligation {
    ($test:meta, $subject:expr) => {
        crate::contract::every_obligation!(
            $test,
            $subject,
            a_created_credential_works_and_is_found,
            two_credentials_of_one_name_are_both_found,
            a_life_that_was_asked_for_is_given,
            a_deleted_credential_is_gone_and_may_be_deleted_again,
            an_unknown_id_is_none_whatever_stands_in_it,
            a_list_of_many_pages_has_each_once,
        );
    };
    ($test:meta, $subject:expr, $($name:ident),+ $(,)?) => {
        $(
            #[$test]
            async fn $name() {
                let (_alive, provider) = $subject.await;
                crate::contract::$name(&provider).await;
            }
        )+
    };
}
pub(crate) use every_obligation;
