//! One carrier, on a real ledger, in virtual time.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::core::ids::KeyName;
use crate::core::notification::{Alert, AlertKind, NotificationId, NotificationState};
use crate::ledger::{LedgerIdentity, LedgerOptions, OutboxEntry};

/// Time as tokio has it, from a round moment on.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let begin = Timestamp::from_second(1_795_400_000).unwrap();
        time::after(begin, self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Somebody who hears each notice, or not.
struct FakeChannel {
    id: ChannelId,
    is_failing: Mutex<bool>,
    attempts: Mutex<Vec<(u64, String)>>,
    started: Instant,
}

#[async_trait]
impl Channel for FakeChannel {
    fn id(&self) -> &ChannelId {
        &self.id
    }

    async fn check(&self) -> Vec<ChannelError> {
        Vec::new()
    }

    async fn send(&self, notice: &Notification, _: &str) -> Result<(), ChannelError> {
        let at = self.started.elapsed().as_secs();
        self.attempts
            .lock()
            .unwrap()
            .push((at, notice.text.clone()));
        if *self.is_failing.lock().unwrap() {
            Err(ChannelError::host("nobody hears".to_owned()))
        } else {
            Ok(())
        }
    }
}

struct DispatcherFixture {
    ledger: Ledger,
    clock: Arc<VirtualClock>,
    channel: Arc<FakeChannel>,
    outbox_signal: watch::Sender<OutboxSignal>,
}

impl DispatcherFixture {
    async fn start(deaf: bool) -> Self {
        let begun = Instant::now();
        let clock = Arc::new(VirtualClock(begun));
        let identity = LedgerIdentity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let options = LedgerOptions::new(identity);
        let scene = Self {
            ledger: Ledger::open_in_memory(&options, clock.now()).unwrap(),
            clock,
            channel: Arc::new(FakeChannel {
                id: ChannelId::new("command:/bin/page".to_owned()),
                is_failing: Mutex::new(deaf),
                attempts: Mutex::default(),
                started: begun,
            }),
            outbox_signal: watch::Sender::default(),
        };
        for number in 1..=2 {
            scene.record_notification(number).await;
        }
        scene
    }

    async fn record_notification(&self, number: u8) {
        let key = KeyName::new(&format!("k{number}")).unwrap();
        let notice = Notification {
            id: NotificationId::new([number; 8]),
            created_at: time::whole_seconds(self.clock.now()),
            state: NotificationState::Raised,
            alert: Alert::for_key(&key, AlertKind::Failing),
            since: time::whole_seconds(self.clock.now()),
            text: number.to_string(),
        };
        let to = vec![self.channel.id.clone()];
        self.ledger
            .enqueue_notifications(vec![OutboxEntry {
                notification: notice,
                channels: to,
            }])
            .await
            .unwrap();
        self.outbox_signal.send_modify(|posted| posted.written += 1);
    }

    fn new_worker(&self) -> ChannelWorker {
        ChannelWorker {
            channel: Arc::clone(&self.channel) as Arc<dyn Channel>,
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            host: "here".to_owned(),
            unrecorded_row: None,
        }
    }

    /// Delivers for so long, as a process that is ended then.
    async fn run_worker(&self, span: Duration) {
        let carrying = self.new_worker().run(self.outbox_signal.subscribe());
        let _ = tokio::time::timeout(span, carrying).await;
    }

    fn take_attempts(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.channel.attempts.lock().unwrap())
    }

    fn recover(&self) {
        *self.channel.is_failing.lock().unwrap() = false;
    }
}

fn attempts(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    let expected = expected.iter();
    expected
        .map(|(at, text)| (*at, (*text).to_owned()))
        .collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn notifications_are_sent_once_and_in_order() {
    let scene = DispatcherFixture::start(false).await;
    scene.run_worker(MINUTE).await;
    assert_eq!(scene.take_attempts(), attempts(&[(0, "1"), (0, "2")]));
    scene.run_worker(MINUTE).await;
    assert_eq!(scene.take_attempts(), []);
}

#[tokio::test(start_paused = true)]
async fn failed_notification_is_retried_in_order_across_restarts() {
    let scene = DispatcherFixture::start(true).await;
    scene.run_worker(Duration::from_secs(30)).await;
    assert_eq!(
        scene.take_attempts(),
        attempts(&[(0, "1"), (5, "1"), (20, "1")])
    );
    scene.record_notification(3).await;
    // The next process goes on where that one was.
    scene.run_worker(Duration::from_secs(40)).await;
    assert_eq!(scene.take_attempts(), []);
    scene.recover();
    scene.run_worker(MINUTE).await;
    assert_eq!(
        scene.take_attempts(),
        attempts(&[(80, "1"), (80, "2"), (80, "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn new_notification_is_sent_at_once() {
    let scene = DispatcherFixture::start(false).await;
    let writing = async {
        tokio::time::sleep(MINUTE).await;
        scene.record_notification(3).await;
    };
    tokio::join!(scene.run_worker(2 * MINUTE), writing);
    assert_eq!(
        scene.take_attempts(),
        attempts(&[(0, "1"), (0, "2"), (60, "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn notifications_are_given_up_after_a_day_and_newer_ones_are_sent() {
    let scene = DispatcherFixture::start(true).await;
    scene.run_worker(23 * 60 * MINUTE).await;
    scene.record_notification(3).await;
    scene.run_worker(2 * 60 * MINUTE).await;
    let last = scene.take_attempts().pop().unwrap().1;
    assert_eq!(last, "3");
    scene.recover();
    scene.run_worker(60 * MINUTE).await;
    let heard: Vec<_> = scene
        .take_attempts()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(heard, ["3"]);
}

#[tokio::test(start_paused = true)]
async fn flush_does_not_wait_for_an_unreachable_channel() {
    let scene = DispatcherFixture::start(true).await;
    scene.new_worker().flush().await;
    assert_eq!(scene.take_attempts(), attempts(&[(0, "1"), (5, "1")]));
    // It is not time yet.
    scene.new_worker().flush().await;
    assert_eq!(scene.take_attempts(), []);
    tokio::time::sleep(MINUTE).await;
    scene.recover();
    scene.new_worker().flush().await;
    assert_eq!(scene.take_attempts(), attempts(&[(65, "1"), (65, "2")]));
}

#[tokio::test(start_paused = true)]
async fn notification_that_bypasses_the_ledger_is_sent() {
    let scene = DispatcherFixture::start(true).await;
    let notice = scene
        .ledger
        .next_notification(&scene.channel.id)
        .await
        .unwrap();
    let notice = Notification {
        text: "the disk is full".to_owned(),
        ..notice.unwrap().notification
    };
    let to = vec![scene.channel.id.clone()];
    scene
        .outbox_signal
        .send_modify(|posted| posted.direct.push((notice, to)));
    let hearing = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        scene.recover();
    };
    tokio::join!(scene.run_worker(MINUTE), hearing);
    let heard: Vec<_> = scene.take_attempts().into_iter().skip(2).collect();
    assert_eq!(
        heard,
        attempts(&[(20, "the disk is full"), (20, "1"), (20, "2")])
    );
}
