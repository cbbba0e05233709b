//! This host's time zones, by their IANA names.

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

/// Clears the cache of zones, since the host may have newer tzdata.
pub fn clear_cache() {
    jiff::tz::db().reset();
}
