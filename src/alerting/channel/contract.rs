//! What the dispatcher asks of a channel.

use std::time::Duration;

use async_trait::async_trait;

use super::error::ChannelError;
use crate::core::notification::{ChannelId, Notification};

/// How long one try may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Somebody who can be told.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Its type and target.
    fn id(&self) -> &ChannelId;

    /// What is wrong with it as far as this host can see without telling
    /// anybody. Every problem at once, each in words that say what would be
    /// right.
    async fn check(&self) -> Vec<ChannelError>;

    /// Whether it could be reached now; nothing is sent.
    ///
    /// # Errors
    /// Why not, in words.
    async fn check_reachable(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    /// Tells once, within [`TIMEOUT`]. `host` is who tells.
    ///
    /// # Errors
    /// Why nobody may have heard it, in words, masked.
    async fn send(&self, notice: &Notification, host: &str) -> Result<(), ChannelError>;
}
