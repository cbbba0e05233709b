//! Credentials for which the provider answers 404 although they are alive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::condition::Condition;
use crate::core::ids::CredentialId;
use crate::core::scope::Scope;
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::revocation::engine_with_retired_credential;
use crate::engine::tests::rotation_changes::current;
use crate::engine::{Engine, RotationRequest, RunMode};

const OVERLAP: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);

async fn revoke(fakes: &Fakes, engine: &mut Engine, force: bool) -> Result<String, CommandError> {
    let (reply, mut answer) = oneshot::channel();
    let command = OperatorCommand::Revoke {
        credential: CredentialId::new("key_1".to_owned()),
        operator: None,
        force,
        name: None,
        authority: Authority::Full,
    };
    let pending = PendingCommand {
        command,
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&key(), pending));
    fakes.run_for(engine, MINUTE).await;
    answer.try_recv().unwrap()
}

/// Returns whether the ledger has `key_1` as one that is alive, and its error.
fn is_live(fakes: &Fakes) -> (bool, String) {
    let row = "SELECT phase || ': ' || coalesce(error, '') FROM history
               WHERE credential_id = 'key_1'";
    let row = fakes.query_rows(row).concat();
    (!row.starts_with("revoked"), row)
}

/// Each 404 is contradicted: by the list, or because the provider shows none of the key's
/// credentials, as with the admin key of another organization.
#[tokio::test]
async fn what_a_404_hides_is_not_gone() {
    for (hidden, is_listed, expected) in [
        ("key_1", true, "its list contains it"),
        ("key_", true, "its list contains it"),
        ("key_", false, "another organization"),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = engine_with_retired_credential(&fakes).await;
        fakes.hide_credentials(Some(hidden));
        if !is_listed {
            fakes.override_list(&[]);
        }
        fakes.run_for(&mut engine, OVERLAP * 3).await;
        let (alive, row) = is_live(&fakes);
        assert!(
            alive && row.contains(expected),
            "{hidden} {is_listed}: {row}"
        );
        assert!(fakes.live_ids().contains(&"key_1".to_owned()));
        let others = fakes.query_rows("SELECT credential_id FROM history WHERE phase = 'current'");
        assert_eq!(
            others.len(),
            1,
            "{hidden}: nothing else was created: {others:?}"
        );
        assert_eq!(fakes.live_ids().len(), 2);
        // Nor does an operator's word make it so.
        for force in [false, true] {
            let refused = revoke(&fakes, &mut engine, force).await;
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(expected), "{hidden} {force}: {error}");
            assert!(is_live(&fakes).0, "{hidden} {force}");
        }
        // Once the provider shows it, it goes.
        fakes.hide_credentials(None);
        fakes.restore_list();
        fakes.run_for(&mut engine, OVERLAP * 24).await;
        assert!(!fakes.live_ids().contains(&"key_1".to_owned()), "{hidden}");
        assert!(!is_live(&fakes).0);
    }
}

/// What is really gone ends.
#[tokio::test]
async fn what_neither_a_request_nor_the_list_shows_is_gone() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = engine_with_retired_credential(&fakes).await;
    fakes.remove_credential("key_1");
    fakes.run_for(&mut engine, OVERLAP * 2).await;
    assert!(!is_live(&fakes).0);
    assert_eq!(fakes.live_ids().len(), 1);
}

/// Even with one key, the admin key of another organization neither ends nor creates
/// anything, until the right one is back or an operator confirms it.
#[tokio::test]
async fn list_of_another_organization_is_a_condition() {
    for is_confirmed in [false, true] {
        let fakes = Fakes::new(&[("key_1", "label-1"), ("key_admin", "by hand")]);
        fakes.write_ledger(vec![(key(), current(1))]).await;
        let managed = || fakes.managed_key(key(), |policy| policy.overlap = OVERLAP);
        let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        drop(engine);
        fakes.override_list(&[("key_other", "of the other organization")]);
        fakes.hide_credentials(Some("key_"));
        let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
        let is_active = |engine: &Engine| {
            let conditions = &engine.services().conditions;
            conditions.is_active_in(&Scope::AdminKeys, Condition::Organization)
        };
        let request = || RotationRequest {
            operator: None,
            revoke_previous: false,
            replacement: crate::engine::ReplaceApproval::Refused,
        };
        engine.request_rotation(&key(), request());
        fakes.run_for(&mut engine, OVERLAP).await;
        assert!(is_active(&engine));
        assert!(is_live(&fakes).0);
        assert_eq!(fakes.live_ids().len(), 2, "nothing was created");
        if is_confirmed {
            fakes.hide_credentials(Some("key_1"));
            engine.request_all(&request());
            fakes.run_for(&mut engine, MINUTE).await;
            assert!(!is_active(&engine));
            assert_eq!(fakes.live_ids().len(), 3, "the requested one");
        } else {
            fakes.hide_credentials(None);
            fakes.restore_list();
            fakes.run_for(&mut engine, MINUTE * 10).await;
            assert!(!is_active(&engine));
            assert_eq!(fakes.live_ids().len(), 3, "the requested one");
        }
    }
}

/// However recent the last list is, no create precedes a list with the admin key that this
/// process works with.
#[tokio::test]
async fn first_create_with_an_admin_key_follows_a_list() {
    for (mode, is_leak, is_foreign) in [
        (RunMode::Daemon, false, true),
        (RunMode::Once, false, true),
        (RunMode::Command, false, true),
        (RunMode::Command, true, true),
        (RunMode::Once, false, false),
        (RunMode::Command, true, false),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1"), ("key_admin", "by hand")]);
        fakes.write_ledger(vec![(key(), current(1))]).await;
        let managed = || fakes.managed_key(key(), |policy| policy.overlap = OVERLAP);
        let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
        fakes.run_for(&mut engine, MINUTE).await;
        if mode == RunMode::Daemon {
            fakes.replace_admin_key();
        } else {
            drop(engine);
            engine = fakes.open_engine(vec![managed()], mode).await;
        }
        if is_foreign {
            fakes.override_list(&[("key_other", "of the other organization")]);
        }
        fakes.take_calls();
        let request = RotationRequest {
            operator: None,
            revoke_previous: is_leak,
            replacement: crate::engine::ReplaceApproval::Refused,
        };
        engine.request_rotation(&key(), request.clone());
        fakes.run_for(&mut engine, MINUTE).await;
        let case = format!("{mode:?} {is_leak} {is_foreign}");
        let calls = fakes.take_calls();
        let list = calls.iter().position(|call| call == "list");
        let create = calls.iter().position(|call| call.starts_with("create"));
        assert!(list.is_some(), "{case}: {calls:?}");
        assert_eq!(create.is_none(), is_foreign, "{case}: {calls:?}");
        assert!(is_foreign || list < create, "{case}: {calls:?}");
        // One list is enough for a process.
        if !is_foreign {
            engine.request_rotation(&key(), request);
            fakes.run_for(&mut engine, MINUTE).await;
            let calls = fakes.take_calls();
            assert!(
                !calls.iter().any(|call| call == "list"),
                "{case}: {calls:?}"
            );
            assert!(calls.iter().any(|call| call.starts_with("create")));
        }
    }
}

/// Credentials that a list shows again are looked for at once.
#[tokio::test]
async fn credential_that_is_back_in_the_list_is_missing_no_longer() {
    let fakes = Fakes::new(&[("key_1", "label-1"), ("key_admin", "by hand")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = || fakes.managed_key(key(), |policy| policy.overlap = OVERLAP);
    fakes.hide_credentials(Some("key_1"));
    fakes.override_list(&[("key_admin", "by hand")]);
    let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let is_missing = |engine: &Engine| {
        let current = engine.state(&key()).unwrap().current().unwrap();
        current.missing.is_some()
    };
    assert!(is_missing(&engine));
    drop(engine);
    fakes.hide_credentials(None);
    fakes.restore_list();
    let mut engine = fakes.open_engine(vec![managed()], RunMode::Daemon).await;
    fakes.run_for(&mut engine, Duration::from_secs(5)).await;
    assert!(!is_missing(&engine));
}
