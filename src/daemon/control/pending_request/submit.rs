//! Submits commands and rotations to the engine, and awaits what it accepts.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::config::{KnownKeys, describe_unknown_key};
use crate::core::duration;
use crate::core::ids::{CredentialId, KeyName};
use crate::daemon::control::pending_item::{PendingItem, WaitCondition};
use crate::daemon::control::pending_request::PendingRequest;
use crate::engine::operator_command::{self, OperatorCommand};
use crate::engine::{Engine, RotationRequest};

/// The time limit of an operator command: a few requests with their timeouts.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// The time limit of the ledger's lookup of a credential's key, which blocks
/// the event loop.
pub(super) const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a rotation needs its key.
pub(super) const CONFIGURED: &str = "configured";

/// Describes a rotation request that nobody waits for. The rotation may fail or have to
/// wait, so that it is never reported as done.
fn acknowledgement(engine: &Engine, key: &KeyName) -> String {
    match engine.conditions_before_request(key).into_iter().next() {
        Some(active) => format!(
            "{key}: rotation requested; it starts, also after a restart, once this is resolved: {}",
            active.problem
        ),
        None => {
            format!("{key}: rotation requested; hint: follow it with `rekeyd status {key}`")
        }
    }
}

fn not_in_ledger(credential: &CredentialId) -> String {
    format!(
        "{credential} is not in this ledger; hint: `rekeyd audit` lists the credentials at \
        the provider"
    )
}

/// The keys of a request.
pub(super) enum TargetKeys {
    All,
    Named(Vec<KeyName>),
}

impl PendingRequest {
    /// Requests rotations that nobody waits for. The caller may rely on them once the ledger
    /// has them.
    pub(super) async fn record_rotations(
        &mut self,
        keys: TargetKeys,
        rotation_request: &RotationRequest,
        engine: &mut Engine,
    ) {
        let mut keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => {
                engine.confirm_organization();
                self.note_skipped(engine);
                engine.configured_keys()
            }
        };
        keys.retain(|key| {
            let is_configured = engine.delivery_deadline(key).is_some();
            if !is_configured {
                self.refuse_unknown_key(key, CONFIGURED, engine);
            }
            is_configured
        });
        let recording = engine.record_requests(&keys, rotation_request);
        let problem = match tokio::time::timeout(LEDGER_TIMEOUT, recording).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!(
                "the ledger did not respond within {}; hint: check whether its disk hangs",
                duration::to_text(LEDGER_TIMEOUT)
            )),
        };
        for key in keys {
            match &problem {
                None => self.succeed(key.as_str(), acknowledgement(engine, &key)),
                Some(problem) => {
                    let reason = format!("{key}: rotation not requested: {problem}");
                    self.refuse(key.as_str(), &reason);
                }
            }
        }
    }

    pub(super) fn request_rotations(
        &mut self,
        keys: TargetKeys,
        rotation_request: &RotationRequest,
        engine: &mut Engine,
    ) {
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => {
                // This also records that the operator confirms the
                // organization.
                engine.request_all(rotation_request);
                self.note_skipped(engine);
                engine.configured_keys()
            }
        };
        for key in keys {
            let previous_sequence = engine.current_sequence(&key);
            let Some(timeout) = engine.delivery_deadline(&key) else {
                self.refuse_unknown_key(&key, CONFIGURED, engine);
                continue;
            };
            engine.request_rotation(&key, rotation_request.clone());
            self.add_item(
                key.to_string(),
                WaitCondition::Rotation {
                    key,
                    previous_sequence,
                    requested_at: engine.now(),
                },
                timeout,
            );
        }
    }

    /// Submits a command for the key that a credential belongs to. A failing ledger fails
    /// this request alone, and the daemon continues.
    pub(super) async fn submit_for_credential(
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
            // It may be the name of a key as well, which may have left the configuration.
            Ok(Ok(None)) => match (command, KeyName::new(credential.as_str())) {
                (
                    OperatorCommand::Hold {
                        until,
                        authority,
                        operator,
                        ..
                    },
                    Ok(key),
                ) => {
                    let command = OperatorCommand::Hold {
                        credential: None,
                        until,
                        authority,
                        operator,
                    };
                    self.submit_command(key.as_str(), &key, command, engine);
                    return;
                }
                _ => not_in_ledger(credential),
            },
            Ok(Err(error)) => format!(
                "nothing was changed: {error}; hint: try again once that is \
                resolved"
            ),
            Err(_) => format!(
                "nothing was changed: the ledger did not respond within {}; hint: check whether \
                 its disk hangs",
                duration::to_text(LEDGER_TIMEOUT)
            ),
        };
        self.refuse(credential.as_str(), &reason);
    }

    pub(super) fn submit_for_keys(
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

    /// Names the retired keys that a rotation of all keys leaves out.
    pub(super) fn note_skipped(&mut self, engine: &Engine) {
        for key in engine.retired_keys() {
            let problem = engine.retirement_problem(&key).unwrap_or_default();
            self.succeed(key.as_str(), format!("{key}: skipped: {problem}"));
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
                WaitCondition::Command {
                    key: key.clone(),
                    result,
                    started,
                },
                COMMAND_TIMEOUT,
            );
        } else {
            self.refuse_unknown_key(key, "configured or in the ledger", engine);
        }
    }

    pub(super) fn add_item(&mut self, subject: String, awaiting: WaitCondition, timeout: Duration) {
        self.items
            .push(PendingItem::new(subject, awaiting, timeout));
    }

    /// Refuses a key that is not in this `place`, where the request needs it.
    pub(super) fn refuse_unknown_key(&mut self, key: &KeyName, place: &str, engine: &Engine) {
        let reason = if let Some(problem) = engine.retirement_problem(key) {
            format!("{key}: {problem}")
        } else if let Some(present) = engine.present_name(key) {
            format!("{key} is the former name of {present}; hint: use {present}")
        } else {
            let known = KnownKeys {
                configured: &engine.configured_keys(),
                all: &engine.known_keys(),
            };
            describe_unknown_key(key.as_str(), place, known)
        };
        self.refuse(key.as_str(), &reason);
    }
}
