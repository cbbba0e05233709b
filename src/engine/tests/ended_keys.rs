//! Keys that an operator retires, and keys that the configuration renames.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::active_credential::CredentialUsage;
use crate::core::authority::Authority;
use crate::core::change::{Change, OperatorChange, OperatorNote};
use crate::core::decide::key_names::Rename;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::notification::{ChannelId, EventKind};
use crate::core::scope::Scope;
use crate::core::state::HELD_UNTIL_RELEASED;
use crate::core::subscriptions::{Subscription, Subscriptions};
use crate::engine::operator_command::{OperatorCommand, PendingCommand};
use crate::engine::tests::fake::{Fakes, key, sink_named};
use crate::engine::tests::notifications::send_all;
use crate::engine::tests::rotation_changes::adopted;
use crate::engine::{Engine, ManagedKey, RotationRequest, RunMode, Services};

const HOUR: Duration = Duration::from_secs(3_600);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
/// The overlap of the key.
const OVERLAP: Duration = Duration::from_secs(600);
const DAILY: &str = "0 6 * * *";

const PHASES: &str = "SELECT key || ' ' || phase FROM history ORDER BY sequence";

/// An engine with one key that was just rotated.
struct World {
    fakes: Fakes,
    engine: Engine,
}

impl World {
    async fn start() -> Self {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let engine = fakes
            .open_engine(vec![managed(&fakes)], RunMode::Daemon)
            .await;
        let mut world = Self { fakes, engine };
        world.advance(MINUTE).await;
        assert_eq!(world.phases(), ["billing current"]);
        world
    }

    async fn advance(&mut self, span: Duration) {
        self.fakes.run_for(&mut self.engine, span).await;
    }

    async fn run(&mut self, name: &KeyName, command: OperatorCommand) -> Result<String, String> {
        let (reply, receiver) = oneshot::channel();
        let pending = PendingCommand {
            command,
            started: Arc::default(),
            reply,
        };
        assert!(self.engine.submit_command(name, pending));
        self.advance(Duration::ZERO).await;
        receiver.await.unwrap().map_err(|error| error.to_string())
    }

    async fn retire(&mut self, is_immediate: bool) -> String {
        let command = OperatorCommand::Retire {
            is_immediate,
            operator: operator(),
        };
        self.run(&key(), command).await.unwrap()
    }

    async fn undo(&mut self) -> String {
        let command = OperatorCommand::UndoRetirement {
            operator: operator(),
        };
        self.run(&key(), command).await.unwrap()
    }

    async fn reload(&mut self, managed: Vec<ManagedKey>) {
        let services = self.engine.services().clone();
        self.engine.reconfigure(services, managed);
        self.advance(MINUTE).await;
    }

    /// Starts another process with the same ledger.
    async fn restart(&mut self, managed: Vec<ManagedKey>) {
        let mut services = self
            .fakes
            .services_with(self.engine.services().ledger.clone());
        services.max_in_flight = 1;
        self.engine = Engine::open(services, managed, RunMode::Daemon)
            .await
            .unwrap();
        self.advance(MINUTE).await;
    }

    fn phases(&self) -> Vec<String> {
        self.fakes.query_rows(PHASES)
    }
}

fn managed(fakes: &Fakes) -> ManagedKey {
    fakes.key_with(DAILY, &[("a", true)])
}

fn operator() -> Option<OperatorNote> {
    Some(OperatorNote {
        reason: Some("switched off".to_owned()),
        by: "ada".to_owned(),
    })
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

fn hold() -> OperatorCommand {
    OperatorCommand::Hold {
        credential: None,
        until: Some(HELD_UNTIL_RELEASED),
        authority: Authority::Destroy,
        operator: operator(),
    }
}

#[tokio::test]
async fn retired_key_ends_one_overlap_later() {
    let mut world = World::start().await;
    let reply = world.retire(false).await;
    assert!(reply.starts_with("billing: retired; "), "{reply}");
    assert!(reply.contains(" is revoked after 2026-"), "{reply}");
    assert_eq!(world.phases(), ["billing retired"]);
    let events = "SELECT event || ' ' || detail FROM events WHERE event = 'key-retired'";
    let events = world.fakes.query_rows(events);
    let expected = r#"key-retired {"by":"ada","reason":"switched off"}"#;
    assert_eq!(events, [expected]);
    world.advance(OVERLAP - 2 * MINUTE).await;
    assert_eq!(world.phases(), ["billing retired"]);
    world.advance(4 * MINUTE).await;
    assert_eq!(world.phases(), ["billing revoked"]);
    // Neither its schedule nor the loss of its credential makes it due.
    world.advance(3 * DAY).await;
    assert_eq!(world.phases(), ["billing revoked"]);
    assert_eq!(world.fakes.live_ids(), [""; 0]);
}

#[tokio::test]
async fn retired_key_stays_retired_over_restarts_and_reloads() {
    let mut world = World::start().await;
    world.retire(false).await;
    let keys = vec![managed(&world.fakes)];
    world.restart(keys).await;
    world.advance(DAY).await;
    let keys = vec![
        world
            .fakes
            .key_with("* * * * *", &[("a", true), ("b", true)]),
    ];
    world.reload(keys).await;
    world.advance(DAY).await;
    assert_eq!(world.phases(), ["billing revoked"]);
}

#[tokio::test]
async fn retired_key_is_not_rotated_by_request() {
    let mut world = World::start().await;
    world.retire(false).await;
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    assert!(!world.engine.request_rotation(&key(), request));
    let problem = world.engine.retirement_problem(&key()).unwrap();
    assert!(
        problem.contains("`rekeyd retire billing --undo`"),
        "{problem}"
    );
    assert!(world.engine.configured_keys().is_empty());
}

#[tokio::test]
async fn undone_retirement_rotates_the_key_and_keeps_its_credential_for_an_overlap() {
    let mut world = World::start().await;
    world.retire(false).await;
    world.advance(MINUTE).await;
    world.fakes.set_unavailable_sinks(&["a"]);
    let reply = world.undo().await;
    assert!(reply.starts_with("billing: no longer retired"), "{reply}");
    // The sink holds the former one until it accepts the new one.
    world.advance(HOUR).await;
    assert_eq!(world.phases(), ["billing retired", "billing verified"]);
    world.fakes.set_unavailable_sinks(&[]);
    world.advance(45 * MINUTE).await;
    world.advance(2 * OVERLAP).await;
    assert_eq!(world.phases(), ["billing revoked", "billing current"]);
    assert_eq!(world.undo().await, "billing is not retired");
}

#[tokio::test]
async fn open_rotation_of_a_retired_key_is_given_up() {
    let mut world = World::start().await;
    world.fakes.set_unavailable_sinks(&["a"]);
    let request = RotationRequest {
        operator: None,
        revoke_previous: false,
        replacement: crate::engine::ReplaceApproval::Refused,
    };
    assert!(world.engine.request_rotation(&key(), request));
    world.advance(MINUTE).await;
    assert_eq!(world.phases(), ["billing current", "billing verified"]);
    world.retire(false).await;
    world.advance(OVERLAP + 2 * MINUTE).await;
    assert_eq!(world.fakes.live_ids(), [""; 0]);
    world.advance(2 * DAY).await;
    assert_eq!(world.phases(), ["billing revoked", "billing revoked"]);
}

#[tokio::test]
async fn hold_outlasts_a_retirement() {
    let mut world = World::start().await;
    world.run(&key(), hold()).await.unwrap();
    world.retire(false).await;
    world.advance(30 * DAY).await;
    assert_eq!(world.phases(), ["billing retired"]);
    let reply = world.retire(true).await;
    assert!(reply.contains("revoked key_"), "{reply}");
    assert_eq!(world.phases(), ["billing revoked"]);
}

fn revoke(credential: &str) -> OperatorCommand {
    OperatorCommand::Revoke {
        credential: CredentialId::new(credential.to_owned()),
        force: false,
        name: None,
        authority: Authority::Full,
        operator: operator(),
    }
}

/// No newer credential takes the place of one of a retired key: what it advises must work.
#[tokio::test]
async fn refused_revocation_of_a_retired_key_names_what_ends_it() {
    for is_configured in [true, false] {
        let mut world = World::start().await;
        let credential = world.fakes.live_ids().remove(0);
        world.retire(false).await;
        if !is_configured {
            world.reload(Vec::new()).await;
        }
        let refused = world.run(&key(), revoke(&credential)).await.unwrap_err();
        assert!(
            refused.contains("`rekeyd retire billing --now`"),
            "{refused}"
        );
        assert!(refused.contains("is revoked after 20"), "{refused}");
        assert!(!refused.contains("rekeyd rotate"), "{refused}");
        world.retire(true).await;
        assert_eq!(world.fakes.live_ids(), [""; 0]);
    }
}

#[tokio::test]
async fn retired_key_ends_at_once_with_now() {
    let mut world = World::start().await;
    let reply = world.retire(true).await;
    assert!(
        reply.starts_with("billing: retired; revoked key_"),
        "{reply}"
    );
    assert_eq!(world.phases(), ["billing revoked"]);
    let again = world.retire(true).await;
    assert!(
        again.starts_with("billing: already retired since"),
        "{again}"
    );
}

#[tokio::test]
async fn own_credential_outlives_a_retirement() {
    for is_immediate in [false, true] {
        let mut world = World::start().await;
        world.fakes.set_usage(CredentialUsage::InUse);
        let reply = world.retire(is_immediate).await;
        assert!(
            !is_immediate || reply.contains("is not revoked yet"),
            "{reply}"
        );
        world.advance(DAY).await;
        assert_eq!(world.phases(), ["billing retired"]);
    }
}

#[tokio::test]
async fn key_that_left_the_configuration_is_retired_by_its_name() {
    let mut world = World::start().await;
    world.reload(Vec::new()).await;
    world.advance(9 * DAY).await;
    assert_eq!(world.phases(), ["billing current"]);
    world.retire(false).await;
    world.advance(DAY - HOUR).await;
    assert_eq!(world.phases(), ["billing retired"]);
    world.advance(2 * HOUR).await;
    assert_eq!(world.phases(), ["billing revoked"]);
}

/// Both keys have adopted one credential; each must be retired or have moved.
#[tokio::test]
async fn shared_credential_outlives_the_retirement_of_one_key() {
    for is_immediate in [false, true] {
        let fakes = Fakes::new(&[("key_1", "by hand")]);
        let adoption = |number, sink: &str| {
            let Change::Operator(OperatorChange::CredentialAdopted(mut one)) =
                adopted(number, Scope::AdminKeys)
            else {
                panic!("no adoption");
            };
            one.credential.id = CredentialId::new("key_1".to_owned());
            one.sinks = vec![(sink_named(sink), true)];
            Change::from(one)
        };
        let rows = vec![
            (key(), vec![adoption(1, "a")]),
            (name("reports"), vec![adoption(2, "b")]),
        ];
        fakes.write_ledger(rows).await;
        let mut other = fakes.key_with("@monthly", &[("b", true)]);
        other.name = name("reports");
        let own = fakes.key_with("@monthly", &[("a", true)]);
        let engine = fakes.open_engine(vec![own, other], RunMode::Daemon).await;
        let mut world = World { fakes, engine };
        world.advance(MINUTE).await;
        world.retire(is_immediate).await;
        world.advance(2 * DAY).await;
        assert_eq!(world.fakes.live_ids(), ["key_1"]);
        let command = OperatorCommand::Retire {
            is_immediate: false,
            operator: None,
        };
        world.run(&name("reports"), command).await.unwrap();
        world.advance(DAY).await;
        assert_eq!(world.fakes.live_ids(), [""; 0]);
    }
}

/// Returns the key under another name.
fn renamed(fakes: &Fakes, to: &str) -> ManagedKey {
    ManagedKey {
        name: name(to),
        ..managed(fakes)
    }
}

async fn rename(world: &mut World, from: &str, to: &str) {
    let renames = [Rename {
        from: name(from),
        to: name(to),
    }];
    world.engine.rename_keys(&renames).await.unwrap();
    let keys = vec![renamed(&world.fakes, to)];
    world.reload(keys).await;
}

#[tokio::test]
async fn renamed_key_keeps_its_credential_and_its_schedule() {
    let mut world = World::start().await;
    let live = world.fakes.live_ids();
    rename(&mut world, "billing", "invoices").await;
    assert_eq!(world.phases(), ["billing current"]);
    assert_eq!(world.fakes.live_ids(), live);
    world.advance(DAY).await;
    assert_eq!(world.phases(), ["billing revoked", "invoices current"]);
    // Again, and after a restart: every former name is one of the key.
    rename(&mut world, "invoices", "bills").await;
    let keys = vec![renamed(&world.fakes, "bills")];
    world.restart(keys).await;
    world.advance(DAY).await;
    let phases = ["billing revoked", "invoices revoked", "bills current"];
    assert_eq!(world.phases(), phases);
    let former = &world.engine.state(&name("bills")).unwrap().former_names;
    assert_eq!(*former, [name("billing"), name("invoices")]);
    // It gets its first name back.
    rename(&mut world, "bills", "billing").await;
    world.advance(DAY).await;
    assert_eq!(world.phases().last().unwrap(), "billing current");
    assert_eq!(world.fakes.live_ids().len(), 1);
}

#[tokio::test]
async fn open_rotation_continues_under_the_new_name() {
    let mut world = World::start().await;
    world.fakes.set_unavailable_sinks(&["a"]);
    world.advance(DAY).await;
    assert_eq!(world.phases(), ["billing current", "billing verified"]);
    rename(&mut world, "billing", "invoices").await;
    world.fakes.set_unavailable_sinks(&[]);
    world.advance(HOUR).await;
    assert_eq!(world.phases(), ["billing revoked", "billing current"]);
}

#[tokio::test]
async fn renamed_key_keeps_its_limits_and_its_retirement() {
    let mut world = World::start().await;
    rename(&mut world, "billing", "invoices").await;
    let since = world.fakes.now() - DAY;
    let ledger = world.engine.services().ledger.clone();
    let creates = ledger
        .creates_between(&name("invoices"), since, world.fakes.now())
        .await
        .unwrap();
    assert_eq!(creates.0, 1);
    let target = sink_named("a").target;
    world
        .fakes
        .execute_sql("UPDATE delivery SET file_owner = 7, file_group = 8, file_mode = 384");
    let access = ledger
        .recorded_access(&name("invoices"), &target)
        .await
        .unwrap();
    assert_eq!(access.map(|access| access.owner), Some(7));
    let command = OperatorCommand::Retire {
        is_immediate: false,
        operator: operator(),
    };
    world.run(&name("invoices"), command).await.unwrap();
    rename(&mut world, "invoices", "bills").await;
    world.advance(2 * DAY).await;
    assert_eq!(world.phases(), ["billing revoked"]);
}

/// A credential that looks like one of the former name is one of the key.
#[tokio::test]
async fn lookalikes_count_under_the_former_name() {
    let mut world = World::start().await;
    let labels = world.fakes.query_rows("SELECT label FROM history");
    rename(&mut world, "billing", "invoices").await;
    let mut lookalike = labels[0].clone();
    let last = lookalike.pop().unwrap();
    lookalike.push(if last == 'a' { 'b' } else { 'a' });
    world.fakes.add_credential("key_like", &lookalike);
    let keys = vec![renamed(&world.fakes, "invoices")];
    world.restart(keys).await;
    let found = world.engine.lookalikes_of(&name("invoices")).await.unwrap();
    assert_eq!(found, [CredentialId::new("key_like".to_owned())]);
}

/// Who was told of a failure is told of its end.
#[tokio::test]
async fn alert_of_a_renamed_key_ends_under_its_new_name() {
    let mut world = World::start().await;
    let channel = Subscription {
        channel: ChannelId::new("command:/bin/page".to_owned()),
        on: EventKind::DEFAULT.into_iter().collect(),
        keys: None,
        remind_every: None,
    };
    let subscribed = |world: &World| Services {
        subscriptions: Arc::new(Subscriptions::new(vec![channel.clone()])),
        ..world
            .fakes
            .services_with(world.engine.services().ledger.clone())
    };
    let services = subscribed(&world);
    let keys = vec![managed(&world.fakes)];
    world.engine.reconfigure(services, keys);
    world.fakes.set_unavailable_sinks(&["a"]);
    world.advance(DAY).await;
    let sent = "SELECT key || ' ' || alert_kind || ' ' || state FROM notification ORDER BY id";
    let begun = "SELECT key FROM alert WHERE kind = 'failing'";
    assert_eq!(world.fakes.query_rows(begun), ["billing"]);
    send_all(&world.engine).await;
    let renames = [Rename {
        from: key(),
        to: name("invoices"),
    }];
    world.engine.rename_keys(&renames).await.unwrap();
    let services = subscribed(&world);
    let keys = vec![renamed(&world.fakes, "invoices")];
    world.engine.reconfigure(services, keys);
    world.fakes.set_unavailable_sinks(&[]);
    world.advance(HOUR).await;
    let all = world.fakes.query_rows(sent);
    let failing: Vec<_> = all.iter().filter(|one| one.contains("failing")).collect();
    assert_eq!(failing, ["invoices failing begun", "invoices failing over"]);
    assert_eq!(world.fakes.query_rows("SELECT key FROM alert"), [""; 0]);
}
