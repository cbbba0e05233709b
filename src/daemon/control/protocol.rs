//! The requests to a running daemon and its responses: JSON over HTTP on its
//! control socket. Only `use-credential` sends a secret, and no response has one.

use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::core::authority::Authority;
use crate::core::json;
use crate::core::secret::Secret;
use crate::core::secret_text::{self, SecretForm};

/// The verb whose body has a secret.
const USE_CREDENTIAL: &str = "use-credential";

/// The member of a request that its path stands for.
const VERB: &str = "verb";

/// A request: `POST /VERB`, with the members as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Rotate keys now.
    Rotate {
        /// The keys, by name.
        #[serde(default)]
        keys: Vec<String>,
        /// Every key of the configuration instead.
        #[serde(default)]
        all: bool,
        /// Whether to revoke every older credential as soon as the new one is
        /// current.
        #[serde(default)]
        revoke_previous_now: bool,
        /// The time, such as `30s`, within which every older credential ends whatever may
        /// still use it, because it may have leaked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoke_previous_within: Option<String>,
        /// With it: whether to end also what rekeyd may work with, what is held, and what
        /// the provider shows under another name.
        #[serde(default, skip_serializing_if = "is_false")]
        force: bool,
        /// With it: the other keys that share one of these credentials, which are also
        /// rotated.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<String>,
        /// Whether to replace keys that the ledger did not write.
        #[serde(default)]
        replace: bool,
        /// Whether to respond at once, instead of when the keys are delivered.
        #[serde(default)]
        no_wait: bool,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Revoke one credential now.
    Revoke {
        /// The credential.
        credential_id: String,
        /// Whether to revoke it also while a sink may hold it.
        #[serde(default)]
        force: bool,
        /// The name that root has confirmed of a credential that the provider shows under
        /// another name than the recorded one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Keep the schedule from revoking a credential, or all of a key's.
    Hold {
        /// A credential's id or a key's name.
        what: String,
        /// The end of the hold, in RFC 3339; without it, until the release.
        #[serde(default)]
        until: Option<String>,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Let the schedule revoke a held credential again.
    Release {
        /// A credential's id or a key's name.
        what: String,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Take a manually created credential into the ledger.
    Adopt {
        /// The key that it is to belong to.
        key: String,
        /// The credential.
        credential_id: String,
        /// The name that the provider shows, which root confirms of a credential that nothing
        /// shows to be the key's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Whether to adopt it although a sink's target holds another key.
        #[serde(default)]
        force: bool,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Name the credentials whose secrets the sinks of all keys hold, or adopt them.
    AdoptFromSinks {
        /// Whether to adopt them.
        #[serde(default)]
        apply: bool,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Start no rotation by schedule.
    Pause {
        /// The keys, by name.
        #[serde(default)]
        keys: Vec<String>,
        /// Every key of the configuration instead.
        #[serde(default)]
        all: bool,
        /// The end of the pause, in RFC 3339; without it, until it is resumed.
        #[serde(default)]
        until: Option<String>,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Rotate by schedule again.
    Resume {
        /// The keys, by name.
        #[serde(default)]
        keys: Vec<String>,
        /// Every key of the configuration instead.
        #[serde(default)]
        all: bool,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Retire keys, or undo that.
    Retire {
        /// The keys, by name: configured ones, and others that the ledger knows.
        #[serde(default)]
        keys: Vec<String>,
        /// Whether to revoke their credentials at once, instead of one overlap later.
        #[serde(default)]
        now: bool,
        /// Whether to rotate retired keys again instead.
        #[serde(default)]
        undo: bool,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Remove rotations from the ledger that an archive has.
    Prune {
        /// The name of the archive's file.
        archive: String,
        /// SHA-256 of the archive, in hexadecimal digits.
        sha256: String,
        /// The number of the ledger that it is of.
        ledger: String,
        /// The time before which its rotations ended, in RFC 3339.
        before: String,
        /// The rotations, each with the number of its newest event in the archive.
        rotations: BTreeMap<String, i64>,
        /// The reason, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Log at another level.
    LogLevel {
        /// The level, also for single modules, such as `info,engine=debug`, or `default`
        /// for that of the start.
        level: String,
        /// The time, such as `10m`, after which that of the start counts again.
        #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
        span: Option<String>,
    },
    /// Record that channels of notifications have accepted a test.
    ChannelTested {
        /// The channels, by the id that the log and the ledger have of each.
        channels: Vec<String>,
    },
    /// Work with another admin key.
    UseCredential {
        /// The admin key.
        secret: SentSecret,
        /// The file from which the command read it, for people.
        file: String,
    },
    /// Reload the configuration.
    Reload,
}

/// An admin key in the body of a request, and nowhere else: its debug text hides it.
#[derive(Debug, Clone)]
pub struct SentSecret(pub Secret);

impl PartialEq for SentSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_as(&other.0)
    }
}

impl Eq for SentSecret {}

impl Serialize for SentSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl<'de> Deserialize<'de> for SentSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let secret = secret_text::parse(text.as_bytes(), SecretForm::AdminKey);
        secret.map(Self).map_err(D::Error::custom)
    }
}

/// Returns whether a member is left out.
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The reason why a body is no request. Its text quotes the body, except one that has a
/// secret.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The body is no JSON object.
    #[error("expected a JSON object: {source}")]
    NoObject {
        /// The error of the parser.
        source: serde_json::Error,
    },
    /// The object has no admin key, or what follows from one in another place.
    #[error("expected {{\"secret\": ADMIN_KEY, \"file\": PATH}} with a valid admin key")]
    Withheld,
    /// The object is none that the verb accepts, or the verb is unknown.
    #[error("{source}")]
    Invalid {
        /// The error of the parser.
        source: serde_json::Error,
    },
}

/// What the outcome of a reload is about that says whether the configuration was applied.
pub const CONFIGURATION: &str = "configuration";

/// The response to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResponse {
    /// The outcome for each key or credential of the request.
    pub outcomes: Vec<RequestOutcome>,
}

/// The outcome of a request for one key or credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestOutcome {
    /// The key or the credential.
    pub about: String,
    /// Whether the request was carried out.
    pub done: bool,
    /// The change that was made, or why there was none.
    pub message: String,
    /// The other keys to name in `also`, if there was none because they share a credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shared_with: Vec<String>,
    /// What the request means for those keys, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<String>,
    /// The name of the credential, if there was none because a person has to confirm it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a daemon says of itself before a request: `GET /handshake`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The ledger that it writes, beside which the cookie is.
    pub ledger: String,
    /// Its challenge, if the request had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The socket that it has made, by which a command finds that another one is in its place.
    pub socket: SocketIdentity,
    /// Its process, by which a command finds that another one passes on what it gets.
    pub process: ServerProcess,
}

/// The process of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerProcess {
    /// Its id in its own namespace of process ids.
    pub id: u32,
    /// The number of that namespace; none if the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<u64>,
}

/// The file of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketIdentity {
    /// The number of its device.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
}

/// The state of a daemon: `GET /daemon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// The ledger that it writes.
    pub ledger: String,
    /// The configuration file, as it was when the daemon applied it.
    pub configuration: ConfigInfo,
    /// The most important problem that affects all keys.
    pub problem: Option<String>,
    /// The damage of the ledger's files that the daemon has found: it relies on them no
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger_damage: Option<String>,
    /// The address at which it serves its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// What its callers wait for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
}

/// What the caller of a request waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The key or the credential of the request.
    pub about: String,
    /// What it waits for, as a phrase that begins with "waiting".
    pub awaits: String,
}

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// Its path.
    pub file: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub sha256: String,
    /// When the daemon applied it, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<String>,
}

/// The body of a rejected request: with 400, 403, 404 and 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The reason, with its remedy.
    pub error: String,
}

impl ControlRequest {
    /// Returns the last segment of its path.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
            Self::Hold { .. } => "hold",
            Self::Release { .. } => "release",
            Self::Adopt { .. } => "adopt",
            Self::AdoptFromSinks { .. } => "adopt-from-sinks",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Retire { .. } => "retire",
            Self::Prune { .. } => "prune",
            Self::LogLevel { .. } => "log-level",
            Self::ChannelTested { .. } => "channel-tested",
            Self::UseCredential { .. } => USE_CREDENTIAL,
            Self::Reload => "reload",
        }
    }

    /// Returns what a caller must be allowed at least for a request to `verb`, whatever its
    /// body asks for, and the command of the verb.
    #[must_use]
    pub fn least_authority(verb: &str) -> (Authority, &'static str) {
        match verb {
            "adopt" => (Authority::Destroy, "adopt"),
            "adopt-from-sinks" => (Authority::Operate, "adopt --from-sinks"),
            "channel-tested" => (Authority::Operate, "notify --test"),
            "hold" => (Authority::Operate, "hold"),
            "log-level" => (Authority::Operate, "log-level"),
            "pause" => (Authority::Operate, "pause"),
            "prune" => (Authority::Destroy, "ledger prune"),
            "release" => (Authority::Operate, "release"),
            "reload" => (Authority::Operate, "reload"),
            "resume" => (Authority::Operate, "resume"),
            "retire" => (Authority::Operate, "retire"),
            "revoke" => (Authority::Operate, "revoke"),
            "rotate" => (Authority::Operate, "rotate"),
            USE_CREDENTIAL => (Authority::Full, USE_CREDENTIAL),
            // Who may operate learns that there is no such verb.
            _ => (Authority::Operate, "help"),
        }
    }

    /// Returns what a caller must be allowed for this request. Whether one may revoke a
    /// credential without force, or end its hold, also depends on the credential.
    #[must_use]
    pub const fn authority(&self) -> Authority {
        match self {
            Self::Rotate {
                revoke_previous_within: Some(_),
                ..
            }
            | Self::Rotate {
                revoke_previous_now: true,
                ..
            }
            | Self::Revoke { force: true, .. }
            | Self::Revoke { name: Some(_), .. }
            | Self::Adopt { .. }
            | Self::AdoptFromSinks { apply: true, .. }
            | Self::Retire { now: true, .. }
            | Self::Prune { .. } => Authority::Destroy,
            // It decides with whose key rekeyd works.
            Self::UseCredential { .. } => Authority::Full,
            Self::Rotate { .. }
            | Self::Revoke { .. }
            | Self::Hold { .. }
            | Self::Release { .. }
            | Self::AdoptFromSinks { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Retire { .. }
            | Self::LogLevel { .. }
            | Self::ChannelTested { .. }
            | Self::Reload => Authority::Operate,
        }
    }

    /// Returns the command of the request, with what it needs its authority for.
    #[must_use]
    pub const fn command(&self) -> &'static str {
        match self {
            Self::Rotate {
                revoke_previous_within: Some(_),
                ..
            } => "rotate --revoke-previous-within",
            Self::Rotate {
                revoke_previous_now: true,
                ..
            } => "rotate --revoke-previous-now",
            Self::Rotate { .. } => "rotate",
            Self::Revoke { force: true, .. } => "revoke --force",
            Self::Revoke { .. } => "revoke",
            Self::Hold { .. } => "hold",
            Self::Release { .. } => "release",
            Self::Adopt { .. } => "adopt",
            Self::AdoptFromSinks { apply: true, .. } => "adopt --from-sinks --yes",
            Self::AdoptFromSinks { .. } => "adopt --from-sinks",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Retire { now: true, .. } => "retire --now",
            Self::Retire { undo: true, .. } => "retire --undo",
            Self::Retire { .. } => "retire",
            Self::Prune { .. } => "ledger prune",
            Self::LogLevel { .. } => "log-level",
            Self::ChannelTested { .. } => "notify --test",
            Self::UseCredential { .. } => USE_CREDENTIAL,
            Self::Reload => "reload",
        }
    }

    /// Returns the keys or credentials that the request names; none if it is about all of
    /// them.
    #[must_use]
    pub fn subjects(&self) -> Vec<String> {
        match self {
            Self::Rotate { keys, also, .. } => [keys.as_slice(), also].concat(),
            Self::Pause { keys, .. } | Self::Resume { keys, .. } | Self::Retire { keys, .. } => {
                keys.clone()
            }
            Self::Revoke { credential_id, .. } => vec![credential_id.clone()],
            Self::Hold { what, .. } | Self::Release { what, .. } => vec![what.clone()],
            Self::Adopt { key, .. } => vec![key.clone()],
            Self::AdoptFromSinks { .. }
            | Self::Prune { .. }
            | Self::LogLevel { .. }
            | Self::ChannelTested { .. }
            | Self::UseCredential { .. }
            | Self::Reload => Vec::new(),
        }
    }

    /// Returns the reason that its caller gives for the event log.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Rotate { reason, .. }
            | Self::Revoke { reason, .. }
            | Self::Hold { reason, .. }
            | Self::Release { reason, .. }
            | Self::Adopt { reason, .. }
            | Self::AdoptFromSinks { reason, .. }
            | Self::Pause { reason, .. }
            | Self::Resume { reason, .. }
            | Self::Retire { reason, .. }
            | Self::Prune { reason, .. } => reason.as_deref(),
            Self::LogLevel { .. }
            | Self::ChannelTested { .. }
            | Self::UseCredential { .. }
            | Self::Reload => None,
        }
    }

    /// Returns whether it rotates keys, and its caller waits until they are rotated.
    #[must_use]
    pub const fn is_waiting_rotation(&self) -> bool {
        match self {
            Self::Rotate {
                revoke_previous_within,
                no_wait,
                ..
            } => !*no_wait && revoke_previous_within.is_none(),
            Self::Revoke { .. }
            | Self::Hold { .. }
            | Self::Release { .. }
            | Self::Adopt { .. }
            | Self::AdoptFromSinks { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Retire { .. }
            | Self::Prune { .. }
            | Self::LogLevel { .. }
            | Self::ChannelTested { .. }
            | Self::UseCredential { .. }
            | Self::Reload => false,
        }
    }

    /// Parses the body of a request to `verb`; an empty one has no members.
    ///
    /// # Errors
    /// If the body is no JSON object, or not one that this verb accepts.
    pub fn parse(verb: &str, body: &[u8]) -> Result<Self, RequestError> {
        let no_object = |source| match verb {
            USE_CREDENTIAL => RequestError::Withheld,
            _ => RequestError::NoObject { source },
        };
        let mut members = if body.trim_ascii().is_empty() {
            Map::new()
        } else {
            let value = json::parse(body).map_err(no_object)?;
            serde_json::from_value(value).map_err(no_object)?
        };
        // The path names the verb. Beside one without members the library takes any.
        let has_members = verb != Self::Reload.verb();
        let mut names = members.keys();
        let unexpected = names.find(|name| *name == VERB || !has_members);
        if let Some(name) = unexpected {
            let source = serde_json::Error::custom(format!("unknown field `{name}`"));
            return Err(RequestError::Invalid { source });
        }
        members.insert(VERB.to_owned(), verb.into());
        let parsed = serde_json::from_value(Value::Object(members));
        parsed.map_err(|source| match verb {
            // The parser may quote the key that is in the wrong member.
            USE_CREDENTIAL => RequestError::Withheld,
            _ => RequestError::Invalid { source },
        })
    }

    /// Returns the body to send to the path of [`ControlRequest::verb`].
    #[must_use]
    pub fn body(&self) -> String {
        let mut value = json!(self);
        if let Value::Object(members) = &mut value {
            members.remove(VERB);
        }
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_secret_is_in_the_body_alone() {
        let key = "sk-admin-0123456789abcdef0123456789abcdef";
        let request = ControlRequest::UseCredential {
            secret: SentSecret(Secret::new(key.to_owned())),
            file: "/root/new-key".to_owned(),
        };
        assert!(request.body().contains(key));
        assert!(!format!("{request:?}").contains(key));
        let parsed = ControlRequest::parse(request.verb(), request.body().as_bytes());
        assert_eq!(parsed.unwrap(), request);
        for body in [
            format!("{{\"secret\":\"{key}\"}}"),
            format!("{{\"secret\":[\"{key}\"],\"file\":\"a\"}}"),
            format!("{{\"secret\":\"{key} {key}\",\"file\":\"a\"}}"),
            format!("{{\"{key}\":\"secret\",\"file\":\"a\"}}"),
            format!("\"{key}\""),
            format!("[\"{key}\"]"),
            "{\"secret\":\"\",\"file\":\"a\"}".to_owned(),
        ] {
            let error = ControlRequest::parse("use-credential", body.as_bytes()).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(!text.contains(&key[9..20]), "{text}");
            assert!(text.contains("with a valid admin key"), "{text}");
        }
    }

    #[test]
    fn requests_round_trip_and_parse_errors_name_the_problem() {
        let pause = ControlRequest::Pause {
            keys: vec!["billing".to_owned()],
            all: false,
            until: Some("2026-12-01T00:00:00Z".to_owned()),
            reason: None,
        };
        for request in [pause, ControlRequest::Reload] {
            let parsed = ControlRequest::parse(request.verb(), request.body().as_bytes());
            assert_eq!(parsed.unwrap(), request);
        }
        assert_eq!(
            ControlRequest::parse("reload", b" ").unwrap(),
            ControlRequest::Reload
        );
        for (verb, body, expected) in [
            ("rotate", "[]", "expected a JSON object"),
            ("rotate", "null", "expected a JSON object"),
            ("rotate", "{} {}", "expected a JSON object"),
            (
                "rotate",
                "{\"all\":true,\"all\":false}",
                "expected a JSON object",
            ),
            (
                "rotate",
                "{\"keys\":[\"a\"],\"keys\":[\"b\"]}",
                "expected a JSON object",
            ),
            ("rotate", "\u{feff}{}", "expected a JSON object"),
            ("rotate", "{\"key\":\"a\"}", "unknown field `key`"),
            ("rotate", "{\"keys\":\"a\"}", "invalid type"),
            ("rotate", "{\"keys\":null}", "invalid type"),
            ("rotate", "{\"keys\":[1]}", "invalid type"),
            ("rotate", "{\"all\":\"true\"}", "invalid type"),
            ("rotate", "{\"all\":1}", "invalid type"),
            (
                "hold",
                "{\"verb\":\"release\",\"what\":\"a\"}",
                "unknown field `verb`",
            ),
            (
                "hold",
                "{\"verb\":\"hold\",\"what\":\"a\"}",
                "unknown field `verb`",
            ),
            ("reload", "{\"verb\":\"reload\"}", "unknown field `verb`"),
            ("reload", "{\"keys\":[]}", "unknown field `keys`"),
            ("revoke", "{}", "missing field `credential_id`"),
            ("revoke", "{\"credential_id\":null}", "invalid type"),
            ("launch", "{}", "unknown variant `launch`"),
            ("ROTATE", "{}", "unknown variant `ROTATE`"),
            ("rotate ", "{}", "unknown variant `rotate `"),
            ("", "{}", "unknown variant ``"),
        ] {
            let error = ControlRequest::parse(verb, body.as_bytes()).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
