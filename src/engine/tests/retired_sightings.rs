//! Retired credentials that the targets of sinks hold again.

use std::sync::Arc;
use std::time::Duration;

use crate::core::decide::sightings::has_open_sighting;
use crate::engine::RunMode;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::{HOUR, rotation_request};

const MINUTE: Duration = Duration::from_secs(60);

/// The provider shows no end of any secret: only what this process knows of the secrets
/// that came to it tells which one a target holds.
#[tokio::test]
async fn a_retired_credential_is_seen_although_no_end_is_shown() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut managed = fakes.key_with("@monthly", &[("a", true)]);
    let policy = Arc::make_mut(&mut managed.policy);
    policy.overlap = 3 * HOUR;
    policy.revoke_when_idle_for = Duration::ZERO;
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let retired = fakes.live_ids();
    let label = fakes.query_rows("SELECT label FROM rotation");
    let secret: String = label[0].chars().rev().collect();
    assert!(engine.request_rotation(&key(), rotation_request()));
    fakes.run_for(&mut engine, MINUTE).await;
    assert_eq!(fakes.live_ids().len(), 2);
    fakes.hold_key("a", &format!("sk-admin-{secret}"));
    fakes.run_for(&mut engine, 6 * HOUR).await;
    assert!(has_open_sighting(engine.state(&key()).unwrap()));
    assert_eq!(fakes.live_ids().len(), 2);
    assert!(fakes.live_ids().contains(&retired[0]));
}
