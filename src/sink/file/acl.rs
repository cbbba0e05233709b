//! The access control list of a file that is replaced.

use rustix::fs::Mode;

use crate::platform::access_list::{
    self, ALL_RIGHTS, MASK, NAMED_GROUP, NAMED_USER, OTHERS, OWNER, OWNING_GROUP, READ, VERSION,
};

/// Returns the list with the rights of owner, owning group and others by `mode`.
/// The rights that named users and groups have in effect stay as they are.
/// Returns `None` for a list that cannot be read.
pub(super) fn with_mode(list: &[u8], mode: Mode) -> Option<Vec<u8>> {
    let entries = access_list::parse(list)?;
    let old_mask = access_list::mask(&entries);
    let rights_of = |shift: u32| u16::try_from(mode.as_raw_mode() >> shift).map(|m| m & ALL_RIGHTS);
    let (owner, group, others) = (rights_of(6).ok()?, rights_of(3).ok()?, rights_of(0).ok()?);
    let named = entries
        .iter()
        .filter(|entry| matches!(entry.tag, NAMED_USER | NAMED_GROUP))
        .fold(0, |union, entry| union | (entry.rights & old_mask));
    let mut changed = VERSION.to_vec();
    for entry in entries {
        let rights = match entry.tag {
            OWNER => owner,
            OWNING_GROUP => group,
            OTHERS => others,
            MASK => named | group,
            NAMED_USER | NAMED_GROUP => entry.rights & old_mask,
            _ => return None,
        };
        changed.extend(entry.tag.to_le_bytes());
        changed.extend(rights.to_le_bytes());
        changed.extend(entry.id.to_le_bytes());
    }
    Some(changed)
}

/// Whether the list lets the owning group read. Returns `None` for a list that cannot be
/// read.
pub(super) fn owning_group_reads(list: &[u8]) -> Option<bool> {
    let entries = access_list::parse(list)?;
    let group = entries.iter().find(|entry| entry.tag == OWNING_GROUP)?;
    Some(group.rights & access_list::mask(&entries) & READ != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = VERSION.to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(rights.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn mode_changes_no_right_of_named_users() {
        let none = u32::MAX;
        for (mode, [owner, group, mask], named) in [
            (0o600, [6, 0, 4], 4),
            (0o640, [6, 4, 4], 4),
            (0o660, [6, 6, 6], 4),
            (0o400, [4, 0, 4], 4),
        ] {
            // The mask limits the named user to reading.
            let old = list(&[
                (OWNER, 6, none),
                (NAMED_USER, 7, 4712),
                (OWNING_GROUP, 7, none),
                (MASK, 4, none),
                (OTHERS, 4, none),
            ]);
            let expected = list(&[
                (OWNER, owner, none),
                (NAMED_USER, named, 4712),
                (OWNING_GROUP, group, none),
                (MASK, mask, none),
                (OTHERS, 0, none),
            ]);
            let changed = with_mode(&old, Mode::from_raw_mode(mode)).unwrap();
            assert_eq!(changed, expected, "{mode:o}");
            let again = with_mode(&changed, Mode::from_raw_mode(mode)).unwrap();
            assert_eq!(again, expected, "{mode:o}");
        }
    }

    #[test]
    fn unknown_form_is_refused() {
        let mode = Mode::from_raw_mode(0o600);
        let short = &list(&[(OWNER, 6, 0)])[..7];
        let unknown_tag = list(&[(0x40, 6, 0)]);
        for bytes in [&b""[..], b"\x01\0\0\0", short, &unknown_tag] {
            assert_eq!(with_mode(bytes, mode), None, "{bytes:?}");
        }
    }
}
