//! What a caller may do.

/// What a caller may do. Each level includes the former ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Authority {
    /// Read what the ledger records.
    Observe,
    /// Rotate, pause, hold and reload, and revoke what rekeyd made and has replaced.
    Operate,
    /// Also end every other credential, or make rekeyd end it one day.
    Destroy,
    /// Everything. Root and the owner of the ledger could write the files as well.
    Full,
}

impl Authority {
    /// Returns what a caller with this authority may do, for a person.
    #[must_use]
    pub const fn permits(self) -> &'static str {
        match self {
            Self::Observe => "may only look",
            Self::Operate => "may rotate, pause, hold and reload",
            Self::Destroy => "may adopt and revoke what the keys recognize",
            Self::Full => "may do everything",
        }
    }
}
