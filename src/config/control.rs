//! `[control]` and `[metrics]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::options::Section;
use super::quote::quoted;
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

/// Reads `[metrics] listen`.
pub(super) fn metrics(top: &Table<'_>, report: &mut Report) -> Option<SocketAddr> {
    let table = top.table(Section::Top, "metrics", report);
    table.refuse_unknown(&[Section::Metrics], report);
    let value = table.get(Section::Metrics, "listen")?;
    let text = value.text(report)?;
    let address = text.parse();
    if address.is_err() {
        let message = format!("{} is no address to listen at", quoted(text));
        let hint = "an IP address and a port, such as \"127.0.0.1:9464\", are allowed";
        report.wrong(&value.place, message, hint);
    }
    address.ok()
}
