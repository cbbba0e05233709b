//! This host's time zones, by their IANA names.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

/// Returns the zone with this name, if this host knows it. UTC needs no tzdata.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

/// Lists every name that this host knows; empty without tzdata.
#[must_use]
pub fn names() -> Vec<String> {
    let names = jiff::tz::db().available();
    names.map(|name| name.as_str().to_owned()).collect()
}

/// Returns those of these zones that this host has, as its tzdata has them now. Blocks.
#[must_use]
pub fn read_again(names: &BTreeSet<String>) -> Vec<TimeZone> {
    clear_cache();
    names.iter().filter_map(|name| find(name)).collect()
}

/// Clears the cache of zones, since the host may have newer tzdata.
pub fn clear_cache() {
    jiff::tz::db().reset();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_zones_are_found() {
        for name in ["UTC", "Europe/Berlin", "America/Argentina/Ushuaia"] {
            assert!(find(name).is_some(), "{name}");
        }
        for name in [
            "",
            " UTC",
            "UTC ",
            "Europe",
            "Europe/",
            "/Europe/Berlin",
            "Europe/Berlin/",
            "../zoneinfo/UTC",
            "Europe/../UTC",
            "/usr/share/zoneinfo/UTC",
            "posix/Europe/Berlin",
            "right/Europe/Berlin",
            "Local",
            "tzdata.zi",
            "zone.tab",
            "+01:00",
            "CET-1CEST",
            "Europe/Berlin\n",
            "Europe/Berl\u{131}n",
        ] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
