//! A credential that a person made, in the files of keys that did not adopt it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::active_credential::CredentialUsage;
use crate::core::authority::Authority;
use crate::core::change::{Change, OperatorChange};
use crate::core::decide::sightings::has_open_sighting;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::scope::Scope;
use crate::engine::operator_command::{
    CommandError, OperatorCommand, PendingCommand, Unrecognized,
};
use crate::engine::tests::fake::{Fakes, key, sink_named};
use crate::engine::tests::rotation_changes::adopted;
use crate::engine::{Engine, ManagedKey, RotationRequest, RunMode};
use crate::provider::{Effect, ErrorKind};
use crate::sink::UnseenCause;

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const OVERLAP: Duration = HOUR;
const MAX_DELAY: Duration = Duration::from_secs(24 * 3_600);
const SECRET: &str = "sk-admin-0123456789abcdefXYZ";

fn other() -> KeyName {
    KeyName::new("reports").unwrap()
}

/// Returns two keys, each with a sink of its own.
fn keys(fakes: &Fakes, is_required: bool) -> Vec<ManagedKey> {
    let mut first = fakes.key_with("@monthly", &[("first", true)]);
    let mut second = fakes.key_with("@monthly", &[("second", is_required), ("endpoint", true)]);
    for (managed, name) in [(&mut first, key()), (&mut second, other())] {
        managed.name = name;
        let policy = Arc::make_mut(&mut managed.policy);
        policy.overlap = OVERLAP;
        policy.revoke_when_idle_for = Duration::ZERO;
        policy.max_revoke_delay = MAX_DELAY;
    }
    vec![first, second]
}

/// Returns an engine whose first key has adopted `key_1`, which the file of the second key
/// also holds.
async fn engine_of(fakes: &Fakes, is_required: bool) -> Engine {
    let Change::Operator(OperatorChange::CredentialAdopted(mut adopted)) =
        adopted(1, Scope::AdminKeys)
    else {
        panic!("no adoption");
    };
    adopted.credential.redacted_value = Some("sk-admin-...XYZ".to_owned());
    adopted.sinks = vec![(sink_named("first"), true)];
    fakes.set_redacted("key_1", "sk-admin-...XYZ");
    fakes.set_content("first", Some(SECRET));
    fakes.set_content("second", Some(SECRET));
    fakes
        .write_ledger(vec![(key(), vec![Change::from(adopted)])])
        .await;
    let mut services = fakes.services();
    services.max_in_flight = 4;
    let keys = keys(fakes, is_required);
    Engine::open(services, keys, RunMode::Daemon).await.unwrap()
}

/// Drives the engine until a condition holds, while a request may be unanswered.
async fn run_beside_request(fakes: &Fakes, engine: &mut Engine, over: impl Fn(&Fakes) -> bool) {
    while !over(fakes) {
        engine.start_due();
        tokio::select! {
            biased;
            _ = engine.process_completions() => {}
            () = tokio::task::yield_now() => {}
        }
    }
    engine.start_due();
}

fn rotate(engine: &mut Engine, key: &KeyName, revoke_previous: bool, may_replace: bool) {
    let request = RotationRequest {
        operator: None,
        revoke_previous,
        replacement: if may_replace {
            crate::engine::ReplaceApproval::Approved
        } else {
            crate::engine::ReplaceApproval::Refused
        },
    };
    assert!(engine.request_rotation(key, request));
}

async fn run(
    fakes: &Fakes,
    engine: &mut Engine,
    key: &KeyName,
    command: OperatorCommand,
) -> Result<String, CommandError> {
    let (reply, receiver) = oneshot::channel();
    let pending = PendingCommand {
        command,
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(key, pending));
    fakes.run_for(engine, MINUTE).await;
    receiver.await.unwrap()
}

fn id() -> CredentialId {
    CredentialId::new("key_1".to_owned())
}

fn adopt() -> OperatorCommand {
    OperatorCommand::Adopt {
        credential: id(),
        force: false,
        unrecognized: Unrecognized::Adopted,
        operator: None,
    }
}

fn revoke(force: bool) -> OperatorCommand {
    OperatorCommand::Revoke {
        credential: id(),
        force,
        name: None,
        authority: Authority::Full,
        operator: None,
    }
}

fn is_alive(fakes: &Fakes) -> bool {
    fakes.live_ids().contains(&"key_1".to_owned())
}

/// Whatever takes the credential out of the other key's file ends the wait.
#[tokio::test]
async fn credential_in_the_file_of_another_key_is_kept_until_that_moves() {
    for revokes_previous in [false, true] {
        for end in ["adopted", "replaced", "removed", "other"] {
            let fakes = Fakes::new(&[("key_1", "by hand")]);
            let mut engine = engine_of(&fakes, true).await;
            rotate(&mut engine, &key(), revokes_previous, false);
            fakes.run_for(&mut engine, OVERLAP * 6).await;
            assert!(is_alive(&fakes), "{end}");
            let error = "SELECT error FROM history WHERE credential_id = 'key_1'";
            let error = fakes.query_rows(error).concat();
            for part in [
                "second",
                "reports",
                "without a limit",
                "`rekeyd adopt reports key_1`",
                "`rekeyd rotate reports --replace`",
            ] {
                assert!(error.contains(part), "{part}: {error}");
            }
            match end {
                "adopted" => {
                    let adopted = run(&fakes, &mut engine, &other(), adopt()).await;
                    adopted.unwrap();
                    fakes.run_for(&mut engine, OVERLAP * 3).await;
                    assert!(is_alive(&fakes), "it is that of reports");
                    rotate(&mut engine, &other(), false, false);
                    fakes.run_for(&mut engine, OVERLAP / 2).await;
                    assert!(is_alive(&fakes), "reports is in its overlap");
                }
                "replaced" => rotate(&mut engine, &other(), false, true),
                "removed" => fakes.set_content("second", None),
                _ => fakes.set_content("second", Some("sk-admin-0123456789abcdefABC")),
            }
            fakes.run_for(&mut engine, OVERLAP * 2).await;
            assert!(!is_alive(&fakes), "{end}");
        }
    }
}

/// Both keys adopted it and have moved; somebody goes back to it in one file, which no drift
/// check has seen when the other key's revocation is due.
#[tokio::test]
async fn credential_in_a_file_of_a_key_that_has_moved_is_kept_until_its_repair() {
    for asks in [false, true] {
        let fakes = Fakes::new(&[("key_1", "by hand")]);
        let mut engine = engine_of(&fakes, true).await;
        run(&fakes, &mut engine, &other(), adopt()).await.unwrap();
        rotate(&mut engine, &key(), false, false);
        rotate(&mut engine, &other(), false, false);
        fakes.run_for(&mut engine, OVERLAP - 2 * MINUTE).await;
        assert!(is_alive(&fakes));
        fakes.set_content("second", Some(SECRET));
        fakes.hold_key("second", SECRET);
        if asks {
            let refused = run(&fakes, &mut engine, &key(), revoke(false)).await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("second"), "{refused}");
        }
        fakes.run_for(&mut engine, 4 * MINUTE).await;
        assert!(is_alive(&fakes), "its consumer would be cut off");
        fakes.run_for(&mut engine, MAX_DELAY - OVERLAP).await;
        assert!(is_alive(&fakes), "whoever went back to it has a day");
        assert!(has_open_sighting(engine.state(&other()).unwrap()));
    }
}

#[tokio::test]
async fn operator_is_told_which_file_holds_a_credential() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, true).await;
    rotate(&mut engine, &key(), false, false);
    fakes.run_for(&mut engine, OVERLAP * 2).await;
    let refused = run(&fakes, &mut engine, &key(), revoke(false)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("second") && refused.contains("--force"),
        "{refused}"
    );
    run(&fakes, &mut engine, &key(), revoke(true))
        .await
        .unwrap();
    assert!(!is_alive(&fakes));
}

/// A file that cannot be seen may hold what a person made. What rekeyd made was given to
/// nobody else, and a key with a row of its own knows what it has there.
#[tokio::test]
async fn file_out_of_sight_delays_the_end_of_an_adopted_credential() {
    for revokes_previous in [false, true] {
        for end in ["seen without it", "seen with it", "its own key", "bound"] {
            let fakes = Fakes::new(&[("key_1", "by hand")]);
            let mut engine = engine_of(&fakes, true).await;
            fakes.set_unseen("second", Some(UnseenCause::Leased));
            rotate(&mut engine, &key(), revokes_previous, false);
            fakes.run_for(&mut engine, OVERLAP * 6).await;
            assert!(is_alive(&fakes), "{end}");
            let row = "SELECT coalesce(deferral, '') || ' ' || coalesce(error, '') FROM rotation WHERE credential_id = 'key_1'";
            let row = fakes.query_rows(row).concat();
            for part in ["file-unseen", "second", "reports", "lease", "at the latest"] {
                assert!(row.contains(part), "{part}: {row}");
            }
            let refused = run(&fakes, &mut engine, &key(), revoke(false)).await;
            let refused = refused.unwrap_err().to_string();
            assert!(
                refused.contains("lease") && refused.contains("--force"),
                "{refused}"
            );
            match end {
                "seen without it" => {
                    fakes.set_unseen("second", None);
                    fakes.set_content("second", None);
                }
                "its own key" => rotate(&mut engine, &other(), false, true),
                // What a person gave to that key is no matter of time.
                "seen with it" => {
                    fakes.set_unseen("second", None);
                    fakes.run_for(&mut engine, MAX_DELAY * 2).await;
                    assert!(is_alive(&fakes));
                    // Nor does it end at once when the file is out of sight again.
                    fakes.set_unseen("second", Some(UnseenCause::FolderMissing));
                    fakes.run_for(&mut engine, MAX_DELAY / 2).await;
                    assert!(is_alive(&fakes));
                    fakes.run_for(&mut engine, MAX_DELAY).await;
                }
                _ => fakes.run_for(&mut engine, MAX_DELAY).await,
            }
            fakes.run_for(&mut engine, OVERLAP).await;
            assert!(!is_alive(&fakes), "{end}");
        }
    }
}

/// A user who writes a file cannot keep a credential of rekeyd's alive without end.
#[tokio::test]
async fn file_delays_the_end_of_a_created_credential_for_a_while() {
    for is_seen in [true, false] {
        let fakes = Fakes::new(&[]);
        let mut engine = fakes.open_engine(keys(&fakes, true), RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        let first = fakes.query_rows(
            "SELECT credential_id FROM history WHERE key = 'billing' AND phase = 'current'",
        );
        let first = first.concat();
        fakes.set_redacted(&first, "sk-admin-...XYZ");
        let is_alive = |fakes: &Fakes| fakes.live_ids().contains(&first);
        assert!(is_alive(&fakes), "{first}");
        if is_seen {
            fakes.set_content("second", Some(SECRET));
        } else {
            fakes.set_unseen("second", Some(UnseenCause::PermissionDenied));
        }
        rotate(&mut engine, &key(), false, false);
        fakes.run_for(&mut engine, OVERLAP * 3).await;
        assert_eq!(is_alive(&fakes), is_seen);
        fakes.run_for(&mut engine, MAX_DELAY).await;
        assert!(!is_alive(&fakes));
    }
}

/// No rotation follows for an optional sink that has accepted a newer credential.
#[tokio::test]
async fn optional_file_counts_until_it_accepted_another_credential() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, false).await;
    rotate(&mut engine, &key(), false, false);
    fakes.run_for(&mut engine, OVERLAP * 3).await;
    assert!(is_alive(&fakes));
    rotate(&mut engine, &other(), false, true);
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.set_content("second", Some(SECRET));
    fakes.run_for(&mut engine, HOUR).await;
    assert!(!is_alive(&fakes));
}

/// A key without the sink `self` adopts rekeyd's own credential if its file holds it.
#[tokio::test]
async fn own_credential_is_adopted_by_each_key_whose_file_holds_it() {
    for (content, is_adopted) in [
        (Some(SECRET), true),
        (Some("sk-admin-0123456789abcdefABC"), false),
        (None, false),
    ] {
        let fakes = Fakes::new(&[("key_1", "by hand")]);
        let mut engine = engine_of(&fakes, true).await;
        fakes.set_usage(CredentialUsage::InUse);
        fakes.set_content("second", content);
        let adopted = run(&fakes, &mut engine, &other(), adopt()).await;
        assert_eq!(adopted.is_ok(), is_adopted, "{content:?}: {adopted:?}");
    }
}

/// A person who follows the advice of a deferral sees the result at once, and not a quarter
/// of an hour later.
#[tokio::test]
async fn deferral_ends_as_soon_as_its_reason_does() {
    for end in ["replaced", "reload", "restart", "own credential"] {
        let fakes = Fakes::new(&[("key_1", "by hand")]);
        let mut engine = engine_of(&fakes, true).await;
        if end == "own credential" {
            fakes.set_content("second", None);
            fakes.set_usage(CredentialUsage::MayBeInUse);
        }
        rotate(&mut engine, &key(), false, false);
        fakes.run_for(&mut engine, OVERLAP * 6).await;
        assert!(is_alive(&fakes), "{end}");
        match end {
            "replaced" => rotate(&mut engine, &other(), false, true),
            "reload" => {
                fakes.set_content("second", None);
                engine.reconfigure(engine.services().clone(), keys(&fakes, true));
            }
            "restart" => {
                fakes.set_content("second", None);
                engine.stop().await;
                drop(engine);
                engine = fakes.open_engine(keys(&fakes, true), RunMode::Daemon).await;
            }
            _ => fakes.set_usage(CredentialUsage::Unused),
        }
        fakes.run_for(&mut engine, MINUTE).await;
        assert!(!is_alive(&fakes), "{end}");
        assert!(engine.is_idle(), "{end}");
    }
}

/// The reason of a first deferral ends while the worker that decided it has more to do.
#[tokio::test]
async fn deferral_ends_although_its_worker_was_at_work_when_its_reason_did() {
    for end in ["replaced", "reload", "own credential"] {
        let fakes = Fakes::new(&[("key_1", "by hand"), ("key_2", "by hand, too")]);
        fakes.set_redacted("key_2", "sk-admin-...ABC");
        let mut engine = engine_of(&fakes, true).await;
        if end == "own credential" {
            fakes.set_content("second", None);
            fakes.set_usage(CredentialUsage::MayBeInUse);
        }
        let adopt = OperatorCommand::Adopt {
            credential: CredentialId::new("key_2".to_owned()),
            force: true,
            unrecognized: Unrecognized::Adopted,
            operator: None,
        };
        run(&fakes, &mut engine, &key(), adopt).await.unwrap();
        fakes.take_calls();
        fakes.hold_retrieval(Some("key_2"));
        rotate(&mut engine, &key(), true, false);
        let deferrals = "SELECT count(*) || '' FROM rotation WHERE deferral IS NOT NULL";
        let is_deferred = |fakes: &Fakes| fakes.query_rows(deferrals) == ["1"];
        run_beside_request(&fakes, &mut engine, is_deferred).await;
        match end {
            "replaced" => {
                rotate(&mut engine, &other(), false, true);
                let current = "SELECT count(*) || '' FROM history WHERE phase = 'current'";
                let has_moved = |fakes: &Fakes| fakes.query_rows(current) == ["2"];
                run_beside_request(&fakes, &mut engine, has_moved).await;
                // Its worker returns.
                for _ in 0..100 {
                    run_beside_request(&fakes, &mut engine, |_| true).await;
                    tokio::task::yield_now().await;
                }
            }
            "reload" => {
                fakes.set_content("second", None);
                engine.reconfigure(engine.services().clone(), keys(&fakes, true));
            }
            _ => fakes.set_usage(CredentialUsage::Unused),
        }
        run_beside_request(&fakes, &mut engine, |_| true).await;
        assert!(engine.active_tasks() > 0, "{end}: its worker is at work");
        fakes.hold_retrieval(None);
        fakes.run_for(&mut engine, MINUTE).await;
        assert!(!is_alive(&fakes), "{end}");
    }
}

/// A deferral whose reason stays is decided once for each cause, not again and again.
#[tokio::test]
async fn deferral_whose_reason_stays_waits_for_its_time_again() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    let mut engine = engine_of(&fakes, true).await;
    rotate(&mut engine, &key(), false, false);
    fakes.run_for(&mut engine, OVERLAP * 6).await;
    let waits_until = || {
        let row = "SELECT retry_at FROM rotation WHERE credential_id = 'key_1'";
        fakes.query_rows(row).concat()
    };
    engine.reconfigure(engine.services().clone(), keys(&fakes, true));
    fakes.run_for(&mut engine, MINUTE).await;
    let until = waits_until();
    for _ in 0..5 {
        fakes.run_for(&mut engine, MINUTE).await;
        assert_eq!(waits_until(), until);
    }
    assert!(is_alive(&fakes));
}

/// The text in another key's file ends like a double of an unclear create.
#[tokio::test]
async fn file_that_holds_a_double_does_not_block_its_key() {
    let fakes = Fakes::new(&[]);
    let mut engine = fakes.open_engine(keys(&fakes, true), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
    rotate(&mut engine, &key(), false, false);
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let open = engine.state(&key()).unwrap().open_rotation().cloned();
    let label = open.unwrap().label.unwrap();
    fakes.add_credential("key_a", label.as_str());
    fakes.add_credential("key_b", label.as_str());
    fakes.set_redacted("key_b", "sk-admin-...XYZ");
    fakes.set_content("second", Some(SECRET));
    fakes.fail_creates(None);
    fakes.run_for(&mut engine, MINUTE * 90).await;
    let state = engine.state(&key()).unwrap();
    assert!(state.open_rotation().is_none(), "{state:?}");
    let live = fakes.live_ids();
    assert!(!live.contains(&"key_a".to_owned()), "{live:?}");
    assert!(live.contains(&"key_b".to_owned()), "{live:?}");
    let searches = fakes.take_calls();
    let searches = searches.iter().filter(|call| call.starts_with("find "));
    assert!(searches.count() <= 2);
}
