//! What the ledger keeps by scope.

use jiff::SignedDuration;
use rekeyd::core::change::{Change, RotationIntent};
use rekeyd::core::ids::{CredentialId, KeyName, Label, ProjectId, RotationId};
use rekeyd::core::scope::Scope;
use rekeyd::core::state::{CredentialMetadata, Trigger};
use rekeyd::ledger::{
    Ledger, LedgerError, LedgerIdentity, LedgerOptions, RemoteCredential, RemoteState,
    UnknownCredential, WriterDriver,
};

use crate::{at, block_on, key, ledger, options, raw_ledger, record, transitioned};

fn project() -> Scope {
    Scope::Project(ProjectId::new("proj_abc"))
}

fn intent_in(scope: Scope, number: u64) -> Change {
    Change::from(RotationIntent {
        rotation: RotationId::new(number.to_be_bytes()),
        scope,
        sequence: number,
        label: Label::from_recorded(format!("label-{number}")),
        trigger: Trigger::First,
        scheduled_for: None,
        not_created_before: None,
        timetable: String::new(),
        sinks: Vec::new(),
        operator: None,
    })
}

fn metadata(id: &str) -> CredentialMetadata {
    CredentialMetadata {
        id: CredentialId::new(id.to_owned()),
        redacted_value: None,
        created_at: Some(at()),
        expires_at: None,
    }
}

fn created(number: u64) -> Change {
    let moved = transitioned(number, rekeyd::core::lifecycle::LifecycleEvent::Created);
    let Change::Rotation(rekeyd::core::change::RotationChange::Transitioned(mut moved)) = moved
    else {
        unreachable!("a transition");
    };
    moved.credential = Some(metadata(&format!("key_{number}")));
    Change::from(moved)
}

fn listed(id: &str, name: &str) -> RemoteCredential {
    RemoteCredential {
        metadata: metadata(id),
        name: Some(name.to_owned()),
        end: rekeyd::core::reported_time::ShownEnd::Unknown,
    }
}

#[test]
fn a_credential_is_absent_only_from_the_list_of_its_own_scope() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    block_on(async {
        let ledger = ledger(&path);
        for (number, scope) in [(1, Scope::AdminKeys), (2, project())] {
            let changes = vec![intent_in(scope.clone(), number), created(number)];
            let state = record(&ledger, &key(number), changes).await.unwrap();
            assert_eq!(state.live[0].scope, scope);
            let read = ledger.key_state(&key(number)).await.unwrap();
            assert_eq!(read, state);
        }
        for (scope, number) in [(Scope::AdminKeys, 1), (project(), 2)] {
            let found = ledger.reconcile(&scope, Vec::new()).await.unwrap();
            let keys: Vec<_> = found.discrepancies.keys().cloned().collect();
            assert_eq!(keys, [key(number)], "{scope}");
            assert_eq!(
                found.discrepancies[&key(number)][0].remote_state,
                RemoteState::Absent
            );
        }
        // One that another scope lists is ours nevertheless.
        let moved = vec![listed("key_2", "label-2"), listed("key_9", "label-2")];
        let found = ledger.reconcile(&Scope::AdminKeys, moved).await.unwrap();
        assert_eq!(found.unknown, []);
        let of_key = &found.discrepancies[&key(2)];
        assert_eq!(of_key.len(), 1, "{of_key:?}");
        assert_eq!(
            of_key[0].remote_state,
            RemoteState::DuplicateLabel(metadata("key_9"))
        );
    });
}

#[test]
fn lookalikes_and_times_are_kept_by_scope() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let billing = KeyName::new("billing").unwrap();
    let name = "billing-20261123T030000Z-5f3a9c";
    let later = at() + SignedDuration::from_mins(5);
    let project = project();
    let seen = |id: &str| UnknownCredential {
        id: CredentialId::new(id.to_owned()),
        name: Some(name.to_owned()),
        is_lookalike: true,
    };
    block_on(async {
        let ledger = ledger(&path);
        let last = async |scope: &Scope| ledger.last_reconciliation(scope, at()).await.unwrap().0;
        assert_eq!(last(&project).await, None);
        let recorded = ledger.record_reconciliation(&project, at(), vec![seen("key_p")]);
        assert_eq!(recorded.await.unwrap().len(), 1);
        let recorded = ledger.record_reconciliation(&Scope::AdminKeys, later, vec![seen("key_a")]);
        assert_eq!(recorded.await.unwrap().len(), 1);
        assert_eq!(last(&project).await, Some(at()));
        assert_eq!(last(&Scope::AdminKeys).await, Some(later));
        for (scope, id) in [(project.clone(), "key_p"), (Scope::AdminKeys, "key_a")] {
            let found = ledger.lookalikes(&scope, &billing).await.unwrap();
            assert_eq!(found, [CredentialId::new(id.to_owned())], "{scope}");
        }
        // The same credential in another scope's list is another record.
        let recorded =
            ledger.record_reconciliation(&project, later, vec![seen("key_a"), seen("key_p")]);
        let new: Vec<_> = recorded.await.unwrap();
        assert_eq!(new, [seen("key_a")]);
    });
}

#[test]
fn an_unclear_create_concerns_its_own_scope() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    block_on(async {
        let ledger = ledger(&path);
        let failed = transitioned(1, rekeyd::core::lifecycle::LifecycleEvent::LabelNotFound);
        let changes = vec![intent_in(project(), 1), failed];
        record(&ledger, &key(1), changes).await.unwrap();
        let since = at() - SignedDuration::from_mins(5);
        for (scope, expected) in [(project(), true), (Scope::AdminKeys, false)] {
            let (_, is_unclear) = ledger.last_reconciliation(&scope, since).await.unwrap();
            assert_eq!(is_unclear, expected, "{scope}");
        }
    });
}

#[test]
fn conditions_of_two_scopes_stand_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let problems = || {
        let reader = rekeyd::ledger::LedgerReader::open(&path).unwrap();
        reader.snapshot().unwrap().conditions().unwrap()
    };
    block_on(async {
        let ledger = ledger(&path);
        let scopes = [None, Some(Scope::AdminKeys), Some(project())];
        for (number, scope) in scopes.iter().enumerate() {
            let since = at() + SignedDuration::from_secs(i64::try_from(number).unwrap());
            let problem = Some(format!("problem {number}"));
            let set = ledger.set_condition(scope.clone(), "organization", since, problem);
            set.await.unwrap();
        }
        assert_eq!(problems(), ["problem 0", "problem 1", "problem 2"]);
        let cleared = ledger.set_condition(Some(Scope::AdminKeys), "organization", at(), None);
        cleared.await.unwrap();
        assert_eq!(problems(), ["problem 0", "problem 2"]);
    });
}

#[test]
fn a_ledger_with_rotations_of_a_project_belongs_to_its_organization() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let other = LedgerOptions::new(LedgerIdentity {
        organization: "org-other".to_owned(),
        ..options().identity
    });
    let open =
        |options: &LedgerOptions| Ledger::open_unlocked(&path, options, at(), WriterDriver::Thread);
    let last = |ledger: &Ledger, scope: Scope| {
        block_on(async { ledger.last_reconciliation(&scope, at()).await.unwrap().0 })
    };
    let reconcile = |ledger: &Ledger| {
        block_on(async {
            for scope in [Scope::AdminKeys, project()] {
                let recorded = ledger.record_reconciliation(&scope, at(), Vec::new());
                recorded.await.unwrap();
            }
        });
    };
    let first = open(&options()).unwrap();
    reconcile(&first);
    drop(first);
    // Without rotations it becomes another one's, and its lists no longer count.
    let second = open(&other).unwrap();
    assert_eq!(last(&second, Scope::AdminKeys), None);
    assert_eq!(last(&second, project()), None);
    reconcile(&second);
    block_on(async {
        let started = vec![intent_in(project(), 1)];
        record(&second, &key(1), started).await.unwrap();
    });
    drop(second);
    let refused = open(&options()).map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, LedgerError::IdentityMismatch { .. }),
        "{refused}"
    );
    assert!(last(&open(&other).unwrap(), project()).is_some());
}

#[test]
fn the_scope_of_a_rotation_is_checked_and_immutable() {
    let (_dir, path, connection) = raw_ledger();
    block_on(async {
        let ledger = ledger(&path);
        let started = vec![intent_in(project(), 1)];
        record(&ledger, &key(1), started).await.unwrap();
    });
    let moved = connection.execute("UPDATE rotation SET scope = 'admin-keys'", []);
    assert!(moved.unwrap_err().to_string().contains("immutable"));
    for scope in ["daemon", "project:", ""] {
        let sql = "INSERT INTO rotation (rotation, key, scope, sequence, \"trigger\", started_at,
                       label, phase)
                   VALUES ('0000000000000009', 'key-1', ?1, 9, 'manual', '2026-11-24T03:00:00Z',
                       'label-9', 'intended')";
        let refused = connection.execute(sql, [scope]).unwrap_err().to_string();
        assert!(refused.contains("CHECK constraint failed"), "{refused}");
    }
}
