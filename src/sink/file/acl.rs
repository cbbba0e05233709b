//! The access control list of a file that is replaced, and of a new file in a folder with a
//! default list.

use rustix::fs::Mode;

use crate::platform::access_list::{
    self, ALL_RIGHTS, AccessEntry, MASK, NAMED_GROUP, NAMED_USER, OTHERS, OWNER, OWNING_GROUP, READ,
};

/// Returns the entries of the list that a new file gets from `default`, the default list of
/// its folder: named users and groups have the rights that the default means for them, and
/// the mask is yet to be computed.
pub(super) fn inherited(default: &[AccessEntry]) -> Vec<AccessEntry> {
    let default_mask = access_list::mask(default);
    let entries = default.iter().map(|entry| AccessEntry {
        rights: match entry.tag {
            NAMED_USER | NAMED_GROUP => entry.rights & default_mask,
            MASK => 0,
            _ => entry.rights,
        },
        ..*entry
    });
    entries.collect()
}

/// Returns the entries of a list whose named entries have all lost their rights, with those
/// that `default`, the default list of the folder, means for them. Returns `None` if there
/// is nothing to restore.
pub(super) fn restored(list: &[AccessEntry], default: &[AccessEntry]) -> Option<Vec<AccessEntry>> {
    let default = inherited(default);
    let rights_of = |entry: &AccessEntry| {
        let same = default
            .iter()
            .find(|found| (found.tag, found.id) == (entry.tag, entry.id));
        same.map_or(0, |found| found.rights)
    };
    let is_empty = list
        .iter()
        .filter(|entry| is_named(entry))
        .all(|entry| entry.rights == 0);
    let is_granted = list
        .iter()
        .any(|entry| is_named(entry) && rights_of(entry) != 0);
    (is_empty && is_granted).then(|| {
        let entries = list.iter().map(|entry| AccessEntry {
            rights: match entry.tag {
                NAMED_USER | NAMED_GROUP => rights_of(entry),
                MASK => 0,
                _ => entry.rights,
            },
            ..*entry
        });
        entries.collect()
    })
}

/// Returns the list with the rights of owner, owning group and others by `mode`. Named
/// entries stay as they are. The mask lets them have what they have in effect, and what
/// `mode` gives the owning group. Returns `None` for entries of an unknown kind.
pub(super) fn with_mode(list: &[AccessEntry], mode: Mode) -> Option<Vec<AccessEntry>> {
    let old_mask = access_list::mask(list);
    let rights_of = |shift: u32| u16::try_from(mode.as_raw_mode() >> shift).map(|m| m & ALL_RIGHTS);
    let (owner, group, others) = (rights_of(6).ok()?, rights_of(3).ok()?, rights_of(0).ok()?);
    let in_effect = list
        .iter()
        .filter(|entry| is_named(entry))
        .fold(0, |union, entry| union | (entry.rights & old_mask));
    let changed = list.iter().map(|entry| {
        let rights = match entry.tag {
            OWNER => owner,
            OWNING_GROUP => group,
            OTHERS => others,
            MASK => in_effect | group,
            NAMED_USER | NAMED_GROUP => entry.rights,
            _ => return None,
        };
        Some(AccessEntry { rights, ..*entry })
    });
    changed.collect()
}

/// Returns a named entry that lets its user or group read by itself, and does not in effect.
/// Root and the user and group of this process, `own`, are no consumers.
pub(super) fn masked_reader(list: &[AccessEntry], own: (u32, u32)) -> Option<AccessEntry> {
    let mask = access_list::mask(list);
    let reads = |entry: &AccessEntry| entry.rights & READ != 0 && entry.rights & mask & READ == 0;
    list.iter()
        .find(|entry| is_consumer(entry, own) && reads(entry))
        .copied()
}

/// Returns the named entries that let their users or groups read in effect. Root and the user
/// and group of this process, `own`, are no consumers.
pub(super) fn readers(list: &[AccessEntry], own: (u32, u32)) -> Vec<AccessEntry> {
    let mask = access_list::mask(list);
    let reads = |entry: &&AccessEntry| entry.rights & mask & READ != 0;
    let named = list.iter().filter(|entry| is_consumer(entry, own));
    named.filter(reads).copied().collect()
}

fn is_consumer(entry: &AccessEntry, own: (u32, u32)) -> bool {
    match entry.tag {
        NAMED_USER => ![0, own.0].contains(&entry.id),
        NAMED_GROUP => ![0, own.1].contains(&entry.id),
        _ => false,
    }
}

const fn is_named(entry: &AccessEntry) -> bool {
    matches!(entry.tag, NAMED_USER | NAMED_GROUP)
}

/// Returns the rights that the list leaves to the owning group. Returns `None` for a list
/// without that entry.
pub(super) fn owning_group_rights(list: &[AccessEntry]) -> Option<u16> {
    let group = list.iter().find(|entry| entry.tag == OWNING_GROUP)?;
    Some(group.rights & access_list::mask(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: u32 = u32::MAX;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<AccessEntry> {
        let entries = entries.iter();
        entries
            .map(|&(tag, rights, id)| AccessEntry { tag, rights, id })
            .collect()
    }

    /// A list with the rights of the owner, of user 4712, of the owning group, of group 4713
    /// and of the mask.
    fn entries([owner, user, group, named_group, mask]: [u16; 5]) -> Vec<AccessEntry> {
        list(&[
            (OWNER, owner, NONE),
            (NAMED_USER, user, 4712),
            (OWNING_GROUP, group, NONE),
            (NAMED_GROUP, named_group, 4713),
            (MASK, mask, NONE),
            (OTHERS, 0, NONE),
        ])
    }

    #[test]
    fn named_entries_stay_and_the_mask_follows() {
        for (mode, old, expected) in [
            // What is in effect stays in effect.
            (0o600, [6, 7, 7, 0, 4], [6, 7, 0, 0, 4]),
            (0o640, [6, 7, 7, 0, 4], [6, 7, 4, 0, 4]),
            (0o400, [6, 4, 0, 6, 6], [4, 4, 0, 6, 6]),
            (0o600, [6, 4, 4, 2, 7], [6, 4, 0, 2, 6]),
            // The digit of the group opens the mask, as chmod(1) does.
            (0o660, [6, 7, 7, 0, 4], [6, 7, 6, 0, 6]),
            (0o640, [6, 4, 0, 4, 0], [6, 4, 4, 4, 4]),
            // What the mask has taken is not taken from the entry.
            (0o600, [6, 4, 0, 4, 0], [6, 4, 0, 4, 0]),
            (0o600, [6, 0, 0, 0, 7], [6, 0, 0, 0, 0]),
        ] {
            let mode = Mode::from_raw_mode(mode);
            let changed = with_mode(&entries(old), mode).unwrap();
            assert_eq!(changed, entries(expected), "{mode:o} {old:?}");
            let again = with_mode(&changed, mode).unwrap();
            assert_eq!(again, changed, "{mode:o} {old:?}");
        }
    }

    #[test]
    fn new_file_gets_what_the_default_list_means_within_the_mode() {
        for (mode, default, expected) in [
            (0o600, [7, 4, 5, 0, 7], [6, 4, 0, 0, 0]),
            (0o640, [7, 4, 5, 0, 7], [6, 4, 4, 0, 4]),
            (0o640, [7, 6, 0, 7, 6], [6, 6, 4, 6, 4]),
            (0o660, [7, 6, 0, 7, 4], [6, 4, 6, 4, 6]),
            (0o640, [7, 6, 0, 7, 0], [6, 0, 4, 0, 4]),
        ] {
            let mode = Mode::from_raw_mode(mode);
            let changed = with_mode(&inherited(&entries(default)), mode).unwrap();
            assert_eq!(changed, entries(expected), "{mode:o} {default:?}");
        }
    }

    #[test]
    fn emptied_entries_get_the_rights_of_the_default_list() {
        let default = entries([7, 4, 0, 6, 4]);
        for (old, expected) in [
            ([6, 0, 0, 0, 0], Some([6, 4, 0, 4, 0])),
            ([6, 0, 4, 0, 4], Some([6, 4, 4, 4, 0])),
            // One that has rights shows that the others were chosen.
            ([6, 0, 0, 4, 4], None),
            ([6, 4, 0, 4, 0], None),
        ] {
            let found = restored(&entries(old), &default);
            assert_eq!(found, expected.map(entries), "{old:?}");
        }
        let closed = entries([7, 4, 0, 6, 0]);
        assert_eq!(restored(&entries([6, 0, 0, 0, 0]), &closed), None);
        let nobody = list(&[(OWNER, 6, NONE), (OWNING_GROUP, 0, NONE), (OTHERS, 0, NONE)]);
        assert_eq!(restored(&nobody, &default), None);
    }

    #[test]
    fn reader_that_the_mask_shuts_out_is_found() {
        let own = (995, 995);
        for (rights, expected) in [
            ([6, 4, 0, 0, 0], Some(4712)),
            ([6, 0, 0, 6, 2], Some(4713)),
            ([6, 4, 0, 4, 4], None),
            ([6, 2, 0, 0, 0], None),
        ] {
            let found = masked_reader(&entries(rights), own);
            assert_eq!(found.map(|entry| entry.id), expected, "{rights:?}");
        }
        let no_consumers = list(&[
            (NAMED_USER, 4, 0),
            (NAMED_USER, 4, 995),
            (NAMED_GROUP, 4, 995),
            (MASK, 0, NONE),
        ]);
        assert_eq!(masked_reader(&no_consumers, own), None);
    }

    #[test]
    fn unknown_form_is_refused() {
        let mode = Mode::from_raw_mode(0o600);
        for bytes in [&b""[..], b"\x01\0\0\0", b"\x02\0\0\0\x01\0\x06"] {
            assert_eq!(access_list::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(with_mode(&list(&[(0x40, 6, 0)]), mode), None);
        let written = access_list::write(&entries([6, 4, 0, 0, 4]));
        assert_eq!(access_list::parse(&written), Some(entries([6, 4, 0, 0, 4])));
    }
}
