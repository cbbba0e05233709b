//! The state of a notification channel, as its undelivered notifications show it.

use jiff::Timestamp;

/// How a channel stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelState {
    /// The number of notifications that its receiver has not accepted yet.
    pub undelivered: u64,
    /// When its receiver last accepted one.
    pub last_sent_at: Option<Timestamp>,
    /// The latest failure, unless the receiver has accepted a notification since.
    pub failure: Option<ChannelFailure>,
}

/// The latest failure of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelFailure {
    /// What failed, and why.
    pub error: String,
    /// When rekeyd tries again; none once it gave up.
    pub retry_at: Option<Timestamp>,
}
