//! A request in progress: submits its commands and rotations to the engine, and
//! collects their outcomes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::OperatorNote;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::{duration, redact, time};
use crate::daemon::control::pending_item::{PendingItem, WaitCondition};
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, RequestOutcome};
use crate::engine::operator_command::{self, OperatorCommand};
use crate::engine::{Engine, RotationRequest};

/// The time limit of an operator command: a few requests with their timeouts.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// The time limit of the ledger's lookup of a credential's key, which blocks
/// the event loop.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// A request in progress.
pub(super) struct PendingRequest {
    items: Vec<PendingItem>,
    acknowledged: Vec<KeyName>,
    outcomes: Vec<RequestOutcome>,
    reply: oneshot::Sender<ControlResponse>,
}

/// The keys of a request.
enum TargetKeys {
    All,
    Named(Vec<KeyName>),
}

impl PendingRequest {
    /// Returns a request without work, whose response is sent to `reply`.
    pub(super) const fn new(reply: oneshot::Sender<ControlResponse>) -> Self {
        Self {
            items: Vec::new(),
            acknowledged: Vec::new(),
            outcomes: Vec::new(),
            reply,
        }
    }

    /// Submits the request's commands and rotations to the engine. Records an
    /// outcome at once for each that the engine refuses.
    pub(super) async fn start(
        &mut self,
        request: ControlRequest,
        requested_by: String,
        engine: &mut Engine,
    ) {
        // The ledger keeps the reason, and a person may have pasted a secret.
        let operator = |reason: Option<String>| {
            let reason = reason.map(|reason| redact::sanitize(&reason));
            Some(OperatorNote {
                reason,
                by: requested_by,
            })
        };
        match request {
            ControlRequest::Rotate {
                keys,
                all,
                revoke_previous_now,
                no_wait,
                reason,
            } => {
                let rotation_request = RotationRequest {
                    operator: operator(reason),
                    revoke_previous: revoke_previous_now,
                };
                if let Some(keys) = self.parse_keys(&keys, all) {
                    self.request_rotations(keys, &rotation_request, no_wait, engine);
                }
            }
            ControlRequest::Pause {
                keys,
                all,
                until,
                reason,
            } => {
                let operator = operator(reason);
                if let (Some(keys), Some(until)) =
                    (self.parse_keys(&keys, all), self.parse_time(until))
                {
                    self.submit_for_keys(keys, &OperatorCommand::Pause { until, operator }, engine);
                }
            }
            ControlRequest::Resume { keys, all, reason } => {
                let operator = operator(reason);
                if let Some(keys) = self.parse_keys(&keys, all) {
                    self.submit_for_keys(keys, &OperatorCommand::Resume { operator }, engine);
                }
            }
            ControlRequest::Revoke {
                credential_id,
                force,
                reason,
            } => {
                let credential = CredentialId::new(credential_id);
                let command = OperatorCommand::Revoke {
                    credential: credential.clone(),
                    force,
                    operator: operator(reason),
                };
                self.submit_for_credential(&credential, command, engine)
                    .await;
            }
            ControlRequest::Hold {
                what,
                until,
                reason,
            } => {
                let operator = operator(reason);
                if let Some(until) = self.parse_time(until) {
                    let until = Some(until.unwrap_or(Timestamp::MAX));
                    self.set_hold(what, until, operator, engine).await;
                }
            }
            ControlRequest::Release { what, reason } => {
                self.set_hold(what, None, operator(reason), engine).await;
            }
            ControlRequest::Adopt {
                key,
                credential_id,
                reason,
            } => {
                let command = OperatorCommand::Adopt {
                    credential: CredentialId::new(credential_id),
                    operator: operator(reason),
                };
                if let Some(keys) = self.parse_keys(&[key], false) {
                    self.submit_for_keys(keys, &command, engine);
                }
            }
            ControlRequest::Reload => self.refuse("reload", "nothing runs here that could reload"),
        }
    }

    /// Parses the keys of a request. Returns `None` after a refusal.
    fn parse_keys(&mut self, names: &[String], all: bool) -> Option<TargetKeys> {
        match (names, all) {
            ([], true) => return Some(TargetKeys::All),
            ([], false) => self.refuse("keys", "name the keys, or ask for all"),
            (_, true) => self.refuse("keys", "name the keys or ask for all, not both"),
            (names, false) => {
                let mut keys = Vec::new();
                for name in names {
                    match KeyName::new(name) {
                        Ok(key) if keys.contains(&key) => {}
                        Ok(key) => keys.push(key),
                        Err(error) => self.refuse(name, &format!("{name:?} is no key: {error}")),
                    }
                }
                return Some(TargetKeys::Named(keys));
            }
        }
        None
    }

    /// Parses a time, if there is one. Returns `None` after a refusal.
    fn parse_time(&mut self, text: Option<String>) -> Option<Option<Timestamp>> {
        let Some(text) = text else {
            return Some(None);
        };
        match time::from_text(&text) {
            Ok(at) => Some(Some(at)),
            Err(_) => {
                let reason = format!("{text:?} is no time; one such as 2026-12-01T00:00:00Z is");
                self.refuse("until", &reason);
                None
            }
        }
    }

    fn request_rotations(
        &mut self,
        keys: TargetKeys,
        rotation_request: &RotationRequest,
        no_wait: bool,
        engine: &mut Engine,
    ) {
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => {
                // This also records that the operator confirms the
                // organization.
                engine.request_all(rotation_request);
                engine.configured_keys()
            }
        };
        for key in keys {
            let previous_sequence = engine.current_sequence(&key);
            let Some(timeout) = engine.delivery_deadline(&key) else {
                self.refuse_unknown_key(&key, engine);
                continue;
            };
            engine.request_rotation(&key, rotation_request.clone());
            if no_wait {
                self.succeed(key.as_str(), format!("{key} is rotated now"));
                self.acknowledged.push(key);
            } else {
                self.add_item(
                    key.to_string(),
                    WaitCondition::Rotation {
                        key,
                        previous_sequence,
                    },
                    timeout,
                );
            }
        }
    }

    async fn set_hold(
        &mut self,
        target: String,
        until: Option<Timestamp>,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        // A credential's id has an underscore, and a key's name cannot.
        if let Ok(key) = KeyName::new(&target) {
            let command = OperatorCommand::Hold {
                credential: None,
                until,
                operator,
            };
            self.submit_for_keys(TargetKeys::Named(vec![key]), &command, engine);
            return;
        }
        let credential = CredentialId::new(target);
        let command = OperatorCommand::Hold {
            credential: Some(credential.clone()),
            until,
            operator,
        };
        self.submit_for_credential(&credential, command, engine)
            .await;
    }

    /// Submits a command for the key that a credential belongs to. A failing
    /// ledger fails this request alone, and the daemon goes on.
    async fn submit_for_credential(
        &mut self,
        credential: &CredentialId,
        command: OperatorCommand,
        engine: &mut Engine,
    ) {
        let lookup = tokio::time::timeout(LEDGER_TIMEOUT, engine.key_of(credential)).await;
        let reason = match lookup {
            Ok(Ok(Some(key))) => {
                self.submit_command(credential.as_str(), &key, command, engine);
                return;
            }
            Ok(Ok(None)) => format!(
                "{credential} is not in this ledger; `rekeyd audit` shows what the provider has"
            ),
            Ok(Err(error)) => format!("not done: {error}; try again when that has passed"),
            Err(_) => format!(
                "not done: the ledger did not answer within {}; see whether its disk hangs",
                duration::to_text(LEDGER_TIMEOUT)
            ),
        };
        self.refuse(credential.as_str(), &reason);
    }

    fn submit_for_keys(
        &mut self,
        keys: TargetKeys,
        command: &OperatorCommand,
        engine: &mut Engine,
    ) {
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => engine.configured_keys(),
        };
        for key in keys {
            self.submit_command(key.as_str(), &key, command.clone(), engine);
        }
    }

    fn submit_command(
        &mut self,
        subject: &str,
        key: &KeyName,
        command: OperatorCommand,
        engine: &mut Engine,
    ) {
        let (reply, result) = oneshot::channel();
        let started = Arc::new(AtomicBool::new(false));
        let pending_command = operator_command::PendingCommand {
            command,
            started: Arc::clone(&started),
            reply,
        };
        if engine.submit_command(key, pending_command) {
            self.add_item(
                subject.to_owned(),
                WaitCondition::Command { result, started },
                COMMAND_TIMEOUT,
            );
        } else {
            self.refuse_unknown_key(key, engine);
        }
    }

    fn add_item(&mut self, subject: String, awaiting: WaitCondition, timeout: Duration) {
        self.items
            .push(PendingItem::new(subject, awaiting, timeout));
    }

    fn refuse_unknown_key(&mut self, key: &KeyName, engine: &Engine) {
        let names: Vec<_> = engine
            .configured_keys()
            .iter()
            .map(KeyName::to_string)
            .collect();
        let reason = format!(
            "no key {key} is configured; there are: {}",
            names.join(", ")
        );
        self.refuse(key.as_str(), &reason);
    }

    fn refuse(&mut self, subject: &str, reason: &str) {
        self.push_outcome(subject, false, reason.to_owned());
    }

    fn succeed(&mut self, subject: &str, message: String) {
        self.push_outcome(subject, true, message);
    }

    fn push_outcome(&mut self, subject: &str, done: bool, message: String) {
        self.outcomes.push(RequestOutcome {
            about: subject.to_owned(),
            done,
            message,
        });
    }

    /// Records the results that have arrived. Returns the keys whose rotation
    /// this request does not await any more.
    pub(super) fn poll(&mut self, engine: &Engine) -> Vec<KeyName> {
        let mut given_up = Vec::new();
        for mut item in std::mem::take(&mut self.items) {
            match item.poll(engine) {
                Some(Ok(message)) => self.push_outcome(&item.subject, true, message),
                Some(Err(message)) => {
                    self.push_outcome(&item.subject, false, message);
                    if let WaitCondition::Rotation { key, .. } = item.awaiting {
                        given_up.push(key);
                    }
                }
                None => self.items.push(item),
            }
        }
        given_up
    }

    /// Whether this request awaits a rotation of `key`.
    pub(super) fn is_waiting_for(&self, key: &KeyName) -> bool {
        self.items.iter().any(|item| match &item.awaiting {
            WaitCondition::Rotation { key: awaited, .. } => awaited == key,
            WaitCondition::Command { .. } => false,
        })
    }

    /// Returns the keys whose rotation was confirmed to a caller that does not
    /// wait.
    pub(super) fn take_acknowledged(&mut self) -> Vec<KeyName> {
        std::mem::take(&mut self.acknowledged)
    }

    /// Whether every outcome is known.
    pub(super) fn is_finished(&self) -> bool {
        self.items.is_empty()
    }

    /// Records that the items that are still open are not done, for `reason`.
    pub(super) fn fail_open_items(&mut self, reason: &str) {
        for item in std::mem::take(&mut self.items) {
            self.push_outcome(&item.subject, false, reason.to_owned());
        }
    }

    /// Sends the response.
    pub(super) fn send_reply(self) {
        // The caller may have disconnected.
        let _ = self.reply.send(ControlResponse {
            outcomes: self.outcomes,
        });
    }
}
