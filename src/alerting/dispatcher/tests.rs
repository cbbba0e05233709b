//! One worker on a real ledger, in virtual time.

use std::sync::Mutex;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::core::ids::KeyName;
use crate::core::notification::{Alert, AlertKind, NotificationId, NotificationState};
use crate::ledger::{LedgerIdentity, LedgerOptions, OutboxEntry};

/// Tokio's virtual time, counted from a fixed moment.
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_795_400_000).unwrap();
        time::after(start, self.0.elapsed())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A channel that can be made to fail.
struct FakeChannel {
    id: ChannelId,
    is_failing: Mutex<bool>,
    /// The texts of the notifications that it refuses for themselves.
    refused: Mutex<Vec<String>>,
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

    async fn send(&self, notification: &Notification, _: &str) -> Result<(), ChannelError> {
        let at = self.started.elapsed().as_secs();
        self.attempts
            .lock()
            .unwrap()
            .push((at, notification.text.clone()));
        if self.refused.lock().unwrap().contains(&notification.text) {
            return Err(ChannelError {
                is_refusal: true,
                ..ChannelError::host("it is refused".to_owned())
            });
        }
        if *self.is_failing.lock().unwrap() {
            Err(ChannelError::host("it is failing".to_owned()))
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
    async fn start(is_failing: bool) -> Self {
        Self::start_with(is_failing, AlertKind::Failing).await
    }

    /// Returns a fixture with two pending notifications of this kind.
    async fn start_with(is_failing: bool, kind: AlertKind) -> Self {
        let started = Instant::now();
        let clock = Arc::new(VirtualClock(started));
        let identity = LedgerIdentity {
            provider: "https://example.com/v1".to_owned(),
            organization: String::new(),
        };
        let options = LedgerOptions::new(identity);
        let fixture = Self {
            ledger: Ledger::open_in_memory(&options, clock.now()).unwrap(),
            clock,
            channel: Arc::new(FakeChannel {
                id: ChannelId::new("command:/bin/page".to_owned()),
                is_failing: Mutex::new(is_failing),
                refused: Mutex::default(),
                attempts: Mutex::default(),
                started,
            }),
            outbox_signal: watch::Sender::default(),
        };
        let state = match kind.is_one_time() {
            true => NotificationState::OneTime,
            false => NotificationState::Raised,
        };
        for number in 1..=2 {
            fixture.record(number, kind, state).await;
        }
        fixture
    }

    async fn record_notification(&self, number: u8) {
        self.record(number, AlertKind::Failing, NotificationState::Raised)
            .await;
    }

    async fn record(&self, number: u8, kind: AlertKind, state: NotificationState) {
        let key = KeyName::new(&format!("k{number}")).unwrap();
        let notification = Notification {
            id: NotificationId::new([number; 8]),
            created_at: time::whole_seconds(self.clock.now()),
            state,
            alert: Alert::for_key(&key, kind),
            since: time::whole_seconds(self.clock.now()),
            text: number.to_string(),
        };
        let channels = vec![self.channel.id.clone()];
        self.ledger
            .enqueue_notifications(vec![OutboxEntry {
                notification,
                channels,
            }])
            .await
            .unwrap();
        self.outbox_signal.send_modify(|signal| signal.written += 1);
    }

    fn new_worker(&self) -> ChannelWorker {
        ChannelWorker {
            channel: Arc::clone(&self.channel) as Arc<dyn Channel>,
            ledger: self.ledger.clone(),
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            host: "here".to_owned(),
            states: Arc::default(),
            unrecorded_row: None,
            refusals: 0,
            paused_until: None,
        }
    }

    /// Runs a worker for `span`, like a process that is ended then.
    async fn run_worker(&self, span: Duration) {
        let worker_run = self.new_worker().run(self.outbox_signal.subscribe());
        let _ = tokio::time::timeout(span, worker_run).await;
    }

    fn take_attempts(&self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.channel.attempts.lock().unwrap())
    }

    fn refuse(&self, texts: &[&str]) {
        let texts = texts.iter().map(|text| (*text).to_owned());
        *self.channel.refused.lock().unwrap() = texts.collect();
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
    let fixture = DispatcherFixture::start(false).await;
    fixture.run_worker(MINUTE).await;
    assert_eq!(fixture.take_attempts(), attempts(&[(0, "1"), (0, "2")]));
    fixture.run_worker(MINUTE).await;
    assert_eq!(fixture.take_attempts(), []);
}

/// Everybody who may create credentials decides how many lookalikes there are.
#[tokio::test(start_paused = true)]
async fn lookalikes_hold_up_no_alarm() {
    let fixture = DispatcherFixture::start(false).await;
    fixture.run_worker(MINUTE).await;
    fixture.take_attempts();
    let (kind, state) = (AlertKind::Lookalike, NotificationState::OneTime);
    for number in 3..=5 {
        fixture.record(number, kind, state).await;
    }
    fixture.record_notification(6).await;
    fixture.run_worker(MINUTE).await;
    let order = ["6", "3", "4", "5"].map(|text| (60, text));
    assert_eq!(fixture.take_attempts(), attempts(&order));
}

#[tokio::test(start_paused = true)]
async fn failed_notification_is_retried_in_order_across_restarts() {
    let fixture = DispatcherFixture::start(true).await;
    fixture.run_worker(Duration::from_secs(30)).await;
    assert_eq!(
        fixture.take_attempts(),
        attempts(&[(0, "1"), (5, "1"), (20, "1")])
    );
    fixture.record_notification(3).await;
    // The next process continues the backoff of the former one.
    fixture.run_worker(Duration::from_secs(40)).await;
    assert_eq!(fixture.take_attempts(), []);
    fixture.recover();
    fixture.run_worker(MINUTE).await;
    assert_eq!(
        fixture.take_attempts(),
        attempts(&[(80, "1"), (80, "2"), (80, "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn new_notification_is_sent_at_once() {
    let fixture = DispatcherFixture::start(false).await;
    let recording = async {
        tokio::time::sleep(MINUTE).await;
        fixture.record_notification(3).await;
    };
    tokio::join!(fixture.run_worker(2 * MINUTE), recording);
    assert_eq!(
        fixture.take_attempts(),
        attempts(&[(0, "1"), (0, "2"), (60, "3")])
    );
}

#[tokio::test(start_paused = true)]
async fn notifications_are_given_up_after_a_day_and_newer_ones_are_sent() {
    let fixture = DispatcherFixture::start_with(true, AlertKind::Rotated).await;
    fixture.run_worker(23 * 60 * MINUTE).await;
    let state = NotificationState::OneTime;
    fixture.record(3, AlertKind::Rotated, state).await;
    fixture.run_worker(2 * 60 * MINUTE).await;
    let last = fixture.take_attempts().pop().unwrap().1;
    assert_eq!(last, "3");
    fixture.recover();
    fixture.run_worker(60 * MINUTE).await;
    let sent: Vec<_> = fixture
        .take_attempts()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(sent, ["3"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_notification_holds_up_nobody() {
    let fixture = DispatcherFixture::start(false).await;
    fixture.refuse(&["1"]);
    fixture.record_notification(3).await;
    fixture.run_worker(Duration::from_secs(4)).await;
    let first = [(0, "1"), (0, "2"), (0, "3")];
    assert_eq!(fixture.take_attempts(), attempts(&first));
    // It is tried again beside the others, also by the next process.
    fixture.record_notification(4).await;
    fixture.run_worker(Duration::from_secs(3)).await;
    assert_eq!(fixture.take_attempts(), attempts(&[(4, "4"), (5, "1")]));
    fixture.refuse(&[]);
    fixture.run_worker(MINUTE).await;
    assert_eq!(fixture.take_attempts(), attempts(&[(20, "1")]));
}

/// A receiver that refuses everything is not sent everything at once.
#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_all_gets_a_pause() {
    let fixture = DispatcherFixture::start(false).await;
    for number in 3..=6 {
        fixture.record_notification(number).await;
    }
    fixture.refuse(&["1", "2", "3", "4", "5", "6"]);
    fixture.run_worker(Duration::from_secs(4)).await;
    let first = [(0, "1"), (0, "2"), (0, "3")];
    assert_eq!(fixture.take_attempts(), attempts(&first));
    let state = fixture.ledger.channel_state(&fixture.channel.id).await;
    assert_eq!(state.unwrap().failure.unwrap().error, "it is refused");
    fixture.refuse(&[]);
    fixture.run_worker(MINUTE).await;
    let texts = fixture.take_attempts().into_iter().map(|(_, text)| text);
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    assert_eq!(texts, ["1", "2", "3", "4", "5", "6"]);
}

/// A channel that is away for days is notified once of what still lasts.
#[tokio::test(start_paused = true)]
async fn a_problem_that_lasts_survives_its_channel() {
    let fixture = DispatcherFixture::start(true).await;
    let recovery = async {
        tokio::time::sleep(3 * 24 * 60 * MINUTE).await;
        fixture.take_attempts();
        fixture.recover();
    };
    let run = fixture.run_worker(3 * 24 * 60 * MINUTE + 60 * MINUTE);
    tokio::join!(run, recovery);
    let texts = fixture.take_attempts().into_iter().map(|(_, text)| text);
    assert_eq!(texts.collect::<Vec<_>>(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn flush_does_not_wait_for_an_unreachable_channel() {
    let fixture = DispatcherFixture::start(true).await;
    fixture.new_worker().flush(Vec::new()).await;
    assert_eq!(fixture.take_attempts(), attempts(&[(0, "1"), (5, "1")]));
    // The retry is not due yet.
    fixture.new_worker().flush(Vec::new()).await;
    assert_eq!(fixture.take_attempts(), []);
    tokio::time::sleep(MINUTE).await;
    fixture.recover();
    fixture.new_worker().flush(Vec::new()).await;
    assert_eq!(fixture.take_attempts(), attempts(&[(65, "1"), (65, "2")]));
}

#[tokio::test(start_paused = true)]
async fn notification_that_bypasses_the_ledger_is_sent() {
    let fixture = DispatcherFixture::start(true).await;
    let next = fixture
        .ledger
        .next_notification(&fixture.channel.id, fixture.clock.now());
    let NextNotification::Send(pending) = next.await.unwrap() else {
        panic!("nothing is pending");
    };
    let notification = Notification {
        text: "the disk is full".to_owned(),
        ..pending.notification
    };
    let channels = vec![fixture.channel.id.clone()];
    fixture
        .outbox_signal
        .send_modify(|signal| signal.direct.push((notification, channels)));
    let recovery = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        fixture.recover();
    };
    tokio::join!(fixture.run_worker(MINUTE), recovery);
    let sent: Vec<_> = fixture.take_attempts().into_iter().skip(2).collect();
    assert_eq!(
        sent,
        attempts(&[(20, "the disk is full"), (20, "1"), (20, "2")])
    );
}
