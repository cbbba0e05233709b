//! Keys of several scopes beside each other.

use std::time::Duration;

use crate::core::change::Change;
use crate::core::condition::Condition;
use crate::core::ids::{KeyName, ProjectId};
use crate::core::scope::Scope;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::adopted;
use crate::engine::{ManagedKey, RunMode};

const MINUTE: Duration = Duration::from_secs(60);

fn project() -> Scope {
    Scope::Project(ProjectId::new("proj_abc"))
}

fn project_key(number: u64) -> KeyName {
    KeyName::new(&format!("web-{number}")).unwrap()
}

/// Returns the changes of a project's key with the current credential
/// `key_<number>`.
fn current_in_project(number: u64) -> (KeyName, Vec<Change>) {
    let adopted = adopted(number, project());
    (project_key(number), vec![adopted])
}

fn managed_in_project(fakes: &Fakes, number: u64) -> ManagedKey {
    ManagedKey {
        scope: project(),
        ..fakes.managed_key(project_key(number), |_| {})
    }
}

#[tokio::test]
async fn a_condition_of_one_scope_leaves_the_keys_of_another_alone() {
    let fakes = Fakes::new(&[]);
    let numbers = [1, 2, 3];
    fakes
        .write_ledger(numbers.map(current_in_project).into())
        .await;
    let mut managed = vec![fakes.managed_key(key(), |_| {})];
    managed.extend(numbers.map(|number| managed_in_project(&fakes, number)));
    let mut engine = fakes.open_engine(managed, RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE * 60).await;
    let active = engine.active_conditions();
    assert_eq!(active.len(), 1, "{active:?}");
    assert_eq!(active[0].condition, Condition::Organization);
    assert_eq!(active[0].scope, Some(project()));
    assert!(active[0].problem.contains("of 3 keys"), "{active:?}");
    let recorded = "SELECT scope || ' ' || name FROM condition";
    assert_eq!(
        fakes.query_rows(recorded),
        ["project:proj_abc organization"]
    );
    assert!(engine.state(&key()).unwrap().current().is_some());
    assert_eq!(fakes.live_ids().len(), 1, "none of the project's");
}

#[tokio::test]
async fn a_row_is_compared_with_the_list_of_its_own_scope() {
    let fakes = Fakes::new(&[("key_1", "by hand")]);
    fakes.set_scope("key_1", &project());
    fakes.write_ledger(vec![current_in_project(1)]).await;
    // Its key is not configured any more: its rows tell the scope.
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    let calls = fakes.take_calls();
    assert_eq!(calls.iter().filter(|call| *call == "list").count(), 2);
    assert!(
        !calls.iter().any(|call| call.starts_with("retrieve")),
        "it is not missing: {calls:?}"
    );
    let unknown = "SELECT credential_id FROM unknown_credential";
    assert!(fakes.query_rows(unknown).is_empty());
    let reconciled = "SELECT scope FROM scope WHERE reconciled_at IS NOT NULL ORDER BY scope";
    assert_eq!(
        fakes.query_rows(reconciled),
        ["admin-keys", "project:proj_abc"]
    );
}

#[tokio::test]
async fn a_lookalike_in_another_scope_does_not_block_a_key() {
    let fakes = Fakes::new(&[("key_like", "billing-20261123T030000Z-5f3a9c")]);
    fakes.set_scope("key_like", &project());
    let managed = vec![
        fakes.managed_key(key(), |_| {}),
        managed_in_project(&fakes, 1),
    ];
    fakes.write_ledger(Vec::new()).await;
    let mut engine = fakes.open_engine(managed, RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE * 60).await;
    let lookalikes = "SELECT scope FROM unknown_credential WHERE kind = 'lookalike'";
    assert_eq!(fakes.query_rows(lookalikes), ["project:proj_abc"]);
    assert!(engine.state(&key()).unwrap().current().is_some());
}

#[tokio::test]
async fn a_scope_added_by_reload_is_reconciled_before_its_keys_start() {
    let fakes = Fakes::new(&[]);
    fakes.write_ledger(Vec::new()).await;
    let mut engine = fakes.open_engine(Vec::new(), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(engine.reconciled_at().is_some());
    let services = engine.services().clone();
    engine.reconfigure(services, vec![managed_in_project(&fakes, 1)]);
    assert_eq!(engine.reconciled_at(), None, "the new scope is not");
    fakes.run_for(&mut engine, MINUTE).await;
    assert!(engine.reconciled_at().is_some());
    let calls = fakes.take_calls();
    let created = calls.iter().position(|call| call == "create").unwrap();
    let listed = calls[..created].iter().filter(|call| *call == "list");
    assert_eq!(listed.count(), 2, "{calls:?}");
    let scopes = "SELECT scope FROM rotation";
    assert_eq!(fakes.query_rows(scopes), ["project:proj_abc"]);
}
