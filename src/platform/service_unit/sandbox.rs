//! What a unit forbids the programs of its service.

use std::fmt;

use super::{ServiceUnit, unit_text};

/// The options of a unit that decide what its programs may do, see systemd.exec(5).
const SANDBOX_OPTIONS: [&str; 37] = [
    "User",
    "Group",
    "SupplementaryGroups",
    "UMask",
    "LimitCORE",
    "LimitAS",
    "LimitDATA",
    "LimitNPROC",
    "LimitNOFILE",
    "LimitMEMLOCK",
    "MemoryMax",
    "MemorySwapMax",
    "TasksMax",
    "NoNewPrivileges",
    "CapabilityBoundingSet",
    "AmbientCapabilities",
    "ProtectSystem",
    "ProtectHome",
    "PrivateTmp",
    "PrivateDevices",
    "PrivateMounts",
    "PrivateIPC",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ProcSubset",
    "RestrictAddressFamilies",
    "RestrictNamespaces",
    "RestrictSUIDSGID",
    "LockPersonality",
    "MemoryDenyWriteExecute",
    "SystemCallArchitectures",
    "SystemCallFilter",
];

/// Something that a unit forbids, and that programs may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restriction {
    /// What is forbidden.
    pub what: &'static str,
    /// The option of the unit.
    pub option: &'static str,
    /// The example of a drop-in that allows it.
    pub drop_in: &'static str,
}

impl fmt::Display for Restriction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({}=)", self.what, self.option)
    }
}

/// Memory that is both written and executed.
pub const EXECUTABLE_MEMORY: Restriction = Restriction {
    what: "memory that is both written and executed",
    option: "MemoryDenyWriteExecute",
    drop_in: "executable-memory.conf",
};

const NETLINK: Restriction = Restriction {
    what: "netlink sockets",
    option: "RestrictAddressFamilies",
    drop_in: "netlink.conf",
};

const HOST_FILES: Restriction = Restriction {
    what: "files of /proc that describe the host",
    option: "ProcSubset",
    drop_in: "proc.conf",
};

impl ServiceUnit {
    /// Returns what it forbids its programs, of what programs may need.
    #[must_use]
    pub fn restrictions(&self) -> Vec<Restriction> {
        let families = self.settings.words("RestrictAddressFamilies");
        let is_listed = families.iter().any(|family| family == "AF_NETLINK");
        let is_inverted = families.first().is_some_and(|word| word.starts_with('~'));
        let forbids_netlink = !families.is_empty() && is_listed == is_inverted;
        let forbidden = [
            (EXECUTABLE_MEMORY, self.is_on(EXECUTABLE_MEMORY.option)),
            (NETLINK, forbids_netlink),
            (
                HOST_FILES,
                self.settings.last(HOST_FILES.option) == Some("pid"),
            ),
        ];
        let forbidden = forbidden
            .into_iter()
            .filter(|(_, is_forbidden)| *is_forbidden);
        forbidden.map(|(restriction, _)| restriction).collect()
    }

    /// Whether its programs can gain no privileges.
    #[must_use]
    pub fn has_no_new_privileges(&self) -> bool {
        let value = self.settings.last("NoNewPrivileges").unwrap_or_default();
        unit_text::is_true(value)
    }

    /// Returns the lines of the unit that decide what its programs may do, such as
    /// `ProtectHome=yes`.
    #[must_use]
    pub fn sandbox_lines(&self) -> Vec<String> {
        let options = SANDBOX_OPTIONS.iter().chain(&["SystemCallErrorNumber"]);
        options
            .flat_map(|option| {
                let lines = self.settings.all_values(option).iter();
                lines.map(move |value| format!("{option}={value}"))
            })
            .collect()
    }
}
