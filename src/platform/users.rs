//! Users and groups of this host, by name or number.
//!
//! The lookup reads `/etc/passwd` and `/etc/group` itself. It does not use the
//! name service switch, so it can neither hang on a directory server nor load
//! foreign code: a user that only LDAP or systemd-homed knows is given by
//! number.
//!
//! An entry is what the C library reads as one: neither a comment nor a line that refers to
//! a directory server (`+name`). Digits are always a number, even if an account has them as
//! its name.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};

use crate::core::os_error;
use crate::core::redact::sanitize_name;
use crate::platform::name_service;

const PASSWD_PATH: &str = "/etc/passwd";
const GROUP_PATH: &str = "/etc/group";
const NAME_SERVICE_PATH: &str = "/etc/nsswitch.conf";

/// The sources of users and groups that add no members to what the files of this host have:
/// systemd's are those of its services and containers.
const LOCAL_SOURCES: [&str; 4] = ["altfiles", "compat", "files", "systemd"];

/// The source that reads lines of the files which refer to a directory server.
const REFERRING_SOURCE: &str = "compat";

/// The databases whose sources give users their groups: a directory server may have a user
/// whose primary group is one of this host.
const GROUP_DATABASES: [&str; 3] = ["group:", "initgroups:", "passwd:"];

/// The bits of capabilities in the capability sets of `/proc/self/status`.
const CAP_CHOWN: u64 = 1;
const CAP_FOWNER: u64 = 1 << 3;

/// The reason why a name has no number.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The file with the accounts cannot be read.
    #[error(
        "cannot look up the {kind} {}: cannot read {}: {}; hint: use its number",
        sanitize_name(name),
        list.display(),
        os_error::describe(source)
    )]
    Unreadable {
        /// The kind of account.
        kind: AccountKind,
        /// The name.
        name: String,
        /// The file with the accounts.
        list: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The file with the accounts does not have the name.
    #[error(
        "{kind} {} is not in {}; hint: create it, or use its number if a directory service provides it",
        sanitize_name(name),
        list.display()
    )]
    Unknown {
        /// The kind of account.
        kind: AccountKind,
        /// The name.
        name: String,
        /// The file with the accounts.
        list: PathBuf,
    },
}

/// The kinds of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountKind {
    /// A user.
    User,
    /// A group.
    Group,
}

impl fmt::Display for AccountKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

/// Returns the user with this name or number.
///
/// # Errors
/// If `/etc/passwd` cannot be read or does not have the name.
pub fn find_user(name_or_number: &str) -> Result<Uid, AccountError> {
    resolve_id(AccountKind::User, name_or_number, Path::new(PASSWD_PATH)).map(Uid::from_raw)
}

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user.
    pub user: Uid,
    /// Its primary group.
    pub group: Gid,
    /// All of its groups.
    pub groups: Vec<Gid>,
}

/// Returns the account with this name or number.
///
/// # Errors
/// If `/etc/passwd` cannot be read or does not have the account.
pub fn find_account(name_or_number: &str) -> Result<Account, AccountError> {
    let list = Path::new(PASSWD_PATH);
    let users = read_list(list).map_err(|source| AccountError::Unreadable {
        kind: AccountKind::User,
        name: name_or_number.to_owned(),
        list: list.to_owned(),
        source,
    })?;
    let groups = read_list(Path::new(GROUP_PATH)).unwrap_or_default();
    find_account_in(name_or_number, &users, &groups).ok_or_else(|| AccountError::Unknown {
        kind: AccountKind::User,
        name: name_or_number.to_owned(),
        list: list.to_owned(),
    })
}

fn find_account_in(name_or_number: &str, users: &str, groups: &str) -> Option<Account> {
    let number = parse_number(name_or_number);
    let (name, user, group) = entries(users).find_map(|fields| {
        let (user, group) = (parse_number(fields.get(2)?)?, parse_number(fields.get(3)?)?);
        let is_found = match number {
            Some(number) => number == user,
            None => fields[0] == name_or_number,
        };
        is_found.then_some((fields[0], user, group))
    })?;
    let listed = entries(groups).filter(|fields| has_member(fields, name));
    let listed = listed.filter_map(|fields| parse_number(fields.get(2)?));
    let groups = std::iter::once(group).chain(listed).map(Gid::from_raw);
    Some(Account {
        user: Uid::from_raw(user),
        group: Gid::from_raw(group),
        groups: groups.collect(),
    })
}

/// Returns the group with this name or number.
///
/// # Errors
/// If `/etc/group` cannot be read or does not have the name.
pub fn find_group(name_or_number: &str) -> Result<Gid, AccountError> {
    resolve_id(AccountKind::Group, name_or_number, Path::new(GROUP_PATH)).map(Gid::from_raw)
}

/// Returns why there is no group with this name or number, neither in the files of this host
/// nor in its name service. Blocks while that is asked.
#[must_use]
pub fn check_group(name: &str) -> Option<AccountError> {
    let error = find_group(name).err()?;
    let is_known = matches!(name_service::group_number(name), Ok(Some(_)));
    (!is_known).then_some(error)
}

/// Returns the name of the user with this number, if `/etc/passwd` has it.
#[must_use]
pub fn user_name(user: u32) -> Option<String> {
    let users = read_list(Path::new(PASSWD_PATH)).ok()?;
    user_name_in(&users, user).map(str::to_owned)
}

/// Returns the name of a user for a command line, or the number of one without a name.
#[must_use]
pub fn name_or_number(user: u32) -> String {
    user_name(user).unwrap_or_else(|| user.to_string())
}

/// Describes a user for people: `alice (uid 1000)`, or `uid 1000` if `/etc/passwd` does
/// not have the name.
#[must_use]
pub fn describe_user(user: u32) -> String {
    let name = if user == 0 {
        Some("root".to_owned())
    } else {
        user_name(user)
    };
    match name {
        Some(name) => format!("{} (uid {user})", sanitize_name(&name)),
        None => format!("uid {user}"),
    }
}

/// Describes the author of an event, which the ledger has as `uid 1000`, for people.
#[must_use]
pub fn describe_author(author: &str) -> String {
    let user = author.strip_prefix("uid ").and_then(parse_number);
    user.map_or_else(|| author.to_owned(), describe_user)
}

/// Returns the name of the group with this number, if `/etc/group` has it.
#[must_use]
pub fn group_name(group: u32) -> Option<String> {
    // The number is also the third field of a group.
    let groups = read_list(Path::new(GROUP_PATH)).ok()?;
    user_name_in(&groups, group).map(str::to_owned)
}

/// Returns the name of a group, or else its number, as commands take it.
#[must_use]
pub fn group_text(group: Gid) -> String {
    group_name(group.as_raw()).unwrap_or_else(|| group.as_raw().to_string())
}

fn user_name_in(users: &str, user: u32) -> Option<&str> {
    entries(users).find_map(|fields| {
        let is_user = parse_number(fields.get(2)?) == Some(user);
        is_user.then_some(fields[0])
    })
}

/// Whether a user with this primary group is a member of `group`, a name or a
/// number. A group that does not exist has no members.
#[must_use]
pub fn is_member(user: u32, primary_group: u32, group: &str) -> bool {
    let read = |path| read_list(Path::new(path)).unwrap_or_default();
    is_member_in(
        user,
        primary_group,
        group,
        &read(PASSWD_PATH),
        &read(GROUP_PATH),
    )
}

/// Returns the groups of a user as the files of this host list them, its primary group
/// included.
#[must_use]
pub fn local_groups_of(user: u32) -> BTreeSet<u32> {
    let account = find_account(&user.to_string());
    let groups = account.map(|account| account.groups).unwrap_or_default();
    groups.into_iter().map(Gid::as_raw).collect()
}

fn is_member_in(user: u32, primary_group: u32, group: &str, users: &str, groups: &str) -> bool {
    let number = parse_number(group).or_else(|| find_id(groups, group));
    if number.is_none() || number == Some(primary_group) {
        return number.is_some();
    }
    let Some(name) = user_name_in(users, user) else {
        return false;
    };
    entries(groups).any(|fields| {
        let is_group = fields.get(2).copied().and_then(parse_number) == number;
        is_group && has_member(&fields, name)
    })
}

/// Describes a group for people: `staff (gid 50)`, or `gid 50` if `/etc/group` does not
/// have the name.
#[must_use]
pub fn describe_group(group: u32) -> String {
    match group_name(group) {
        Some(name) => format!("{} (gid {group})", sanitize_name(&name)),
        None => format!("gid {group}"),
    }
}

/// Returns the users in a group, whose primary group it is included. `None` if they
/// cannot be told: `/etc/passwd` does not have all of them, or a directory server may have
/// further ones, which cannot be listed by their primary group.
#[must_use]
pub fn group_members(group: u32) -> Option<Vec<u32>> {
    let users = read_list(Path::new(PASSWD_PATH)).ok()?;
    let groups = read_list(Path::new(GROUP_PATH)).ok()?;
    let sources = read_list(Path::new(NAME_SERVICE_PATH)).unwrap_or_default();
    group_members_in(group, &users, &groups, &sources)
}

fn group_members_in(group: u32, users: &str, groups: &str, sources: &str) -> Option<Vec<u32>> {
    if !has_local_members(sources, &[users, groups]) {
        return None;
    }
    let members: Option<BTreeSet<u32>> = members_in(group, users, groups).collect();
    Some(members?.into_iter().collect())
}

/// Returns the users whom the files of this host list in a group, whose primary group it is
/// included. There may be others.
#[must_use]
pub fn listed_members(group: u32) -> Vec<u32> {
    let read = |path| read_list(Path::new(path)).unwrap_or_default();
    let (users, groups) = (read(PASSWD_PATH), read(GROUP_PATH));
    members_in(group, &users, &groups).flatten().collect()
}

/// Returns the users in a group, each possibly more than once; none in the place of one whom
/// `users` does not have.
fn members_in<'l>(
    group: u32,
    users: &'l str,
    groups: &'l str,
) -> impl Iterator<Item = Option<u32>> + 'l {
    let found = entries(groups).filter(move |fields| has_number(fields, group));
    let names = found.flat_map(|fields| {
        let names = fields.get(3).copied().unwrap_or_default().split(',');
        names.map(str::trim).collect::<Vec<_>>()
    });
    let names = names.filter(|name| !name.is_empty());
    let primary = entries(users).filter_map(move |fields| {
        let (user, primary) = (parse_number(fields.get(2)?)?, parse_number(fields.get(3)?)?);
        (primary == group).then_some(Some(user))
    });
    names.map(|name| find_id(users, name)).chain(primary)
}

fn has_number(fields: &[&str], number: u32) -> bool {
    fields.get(2).copied().and_then(parse_number) == Some(number)
}

/// Whether a text of the form of `/etc/nsswitch.conf`, see nsswitch.conf(5), names no source
/// of users and groups but those of this host, and `lists` refer to none.
fn has_local_members(sources: &str, lists: &[&str]) -> bool {
    let lines = sources.lines().filter_map(|line| {
        let line = line.split('#').next()?.trim();
        GROUP_DATABASES
            .iter()
            .find_map(|name| line.strip_prefix(name))
    });
    let mut names = lines.flat_map(str::split_whitespace);
    names.all(|name| match name {
        REFERRING_SOURCE => !lists.iter().any(|list| refers_to_server(list)),
        _ => name.starts_with('[') || name.contains('=') || LOCAL_SOURCES.contains(&name),
    })
}

/// Whether a list of accounts has a line that adds those of a directory server.
fn refers_to_server(list: &str) -> bool {
    list.lines().any(|line| line.trim_start().starts_with('+'))
}

/// Whether this process may change the owner of its files to `user`.
#[must_use]
pub fn can_chown_to_user(user: Uid) -> bool {
    user == rustix::process::geteuid() || can_chown_to_anyone()
}

/// Whether this process may change the group of its files to `group`.
#[must_use]
pub fn can_chown_to_group(group: Gid) -> bool {
    group == rustix::process::getegid()
        || rustix::process::getgroups().is_ok_and(|groups| groups.contains(&group))
        || can_chown_to_anyone()
}

fn can_chown_to_anyone() -> bool {
    has_capability(CAP_CHOWN)
}

/// Whether this process may do with every file what only its owner may.
#[must_use]
pub fn can_act_as_any_owner() -> bool {
    has_capability(CAP_FOWNER)
}

fn has_capability(capability: u64) -> bool {
    match read_list(Path::new("/proc/self/status")) {
        Ok(status) => effective_capabilities(&status).is_some_and(|set| set & capability != 0),
        Err(_) => rustix::process::geteuid().is_root(),
    }
}

/// Returns the effective capabilities in a text of the form of `/proc/PID/status`.
fn effective_capabilities(status: &str) -> Option<u64> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    let set = set.trim_start_matches('\t');
    let is_set = set.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_set.then(|| u64::from_str_radix(set, 16).ok()).flatten()
}

fn resolve_id(kind: AccountKind, name_or_number: &str, list: &Path) -> Result<u32, AccountError> {
    // chown(2) reads the highest number as "leave unchanged".
    if let Some(number) = parse_number(name_or_number)
        && number != u32::MAX
    {
        return Ok(number);
    }
    find_named(kind, name_or_number, list)
}

fn find_named(kind: AccountKind, name: &str, list: &Path) -> Result<u32, AccountError> {
    let accounts = read_list(list).map_err(|source| AccountError::Unreadable {
        kind,
        name: name.to_owned(),
        list: list.to_owned(),
        source,
    })?;
    find_id(&accounts, name).ok_or_else(|| AccountError::Unknown {
        kind,
        name: name.to_owned(),
        list: list.to_owned(),
    })
}

/// Reads a list of accounts. A remark in it, such as a person's name, may be in any
/// encoding.
fn read_list(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

/// Returns the fields of each entry of a list of accounts, of which the first is the name.
/// A name that is not UTF-8 is nobody's: two could not be distinguished.
fn entries(list: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = list
        .lines()
        .map(|line| line.trim_start_matches([' ', '\t']));
    let fields = lines.map(|line| line.split(':').collect::<Vec<_>>());
    fields.filter(|fields| {
        let name = fields[0];
        let is_entry = !name.is_empty() && !name.starts_with(['#', '+', '-']);
        is_entry && !name.contains(char::REPLACEMENT_CHARACTER)
    })
}

/// Whether the entry of a group lists a member.
fn has_member(group: &[&str], name: &str) -> bool {
    let members = group.get(3).copied().unwrap_or_default();
    members.split(',').any(|member| member.trim() == name)
}

/// Returns the number that a text of digits is: a sign, as in the `+` of the lines of a
/// directory server, makes it none.
fn parse_number(text: &str) -> Option<u32> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// Returns the number of the first entry with this name.
fn find_id(list: &str, name: &str) -> Option<u32> {
    entries(list).find_map(|fields| {
        let number = parse_number(fields.get(2)?)?;
        (fields[0] == name).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        assert_eq!(find_user("0").unwrap(), Uid::ROOT);
        assert_eq!(find_user("root").unwrap(), Uid::ROOT);
        assert_eq!(find_group("root").unwrap(), Gid::ROOT);
        assert_eq!(find_group("4242").unwrap(), Gid::from_raw(4242));
    }

    #[test]
    fn people_have_their_name_and_their_number() {
        let nobody = 4_000_000_000;
        for (author, expected) in [
            ("uid 0", "root (uid 0)"),
            ("uid 4000000000", "uid 4000000000"),
            ("uid -1", "uid -1"),
            ("uid 0x0", "uid 0x0"),
            ("the schedule", "the schedule"),
            ("", ""),
        ] {
            assert_eq!(describe_author(author), expected, "{author}");
        }
        assert_eq!(describe_user(nobody), "uid 4000000000");
    }

    #[test]
    fn failed_lookup_is_reported_with_its_file_and_a_hint() {
        let error = find_user("no-such-user-here").unwrap_err();
        assert_eq!(
            error.to_string(),
            "user no-such-user-here is not in /etc/passwd; hint: create it, or use its number if \
             a directory service provides it"
        );
        assert!(find_group("4294967295").is_err());
        let error = resolve_id(AccountKind::Group, "ops", Path::new("/nowhere/group"));
        assert_eq!(
            error.unwrap_err().to_string(),
            "cannot look up the group ops: cannot read /nowhere/group: no such file or directory; \
             hint: use its number"
        );
    }

    #[test]
    fn membership_counts_primary_and_listed_groups() {
        let users = "root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n\
                     annabel:x:1001:1001::/:/bin/sh\n";
        let groups = "ops:x:50:bob, anna\nempty:x:51:\nanna:x:1000:\nops2:x:52:annabel\n";
        for (user, primary_group, group, expected) in [
            (1000, 1000, "ops", true),
            (1000, 1000, "anna", true),
            (1000, 50, "ops", true),
            (1000, 1000, "empty", false),
            (1001, 1001, "ops", false),
            (1000, 1000, "ops2", false),
            (7, 7, "ops", false),
            (7, 7, "no-such-group", false),
            (1000, 1000, "50", true),
            (1000, 1000, "1000", true),
            (1000, 1000, "51", false),
            (1000, 1000, "5", false),
            (1001, 1001, "52", true),
        ] {
            let is_member = is_member_in(user, primary_group, group, users, groups);
            assert_eq!(is_member, expected, "{user} {primary_group} {group}");
        }
    }

    #[test]
    fn account_has_its_primary_and_its_listed_groups() {
        let users = "root:x:0:0::/root:/bin/sh\nrekeyd:x:995:990::/:/bin/false\nbroken:x\n";
        let groups = "rekeyd:x:990:\nbilling:x:50:anna, rekeyd\nother:x:51:rekeyd2\n";
        for name in ["rekeyd", "995"] {
            let account = find_account_in(name, users, groups).unwrap();
            assert_eq!(account.user.as_raw(), 995);
            assert_eq!(account.group.as_raw(), 990);
            let groups: Vec<_> = account.groups.iter().map(|group| group.as_raw()).collect();
            assert_eq!(groups, [990, 50]);
        }
        for name in ["broken", "996", ""] {
            assert_eq!(find_account_in(name, users, groups), None, "{name}");
        }
    }

    #[test]
    fn malformed_lines_match_nobody() {
        let users = "+::::::\n:x:7:7::/:/bin/sh\nnis:x:+8:8::/:/bin/sh\nshort:x\n";
        let groups = "+:::\n:x:60:\nops:x:50:\nplus:x:+61:nis\nwide:x:62:,\n";
        for user in [7, 8, 9] {
            for group in ["ops", "50", "wide", "plus", "61", "", "+"] {
                assert!(
                    !is_member_in(user, 99, group, users, groups),
                    "{user} {group}"
                );
            }
            assert_eq!(user_name_in(users, user), None);
        }
        assert_eq!(find_id(groups, ""), None);
        assert_eq!(find_id(groups, "plus"), None);
        for text in ["+7", "-7", " 7", "7 ", "", "0x7", "4294967296", "٧"] {
            assert_eq!(parse_number(text), None, "{text:?}");
        }
    }

    /// What the C library does not take for an entry gives nobody a right.
    #[test]
    fn comments_and_references_are_no_entries() {
        let users = "#anna:x:1000:1000::/:/bin/sh\n  anne:x:1000:1000::/:/bin/sh\n\
                     +nina:x:1001:1001::/:/bin/sh\n-nino:x:1002:1002::/:/bin/sh\n";
        let groups = "#ops:x:50:anne\n # ops:x:50:anne\n-ops:x:50:anne\n+@ops:x:50:anne\n\
                      ops:x:50:bob\ndev:x:50:carl\nops:x:51:anne\n\tweb:x:52:anne\n";
        assert_eq!(user_name_in(users, 1000), Some("anne"), "no comment");
        assert_eq!(user_name_in(users, 1001), None);
        assert_eq!(user_name_in(users, 1002), None);
        for (group, expected) in [
            ("ops", false),
            ("50", false),
            ("#ops", false),
            ("# ops", false),
            ("-ops", false),
            ("+@ops", false),
            ("51", true),
            ("web", true),
            ("52", true),
            ("052", true),
            ("OPS", false),
            ("ops ", false),
            ("ops\n", false),
        ] {
            let is_member = is_member_in(1000, 1000, group, users, groups);
            assert_eq!(is_member, expected, "{group:?}");
        }
        assert_eq!(find_id(groups, "ops"), Some(50), "the first counts");
        assert_eq!(find_account_in("#anna", users, groups), None);
        assert_eq!(find_account_in("+nina", users, groups), None);
    }

    #[test]
    fn digits_are_a_number_although_an_account_bears_them() {
        let users = "1000:x:7:7::/:/bin/sh\nanna:x:1000:1000::/:/bin/sh\n";
        let groups = "50:x:8:anna\nops:x:50:bob\n";
        assert_eq!(
            find_account_in("1000", users, groups)
                .unwrap()
                .user
                .as_raw(),
            1000
        );
        assert_eq!(
            find_account_in("7", users, groups).unwrap().user.as_raw(),
            7
        );
        assert!(!is_member_in(1000, 1000, "50", users, groups));
        assert!(is_member_in(1000, 1000, "8", users, groups));
    }

    #[test]
    fn remarks_may_be_in_any_encoding_and_names_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        std::fs::write(
            &path,
            b"fran\xe7ois:x:6:6::/:/bin/sh\nanna:x:7:7:Anna M\xfcller:/:/bin/sh\r\nbob:x:8:8\n",
        )
        .unwrap();
        let users = read_list(&path).unwrap();
        assert_eq!(user_name_in(&users, 7), Some("anna"));
        assert_eq!(user_name_in(&users, 8), Some("bob"));
        assert_eq!(user_name_in(&users, 6), None);
        let groups = String::from_utf8_lossy(b"ops:x:50:fran\xe9ois,anna\n");
        assert!(!is_member_in(6, 6, "ops", &users, &groups));
        assert!(is_member_in(7, 7, "ops", &users, &groups));
        assert_eq!(resolve_id(AccountKind::User, "anna", &path).unwrap(), 7);
    }

    #[test]
    fn effective_capabilities_are_read_from_their_line() {
        for (status, expected) in [
            (
                "Name:\trekeyd\nCapPrm:\t00000000000000ff\nCapEff:\t0000000000000009\n",
                Some(9),
            ),
            ("Name:\tCapEff: ff\nCapEff:\t0\n", Some(0)),
            ("CapEff:\t000001ffffffffff\n", Some(0x1ff_ffff_ffff)),
            ("CapEff:\t+9\n", None),
            ("CapEff:\t0x9\n", None),
            ("CapEff:\t\n", None),
            ("CapEff:\t10000000000000000\n", None),
            ("XCapEff:\t9\n", None),
            ("", None),
        ] {
            assert_eq!(effective_capabilities(status), expected, "{status:?}");
        }
    }

    #[test]
    fn only_exact_names_match() {
        let entries = "rooty:x:7:\n\nroot:x:0:0:root:/root:/bin/bash\nbroken:x\n";
        assert_eq!(find_id(entries, "root"), Some(0));
        assert_eq!(find_id(entries, "broken"), None);
        assert_eq!(find_id(entries, ""), None);
    }

    #[test]
    fn members_of_a_group_are_listed_or_have_it_as_their_own() {
        let users = "root:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n\
                     bob:x:1001:50::/:/bin/sh\n";
        let groups = "root:x:0:\nstaff:x:50:alice\nldap:x:60:carol\nempty:x:70:\n\
                      more:x:50:root\n";
        let (local, remote) = (
            "passwd: files\ngroup: files systemd [SUCCESS=merge]\n",
            "group: files sss",
        );
        let referring = format!("{users}+::::::\n");
        for (group, sources, expected) in [
            (0, local, Some(vec![0])),
            (50, local, Some(vec![0, 1000, 1001])),
            (60, local, None),
            (70, local, Some(vec![])),
            (1000, local, Some(vec![1000])),
            (4711, local, Some(vec![])),
            (4711, "", Some(vec![])),
            (4711, "# group: sss", Some(vec![])),
            (4711, remote, None),
            // A directory server may have further members of a group of this host.
            (70, remote, None),
            (70, "passwd:  files sss\ngroup: files", None),
            (70, "initgroups: ldap", None),
            (70, "hosts: files dns\npasswd: compat systemd", Some(vec![])),
        ] {
            let found = group_members_in(group, users, groups, sources);
            assert_eq!(found, expected, "{group} {sources}");
        }
        for (sources, expected) in [("group: compat", None), ("group: files", Some(vec![]))] {
            let found = group_members_in(70, &referring, groups, sources);
            assert_eq!(found, expected, "{sources}");
        }
    }
}
