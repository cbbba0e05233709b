//! The namespaces of process ids: a process in a container has another id there than outside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

/// A process by the id that it has in its own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespacedProcess {
    /// The id.
    pub process: u32,
    /// The namespace, by which two with the same id differ; none if the system does not tell.
    pub namespace: Option<u64>,
}

impl NamespacedProcess {
    /// Returns this process.
    #[must_use]
    pub fn own() -> Self {
        Self {
            process: std::process::id(),
            namespace: namespace_of("self"),
        }
    }

    /// Returns whether it is the process with the id `seen` in the namespace of this process.
    /// For a process in another namespace, this process needs the rights to trace it, as root
    /// has.
    #[must_use]
    pub fn is_seen_as(&self, seen: u32) -> bool {
        let own = namespace_of("self");
        if own == self.namespace || own.is_none() || self.namespace.is_none() {
            return self.process == seen;
        }
        let seen = seen.to_string();
        let status = fs::read_to_string(format!("/proc/{seen}/status")).unwrap_or_default();
        innermost_id(&status) == Some(self.process) && namespace_of(&seen) == self.namespace
    }
}

fn namespace_of(process: &str) -> Option<u64> {
    let namespace = fs::metadata(format!("/proc/{process}/ns/pid"));
    namespace.ok().map(|namespace| namespace.ino())
}

/// Returns the id of a process in its own namespace, from a text of the form of
/// `/proc/PID/status`.
fn innermost_id(status: &str) -> Option<u32> {
    let ids = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    ids.split_ascii_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_known_by_its_id_and_namespace() {
        let own = NamespacedProcess::own();
        assert!(own.is_seen_as(std::process::id()));
        assert!(!own.is_seen_as(std::os::unix::process::parent_id()));
        // In another namespace, an equal id is another process.
        let elsewhere = NamespacedProcess {
            namespace: own.namespace.map(|number| number + 1),
            ..own
        };
        assert_eq!(elsewhere.is_seen_as(own.process), own.namespace.is_none());
        let unknown = NamespacedProcess {
            namespace: None,
            ..own
        };
        assert!(unknown.is_seen_as(own.process));
    }

    #[test]
    fn innermost_id_is_the_last() {
        for (status, expected) in [
            ("Name:\tx\nNSpid:\t812\n", Some(812)),
            ("NSpid:\t812\t7\t1\nNSpgid:\t9\n", Some(1)),
            ("NSpid:\n", None),
            ("Pid:\t812\n", None),
        ] {
            assert_eq!(innermost_id(status), expected, "{status:?}");
        }
    }
}
