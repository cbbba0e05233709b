//! Retired credentials that the targets of sinks hold again.

use std::sync::Arc;
use std::time::Duration;

use crate::core::decide::sightings::has_open_sighting;
use crate::engine::RunMode;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::{HOUR, rotation_request};
use crate::provider::ErrorKind;

const MINUTE: Duration = Duration::from_secs(60);

/// Returns an engine whose sink `a` was restored: it holds the retired credential, which
/// may stay there for an hour.
async fn restored_file(fakes: &Fakes) -> crate::engine::Engine {
    fakes.write_ledger(Vec::new()).await;
    let mut managed = fakes.key_with("@monthly", &[("a", true)]);
    let policy = Arc::make_mut(&mut managed.policy);
    policy.overlap = 12 * HOUR;
    policy.max_revoke_delay = 2 * HOUR;
    policy.revoke_when_idle_for = Duration::ZERO;
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let label = fakes.query_rows("SELECT label FROM rotation");
    let secret: String = label[0].chars().rev().collect();
    assert!(engine.request_rotation(&key(), rotation_request()));
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.hold_key("a", &format!("sk-admin-{secret}"));
    fakes.run_for(&mut engine, HOUR + 5 * MINUTE).await;
    assert!(has_open_sighting(engine.state(&key()).unwrap()));
    engine
}

/// A wrong clock ends no tolerance: neither while it is known to be wrong, nor by what was
/// recorded before.
#[tokio::test]
async fn clock_that_jumps_ahead_for_a_while_ends_no_tolerance() {
    // The provider's time shows the difference before, with the next answer, or later.
    for (is_known_at_once, is_provider_away) in [(true, false), (false, false), (false, true)] {
        let case = format!("{is_known_at_once} {is_provider_away}");
        let fakes = Fakes::new(&[]);
        let mut engine = restored_file(&fakes).await;
        let jump = 3 * HOUR;
        if is_known_at_once {
            fakes.set_provider_clock_behind(jump);
            fakes.run_for(&mut engine, MINUTE).await;
        }
        fakes.fail_provider(is_provider_away.then_some(ErrorKind::Unreachable));
        fakes.advance_clock(jump);
        fakes.set_provider_clock_behind(jump);
        fakes.run_for(&mut engine, 5 * MINUTE).await;
        let drifts = fakes.journal_details("sink-drifted").len();
        assert!(drifts > 0 || !is_provider_away, "{case}");
        fakes.fail_provider(None);
        fakes.set_clock_back(jump);
        fakes.set_provider_clock_behind(Duration::ZERO);
        fakes.run_for(&mut engine, 20 * MINUTE).await;
        let state = engine.state(&key()).unwrap();
        assert!(has_open_sighting(state), "{case}");
        let accepted = "SELECT CAST(count(*) AS TEXT) FROM rotation";
        assert_eq!(fakes.query_rows(accepted), ["2"], "{case}");
        // By the right clock it ends as before.
        fakes.run_for(&mut engine, 2 * HOUR).await;
        assert_eq!(fakes.query_rows(accepted), ["3"], "{case}");
    }
}

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
