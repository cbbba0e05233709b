//! The places of a server: which of them a peer's connections may take.

/// The places that a connection may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlaceShare {
    /// Every place.
    Every,
    /// A user's share of the places for users. The kernel does not identify every user.
    User(Option<u32>),
}

/// The shares of users.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UserPlaces {
    /// The places of one user, and of those of its connections that wait for one.
    pub(crate) each: usize,
    /// The places of all users together.
    pub(crate) together: usize,
}

/// Whose connections make room for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// All of them.
    Everyone,
    /// Those of one user.
    User(Option<u32>),
}

impl Crowd {
    /// Returns whether a connection with this share is one of them.
    pub(super) fn has(self, share: PlaceShare) -> bool {
        match (self, share) {
            (Self::Everyone, _) => true,
            (Self::User(user), share) => share == PlaceShare::User(user),
        }
    }
}
