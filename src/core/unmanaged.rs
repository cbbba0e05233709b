//! Live credentials of a key that is neither configured nor retired: nothing rotates or
//! revokes them.

use jiff::Timestamp;

use crate::core::decide::revocation::has_newer_current;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::lifecycle::Phase;
use crate::core::state::{KeyState, Rotation};
use crate::core::time;

/// The credentials that stay alive although their key left the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmanaged {
    /// The credentials, oldest first.
    pub credentials: Vec<CredentialId>,
    /// When the key left the configuration, as far as its sinks show that.
    pub since: Option<Timestamp>,
}

/// Returns the credentials of a key that stay alive if it is not configured; none if it has
/// none, or is retired. Those that a newer one replaced are revoked as planned.
#[must_use]
pub fn unmanaged(state: &KeyState) -> Option<Unmanaged> {
    if state.is_retired() {
        return None;
    }
    let stays = |row: &&Rotation| match row.phase {
        Phase::Current | Phase::Stranded => true,
        Phase::Retired => !has_newer_current(row, state),
        Phase::Intended
        | Phase::Created
        | Phase::Verified
        | Phase::Orphaned
        | Phase::Revoked
        | Phase::Failed => false,
    };
    let rows: Vec<_> = state.live.iter().filter(stays).collect();
    let credentials = rows.iter().filter_map(|row| row.credential());
    let credentials: Vec<_> = credentials
        .map(|credential| credential.id.clone())
        .collect();
    if credentials.is_empty() {
        return None;
    }
    let deliveries = rows.iter().flat_map(|row| &row.deliveries);
    let removed_at = deliveries.filter_map(|delivery| delivery.removed_at);
    Some(Unmanaged {
        credentials,
        since: removed_at.max(),
    })
}

impl Unmanaged {
    /// Describes the credentials, and what a person does about them.
    #[must_use]
    pub fn text(&self, key: &KeyName) -> String {
        let ids = join_few(&self.credentials);
        let (lives, it) = match self.credentials.len() {
            1 => ("stays alive", "it"),
            _ => ("stay alive", "them"),
        };
        let unconfigured = self.since.map(time::to_text).map_or_else(
            || "is not configured".to_owned(),
            |at| format!("has not been configured since {at}"),
        );
        format!(
            "{ids} {lives} although the key {unconfigured}; hint: revoke {it} with `rekeyd retire \
             {key}`, or, if another key takes its place, add was = \"{key}\" to that key"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::RotationId;
    use crate::core::scope::Scope;
    use crate::core::state::{CredentialMetadata, Retirement, Trigger};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_400_000 + seconds).unwrap()
    }

    fn row(number: u8, phase: Phase) -> Rotation {
        let mut row = Rotation::new(
            RotationId::new([number; 8]),
            Scope::AdminKeys,
            u64::from(number),
            Trigger::Schedule,
            phase,
            at(0),
        );
        row.credential = Some(CredentialMetadata {
            id: CredentialId::new(format!("key_{number}")),
            redacted_value: None,
            created_at: None,
            expires_at: None,
        });
        row
    }

    fn key(live: Vec<Rotation>) -> KeyState {
        KeyState {
            live,
            ..KeyState::unknown(KeyName::new("billing").unwrap())
        }
    }

    fn ids(state: &KeyState) -> Vec<String> {
        let found = unmanaged(state).into_iter().flat_map(|one| one.credentials);
        found.map(|id| id.to_string()).collect()
    }

    #[test]
    fn only_what_nothing_ends_is_unmanaged() {
        let replaced = key(vec![row(1, Phase::Retired), row(2, Phase::Current)]);
        assert_eq!(ids(&replaced), ["key_2"]);
        assert_eq!(ids(&key(vec![row(1, Phase::Retired)])), ["key_1"]);
        assert_eq!(ids(&key(vec![row(1, Phase::Orphaned)])), [""; 0]);
        assert_eq!(ids(&key(Vec::new())), [""; 0]);
        let retired = KeyState {
            retirement: Some(Retirement {
                at: at(0),
                is_immediate: false,
            }),
            ..replaced
        };
        assert_eq!(ids(&retired), [""; 0]);
    }
}
