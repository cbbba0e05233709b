//! The end of what may have leaked, at its deadline.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::active_credential::CredentialUsage;
use crate::core::authority::Authority;
use crate::core::change::{Change, OperatorNote};
use crate::core::ids::CredentialId;
use crate::core::time;
use crate::engine::operator_command::{CommandError, OperatorCommand, PendingCommand};
use crate::engine::tests::captured_log::CapturedLog;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::{Engine, RunMode};
use crate::provider::{Effect, ErrorKind};
use crate::sink::Acceptance;

const SECOND: Duration = Duration::from_secs(1);
const WITHIN: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

async fn open(fakes: &Fakes, changes: Vec<Change>) -> Engine {
    fakes.write_ledger(vec![(key(), changes)]).await;
    reopen(fakes).await
}

async fn reopen(fakes: &Fakes) -> Engine {
    let managed = fakes.managed_key(key(), |policy| {
        policy.overlap = HOUR;
        policy.max_live_credentials = 1;
        policy.max_creates_per_day = 1;
    });
    fakes.open_engine(vec![managed], RunMode::Daemon).await
}

type Reply = oneshot::Receiver<Result<String, CommandError>>;

fn submit(engine: &mut Engine, command: OperatorCommand) -> Reply {
    let (reply, receiver) = oneshot::channel();
    let pending = PendingCommand {
        command,
        started: Arc::default(),
        reply,
    };
    assert!(engine.submit_command(&key(), pending));
    receiver
}

fn end_present(engine: &mut Engine, force: bool, by: &str) -> Reply {
    end_present_within(engine, WITHIN, force, by)
}

fn end_present_within(engine: &mut Engine, within: Duration, force: bool, by: &str) -> Reply {
    end_present_as(engine, within, force, (by, Authority::Destroy))
}

fn end_present_as(
    engine: &mut Engine,
    within: Duration,
    force: bool,
    (by, authority): (&str, Authority),
) -> Reply {
    let command = OperatorCommand::EndPresent {
        within,
        force,
        may_replace: false,
        holders: Vec::new(),
        authority,
        operator: Some(OperatorNote {
            reason: None,
            by: by.to_owned(),
        }),
    };
    submit(engine, command)
}

fn is_alive(fakes: &Fakes) -> bool {
    fakes.live_ids().contains(&"key_1".to_owned())
}

/// Checks that `key_1` is alive before the deadline, and not after it.
async fn assert_ends_at_deadline(fakes: &Fakes, engine: &mut Engine) {
    fakes.run_for(engine, WITHIN - SECOND * 2).await;
    assert!(is_alive(fakes));
    fakes.run_for(engine, SECOND * 3).await;
    assert!(!is_alive(fakes));
}

/// What delays the end of a retired credential delays that of a leaked one not at all.
#[tokio::test]
async fn nothing_but_verification_delays_the_end() {
    type Obstacle = fn(&Fakes);
    let obstacles: [(&str, Obstacle); 6] = [
        ("nothing", |_| {}),
        ("a sink", |fakes| {
            fakes.fail_deliveries(Some(Acceptance::Uncertain));
        }),
        ("a sink's preflight", |fakes| fakes.refuse_preflight(true)),
        ("a consumer", |fakes| fakes.mark_used("key_1")),
        ("the clock", |fakes| {
            fakes.set_provider_clock_ahead(HOUR);
        }),
        ("a list", |fakes| {
            fakes.fail_calls(Some(("list", ErrorKind::ServerError)));
        }),
    ];
    for (name, obstacle) in obstacles {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        obstacle(&fakes);
        let reply = end_present(&mut engine, false, "uid 7");
        fakes.run_for(&mut engine, Duration::ZERO).await;
        reply.await.unwrap().unwrap();
        eprintln!("delayed by {name}?");
        assert_ends_at_deadline(&fakes, &mut engine).await;
        assert_eq!(fakes.live_ids().len(), 1, "{name}");
    }
}

/// The provider may accept a credential for a while after its end.
#[tokio::test]
async fn ended_credential_is_listed_among_the_revoked_ones() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND).await;
    let since = engine.now();
    let revoked = async |engine: &Engine, since| {
        let ledger = &engine.services().ledger;
        let found = ledger.credentials_revoked_since(since).await.unwrap();
        found.len()
    };
    assert_eq!(revoked(&engine, since).await, 0);
    let reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, Duration::ZERO).await;
    reply.await.unwrap().unwrap();
    assert_ends_at_deadline(&fakes, &mut engine).await;
    assert_eq!(revoked(&engine, since).await, 1);
    fakes.run_for(&mut engine, SECOND).await;
    assert_eq!(revoked(&engine, engine.now()).await, 0);
}

#[tokio::test]
async fn end_waits_until_the_new_credential_is_verified() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND).await;
    fakes.refuse_secrets(true);
    let reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, WITHIN * 4).await;
    reply.await.unwrap().unwrap();
    assert!(is_alive(&fakes));
    assert_eq!(fakes.live_ids().len(), 2);
    fakes.refuse_secrets(false);
    fakes.run_for(&mut engine, SECOND * 31).await;
    assert!(!is_alive(&fakes));
}

/// The deadline and what is to do because of it are in the ledger: a restart at any call
/// continues it, even in a pause.
#[tokio::test]
async fn restart_does_not_move_the_deadline() {
    for calls in 0..8 {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        let pause = OperatorCommand::Pause {
            until: None,
            operator: None,
        };
        let paused = submit(&mut engine, pause);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        paused.await.unwrap().unwrap();
        let reply = end_present(&mut engine, false, "uid 7");
        if calls > 0 {
            fakes.take_calls();
            fakes.first_started_calls(&mut engine, calls).await;
        }
        drop(engine);
        let mut engine = reopen(&fakes).await;
        fakes.run_for(&mut engine, WITHIN * 2).await;
        // It may have ended before the command did.
        let is_accepted = !fakes.journal_details("revocation-deadline-set").is_empty();
        assert_eq!(is_alive(&fakes), !is_accepted, "{calls}");
        drop(reply);
    }
}

/// An open rotation is given up, whatever its step.
#[tokio::test]
async fn open_rotation_is_given_up() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.fail_deliveries(Some(Acceptance::NotAccepted));
    let request = crate::engine::tests::rotation_request();
    engine.request_rotation(&key(), request);
    fakes.run_for(&mut engine, SECOND * 5).await;
    let given_up = fakes.live_ids();
    assert_eq!(given_up.len(), 2, "one is being delivered");
    let reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, WITHIN * 2).await;
    reply.await.unwrap().unwrap();
    let live = fakes.live_ids();
    assert!(live.iter().all(|id| !given_up.contains(id)), "{live:?}");
    assert_eq!(live.len(), 1);
    fakes.fail_deliveries(None);
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(fakes.live_ids(), live);
}

/// A search for what an open rotation may have made delays the end no more than the
/// rotation does. What it made is found and revoked later.
#[tokio::test]
async fn unclear_rotation_is_given_up_although_no_search_succeeds() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND).await;
    fakes.fail_creates(Some((ErrorKind::NoAnswer, Effect::Unknown)));
    let request = crate::engine::tests::rotation_request();
    engine.request_rotation(&key(), request);
    fakes.fail_calls(Some(("find", ErrorKind::ServerError)));
    fakes.run_for(&mut engine, SECOND * 5).await;
    let open = engine.state(&key()).unwrap().open_rotation().cloned();
    let label = open.unwrap().label.unwrap();
    fakes.add_credential("key_late", label.as_str());
    fakes.fail_creates(None);
    let reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, Duration::ZERO).await;
    reply.await.unwrap().unwrap();
    assert_ends_at_deadline(&fakes, &mut engine).await;
    fakes.fail_calls(None);
    fakes.run_for(&mut engine, HOUR * 48).await;
    let live = fakes.live_ids();
    assert_eq!(live.len(), 1, "{live:?}");
    assert!(!live.contains(&"key_late".to_owned()));
}

/// What a person reads of a leaked credential names its deadline, and nothing that counts
/// no more: no overlap, and no order that was given already.
#[tokio::test]
async fn texts_about_a_leaked_credential_name_its_deadline() {
    for is_verified in [true, false] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        if is_verified {
            // The new one stays open.
            fakes.fail_deliveries(Some(Acceptance::NotAccepted));
        } else {
            fakes.refuse_secrets(true);
        }
        let reply = end_present(&mut engine, false, "uid 7");
        fakes.run_for(&mut engine, SECOND * 2).await;
        reply.await.unwrap().unwrap();
        let deadline = engine.state(&key()).unwrap().current().unwrap().deadline;
        let deadline = format!("is revoked at {}", time::to_text(deadline.unwrap().at));
        let revoke = OperatorCommand::Revoke {
            credential: CredentialId::new("key_1".to_owned()),
            force: false,
            name: None,
            authority: Authority::Full,
            operator: None,
        };
        let refused = submit(&mut engine, revoke);
        fakes.run_for(&mut engine, Duration::ZERO).await;
        let refused = refused.await.unwrap().unwrap_err().to_string();
        assert!(refused.contains(&deadline), "{refused}");
        let waits = refused.contains("if a new credential is verified by then");
        assert_eq!(waits, !is_verified, "{refused}");
        for wrong in ["overlap", "--revoke-previous-within"] {
            assert!(!refused.contains(wrong), "{refused}");
        }
    }
}

/// A later request with more time moves no deadline, and says so.
#[tokio::test]
async fn later_request_names_the_deadlines_that_stay() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND).await;
    let (log, _guard) = CapturedLog::capture();
    let earlier = time::to_text(time::whole_seconds(time::after(fakes.now(), WITHIN)));
    let reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, SECOND).await;
    let message = reply.await.unwrap().unwrap();
    assert!(message.ends_with(&format!("at {earlier}")), "{message}");
    let retired = log.lines_with("INFO", "retired key_1");
    assert!(retired[0].contains(&earlier), "{retired:?}");
    let later = time::to_text(time::whole_seconds(time::after(fakes.now(), HOUR)));
    let reply = end_present_within(&mut engine, HOUR, false, "uid 7");
    fakes.run_for(&mut engine, Duration::ZERO).await;
    let message = reply.await.unwrap().unwrap();
    assert!(message.contains(&later), "{message}");
    assert!(
        message.contains(&format!("the first is at {earlier}")),
        "{message}"
    );
    fakes.run_for(&mut engine, WITHIN).await;
    assert!(!is_alive(&fakes));
}

/// What rekeyd may work with is refused before anything begins, or ends by force; what it
/// certainly works with waits.
#[tokio::test]
async fn leaked_credential_in_doubt_ends_only_with_force() {
    for (usage, force, is_refused, ends) in [
        (CredentialUsage::MayBeInUse, false, true, false),
        (CredentialUsage::MayBeInUse, true, false, true),
        (CredentialUsage::InUse, false, false, false),
        (CredentialUsage::InUse, true, false, false),
        (CredentialUsage::Previous, false, false, true),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        fakes.set_usage(usage);
        let reply = end_present(&mut engine, force, "uid 7");
        fakes.run_for(&mut engine, WITHIN * 3).await;
        let result = reply.await.unwrap();
        assert_eq!(result.is_err(), is_refused, "{usage:?} {force}");
        assert_eq!(is_alive(&fakes), !ends, "{usage:?} {force}");
        if is_refused {
            assert_eq!(fakes.live_ids(), ["key_1"]);
            let events = fakes.journal_details("revocation-deadline-set");
            assert!(events.is_empty(), "{events:?}");
            continue;
        }
        // It goes as soon as rekeyd works with another one.
        fakes.set_usage(CredentialUsage::Unused);
        fakes.run_for(&mut engine, SECOND * 6).await;
        assert!(!is_alive(&fakes), "{usage:?} {force}");
    }
}

/// Only who may do everything takes over the name that the provider shows: root, and the owner
/// of the ledger, whatever their numbers are.
#[tokio::test]
async fn leaked_credential_under_another_name_ends_only_by_root() {
    for (force, by, authority, is_refused, ends) in [
        (false, "uid 0", Authority::Full, true, false),
        (true, "uid 7", Authority::Destroy, false, false),
        (true, "uid 0", Authority::Destroy, false, false),
        (true, "uid 0", Authority::Full, false, true),
        (true, "uid 995", Authority::Full, false, true),
    ] {
        let fakes = Fakes::new(&[("key_1", "somebody's")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        let reply = end_present_as(&mut engine, WITHIN, force, (by, authority));
        fakes.run_for(&mut engine, WITHIN * 3).await;
        let result = reply.await.unwrap();
        assert_eq!(result.is_err(), is_refused, "{force} {by}: {result:?}");
        assert_eq!(is_alive(&fakes), !ends, "{force} {by}");
    }
}

/// A hold that was set before is refused; one that is set later keeps nothing.
#[tokio::test]
async fn hold_does_not_outlast_the_deadline() {
    for (is_earlier, force, ends) in [
        (true, false, false),
        (true, true, true),
        (false, false, true),
    ] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND).await;
        let hold = OperatorCommand::Hold {
            credential: None,
            until: Some(time::after(fakes.now(), HOUR)),
            authority: Authority::Full,
            operator: None,
        };
        if is_earlier {
            let held = submit(&mut engine, hold.clone());
            fakes.run_for(&mut engine, Duration::ZERO).await;
            held.await.unwrap().unwrap();
        }
        let reply = end_present(&mut engine, force, "uid 7");
        fakes.run_for(&mut engine, Duration::ZERO).await;
        assert_eq!(reply.await.unwrap().is_ok(), ends);
        if !is_earlier {
            let held = submit(&mut engine, hold);
            fakes.run_for(&mut engine, Duration::ZERO).await;
            let refusal = held.await.unwrap().unwrap_err().to_string();
            assert!(refusal.contains("a hold cannot prevent that"), "{refusal}");
        }
        fakes.run_for(&mut engine, WITHIN * 2).await;
        assert_eq!(is_alive(&fakes), !ends, "{is_earlier} {force}");
    }
}

/// The credential of an open rotation is refused for the same reasons as any other one:
/// nothing is given up before the operator insists.
#[tokio::test]
async fn open_rotation_in_doubt_is_given_up_only_with_force() {
    type Doubt = fn(&Fakes, &CredentialId);
    let doubts: [(&str, &str, Doubt); 4] = [
        ("none", "", |_, _| {}),
        ("a hold", "is on hold until", |_, _| {}),
        ("another name", "the provider shows", |fakes, id| {
            fakes.add_credential(id.as_str(), "renamed");
        }),
        ("a use", "may be rekeyd's own admin key", |fakes, _| {
            fakes.set_usage(CredentialUsage::MayBeInUse);
        }),
    ];
    for (doubt, expected, raise) in doubts {
        for force in [false, true] {
            let fakes = Fakes::new(&[("key_1", "label-1")]);
            let mut engine = open(&fakes, current(1)).await;
            fakes.fail_deliveries(Some(Acceptance::NotAccepted));
            engine.request_rotation(&key(), crate::engine::tests::rotation_request());
            fakes.run_for(&mut engine, SECOND * 5).await;
            let live = fakes.live_ids().into_iter().find(|id| id != "key_1");
            let opened = CredentialId::new(live.unwrap());
            raise(&fakes, &opened);
            if doubt == "a hold" {
                let hold = OperatorCommand::Hold {
                    credential: Some(opened.clone()),
                    until: Some(time::after(fakes.now(), HOUR)),
                    authority: Authority::Full,
                    operator: None,
                };
                let held = submit(&mut engine, hold);
                fakes.run_for(&mut engine, Duration::ZERO).await;
                held.await.unwrap().unwrap();
            }
            let reply = end_present(&mut engine, force, "uid 0");
            fakes.run_for(&mut engine, WITHIN * 2).await;
            let reply = reply.await.unwrap();
            let is_refused = !force && doubt != "none";
            assert_eq!(reply.is_err(), is_refused, "{doubt} {force}: {reply:?}");
            if let Err(error) = reply {
                let text = error.to_string();
                assert!(
                    text.contains(opened.as_str()) && text.contains(expected),
                    "{text}"
                );
                assert!(fakes.live_ids().contains(&opened.to_string()), "{doubt}");
            }
        }
    }
}

/// The bound holds by the time that passes, whatever the host's clock says.
#[tokio::test]
async fn a_clock_that_is_set_back_does_not_move_a_deadline() {
    for back in [SECOND * 10, HOUR, HOUR * 48] {
        let fakes = Fakes::new(&[("key_1", "label-1")]);
        let mut engine = open(&fakes, current(1)).await;
        fakes.run_for(&mut engine, SECOND * 2).await;
        let reply = end_present(&mut engine, false, "uid 0");
        fakes.run_for(&mut engine, WITHIN / 2).await;
        reply.await.unwrap().unwrap();
        fakes.set_clock_back(back);
        fakes.run_for(&mut engine, WITHIN / 2 - SECOND * 2).await;
        assert!(is_alive(&fakes), "{back:?}");
        fakes.run_for(&mut engine, SECOND * 3).await;
        assert!(!is_alive(&fakes), "{back:?}");
        engine.stop().await;
    }
}

/// While no process runs, nothing measures by how much the clock is set back.
#[tokio::test]
async fn a_deadline_is_no_further_away_than_when_it_was_set() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND * 2).await;
    let reply = end_present(&mut engine, false, "uid 0");
    fakes.run_for(&mut engine, SECOND).await;
    reply.await.unwrap().unwrap();
    for _ in 0..2 {
        engine.stop().await;
        drop(engine);
        fakes.set_clock_back(HOUR);
        engine = reopen(&fakes).await;
        fakes.run_for(&mut engine, SECOND).await;
    }
    assert!(is_alive(&fakes));
    fakes.run_for(&mut engine, WITHIN).await;
    assert!(!is_alive(&fakes));
}

/// What a create made under another id than it answered does not outlive the leak unseen.
#[tokio::test]
async fn leaked_credential_under_another_id_is_named() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    let mut engine = open(&fakes, current(1)).await;
    fakes.run_for(&mut engine, SECOND).await;
    fakes.remove_credential("key_1");
    fakes.add_credential("KEY_1", "label-1");
    let _reply = end_present(&mut engine, false, "uid 7");
    fakes.run_for(&mut engine, WITHIN * 2).await;
    let row = "SELECT phase || ': ' || coalesce(error, '') FROM history
               WHERE credential_id = 'key_1'";
    let row = fakes.query_rows(row).concat();
    assert!(!row.starts_with("revoked"), "{row}");
    assert!(row.contains("contains KEY_1 with the same name"), "{row}");
}
