//! What the dispatcher asks of a channel.

use std::time::Duration;

use async_trait::async_trait;

use super::error::ChannelError;
use crate::core::notification::{ChannelId, Notification};

/// The time that one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A channel that notifications are sent by.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Its id in the ledger.
    fn id(&self) -> &ChannelId;

    /// Every problem that this host can see without sending anything, each with
    /// what to do.
    async fn check(&self) -> Vec<ChannelError>;

    /// Checks whether it can be reached now. Nothing is sent.
    ///
    /// # Errors
    /// It cannot.
    async fn check_reachable(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    /// Sends once, within [`TIMEOUT`]. `host` is the name of this host.
    ///
    /// # Errors
    /// The notification may not have arrived.
    async fn send(&self, notice: &Notification, host: &str) -> Result<(), ChannelError>;
}
