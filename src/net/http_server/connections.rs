//! The open connections of a server: the activity of each, and the choice of
//! the one that is evicted when all places are taken.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::places::{Crowd, PlaceShare, UserPlaces, UserPool};

/// The time limit of a whole request head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The time limit of an idle connection after an answer, and of an answer of
/// which the peer reads nothing. Longer than the interval of common monitoring,
/// since a new connection costs more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an answer may be in progress before its connection can be evicted: a
/// peer that reads reads any answer in less.
const ANSWER_GRACE: Duration = Duration::from_secs(1);

/// How long an accepted connection has for its first request before it can be
/// evicted as silent. The connections behind it would otherwise evict it before
/// its request is read, if all others are busy.
const FIRST_HEAD_GRACE: Duration = Duration::from_secs(1);

/// The same if accepted connections that have sent nothing hold most places: a flood of
/// them must not delay the others.
const CROWDED_HEAD_GRACE: Duration = Duration::from_millis(50);

/// The number of answers of one connection, while another waits for a place,
/// after which it is closed: a peer that pipelines is never silent.
const ANSWERS_WHILE_WAITING: u32 = 16;

/// How often a waiting connection checks for a place: a connection becomes old
/// without any change.
const RECHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The limits of one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// The number of connections that are served concurrently.
    max_connections: usize,
    /// The shares of users, where peers are users.
    users: Option<UserPlaces>,
    /// The time from the connection's start, or from the first byte of a later
    /// request, to the whole head.
    head_timeout: Duration,
    /// The time between requests, and between two reads of an answer by the
    /// peer.
    idle_timeout: Duration,
    /// The time of a whole answer.
    answer_timeout: Option<Duration>,
}

impl ConnectionLimits {
    /// Returns the limits with the usual times.
    pub(crate) const fn new(max_connections: usize) -> Self {
        Self {
            max_connections,
            users: None,
            head_timeout: HEAD_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            answer_timeout: None,
        }
    }

    /// Returns these limits with one for the time in which a peer reads a whole answer.
    pub(crate) const fn with_answer_timeout(self, timeout: Duration) -> Self {
        Self {
            answer_timeout: Some(timeout),
            ..self
        }
    }

    /// Returns when a connection is closed whose peer reads an answer since `started` and has
    /// read some of it now.
    fn answer_deadline(&self, started: Instant) -> Instant {
        let next_read = Instant::now() + self.idle_timeout;
        let end = self.answer_timeout.map(|timeout| started + timeout);
        end.map_or(next_read, |end| end.min(next_read))
    }

    /// Returns these limits with shares for users.
    pub(crate) const fn with_users(self, users: UserPlaces) -> Self {
        Self {
            users: Some(users),
            ..self
        }
    }
}

/// All connections of one server.
pub(super) struct Connections {
    limits: ConnectionLimits,
    table: Mutex<ConnectionTable>,
    /// Notified when a place is free or a connection has become silent.
    changed: Notify,
}

#[derive(Default)]
struct ConnectionTable {
    next_id: u64,
    /// Whether an accepted connection waits for a place.
    is_waited_for: bool,
    open: BTreeMap<u64, ConnectionEntry>,
    /// The number of connections of each user that wait for a place.
    queued: BTreeMap<PlaceShare, usize>,
}

struct ConnectionEntry {
    share: PlaceShare,
    activity: Activity,
    /// The time from which it can be evicted as silent: that of its first request, or the
    /// end of the grace period.
    first_head_until: Instant,
    /// Whether its peer sends another request as soon as it has read the answer.
    is_continued: bool,
    /// The number of its answers while another waited for a place.
    answers_while_waiting: u32,
    /// Wakes the connection's task after each change of its activity.
    changed: Arc<Notify>,
}

/// The activity of a connection.
#[derive(Debug, Clone, Copy)]
enum Activity {
    /// It is silent: no whole request head has come since its start or its last
    /// answer.
    AwaitingHead {
        silent_since: Instant,
        deadline: Instant,
        /// Whether `deadline` is that of a head, not of an idle connection.
        head_started: bool,
    },
    /// A handler processes a request.
    Handling,
    /// An answer is being written since `started`, and the peer has to read some
    /// of it before the deadline.
    Answering { started: Instant, deadline: Instant },
}

/// The place of one connection, which is released on drop.
pub(super) struct Connection {
    id: u64,
    connections: Arc<Connections>,
    changed: Arc<Notify>,
}

/// The place of the connection of a request, which handlers receive as an extension.
#[derive(Clone)]
pub(crate) struct RequestPlace {
    id: u64,
    connections: Arc<Connections>,
}

/// What becomes of an accepted connection.
pub(super) enum Admission {
    /// It has a place.
    Admitted(Connection),
    /// It waits for a place of its user's, and keeps nobody else waiting.
    Queued(QueuedConnection),
    /// Its user has too many connections, waiting ones included.
    Refused,
}

/// A connection that waits for a place of its user's; it no longer does on drop.
pub(super) struct QueuedConnection {
    share: PlaceShare,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            table: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// Takes a place, or has a connection of a user whose places are taken wait for one.
    pub(super) async fn admit(self: &Arc<Self>, share: PlaceShare) -> Admission {
        match (share, self.limits.users) {
            (PlaceShare::User(pool, _), Some(users)) => match self.try_admit(share) {
                Some(connection) => Admission::Admitted(connection),
                None => self.queue(share, pool, users),
            },
            (PlaceShare::User(..) | PlaceShare::Every, _) => {
                Admission::Admitted(self.admit_soon(share).await)
            }
        }
    }

    fn queue(self: &Arc<Self>, share: PlaceShare, pool: UserPool, users: UserPlaces) -> Admission {
        let (most_of_one, most_of_pool) = users.queue_limits(pool);
        let mut table = self.lock();
        let of_pool = table
            .queued
            .iter()
            .filter(|(share, _)| is_in(**share, pool));
        let all: usize = of_pool.map(|(_, count)| count).sum();
        let own = table.queued.get(&share).copied().unwrap_or_default();
        if own >= most_of_one || all >= most_of_pool {
            return Admission::Refused;
        }
        table.queued.insert(share, own + 1);
        Admission::Queued(QueuedConnection {
            share,
            connections: Arc::clone(self),
        })
    }

    /// Takes a place. If none is free, evicts the connection that has been
    /// silent longest; if none is silent, the one whose answer has been in
    /// progress longest, because its peer does not read it. Waits while every
    /// one is in the middle of a request, has just begun an answer or has just
    /// been accepted; meanwhile those with many answers are closed.
    async fn admit_soon(self: &Arc<Self>, share: PlaceShare) -> Connection {
        loop {
            if let Some(connection) = self.try_admit(share) {
                return connection;
            }
            let _ = timeout(RECHECK_INTERVAL, self.changed.notified()).await;
        }
    }

    fn try_admit(self: &Arc<Self>, share: PlaceShare) -> Option<Connection> {
        let mut table = self.lock();
        if let Some(crowd) = table.crowd(share, &self.limits) {
            let evicted = table.evictable(crowd);
            table.is_waited_for = evicted.is_none();
            let evicted = evicted?;
            if let Some(entry) = table.open.remove(&evicted) {
                entry.changed.notify_one();
            }
        }
        table.is_waited_for = false;
        let id = table.next_id;
        table.next_id += 1;
        let now = Instant::now();
        let changed = Arc::new(Notify::new());
        let activity = Activity::AwaitingHead {
            silent_since: now,
            deadline: now + self.limits.head_timeout,
            head_started: true,
        };
        let entry = ConnectionEntry {
            share,
            activity,
            first_head_until: now + FIRST_HEAD_GRACE,
            is_continued: false,
            answers_while_waiting: 0,
            changed: Arc::clone(&changed),
        };
        table.open.insert(id, entry);
        Some(Connection {
            id,
            connections: Arc::clone(self),
            changed,
        })
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionTable {
    /// Returns whose connections have to make room for one with this share, if no place is
    /// free for it.
    fn crowd(&self, share: PlaceShare, limits: &ConnectionLimits) -> Option<Crowd> {
        let is_full = self.open.len() >= limits.max_connections;
        let (PlaceShare::User(pool, user), Some(users)) = (share, limits.users) else {
            return is_full.then_some(Crowd::Everyone);
        };
        let mut counts: BTreeMap<Option<u32>, usize> = BTreeMap::new();
        for entry in self.open.values() {
            match entry.share {
                PlaceShare::User(found, user) if found == pool => {
                    *counts.entry(user).or_default() += 1;
                }
                PlaceShare::User(..) | PlaceShare::Every => {}
            }
        }
        let own = counts.get(&user).copied().unwrap_or_default();
        if own >= users.each {
            return Some(Crowd::User(pool, user));
        }
        if !is_full && counts.values().sum::<usize>() < users.of(pool) {
            return None;
        }
        // Who has most makes room, and never for one who has as many.
        let largest = counts.into_iter().max_by_key(|(_, count)| *count);
        Some(match largest {
            Some((other, count)) if count > own => Crowd::User(pool, other),
            _ => Crowd::User(pool, user),
        })
    }

    /// Returns the connection of `crowd` that makes room for another. Of everyone, those that
    /// may take every place are the last.
    fn evictable(&self, crowd: Crowd) -> Option<u64> {
        let of = |crowd| {
            let silent = self.longest_silent(crowd);
            silent.or_else(|| self.longest_answering(crowd))
        };
        let of_users = (crowd == Crowd::Everyone).then(|| of(Crowd::Users));
        of_users.flatten().or_else(|| of(crowd))
    }

    /// Returns the connection of `crowd` that has been silent longest, except those that
    /// were just accepted. If these have more than half of its places, the first
    /// of them, after a moment.
    fn longest_silent(&self, crowd: Crowd) -> Option<u64> {
        let now = Instant::now();
        let members = || {
            let entries = self.open.iter();
            entries.filter(|(_, entry)| crowd.has(entry.share))
        };
        let silent = members().filter_map(|(id, entry)| {
            let since = entry.activity.silent_since()?;
            Some((since, *id, now < entry.first_head_until))
        });
        let (new, others): (Vec<_>, Vec<_>) = silent.partition(|(_, _, is_new)| *is_new);
        let longest = others.into_iter().min().or_else(|| {
            let are_most = new.len() * 2 > members().count();
            let first = new.into_iter().min()?;
            let is_recent = now.duration_since(first.0) < CROWDED_HEAD_GRACE;
            (are_most && !is_recent).then_some(first)
        });
        longest.map(|(_, id, _)| id)
    }

    /// Returns the connection of `crowd` whose answer has been in progress longest, and for
    /// longer than the grace period.
    fn longest_answering(&self, crowd: Crowd) -> Option<u64> {
        let now = Instant::now();
        let members = self.open.iter();
        let members = members.filter(|(_, entry)| crowd.has(entry.share));
        let answering = members.filter_map(|(id, entry)| {
            let since = entry.activity.answering_since()?;
            Some((since, *id)).filter(|_| now.duration_since(since) >= ANSWER_GRACE)
        });
        answering.min().map(|(_, id)| id)
    }
}

impl Activity {
    const fn silent_since(&self) -> Option<Instant> {
        match self {
            Self::AwaitingHead { silent_since, .. } => Some(*silent_since),
            Self::Handling | Self::Answering { .. } => None,
        }
    }

    const fn answering_since(&self) -> Option<Instant> {
        match self {
            Self::Answering { started, .. } => Some(*started),
            Self::AwaitingHead { .. } | Self::Handling => None,
        }
    }

    const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::AwaitingHead { deadline, .. } | Self::Answering { deadline, .. } => {
                Some(*deadline)
            }
            Self::Handling => None,
        }
    }
}

impl Connection {
    /// Returns its place, for the handler of a request.
    pub(super) fn place(&self) -> RequestPlace {
        RequestPlace {
            id: self.id,
            connections: Arc::clone(&self.connections),
        }
    }

    /// Waits until the activity has changed, or the connection was evicted.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns the time at which the connection is closed unless its activity
    /// changes, if it has one; `None` if it was evicted.
    pub(super) fn deadline(&self) -> Option<Option<Instant>> {
        let table = self.connections.lock();
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
        let table = self.connections.lock();
        let entry = table.open.get(&self.id);
        entry.is_none_or(|entry| entry.activity.silent_since().is_some())
    }

    /// Records that the peer has sent data.
    pub(super) fn note_read(&self) {
        let head_timeout = self.connections.limits.head_timeout;
        self.update(|activity| match activity {
            Activity::AwaitingHead {
                silent_since,
                head_started: false,
                ..
            } => Some(Activity::AwaitingHead {
                silent_since,
                deadline: Instant::now() + head_timeout,
                head_started: true,
            }),
            Activity::AwaitingHead { .. } | Activity::Handling | Activity::Answering { .. } => None,
        });
    }

    /// Records that a whole request head has come, and returns the time by which the body
    /// has to be complete: that of the head. None if the connection was evicted and the
    /// request must not be handled.
    pub(super) fn begin_request(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut table = self.connections.lock();
        let entry = table.open.get_mut(&self.id)?;
        let deadline = match entry.activity {
            Activity::AwaitingHead {
                deadline,
                head_started: true,
                ..
            } => deadline,
            // A head that came together with the request before.
            Activity::AwaitingHead { .. } | Activity::Handling | Activity::Answering { .. } => {
                now + self.connections.limits.head_timeout
            }
        };
        entry.first_head_until = now;
        entry.activity = Activity::Handling;
        entry.changed.notify_one();
        Some(deadline)
    }

    /// Records the start of an answer. Returns whether the connection must be
    /// closed after it, because it has had many while others wait for its place.
    pub(super) fn begin_answer(&self) -> bool {
        let started = Instant::now();
        let deadline = self.connections.limits.answer_deadline(started);
        self.update(|_| Some(Activity::Answering { started, deadline }));
        let mut table = self.connections.lock();
        if !table.is_waited_for {
            return false;
        }
        table.open.get_mut(&self.id).is_some_and(|entry| {
            entry.answers_while_waiting += 1;
            entry.answers_while_waiting >= ANSWERS_WHILE_WAITING
        })
    }

    /// Records that the peer has read data.
    pub(super) fn note_written(&self) {
        let limits = &self.connections.limits;
        self.update(|activity| match activity {
            Activity::Answering { started, .. } => Some(Activity::Answering {
                started,
                deadline: limits.answer_deadline(started),
            }),
            Activity::AwaitingHead { .. } | Activity::Handling => None,
        });
    }

    /// Records that all pending data is written.
    pub(super) fn note_flushed(&self) {
        let now = Instant::now();
        let idle_until = now + self.connections.limits.idle_timeout;
        let is_silent = self.update(|activity| match activity {
            Activity::Answering { .. } => Some(Activity::AwaitingHead {
                silent_since: now,
                deadline: idle_until,
                head_started: false,
            }),
            Activity::AwaitingHead { .. } | Activity::Handling => None,
        });
        if is_silent {
            let mut table = self.connections.lock();
            if let Some(entry) = table.open.get_mut(&self.id)
                && std::mem::take(&mut entry.is_continued)
            {
                entry.first_head_until = now + FIRST_HEAD_GRACE;
            }
            drop(table);
            self.connections.changed.notify_one();
        }
    }

    /// Replaces the activity by the result of `next`. Returns false if there is
    /// none, or if the connection was evicted.
    fn update(&self, next: impl FnOnce(Activity) -> Option<Activity>) -> bool {
        let mut table = self.connections.lock();
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

impl RequestPlace {
    /// Gives the connection its place as one that may take every place: its peer has shown who
    /// it is.
    pub(crate) fn take_from_every(&self) {
        let mut table = self.connections.lock();
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.share = PlaceShare::Every;
        }
        drop(table);
        // A place of its user is free.
        self.connections.changed.notify_one();
    }

    /// Notes that the peer sends another request as soon as it has read the answer to this one:
    /// the connection is not evicted before others that have sent nothing.
    pub(crate) fn expect_another(&self) {
        let mut table = self.connections.lock();
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.is_continued = true;
        }
    }
}

/// Returns whether a share is that of a user in `pool`.
fn is_in(share: PlaceShare, pool: UserPool) -> bool {
    matches!(share, PlaceShare::User(found, _) if found == pool)
}

impl QueuedConnection {
    /// Waits for a place, for as long as a request may take to arrive.
    pub(super) async fn admit(self) -> Option<Connection> {
        let soon = self.connections.admit_soon(self.share);
        let head_timeout = self.connections.limits.head_timeout;
        timeout(head_timeout, soon).await.ok()
    }
}

impl Drop for QueuedConnection {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        if let Some(count) = table.queued.get_mut(&self.share) {
            *count -= 1;
            if *count == 0 {
                table.queued.remove(&self.share);
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.connections.lock().open.remove(&self.id).is_some() {
            self.connections.changed.notify_one();
        }
    }
}
