//! What is asked of a running daemon and what it answers: JSON over HTTP on
//! its control socket. No secret is ever part of either.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is asked: `POST /VERB`, with the rest as one JSON object.
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
        /// Whether every older credential goes as soon as the new one is
        /// current.
        #[serde(default)]
        revoke_previous_now: bool,
        /// Whether to answer at once, and not when the keys are delivered.
        #[serde(default)]
        no_wait: bool,
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Revoke one credential now.
    Revoke {
        /// The credential.
        credential_id: String,
        /// Also when a sink may hold it.
        #[serde(default)]
        force: bool,
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Keep the schedule from revoking a credential, or all of a key's.
    Hold {
        /// A credential's id or a key's name.
        what: String,
        /// Until when, in RFC 3339; until it is released if not given.
        #[serde(default)]
        until: Option<String>,
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Let the schedule revoke it again.
    Release {
        /// A credential's id or a key's name.
        what: String,
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Take a credential made by hand into the ledger.
    Adopt {
        /// The key that takes it over.
        key: String,
        /// The credential.
        credential_id: String,
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Begin nothing by schedule.
    Pause {
        /// The keys, by name.
        #[serde(default)]
        keys: Vec<String>,
        /// Every key of the configuration instead.
        #[serde(default)]
        all: bool,
        /// Until when, in RFC 3339; until they are resumed if not given.
        #[serde(default)]
        until: Option<String>,
        /// Why, for the event log.
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
        /// Why, for the event log.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Read the configuration anew.
    Reload,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResponse {
    /// One for each key or credential that was asked about.
    pub outcomes: Vec<RequestOutcome>,
}

/// What became of a request for one key or credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestOutcome {
    /// What it was about.
    pub about: String,
    /// Whether it was done.
    pub done: bool,
    /// What was done, or why it was not.
    pub message: String,
}

/// What a daemon says of itself: `GET /daemon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonInfo {
    /// Its version.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// The ledger that it writes.
    pub ledger: String,
    /// The configuration file, as it was when it was taken.
    pub configuration: ConfigInfo,
    /// What is wrong with it as a whole.
    pub problem: Option<String>,
}

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigInfo {
    /// Where it is.
    pub file: String,
    /// SHA-256 of its text, in hexadecimal digits.
    pub sha256: String,
}

/// Why a request was not looked at: the body of 400, 403, 404 and 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// In words, with what to do.
    pub error: String,
}

impl ControlRequest {
    /// The last part of its path.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
            Self::Hold { .. } => "hold",
            Self::Release { .. } => "release",
            Self::Adopt { .. } => "adopt",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Reload => "reload",
        }
    }

    /// Reads the body that was sent for `verb`; an empty one has no members.
    ///
    /// # Errors
    /// No JSON object, or not one that this verb takes; in words.
    pub fn parse(verb: &str, body: &[u8]) -> Result<Self, String> {
        let mut members = if body.trim_ascii().is_empty() {
            Map::new()
        } else {
            serde_json::from_slice(body).map_err(|error| format!("no JSON object: {error}"))?
        };
        members.insert("verb".to_owned(), verb.into());
        serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())
    }

    /// The body to send to the path of [`ControlRequest::verb`].
    #[must_use]
    pub fn body(&self) -> String {
        let mut value = json!(self);
        if let Value::Object(members) = &mut value {
            members.remove("verb");
        }
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_round_trip_and_parse_errors_name_the_problem() {
        let pause = ControlRequest::Pause {
            keys: vec!["billing".to_owned()],
            all: false,
            until: Some("2026-12-01T00:00:00Z".to_owned()),
            reason: None,
        };
        for request in [pause, ControlRequest::Reload] {
            let read = ControlRequest::parse(request.verb(), request.body().as_bytes());
            assert_eq!(read, Ok(request));
        }
        assert_eq!(
            ControlRequest::parse("reload", b" "),
            Ok(ControlRequest::Reload)
        );
        for (verb, body, why) in [
            ("rotate", "[]", "no JSON object"),
            ("rotate", "{\"key\":\"a\"}", "unknown field `key`"),
            ("revoke", "{}", "missing field `credential_id`"),
            ("launch", "{}", "unknown variant `launch`"),
        ] {
            let error = ControlRequest::parse(verb, body.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
