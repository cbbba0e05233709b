//! The open connections of a server: what each is waiting for, and which one
//! makes way when all places are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a peer has for a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle after an answer, and how long a peer may
/// take nothing of an answer. Longer than the pace at which monitoring
/// commonly reads, since a new connection costs more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The limits of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// How many connections are served at once.
    max_connections: usize,
    /// From the connection's start, or from the first byte of a later request.
    head_timeout: Duration,
    /// Between requests, and while a peer takes nothing of an answer.
    idle_timeout: Duration,
}

impl ConnectionLimits {
    /// `max_connections` at once, and the usual times.
    pub(crate) const fn new(max_connections: usize) -> Self {
        Self {
            max_connections,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
        }
    }
}

/// All connections of one server.
pub(super) struct Connections {
    limits: ConnectionLimits,
    table: Mutex<Table>,
    /// A place became free, or a connection silent.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    next_id: u64,
    open: BTreeMap<u64, Entry>,
}

struct Entry {
    activity: Activity,
    /// Wakes the connection's task after each change of its activity.
    changed: Arc<Notify>,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy)]
enum Activity {
    /// No whole request head has come since the connection's start or its last
    /// answer: it is silent.
    AwaitingHead {
        silent_since: Instant,
        deadline: Instant,
        /// Whether `deadline` is that of a head, and not that of an idle
        /// connection.
        head_begun: bool,
    },
    /// A request is handled.
    Handling,
    /// An answer is written, of which the peer has to take something by then.
    Answering { deadline: Instant },
}

/// One connection's place; it is free again when this is dropped.
pub(super) struct Connection {
    id: u64,
    all: Arc<Connections>,
    changed: Arc<Notify>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a place, at the cost of the connection that has been silent
    /// longest if there is no free one. Waits while all connections are in the
    /// middle of a request or an answer.
    pub(super) async fn admit(self: &Arc<Self>) -> Connection {
        loop {
            if let Some(connection) = self.try_admit() {
                return connection;
            }
            self.changed.notified().await;
        }
    }

    fn try_admit(self: &Arc<Self>) -> Option<Connection> {
        let mut table = self.lock();
        if table.open.len() >= self.limits.max_connections {
            let evicted = table.silent_longest()?;
            if let Some(entry) = table.open.remove(&evicted) {
                entry.changed.notify_one();
            }
        }
        let id = table.next_id;
        table.next_id += 1;
        let now = Instant::now();
        let changed = Arc::new(Notify::new());
        let activity = Activity::AwaitingHead {
            silent_since: now,
            deadline: now + self.limits.head_timeout,
            head_begun: true,
        };
        let entry = Entry {
            activity,
            changed: Arc::clone(&changed),
        };
        table.open.insert(id, entry);
        Some(Connection {
            id,
            all: Arc::clone(self),
            changed,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn silent_longest(&self) -> Option<u64> {
        let silent = self.open.iter().filter_map(|(id, entry)| {
            let since = entry.activity.silent_since()?;
            Some((since, *id))
        });
        silent.min().map(|(_, id)| id)
    }
}

impl Activity {
    const fn silent_since(&self) -> Option<Instant> {
        match self {
            Self::AwaitingHead { silent_since, .. } => Some(*silent_since),
            Self::Handling | Self::Answering { .. } => None,
        }
    }

    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::AwaitingHead { deadline, .. } | Self::Answering { deadline } => Some(*deadline),
            Self::Handling => None,
        }
    }
}

impl Connection {
    /// Waits until the activity has changed, or the connection was evicted.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When the connection is closed unless something happens before, if ever;
    /// `None` if it was evicted.
    pub(super) fn deadline(&self) -> Option<Option<Instant>> {
        let table = self.all.lock();
        table
            .open
            .get(&self.id)
            .map(|entry| entry.activity.deadline())
    }

    /// Whether the deadline has passed, or the connection was evicted.
    pub(super) fn is_overdue(&self) -> bool {
        self.deadline()
            .is_none_or(|deadline| deadline.is_some_and(|deadline| deadline <= Instant::now()))
    }

    /// Whether no whole request head has come since the start or the last
    /// answer.
    pub(super) fn is_silent(&self) -> bool {
        let table = self.all.lock();
        let entry = table.open.get(&self.id);
        entry.is_none_or(|entry| entry.activity.silent_since().is_some())
    }

    /// Records that the peer has sent something.
    pub(super) fn note_read(&self) {
        let head_timeout = self.all.limits.head_timeout;
        self.update(|activity| match activity {
            Activity::AwaitingHead {
                silent_since,
                head_begun: false,
                ..
            } => Some(Activity::AwaitingHead {
                silent_since,
                deadline: Instant::now() + head_timeout,
                head_begun: true,
            }),
            Activity::AwaitingHead { .. } | Activity::Handling | Activity::Answering { .. } => None,
        });
    }

    /// Records that a whole request head has come; false if the connection was
    /// evicted, and the request must not be handled.
    pub(super) fn begin_request(&self) -> bool {
        self.update(|_| Some(Activity::Handling))
    }

    /// Records that the answer is written from now on.
    pub(super) fn begin_answer(&self) {
        let deadline = Instant::now() + self.all.limits.idle_timeout;
        self.update(|_| Some(Activity::Answering { deadline }));
    }

    /// Records that the peer has taken something.
    pub(super) fn note_written(&self) {
        let deadline = Instant::now() + self.all.limits.idle_timeout;
        self.update(|activity| match activity {
            Activity::Answering { .. } => Some(Activity::Answering { deadline }),
            Activity::AwaitingHead { .. } | Activity::Handling => None,
        });
    }

    /// Records that everything is written that there was to write.
    pub(super) fn note_flushed(&self) {
        let now = Instant::now();
        let idle_until = now + self.all.limits.idle_timeout;
        let is_silent = self.update(|activity| match activity {
            Activity::Answering { .. } => Some(Activity::AwaitingHead {
                silent_since: now,
                deadline: idle_until,
                head_begun: false,
            }),
            Activity::AwaitingHead { .. } | Activity::Handling => None,
        });
        if is_silent {
            self.all.changed.notify_one();
        }
    }

    /// Goes on to the activity that `next` gives; false if it gives none, or
    /// the connection was evicted.
    fn update(&self, next: impl FnOnce(Activity) -> Option<Activity>) -> bool {
        let mut table = self.all.lock();
        let Some(entry) = table.open.get_mut(&self.id) else {
            return false;
        };
        let Some(activity) = next(entry.activity) else {
            return false;
        };
        entry.activity = activity;
        entry.changed.notify_one();
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.all.lock().open.remove(&self.id).is_some() {
            self.all.changed.notify_one();
        }
    }
}
