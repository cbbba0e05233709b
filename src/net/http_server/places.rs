//! The places of a server: which of them a peer's connections may take.

/// The places that a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlaceShare {
    /// Every place.
    Every,
    /// A user's share of the places of a pool. The kernel does not identify every user.
    User(UserPool, Option<u32>),
}

/// The pools of places for users. The users of one take no place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum UserPool {
    /// The user of this process.
    Own,
    /// Users who may change something.
    Trusted,
    /// All others.
    Others,
}

/// The shares of users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserPlaces {
    /// The places of one user, which are all places of the pool of this process's user.
    pub(crate) each: usize,
    /// The places of each other pool.
    pub(crate) together: usize,
    /// The connections of the user of this process that wait for a place. Of one of the
    /// other users as many wait as have a place.
    pub(crate) own_queue: usize,
}

impl UserPlaces {
    /// Returns the places of a pool.
    pub(super) const fn of(&self, pool: UserPool) -> usize {
        match pool {
            UserPool::Own => self.each,
            UserPool::Trusted | UserPool::Others => self.together,
        }
    }

    /// Returns how many connections may wait for a place: of one user, and of a pool.
    pub(super) const fn queue_limits(&self, pool: UserPool) -> (usize, usize) {
        match pool {
            UserPool::Own => (self.own_queue, self.own_queue),
            UserPool::Trusted | UserPool::Others => (self.each, self.together),
        }
    }
}

/// Whose connections make room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// All of them.
    Everyone,
    /// Those that may not take every place.
    Users,
    /// Those of one user in a pool.
    User(UserPool, Option<u32>),
}

impl Crowd {
    /// Returns whether a connection with this share is one of them.
    pub(super) fn has(self, share: PlaceShare) -> bool {
        match self {
            Self::Everyone => true,
            Self::Users => share != PlaceShare::Every,
            Self::User(pool, user) => share == PlaceShare::User(pool, user),
        }
    }
}
