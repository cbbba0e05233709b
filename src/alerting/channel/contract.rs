//! The contract between the dispatcher and a channel.

use std::time::Duration;

use async_trait::async_trait;

use super::error::ChannelError;
use crate::core::notification::{ChannelId, Notification};

/// The time limit of one attempt.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// A channel that carries notifications to people.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Returns its id in the ledger.
    fn id(&self) -> &ChannelId;

    /// Lists every problem that this host can detect without sending anything,
    /// each with its remedy.
    async fn check(&self) -> Vec<ChannelError>;

    /// Checks whether its receiver accepts a connection now. Sends nothing.
    ///
    /// # Errors
    /// Why it does not.
    async fn check_reachable(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    /// Sends once, within [`TIMEOUT`]. `host` is the name of this host.
    ///
    /// # Errors
    /// The notification may not have arrived.
    async fn send(&self, notification: &Notification, host: &str) -> Result<(), ChannelError>;
}
