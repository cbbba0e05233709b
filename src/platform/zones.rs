//! This host's time zones, by their IANA names.

use jiff::tz::TimeZone;

/// The zone with this name; none if this host does not know it. UTC needs no
/// tzdata.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    if name == "UTC" {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok()
}

/// Every name that this host knows; none where it has no tzdata.
#[must_use]
pub fn names() -> Vec<String> {
    let names = jiff::tz::db().available();
    names.map(|name| name.as_str().to_owned()).collect()
}

/// Forgets what was looked up: the host's tzdata may be newer now.
pub fn clear_cache() {
    jiff::tz::db().reset();
}
