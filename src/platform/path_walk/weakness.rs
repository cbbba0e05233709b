//! What makes a path lead elsewhere when another user wants it to.

use std::fmt;
use std::path::PathBuf;

use crate::core::shell::quote;
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
    /// What it is to the path.
    pub part: PathPart,
    /// What is weak about it.
    pub kind: WeaknessKind,
}

/// What a part is to the path that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathPart {
    /// A folder or link on the way.
    Way,
    /// The last folder, in which the file is.
    Folder,
    /// The file itself.
    File,
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
    /// Everybody can write there, but not remove the files of others, as in `/tmp`.
    Shared,
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
    /// Nobody can tell: the files of this host do not list the group, or a directory server may
    /// add members.
    Unknown,
}

impl Weakness {
    /// Returns what to do about a part of the path of a file that is only read or run.
    #[must_use]
    pub fn hint(&self) -> String {
        self.hint_for("root")
    }

    /// Returns what to do about a part of the path of a file that `owner` makes.
    #[must_use]
    pub fn hint_for(&self, owner: &str) -> String {
        let remedy = self.remedy(owner);
        let path = self.path.display();
        match self.kind {
            // Too many users to be trusted.
            WeaknessKind::Others | WeaknessKind::Shared => remedy,
            WeaknessKind::Owner(_)
            | WeaknessKind::Link(_)
            | WeaknessKind::Group(..)
            | WeaknessKind::ListedUser(_)
            | WeaknessKind::UnreadableList => {
                format!("{remedy}, or allow it with trusted-paths = [\"{path}\"] in [security]")
            }
        }
    }

    /// Returns the command that ends it, and what to look at before.
    #[must_use]
    pub fn remedy(&self, owner: &str) -> String {
        let command = self.command(owner);
        match self.kind {
            WeaknessKind::Link(_) => format!("if the link leads where it should, run `{command}`"),
            WeaknessKind::Shared => format!("use a folder of its own: run `{command}`"),
            WeaknessKind::Owner(_)
            | WeaknessKind::Others
            | WeaknessKind::Group(..)
            | WeaknessKind::ListedUser(_)
            | WeaknessKind::UnreadableList => format!("run `{command}`"),
        }
    }

    /// Returns the shell command with which root ends it. `owner` makes the file in its folder.
    #[must_use]
    pub fn command(&self, owner: &str) -> String {
        let path = quote(&self.path.to_string_lossy());
        match self.kind {
            WeaknessKind::Owner(_) => {
                let owner = match self.part {
                    PathPart::Way => "root",
                    PathPart::Folder | PathPart::File => owner,
                };
                format!("chown {owner} {path} && chmod go-w {path}")
            }
            WeaknessKind::Link(_) => format!("chown -h root {path}"),
            WeaknessKind::Others => format!("chmod o-w {path}"),
            WeaknessKind::Shared => format!("install -d -m 2750 -o {owner} /etc/billing"),
            // With an access control list, the bits of the group are its mask.
            WeaknessKind::Group(..) | WeaknessKind::UnreadableList => format!("chmod g-w {path}"),
            WeaknessKind::ListedUser(user) => format!("setfacl -x u:{user} {path}"),
        }
    }
}

impl WeaknessKind {
    /// Whether it is that others can write in a folder, where the sticky bit keeps them from
    /// exchanging what is not theirs.
    pub(super) const fn is_about_writers(self) -> bool {
        match self {
            Self::Owner(_) | Self::Link(_) => false,
            Self::Others
            | Self::Shared
            | Self::Group(..)
            | Self::ListedUser(_)
            | Self::UnreadableList => true,
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
            WeaknessKind::Others | WeaknessKind::Shared => {
                write!(formatter, "{path} is world-writable")
            }
            WeaknessKind::Group(group, member) => {
                let group = users::describe_group(group);
                write!(formatter, "the group {group} can write to {path}")?;
                match member {
                    GroupMember::User(user) => {
                        let user = users::describe_user(user);
                        write!(formatter, ", and {user} is in it")
                    }
                    GroupMember::Unknown => {
                        write!(
                            formatter,
                            ", and the files of this host do not tell who is in it"
                        )
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
