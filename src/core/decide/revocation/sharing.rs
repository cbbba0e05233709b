//! Whether other keys still use a credential that several keys have adopted.

use jiff::Timestamp;

use crate::core::decide::revocation::candidate::{Candidate, OtherHolder};
use crate::core::decide::revocation::due_time::{DueTime, due_time};
use crate::core::decide::revocation::holding_sinks::holding_sinks;
use crate::core::decide::revocation::leak::is_unreplaced;
use crate::core::decide::revocation::observation::Observation;
use crate::core::decide::revocation::reason::RevocationReason;
use crate::core::first_few::join_few;
use crate::core::ids::SinkId;
use crate::core::state::visible_hold_end;
use crate::core::time;

/// A key that has not moved to a newer credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnmovedKey {
    /// When it has, if that follows from the ledger.
    pub(super) moved_at: Option<Timestamp>,
}

/// Returns a key that may still use the credential, if others have it besides the
/// candidate's own: one that has not moved, or whose overlap or hold is not over. A key
/// that left the configuration has not moved, unless it is retired.
pub(super) fn unmoved_key(candidate: &Candidate<'_>, now: Timestamp) -> Option<UnmovedKey> {
    if candidate.others.is_empty() {
        return None;
    }
    if candidate.policy.is_none() && !candidate.key.is_retired() {
        return Some(UnmovedKey { moved_at: None });
    }
    let unmoved = |other: &OtherHolder| {
        if other.policy.is_none() && !other.key.is_retired() {
            return Some(UnmovedKey { moved_at: None });
        }
        match due_time(&other.rotation, &other.key, other.policy.as_deref()) {
            DueTime::Never => Some(UnmovedKey { moved_at: None }),
            DueTime::From(Some(at)) if at > now => Some(UnmovedKey { moved_at: Some(at) }),
            DueTime::From(_) => None,
        }
    };
    candidate.others.iter().find_map(unmoved)
}

/// Describes for people which other keys the end of a shared credential waits for, and
/// what moves them.
#[must_use]
pub fn describe_unmoved(candidate: &Candidate<'_>, now: Timestamp) -> String {
    let is_leaked = matches!(candidate.reason, RevocationReason::Leaked { .. });
    let of_other = |other: &OtherHolder| {
        let key = &other.key.key;
        if other.policy.is_none() && !other.key.is_retired() {
            let text =
                format!("{key}, which is not configured, also uses it (`rekeyd retire {key}`)");
            return (!is_leaked).then_some(text);
        }
        let is_waiting =
            format!("{key} also uses it and has not moved to a newer one (`rekeyd rotate {key}`)");
        if is_leaked {
            return is_unreplaced(candidate, other).then_some(is_waiting);
        }
        match due_time(&other.rotation, &other.key, other.policy.as_deref()) {
            DueTime::Never => Some(is_waiting),
            DueTime::From(Some(at)) if at > now => Some(match visible_hold_end(at) {
                Some(at) => {
                    let at = time::to_text(time::next_whole_second(at));
                    format!("{key} also uses it until {at}")
                }
                None => format!("{key} also uses it and holds it (`rekeyd release {key}`)"),
            }),
            DueTime::From(_) => None,
        }
    };
    let own = candidate.policy.is_none() && !candidate.key.is_retired() && !is_leaked;
    let own = own.then(|| {
        let key = &candidate.key.key;
        format!("{key} is not configured (`rekeyd retire {key}`)")
    });
    let others: Vec<_> = candidate.others.iter().filter_map(of_other).collect();
    join_few(own.into_iter().chain(others))
}

/// Returns the sinks of all keys that may hold the credential now.
pub(super) fn all_holding_sinks(
    candidate: &Candidate<'_>,
    observation: &Observation,
    now: Timestamp,
) -> Vec<SinkId> {
    let mut sinks = holding_sinks(candidate, observation, now);
    for other in candidate.others {
        let of_other = Candidate {
            key: &other.key,
            rotation: Some(&other.rotation),
            policy: other.policy.as_deref(),
            others: &[],
            ..*candidate
        };
        sinks.extend(holding_sinks(&of_other, observation, now));
    }
    sinks
}
