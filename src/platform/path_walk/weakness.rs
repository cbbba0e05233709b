//! What makes a path lead elsewhere when another user wants it to.

use std::fmt;
use std::path::PathBuf;

use crate::platform::users;

/// A symbolic link that belongs to neither root nor the user of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLink {
    /// Where it is.
    pub path: PathBuf,
    /// The user that it belongs to.
    pub owner: u32,
}

/// A part of a path that another user can exchange, or whose content he can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weakness {
    /// The part, as a path without links.
    pub path: PathBuf,
    /// Whether it is the file that is read or run, and no folder or link that leads to it.
    pub is_file: bool,
    /// What is weak about it.
    pub kind: WeaknessKind,
}

/// What is weak about a part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeaknessKind {
    /// A folder or file belongs to this user.
    Owner(u32),
    /// It is a symbolic link that belongs to this user.
    Link(u32),
    /// Everybody can write there.
    Others,
    /// This group can write there, and has this member.
    Group(u32, GroupMember),
    /// Its access control list lets this user write there.
    ListedUser(u32),
    /// Its access control list lets others write there, and cannot be read.
    UnreadableList,
}

/// Whom else a group has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMember {
    /// This user, among others perhaps.
    User(u32),
    /// Nobody can tell: the files of this host do not list the group.
    Unknown,
}

impl Weakness {
    /// Returns what to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let path = self.path.display();
        let or_allow = format!("or allow it with trusted-paths = [\"{path}\"] in [security]");
        match self.kind {
            WeaknessKind::Owner(_) if self.is_file => format!("chown root {path}, {or_allow}"),
            WeaknessKind::Others if self.is_file => format!("chmod o-w {path}"),
            WeaknessKind::Owner(_) => {
                format!("use a path that only root and rekeyd's user own, {or_allow}")
            }
            WeaknessKind::Link(_) => {
                format!("use the path that the link leads to, create it as root, {or_allow}")
            }
            WeaknessKind::Others => "use a folder of its own, such as /etc/billing".to_owned(),
            WeaknessKind::Group(..) => format!("chmod g-w {path}, {or_allow}"),
            WeaknessKind::ListedUser(user) => format!("setfacl -x u:{user} {path}, {or_allow}"),
            WeaknessKind::UnreadableList => format!("check it with getfacl {path}, {or_allow}"),
        }
    }
}

impl WeaknessKind {
    /// Whether it is that others can write in a folder, where the sticky bit keeps them from
    /// exchanging what is not theirs.
    pub(super) const fn is_about_writers(self) -> bool {
        match self {
            Self::Owner(_) | Self::Link(_) => false,
            Self::Others | Self::Group(..) | Self::ListedUser(_) | Self::UnreadableList => true,
        }
    }
}

impl fmt::Display for Weakness {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.kind {
            WeaknessKind::Owner(owner) => {
                let owner = users::describe_user(owner);
                write!(formatter, "{path} belongs to {owner}")
            }
            WeaknessKind::Link(owner) => {
                let owner = users::describe_user(owner);
                write!(formatter, "{path} is a symbolic link of {owner}")
            }
            WeaknessKind::Others => write!(formatter, "{path} is world-writable"),
            WeaknessKind::Group(group, member) => {
                let group = users::describe_group(group);
                write!(formatter, "the group {group} can write to {path}")?;
                match member {
                    GroupMember::User(user) => {
                        let user = users::describe_user(user);
                        write!(formatter, ", and {user} is in it")
                    }
                    GroupMember::Unknown => {
                        write!(formatter, ", and /etc/group does not tell who is in it")
                    }
                }
            }
            WeaknessKind::ListedUser(user) => {
                let user = users::describe_user(user);
                write!(
                    formatter,
                    "the access control list of {path} lets {user} write to it"
                )
            }
            WeaknessKind::UnreadableList => {
                write!(
                    formatter,
                    "the access control list of {path} lets other users write to it"
                )
            }
        }
    }
}
