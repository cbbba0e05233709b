//! The contract of a provider: each function tests one obligation.

use std::time::Duration;

use rekeyd::core::ids::{CredentialId, Label};
use rekeyd::core::scope::Scope;
use rekeyd::provider::{ErrorKind, Provider};

fn label(text: &str) -> Label {
    Label::from_recorded(text.to_owned())
}

pub(crate) async fn created_credential_works_and_is_found(provider: &dyn Provider) {
    let created = provider.create(&label("found"), None).await.unwrap();
    assert!(created.server_time.is_some());
    let secret = created.value.secret.unwrap();
    provider.verify(&secret).await.unwrap();
    let found = provider
        .find(&Scope::AdminKeys, &label("found"))
        .await
        .unwrap();
    assert!(found.server_time.is_some());
    assert_eq!(found.value.len(), 1);
    assert_eq!(found.value[0].metadata, created.value.metadata);
    let retrieved = provider.retrieve(&created.value.metadata.id).await.unwrap();
    let retrieved = retrieved.value.unwrap();
    assert_eq!(retrieved.name.as_deref(), Some("found"));
    assert_eq!(retrieved.metadata, created.value.metadata);
    let redacted = retrieved.metadata.redacted_value.unwrap();
    assert!(redacted.starts_with("sk-admin..."));
    assert!(secret.expose().ends_with(&redacted[11..]));
}

pub(crate) async fn credentials_with_one_name_are_all_found(provider: &dyn Provider) {
    for _ in 0..2 {
        provider.create(&label("twice"), None).await.unwrap();
    }
    let found = provider
        .find(&Scope::AdminKeys, &label("twice"))
        .await
        .unwrap()
        .value;
    assert_eq!(found.len(), 2);
    assert_ne!(found[0].metadata.id, found[1].metadata.id);
}

pub(crate) async fn requested_lifetime_is_applied(provider: &dyn Provider) {
    let day = Duration::from_secs(86_400);
    let created = provider.create(&label("lives"), Some(day)).await.unwrap();
    let facts = created.value.metadata;
    let life = facts
        .expires_at
        .unwrap()
        .duration_since(facts.created_at.unwrap());
    assert_eq!(life.as_secs(), 86_400);
}

pub(crate) async fn deletion_is_final_and_idempotent(provider: &dyn Provider) {
    let created = provider.create(&label("gone"), None).await.unwrap().value;
    provider.delete(&created.metadata.id).await.unwrap();
    provider.delete(&created.metadata.id).await.unwrap();
    assert_eq!(
        provider.retrieve(&created.metadata.id).await.unwrap().value,
        None
    );
    assert_eq!(
        provider
            .find(&Scope::AdminKeys, &label("gone"))
            .await
            .unwrap()
            .value,
        []
    );
    let error = provider.verify(&created.secret.unwrap()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::CredentialRefused);
}

pub(crate) async fn unknown_id_is_none(provider: &dyn Provider) {
    for id in ["key_none", "a/b?c#d", "ä%2e", "x%2fadmin_api_keys%"] {
        let id = CredentialId::new(id.to_owned());
        assert_eq!(provider.retrieve(&id).await.unwrap().value, None, "{id}");
        provider.delete(&id).await.unwrap();
    }
}

pub(crate) async fn paginated_list_has_each_credential_once(provider: &dyn Provider) {
    let before = provider.list(&Scope::AdminKeys).await.unwrap().value.len();
    let mut created = Vec::new();
    for number in 0..230 {
        let name = label(&format!("many-{number}"));
        created.push(
            provider
                .create(&name, None)
                .await
                .unwrap()
                .value
                .metadata
                .id,
        );
    }
    let listed = provider.list(&Scope::AdminKeys).await.unwrap().value;
    assert_eq!(listed.len(), before + 230);
    for id in created {
        let times = listed
            .iter()
            .filter(|listed| listed.metadata.id == id)
            .count();
        assert_eq!(times, 1);
    }
}

/// Defines a test of every obligation: `$subject` returns a provider, with the values
/// that must live as long as it.
macro_rules! every_obligation {
    ($test:meta, $subject:expr) => {
        crate::provider_contract::every_obligation!(
            $test,
            $subject,
            created_credential_works_and_is_found,
            credentials_with_one_name_are_all_found,
            requested_lifetime_is_applied,
            deletion_is_final_and_idempotent,
            unknown_id_is_none,
            paginated_list_has_each_credential_once,
        );
    };
    ($test:meta, $subject:expr, $($name:ident),+ $(,)?) => {
        $(
            #[$test]
            async fn $name() {
                let (_alive, provider) = $subject.await;
                crate::provider_contract::$name(&provider).await;
            }
        )+
    };
}
pub(crate) use every_obligation;
