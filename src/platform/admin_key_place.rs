//! The places of rekeyd's own admin key, and how a person replaces the key in each.

use std::fmt;
use std::path::PathBuf;

use crate::core::secret_text::SecretTextError;
use crate::platform::secret_file::{ADMIN_CREDENTIAL_NAME, ADMIN_KEY_VARIABLE, SecretFileError};
use crate::platform::service_unit::StoredCredential;

/// A place from which rekeyd takes its own admin key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminKeyPlace {
    /// `[provider] credential-file`, which rekeyd reads again by itself.
    File(PathBuf),
    /// A credential of the service manager: a copy that it made when the service started.
    Service {
        /// The copy, where this process was passed one as a file.
        copy: Option<PathBuf>,
        /// The file that the service manager copies, if the unit is known.
        stored: Option<StoredCredential>,
    },
    /// `$OPENAI_ADMIN_KEY`.
    Variable,
    /// The key in use before the last rotation of rekeyd's own key.
    Previous,
    /// A key that a person gave to the running process.
    Given,
}

impl AdminKeyPlace {
    /// Returns how a person puts a valid key in this place so that a running rekeyd uses it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::File(path) => format!("store a valid admin key in {}", path.display()),
            Self::Service {
                stored: Some(stored),
                ..
            } => {
                let (file, unit) = (stored.path.display(), stored.unit_for_commands());
                let verb = if stored.is_encrypted {
                    "encrypt a valid admin key with `systemd-creds encrypt` to"
                } else {
                    "store a valid admin key in"
                };
                format!("{verb} {file}, then run `systemctl restart {unit}`")
            }
            Self::Service { stored: None, .. } => format!(
                "pass the service a valid admin key as {ADMIN_CREDENTIAL_NAME}, and restart it"
            ),
            Self::Variable => {
                format!("set ${ADMIN_KEY_VARIABLE} to a valid admin key, and restart rekeyd")
            }
            Self::Previous => "store a valid admin key in [provider] credential-file".to_owned(),
            Self::Given => {
                "run `rekeyd use-credential FILE` with the file of a valid admin key".to_owned()
            }
        }
    }

    /// Returns how a person stores the key that rekeyd uses in this place, so that the next
    /// start finds it.
    #[must_use]
    pub fn storing(&self) -> String {
        match self {
            Self::File(path) => format!("store it in {}", path.display()),
            Self::Service {
                stored: Some(stored),
                ..
            } if stored.is_encrypted => format!(
                "encrypt it with `systemd-creds encrypt` to {}",
                stored.path.display()
            ),
            Self::Service {
                stored: Some(stored),
                ..
            } => format!("store it in {}", stored.path.display()),
            Self::Service { stored: None, .. } => {
                format!("pass it to the service as {ADMIN_CREDENTIAL_NAME}")
            }
            Self::Variable => format!("set ${ADMIN_KEY_VARIABLE} to it"),
            Self::Previous | Self::Given => "store it in [provider] credential-file".to_owned(),
        }
    }

    /// Returns why a running rekeyd does not see another key in this place, and what to do
    /// after it was stored; none if it does.
    #[must_use]
    pub fn unseen_change(&self) -> Option<String> {
        let Self::Service {
            copy: Some(_),
            stored,
        } = self
        else {
            return None;
        };
        let file = stored.as_ref().filter(|stored| !stored.is_encrypted);
        let file = file.map_or_else(|| "FILE".to_owned(), |file| file.path.display().to_string());
        Some(format!(
            "the admin key is the copy that the service manager made at the start, and a reload \
             sees no other one; hint: to use another key, run `rekeyd use-credential {file}`"
        ))
    }

    /// Describes why the file of this place is not used, and what to do about it.
    #[must_use]
    pub fn explain_file(&self, error: &SecretFileError) -> String {
        match (self, error.problem_of_content()) {
            (_, None) | (Self::File(_), _) => self.explain(&error.to_string(), error.has_hint()),
            // Nobody can write the copy that the service manager made.
            (_, Some(problem)) => self.explain(&problem, false),
        }
    }

    /// Describes why the text of this place, which is shown as `shown`, is not used, and what
    /// to do about it.
    #[must_use]
    pub fn explain_text(&self, shown: &impl fmt::Display, error: &SecretTextError) -> String {
        match error.problem_of_content() {
            None => self.explain(&format!("{shown} {error}"), true),
            Some(problem) => self.explain(&format!("{shown} {problem}"), false),
        }
    }

    /// Adds to a problem with this place what to do about it. A problem that has a hint of
    /// its own needs no more for a file; in any other place it does not tell where to write.
    fn explain(&self, problem: &str, has_hint: bool) -> String {
        match (self, has_hint) {
            (Self::File(_), true) => problem.to_owned(),
            (_, true) => format!("{problem}, or {}", self.advice()),
            (_, false) => format!("{problem}; hint: {}", self.advice()),
        }
    }
}

impl fmt::Display for AdminKeyPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path)
            | Self::Service {
                copy: Some(path), ..
            } => path.display().fmt(formatter),
            Self::Service { copy: None, .. } => {
                write!(formatter, "the unit's {ADMIN_CREDENTIAL_NAME}")
            }
            Self::Variable => write!(formatter, "${ADMIN_KEY_VARIABLE}"),
            Self::Previous => formatter.write_str("before the last rotation"),
            Self::Given => formatter.write_str("`rekeyd use-credential`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_of_the_service_manager_hides_a_change() {
        let stored = |is_encrypted| StoredCredential {
            name: ADMIN_CREDENTIAL_NAME.to_owned(),
            path: "/etc/credstore/k".into(),
            is_encrypted,
            unit: "rekeyd.service".to_owned(),
        };
        let service = |stored| AdminKeyPlace::Service {
            copy: Some("/run/credentials/rekeyd.service/k".into()),
            stored,
        };
        for (place, storing, command) in [
            (
                service(Some(stored(false))),
                "store it in /etc/credstore/k",
                Some("`rekeyd use-credential /etc/credstore/k`"),
            ),
            (
                service(Some(stored(true))),
                "encrypt it with `systemd-creds encrypt` to /etc/credstore/k",
                Some("`rekeyd use-credential FILE`"),
            ),
            (
                service(None),
                "pass it to the service as openai-admin-key",
                Some("`rekeyd use-credential FILE`"),
            ),
            (
                AdminKeyPlace::File("/var/lib/rekeyd/admin-key".into()),
                "store it in /var/lib/rekeyd/admin-key",
                None,
            ),
            (AdminKeyPlace::Variable, "set $OPENAI_ADMIN_KEY to it", None),
        ] {
            assert_eq!(place.storing(), storing);
            let unseen = place.unseen_change();
            assert_eq!(unseen.is_some(), command.is_some(), "{unseen:?}");
            assert!(
                unseen
                    .unwrap_or_default()
                    .ends_with(command.unwrap_or_default())
            );
        }
    }

    #[test]
    fn advice_names_the_place_that_rekeyd_reads() {
        let stored = |path: &str, is_encrypted, unit: &str| StoredCredential {
            name: ADMIN_CREDENTIAL_NAME.to_owned(),
            path: path.into(),
            is_encrypted,
            unit: unit.to_owned(),
        };
        let service = |stored| AdminKeyPlace::Service { copy: None, stored };
        for (place, expected) in [
            (
                AdminKeyPlace::File("/var/lib/rekeyd/admin-key".into()),
                "store a valid admin key in /var/lib/rekeyd/admin-key",
            ),
            (
                service(Some(stored("/etc/credstore/k", false, "rekeyd.service"))),
                "store a valid admin key in /etc/credstore/k, then run `systemctl restart rekeyd`",
            ),
            (
                service(Some(stored(
                    "/etc/credstore.encrypted/k",
                    true,
                    "rekeyd@acme.service",
                ))),
                "encrypt a valid admin key with `systemd-creds encrypt` to \
                 /etc/credstore.encrypted/k, then run `systemctl restart rekeyd@acme`",
            ),
            (
                service(None),
                "pass the service a valid admin key as openai-admin-key, and restart it",
            ),
            (
                AdminKeyPlace::Variable,
                "set $OPENAI_ADMIN_KEY to a valid admin key, and restart rekeyd",
            ),
        ] {
            assert_eq!(place.advice(), expected);
            let one_hint = |has_hint, problem: &str| {
                let text = place.explain(problem, has_hint);
                assert_eq!(text.matches("; hint: ").count(), 1, "{text}");
            };
            one_hint(false, "it is a folder");
            one_hint(true, "it is 2; hint: copy it");
            // What writes a file is the place's own advice.
            let (path, source) = (PathBuf::from("/run/k"), SecretTextError::Empty);
            let text = place.explain_text(&"the unit's k", &source);
            let empty = SecretFileError::Unusable { path, source };
            for text in [place.explain_file(&empty), text] {
                assert_eq!(text.matches("; hint: ").count(), 1, "{text}");
                let is_file = matches!(place, AdminKeyPlace::File(_));
                assert!(is_file || text.ends_with(&expected), "{text}");
                assert!(is_file || !text.contains("into it"), "{text}");
            }
        }
    }
}
