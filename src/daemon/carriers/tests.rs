//! One carrier, on a real ledger, in virtual time.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::core::names::KeyName;
use crate::core::notice::{Cause, Matter, NoticeId, State};
use crate::ledger::{self, Driver, Identity, Telling};

/// Time as tokio has it, from a round moment on.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        let begin = Timestamp::from_second(1_795_400_000).unwrap();
        time::after(begin, self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Somebody who hears each notice, or not.
struct Ear {
    id: NotifierId,
    deaf: Mutex<bool>,
    tries: Mutex<Vec<(u64, String)>>,
    begun: Instant,
}

#[async_trait]
impl Notifier for Ear {
    fn id(&self) -> &NotifierId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        Vec::new()
    }

    async fn tell(&self, notice: &Notice, _: &str) -> Result<(), String> {
        let at = self.begun.elapsed().as_secs();
        self.tries.lock().unwrap().push((at, notice.text.clone()));
        if *self.deaf.lock().unwrap() {
            Err("nobody hears".to_owned())
        } else {
            Ok(())
        }
    }
}

struct Scene {
    ledger: Ledger,
    clock: Arc<Virtual>,
    ear: Arc<Ear>,
    posted: watch::Sender<Posted>,
}

impl Scene {
    async fn set(deaf: bool) -> Self {
        let begun = Instant::now();
        let clock = Arc::new(Virtual(begun));
        let identity = Identity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let connection = ledger::open_memory(&identity, clock.now()).unwrap();
        let scene = Self {
            ledger: Ledger::start(connection, Driver::Task).unwrap(),
            clock,
            ear: Arc::new(Ear {
                id: NotifierId::new("command:/bin/page".to_owned()),
                deaf: Mutex::new(deaf),
                tries: Mutex::default(),
                begun,
            }),
            posted: watch::Sender::default(),
        };
        for number in 1..=2 {
            scene.write(number).await;
        }
        scene
    }

    async fn write(&self, number: u8) {
        let key = KeyName::new(&format!("k{number}")).unwrap();
        let notice = Notice {
            id: NoticeId::new([number; 8]),
            at: time::whole_seconds(self.clock.now()),
            state: State::Begun,
            cause: Cause::of_key(&key, Matter::Failing),
            since: time::whole_seconds(self.clock.now()),
            text: number.to_string(),
        };
        let to = vec![self.ear.id.clone()];
        self.ledger
            .tell(vec![Telling { notice, to }])
            .await
            .unwrap();
        self.posted.send_modify(|posted| posted.written += 1);
    }

    fn carrier(&self) -> Carrier {
        Carrier {
            notifier: Arc::clone(&self.ear) as Arc<dyn Notifier>,
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            host: "here".to_owned(),
            unrecorded: None,
        }
    }

    /// Delivers for so long, as a process that is ended then.
    async fn carry(&self, span: Duration) {
        let carrying = self.carrier().carry(self.posted.subscribe());
        let _ = tokio::time::timeout(span, carrying).await;
    }

    fn tries(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.ear.tries.lock().unwrap())
    }

    fn hears(&self) {
        *self.ear.deaf.lock().unwrap() = false;
    }
}

fn tries(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let expected = expected.iter();
    expected
        .map(|(at, text)| (*at, (*text).to_owned()))
        .collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn each_is_told_once_and_in_order() {
    let scene = Scene::set(false).await;
    scene.carry(MINUTE).await;
    assert_eq!(scene.tries(), tries(&[(0, "1"), (0, "2")]));
    scene.carry(MINUTE).await;
    assert_eq!(scene.tries(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_heard_is_tried_again_also_by_the_next_process_and_in_order() {
    let scene = Scene::set(true).await;
    scene.carry(Duration::from_secs(30)).await;
    assert_eq!(scene.tries(), tries(&[(0, "1"), (5, "1"), (20, "1")]));
    scene.write(3).await;
    // The next process goes on where that one was.
    scene.carry(Duration::from_secs(40)).await;
    assert_eq!(scene.tries(), []);
    scene.hears();
    scene.carry(MINUTE).await;
    assert_eq!(scene.tries(), tries(&[(80, "1"), (80, "2"), (80, "3")]));
}

#[tokio::test(start_paused = true)]
async fn what_is_new_is_told_at_once() {
    let scene = Scene::set(false).await;
    let writing = async {
        tokio::time::sleep(MINUTE).await;
        scene.write(3).await;
    };
    tokio::join!(scene.carry(2 * MINUTE), writing);
    assert_eq!(scene.tries(), tries(&[(0, "1"), (0, "2"), (60, "3")]));
}

#[tokio::test(start_paused = true)]
async fn after_a_day_what_is_old_is_given_up_and_what_is_new_is_not() {
    let scene = Scene::set(true).await;
    scene.carry(23 * 60 * MINUTE).await;
    scene.write(3).await;
    scene.carry(2 * 60 * MINUTE).await;
    let last = scene.tries().pop().unwrap().1;
    assert_eq!(last, "3");
    scene.hears();
    scene.carry(60 * MINUTE).await;
    let heard: Vec<_> = scene.tries().into_iter().map(|(_, text)| text).collect();
    assert_eq!(heard, ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_ends_does_not_wait_for_who_is_away() {
    let scene = Scene::set(true).await;
    scene.carrier().finish().await;
    assert_eq!(scene.tries(), tries(&[(0, "1"), (5, "1")]));
    // It is not time yet.
    scene.carrier().finish().await;
    assert_eq!(scene.tries(), []);
    tokio::time::sleep(MINUTE).await;
    scene.hears();
    scene.carrier().finish().await;
    assert_eq!(scene.tries(), tries(&[(65, "1"), (65, "2")]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_stand_in_the_ledger_is_told_all_the_same() {
    let scene = Scene::set(true).await;
    let notice = scene.ledger.owed(&scene.ear.id).await.unwrap();
    let notice = Notice {
        text: "the disk is full".to_owned(),
        ..notice.unwrap().notice
    };
    let to = vec![scene.ear.id.clone()];
    scene
        .posted
        .send_modify(|posted| posted.direct.push((notice, to)));
    let hearing = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.hears();
    };
    tokio::join!(scene.carry(MINUTE), hearing);
    let heard: Vec<_> = scene.tries().into_iter().skip(2).collect();
    assert_eq!(
        heard,
        tries(&[(20, "the disk is full"), (20, "1"), (20, "2")])
    );
}
