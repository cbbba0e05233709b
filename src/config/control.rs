//! `[control]`.

use std::path::PathBuf;

use super::options::Section;
use super::reader::Table;
use super::report::Report;
use super::values;
use crate::core::settings::ControlSettings;

/// Where the daemon is asked for something when nobody says anything.
const SOCKET: &str = "/run/rekeyd/control.sock";

/// Reads `[control]`.
pub(super) fn control(top: &Table<'_>, report: &mut Report) -> ControlSettings {
    let table = top.table(Section::Top, "control", report);
    table.refuse_unknown(&[Section::Control], report);
    let socket = match table.get(Section::Control, "socket") {
        None => Some(PathBuf::from(SOCKET)),
        Some(value) if value.as_text() == Some("") => None,
        Some(value) => values::path(&value, report),
    };
    let admins = table.get(Section::Control, "admins");
    ControlSettings {
        socket,
        admins: admins.map_or_else(Vec::new, |value| value.texts(report)),
    }
}
