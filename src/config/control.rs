//! `[control]` and `[metrics]`.

use std::path::PathBuf;

use super::settings::{ControlSettings, FROM_SERVICE_MANAGER, MetricsAccess, MetricsAddress};
use super::top_table::TOP;
use crate::config_reader::reader::ConfigTable;
use crate::config_reader::report::ProblemReport;
use crate::config_reader::section::{ConfigOption, Section, ValueType};
use crate::config_reader::values;

/// `[control]`.
pub const CONTROL: Section = Section {
    name: "control",
    about: "The control socket, over which commands such as `rekeyd rotate` reach the running \
            daemon.",
    options: &[
        ConfigOption::new(
            "socket",
            ValueType::Text("^(/.*[^/])?$"),
            r#""/run/rekeyd/control.sock""#,
            "The Unix socket; `\"\"` for none. Its folder must exist. Its owner and its group may \
             connect and read.",
        )
        .or(r#""/run/rekeyd/control.sock""#),
        ConfigOption::new(
            "admins",
            ValueType::Texts(""),
            r#"["ops"]"#,
            "Groups whose members may rotate, pause, hold and reload, and revoke what rekeyd made \
             and has replaced. Root and the owner of the ledger always may.",
        )
        .or("[]")
        .with_details("They must also be able to connect to the socket."),
        ConfigOption::new(
            "super-admins",
            ValueType::Texts(""),
            r#"["security"]"#,
            "Groups whose members may do what `admins` may, and also adopt credentials, revoke \
             current and adopted ones, release adopted ones, prune the ledger, and use `revoke \
             --force`, `rotate --revoke-previous-now` and `rotate --revoke-previous-within`.",
        )
        .or("[]")
        .with_details(
            "A credential that neither its name nor a working key in a sink's file shows to be a \
             key's is adopted by root or the owner of the ledger alone.",
        ),
        ConfigOption::new(
            "reload-on-change",
            ValueType::Flag,
            "true",
            "`true`: the running daemon takes a changed configuration by itself.",
        )
        .or("false")
        .with_details(
            "It reads the file once that has stayed the same for five seconds, also behind a link. \
             A change that drops, renames or retargets a key or a sink waits for `rekeyd reload`: \
             `rekeyd status` shows it, and people are notified of it once.",
        ),
    ],
};

/// `[metrics]`.
pub const METRICS: Section = Section {
    name: "metrics",
    about: "Monitoring: `/metrics` for Prometheus, `/healthz` and `/readyz`.",
    options: &[
        ConfigOption::new(
            "listen",
            ValueType::Text("^.+$"),
            r#""127.0.0.1:9464""#,
            "The IP address and the port to listen on, `unix:/PATH` for a Unix socket, or \
             `systemd` for the socket of a systemd unit. A Unix socket has the mode and the group \
             of the control socket. If other hosts can reach the address, `/metrics` needs \
             `password-file` or `unprotected`.",
        ),
        ConfigOption::new(
            "password-file",
            ValueType::Path,
            r#""/etc/rekeyd/metrics-password""#,
            "A file with the password of `/metrics`, for HTTP Basic authentication with any user \
             name. rekeyd reads it for each request. `/healthz` and `/readyz` need no password.",
        ),
        ConfigOption::new(
            "unprotected",
            ValueType::Flag,
            "true",
            "`true`: everybody who can reach the address may read `/metrics`, which names keys \
             and sinks. Without it and without `password-file`, `/metrics` answers 403 at an \
             address that other hosts can reach.",
        )
        .or("false"),
    ],
};

/// The default path of the control socket.
pub const DEFAULT_SOCKET: &str = "/run/rekeyd/control.sock";

/// Reads `[control]`.
pub(super) fn read_control(top: &ConfigTable<'_>, report: &mut ProblemReport) -> ControlSettings {
    let table = top.subtable(TOP, "control", report);
    table.reject_unknown(&[CONTROL], report);
    let socket = table.get(CONTROL, "socket");
    let is_named = socket.is_some();
    let socket = match socket {
        None => Some(PathBuf::from(DEFAULT_SOCKET)),
        Some(value) if value.as_text() == Some("") => None,
        Some(value) => values::read_socket_path(&value, report),
    };
    let admins = table.get(CONTROL, "admins");
    let super_admins = table.get(CONTROL, "super-admins");
    let reload_on_change = table.get(CONTROL, "reload-on-change");
    ControlSettings {
        socket,
        admins: admins.map_or_else(Vec::new, |value| value.text_list(report)),
        super_admins: super_admins.map(|value| value.text_list(report)),
        reload_on_change: reload_on_change
            .and_then(|value| value.flag(report))
            .unwrap_or_default(),
        is_named,
    }
}

/// Reads `[metrics]`.
pub(super) fn read_metrics(
    top: &ConfigTable<'_>,
    report: &mut ProblemReport,
) -> (Option<MetricsAddress>, MetricsAccess) {
    let table = top.subtable(TOP, "metrics", report);
    table.reject_unknown(&[METRICS], report);
    let address = read_metrics_address(&table, report);
    let file = table.get(METRICS, "password-file");
    let file = file.and_then(|value| values::read_path(&value, report));
    let flag_value = table.get(METRICS, "unprotected");
    let flag = flag_value.as_ref().and_then(|value| value.flag(report));
    let unprotected = flag == Some(true);
    if let Some(value) = flag_value.filter(|_| unprotected && file.is_some()) {
        let message = "cannot be combined with `password-file`";
        report.add_problem(&value.location, message, "remove one of them");
    }
    let access = MetricsAccess {
        password_file: file,
        unprotected,
    };
    (address, access)
}

fn read_metrics_address(
    table: &ConfigTable<'_>,
    report: &mut ProblemReport,
) -> Option<MetricsAddress> {
    let value = table.get(METRICS, "listen")?;
    let text = value.text(report)?;
    if text == FROM_SERVICE_MANAGER {
        return Some(MetricsAddress::ServiceManager);
    }
    if values::is_socket_url(text) {
        return values::read_socket_address(&value, report).map(MetricsAddress::Socket);
    }
    let address = text.parse();
    if address.is_err() {
        let hint = value.expected("an IP address and a port");
        report.add_problem(&value.location, "not a valid address", hint);
    }
    address.ok().map(MetricsAddress::Tcp)
}
