//! Answers to creates with a secret that was delivered before, by a process that has ended
//! or by a person.

use std::sync::Arc;
use std::time::Duration;

use crate::core::change::{Change, OperatorChange};
use crate::core::ids::KeyName;
use crate::core::policy::InitialRotation;
use crate::core::scope::Scope;
use crate::engine::tests::fake::{Fakes, LyingAnswer, key, sink_named};
use crate::engine::tests::rotation_changes::adopted;
use crate::engine::tests::rotation_request;
use crate::engine::{Engine, ManagedKey, RunMode, Services};

const MINUTE: Duration = Duration::from_secs(60);
const SECRET: &str = "sk-admin-of-web-0123456789wxYz";
const OTHER_SECRET: &str = "sk-admin-of-api-0123456789abCD";

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

/// Returns a key with a sink of its own, of the same name.
fn managed(fakes: &Fakes, text: &str) -> ManagedKey {
    let mut managed = fakes.key_with("@monthly", &[(text, true)]);
    managed.name = name(text);
    managed
}

fn keys(fakes: &Fakes) -> Vec<ManagedKey> {
    let names = ["billing", "web", "api"];
    names.map(|text| managed(fakes, text)).into()
}

fn fakes() -> Fakes {
    Fakes::new(&[
        ("key_1", "by hand"),
        ("key_8", "by hand"),
        ("key_9", "by hand"),
    ])
}

/// Makes a credential the current one of a key, and its sink hold it.
fn received(text: &str, number: u64) -> Change {
    let Change::Operator(OperatorChange::CredentialAdopted(mut adopted)) =
        adopted(number, Scope::AdminKeys)
    else {
        panic!("no adoption");
    };
    adopted.sinks = vec![(sink_named(text), true)];
    Change::from(adopted)
}

/// Returns a daemon that was started after `billing` received `key_1`, `web` `key_9`, and
/// `api` `key_8`, whose redacted values are recorded as given.
async fn open_daemon(fakes: &Fakes, of_web: Option<&str>, of_api: Option<&str>) -> Engine {
    let rows = [("billing", 1), ("web", 9), ("api", 8)];
    let rows = rows.map(|(text, number)| (name(text), vec![received(text, number)]));
    fakes.write_ledger(rows.into()).await;
    for (id, shown) in [("key_9", of_web), ("key_8", of_api)] {
        let Some(shown) = shown else { continue };
        fakes.execute_sql(&format!(
            "UPDATE rotation SET redacted_value = '{shown}' WHERE credential_id = '{id}'"
        ));
    }
    let mut engine = fakes.open_engine(keys(fakes), RunMode::Daemon).await;
    fakes.run_for(&mut engine, MINUTE).await;
    fakes.take_calls();
    engine
}

fn answer(fakes: &Fakes, secret: &str) {
    fakes.lie_in_creates(LyingAnswer {
        secret: Some(secret.to_owned()),
        ..LyingAnswer::default()
    });
}

async fn rotate(fakes: &Fakes, engine: &mut Engine, during: Duration) -> Vec<String> {
    engine.request_rotation(&key(), rotation_request());
    fakes.run_for(engine, during).await;
    fakes.take_calls()
}

fn was_delivered(calls: &[String]) -> bool {
    calls.contains(&"deliver".to_owned())
}

/// For each form in which the provider shows credentials, each writer of the file, and each
/// key that has it.
#[tokio::test]
async fn a_secret_in_a_file_is_not_delivered() {
    let shown = [
        None,
        Some("sk-admin-of-"),
        Some("sk-admin-of-..."),
        Some("****"),
        Some("sk-admin...wxYz"),
        // Not its own: a person wrote the file.
        Some("sk-admin...0000"),
    ];
    let contents = [
        SECRET.to_owned(),
        format!("# of web\nOPENAI_KEY=\"{SECRET}\"\n"),
        format!("{{\"first\": \"{OTHER_SECRET}\", \"second\": \"{SECRET}\"}}"),
    ];
    let answers = [
        SECRET.to_owned(),
        SECRET.to_uppercase(),
        SECRET.replace("sk-admin", "sk-proj"),
        format!("{SECRET}=="),
    ];
    let mut cases: Vec<_> = shown
        .map(|shown| ("web", shown, &contents[0], &answers[0]))
        .into();
    cases.extend(contents.iter().map(|held| ("web", None, held, &answers[0])));
    cases.extend(answers.iter().map(|text| ("web", None, &contents[0], text)));
    cases.extend(["api", "billing"].map(|sink| (sink, None, &contents[0], &answers[0])));
    for (sink, shown, held, secret) in cases {
        let case = format!("{sink} {shown:?} {held} {secret}");
        let fakes = fakes();
        fakes.set_content(sink, Some(held));
        let mut engine = open_daemon(&fakes, shown, None).await;
        answer(&fakes, secret);
        let calls = rotate(&fakes, &mut engine, MINUTE).await;
        assert!(!was_delivered(&calls), "{case}: {calls:?}");
        let live = ["key_1", "key_8", "key_9"].map(str::to_owned);
        assert_eq!(fakes.live_ids(), live, "{case}");
        let rejected = fakes.journal_details("answer-rejected");
        assert!(rejected[0].contains("secret"), "{case}: {rejected:?}");
        // Nothing stands in the way of a true answer.
        fakes.lie_in_creates(LyingAnswer::default());
        let calls = rotate(&fakes, &mut engine, MINUTE).await;
        assert!(was_delivered(&calls), "{case}: {calls:?}");
    }
}

/// Two lies in a row may have equal ends, and so may the same one after a restart: no file
/// shows what the other keys have.
#[tokio::test]
async fn an_equal_end_is_refused_however_often_it_comes() {
    for restarts in [false, true] {
        for secrets in [[SECRET, SECRET], [SECRET, OTHER_SECRET]] {
            let fakes = fakes();
            let shown = (Some("sk-admin...wxYz"), Some("sk-admin...abCD"));
            let mut engine = open_daemon(&fakes, shown.0, shown.1).await;
            for round in 0..3 {
                answer(&fakes, secrets[round % 2]);
                let calls = rotate(&fakes, &mut engine, MINUTE).await;
                assert!(!was_delivered(&calls), "{restarts} {secrets:?}: {calls:?}");
                let refused = fakes.journal_details("answer-rejected").len();
                assert!(refused > round, "{restarts} {secrets:?}: {refused}");
                if restarts {
                    drop(engine);
                    fakes.forget_secrets();
                    engine = fakes.open_engine(keys(&fakes), RunMode::Daemon).await;
                    fakes.run_for(&mut engine, MINUTE).await;
                }
            }
            let live = ["key_1", "key_8", "key_9"].map(str::to_owned);
            assert_eq!(fakes.live_ids(), live);
            fakes.lie_in_creates(LyingAnswer::default());
            let calls = rotate(&fakes, &mut engine, MINUTE).await;
            assert!(was_delivered(&calls), "{calls:?}");
        }
    }
}

/// Where so many credentials show so short an end that every other honest secret has one of
/// them, an equal end shows nothing.
#[tokio::test]
async fn an_end_that_most_secrets_share_is_believed() {
    for (number, is_believed) in [(400, false), (600, true)] {
        let fakes = Fakes::new(&[]);
        let of_gone_keys = (1..=number).map(|number| {
            let adopted = adopted(number, Scope::AdminKeys);
            (name(&format!("gone-{number}")), vec![adopted])
        });
        fakes.write_ledger(of_gone_keys.collect()).await;
        fakes.execute_sql("UPDATE rotation SET redacted_value = '*' || (788 + sequence % 2)");
        let billing = vec![managed(&fakes, "billing")];
        let mut engine = fakes.open_engine(billing, RunMode::Daemon).await;
        answer(&fakes, "sk-admin-01234567890123456789");
        fakes.run_for(&mut engine, MINUTE).await;
        let calls = fakes.take_calls();
        assert_eq!(was_delivered(&calls), is_believed, "{number}: {calls:?}");
    }
}

/// Each create of few keys reads the files, and thousands of them share what is read.
#[tokio::test]
async fn rotations_of_many_keys_cost_few_passes_over_the_files() {
    for (others, rotated, most) in [(20, 5, 5), (1_500, 24, 3)] {
        let fakes = Fakes::new(&[]);
        fakes.write_ledger(Vec::new()).await;
        let mut names: Vec<_> = (0..rotated).map(|number| format!("key-{number}")).collect();
        let mut configured: Vec<_> = names.iter().map(|text| managed(&fakes, text)).collect();
        let sinks: Vec<_> = (0..others).map(|number| format!("file-{number}")).collect();
        for sink in &sinks {
            fakes.set_content(sink, Some(OTHER_SECRET));
        }
        let sinks: Vec<_> = sinks.iter().map(|sink| (sink.as_str(), true)).collect();
        let mut other = fakes.key_with("@monthly", &sinks);
        other.name = name("others");
        Arc::make_mut(&mut other.policy).initial_rotation = InitialRotation::Scheduled;
        configured.push(other);
        let services = Services {
            max_in_flight: 8,
            ..fakes.services()
        };
        let opened = Engine::open(services, configured, RunMode::Daemon).await;
        let mut engine = opened.unwrap();
        fakes.take_looks();
        fakes.run_for(&mut engine, MINUTE).await;
        names.retain(|text| engine.state(&name(text)).unwrap().current().is_some());
        assert_eq!(names.len(), rotated);
        let passes = fakes.take_looks() / (others + rotated) as u64;
        assert!((1..=most).contains(&passes), "{others}: {passes}");
    }
}
