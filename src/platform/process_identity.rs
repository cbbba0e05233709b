//! The identity of a process: the user, the groups and the capabilities that it
//! works with.

use std::io;

use rustix::fs::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, configure_capability_in_ambient_set, set_capabilities,
    set_keep_capabilities, set_thread_gid, set_thread_groups, set_thread_uid,
};

use super::service_unit::ServiceUnit;
use super::users::{self, AccountError};

/// A user, its groups, and the capabilities that it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The user.
    pub user: Uid,
    /// The group of the files that it creates.
    pub group: Gid,
    /// All of its groups.
    pub groups: Vec<Gid>,
    /// Its capabilities.
    pub capabilities: CapabilitySet,
}

impl ProcessIdentity {
    /// Returns the identity of the processes of `unit`; none for a unit of
    /// root's.
    ///
    /// # Errors
    /// If this host does not know its user or one of its groups.
    pub fn of_unit(unit: &ServiceUnit) -> Result<Option<Self>, AccountError> {
        let Some(user) = unit.user() else {
            return Ok(None);
        };
        let account = users::find_account(user)?;
        let group = match unit.group() {
            Some(group) => users::find_group(group)?,
            None => account.group,
        };
        let mut groups = account.groups;
        groups.push(group);
        for name in unit.supplementary_groups() {
            groups.push(users::find_group(&name)?);
        }
        groups.sort_by_key(|group| group.as_raw());
        groups.dedup();
        let names = unit.ambient_capabilities();
        let names = names.iter().filter_map(|name| name.strip_prefix("CAP_"));
        Ok(Some(Self {
            user: account.user,
            group,
            groups,
            capabilities: names.filter_map(CapabilitySet::from_name).collect(),
        }))
    }

    /// Returns the identity of a user, without capabilities. `group` is its
    /// group if this host does not know the user.
    #[must_use]
    pub fn of_user(user: Uid, group: Gid) -> Self {
        let account = users::find_account(&user.as_raw().to_string()).ok();
        Self {
            user,
            group: account.as_ref().map_or(group, |account| account.group),
            groups: account.map_or_else(|| vec![group], |account| account.groups),
            capabilities: CapabilitySet::empty(),
        }
    }

    /// Gives the calling thread this identity, which programs that it executes
    /// inherit. It cannot be undone.
    ///
    /// # Errors
    /// If the process is not root's, or the system refuses. The thread may have
    /// a part of the identity then, and MUST end.
    pub fn assume(&self) -> io::Result<()> {
        set_keep_capabilities(true)?;
        set_thread_groups(&self.groups)?;
        set_thread_gid(self.group)?;
        set_thread_uid(self.user)?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: self.capabilities,
                permitted: self.capabilities,
                inheritable: self.capabilities,
            },
        )?;
        for capability in self.capabilities.iter() {
            configure_capability_in_ambient_set(capability, true)?;
        }
        Ok(())
    }
}
