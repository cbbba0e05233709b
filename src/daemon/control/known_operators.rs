//! The users who may operate, as far as that is known before a request.
//!
//! The places of a connection depend on its user, and are decided before a byte is read. The
//! name service is not asked for that: it may hang, and anybody can connect. So these are the
//! users whom the files of this host list in the configured groups, and those who have shown
//! by an earlier request that they may operate. What a request may do never depends on this.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon::control::authorization::ControlGroups;
use crate::platform::users;

/// The time after which the files of this host are read again.
const READ_INTERVAL: Duration = Duration::from_secs(10);

/// The number of users that are remembered by their requests.
const MAX_REMEMBERED: usize = 1024;

/// The users who may operate.
#[derive(Debug, Default)]
pub(super) struct KnownOperators {
    listed: Mutex<Option<ListedOperators>>,
    remembered: Mutex<BTreeSet<u32>>,
}

/// The users that the files of this host list.
#[derive(Debug)]
struct ListedOperators {
    configured: ControlGroups,
    read_at: Instant,
    groups: BTreeSet<u32>,
    users: BTreeSet<u32>,
}

impl KnownOperators {
    /// Returns whether a user with this primary group is known to belong to the configured
    /// groups.
    pub(super) fn has(&self, user: u32, group: u32, configured: &ControlGroups) -> bool {
        if lock(&self.remembered).contains(&user) {
            return true;
        }
        let mut listed = lock(&self.listed);
        let known = listed.take().filter(|known| {
            known.configured == *configured && known.read_at.elapsed() < READ_INTERVAL
        });
        let known = listed.insert(known.unwrap_or_else(|| ListedOperators::read(configured)));
        known.groups.contains(&group) || known.users.contains(&user)
    }

    /// Remembers whether a user may operate, as it was found for a request.
    pub(super) fn remember(&self, user: u32, may_operate: bool) {
        let mut remembered = lock(&self.remembered);
        if !may_operate {
            remembered.remove(&user);
        } else if remembered.len() < MAX_REMEMBERED {
            remembered.insert(user);
        }
    }
}

impl ListedOperators {
    fn read(configured: &ControlGroups) -> Self {
        let names = configured.admins.iter().chain(&configured.super_admins);
        let groups = names.filter_map(|name| users::find_group(name).ok());
        let groups: BTreeSet<u32> = groups.map(|group| group.as_raw()).collect();
        let members = groups
            .iter()
            .flat_map(|group| users::listed_members(*group));
        Self {
            configured: configured.clone(),
            read_at: Instant::now(),
            users: members.collect(),
            groups,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_listed_or_have_shown_it() {
        let operators = KnownOperators::default();
        let configured = ControlGroups {
            admins: vec!["4711".to_owned()],
            super_admins: vec!["root".to_owned(), "no-such-group-here".to_owned()],
        };
        let nobody = 4_000_000_017;
        // By the primary group, and by the files of this host.
        assert!(operators.has(nobody, 4_711, &configured));
        assert!(operators.has(0, 4_712, &configured));
        assert!(!operators.has(nobody, 4_712, &configured));
        // By an earlier request, as long as the next one finds the same.
        operators.remember(nobody, true);
        assert!(operators.has(nobody, 4_712, &configured));
        operators.remember(nobody, false);
        assert!(!operators.has(nobody, 4_712, &configured));
        // Another configuration counts at once.
        let other = ControlGroups {
            admins: vec!["4712".to_owned()],
            super_admins: Vec::new(),
        };
        assert!(operators.has(nobody, 4_712, &other));
        assert!(!operators.has(0, 4_711, &other));
    }
}
