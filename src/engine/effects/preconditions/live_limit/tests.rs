//! Which rotations are evictable.

use super::*;
use crate::core::change::Adoption;
use crate::core::ids::CredentialId;
use crate::core::scope::Scope;
use crate::core::state::CredentialMetadata;
use crate::engine::RunMode;
use crate::engine::tests::fake::{Fakes, key, sink_id};
use crate::engine::tests::rotation_changes::{
    created, current, delivery_started, rotation, transitioned,
};

/// Returns the one rotation that these changes lead to.
async fn rotation_after(changes: Vec<Change>) -> Rotation {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed_key(key(), |_| {});
    let engine = fakes.open_engine(vec![managed], RunMode::Command).await;
    engine.state(&key()).unwrap().live[0].clone()
}

#[tokio::test]
async fn only_stranded_rotations_without_deliveries_are_evictable() {
    let interrupted = |mut changes: Vec<Change>| {
        changes.push(transitioned(1, LifecycleEvent::Interrupted));
        changes
    };
    assert!(is_evictable(&rotation_after(interrupted(created(1))).await));
    assert!(!is_evictable(
        &rotation_after(interrupted(delivery_started(1))).await
    ));
    assert!(
        !is_evictable(&rotation_after(created(1)).await),
        "it is open"
    );
    assert!(!is_evictable(&rotation_after(current(1)).await));
    // An operator has delivered an adopted credential.
    let adopted = Change::from(Adoption {
        rotation: rotation(1),
        scope: Scope::AdminKeys,
        sequence: 1,
        credential: CredentialMetadata {
            id: CredentialId::new("key_1".to_owned()),
            redacted_value: None,
            created_at: None,
            expires_at: None,
        },
        name: None,
        hold: None,
        event: LifecycleEvent::AdoptedAlongside,
        seen_in: Vec::new(),
        sinks: vec![(sink_id(), true)],
        operator: None,
    });
    assert!(!is_evictable(&rotation_after(vec![adopted]).await));
}
