//! What gives way, and what does not.

use super::*;
use crate::core::change::Adoption;
use crate::core::record::CredentialFacts;
use crate::engine::Course;
use crate::engine::tests::fake::{Fakes, key, sink_id};
use crate::engine::tests::rows::{begun, created, current, moved, rotation};

/// The one rotation that these changes lead to.
async fn after(changes: Vec<Change>) -> Rotation {
    let fakes = Fakes::new(&[]);
    fakes.ledger(vec![(key(), changes)]).await;
    let managed = fakes.managed(key(), |_| {});
    let engine = fakes.open(vec![managed], Course::ByHand).await;
    engine.state(&key()).unwrap().live[0].clone()
}

#[tokio::test]
async fn only_what_was_never_delivered_is_untouched() {
    let found_open = |mut changes: Vec<Change>| {
        changes.push(moved(1, Event::FoundOpen));
        changes
    };
    assert!(is_untouched(&after(found_open(created(1))).await));
    assert!(!is_untouched(&after(found_open(begun(1))).await));
    assert!(!is_untouched(&after(created(1)).await), "it is open");
    assert!(!is_untouched(&after(current(1)).await));
    // Whoever made it by hand has delivered it by hand.
    let adopted = Change::Adopted(Adoption {
        rotation: rotation(1),
        credential: CredentialFacts {
            id: CredentialId::new("key_1".to_owned()),
            redacted_value: None,
            created_at: None,
            expires_at: None,
        },
        event: Event::AdoptedBesides,
        sinks: vec![(sink_id(), true)],
        by_hand: None,
    });
    assert!(!is_untouched(&after(vec![adopted]).await));
}
