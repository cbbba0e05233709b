//! How a server tells its peers apart.

use super::places::PlaceShare;

/// What a server knows of the peers of its connections, whose streams are `S`.
pub(crate) trait Peers<S>: Send + Sync + 'static {
    /// The peer of one connection, for the handlers.
    type Peer: Clone + Send + Sync + 'static;

    /// Returns the peer of a connection.
    fn describe(&self, stream: &S) -> Self::Peer;

    /// Returns the places that a peer's connections may take.
    fn share(&self, peer: &Self::Peer) -> PlaceShare;

    /// Notes that a connection was refused, because its peer has too many.
    fn note_refused(&self, peer: &Self::Peer);
}

/// Peers that are all alike.
impl<S> Peers<S> for () {
    type Peer = ();

    fn describe(&self, _: &S) -> Self::Peer {}

    fn share(&self, (): &Self::Peer) -> PlaceShare {
        PlaceShare::Every
    }

    fn note_refused(&self, (): &Self::Peer) {}
}
