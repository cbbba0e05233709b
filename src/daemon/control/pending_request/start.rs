//! Starts a request: reads its arguments, and submits what its verb means.

use jiff::Timestamp;

use crate::core::authority::Authority;
use crate::core::change::OperatorNote;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::HELD_UNTIL_RELEASED;
use crate::core::{redact, time};
use crate::daemon::control::authorization::VerifiedPeer;
use crate::daemon::control::pending_request::PendingRequest;
use crate::daemon::control::pending_request::leak::LeakOrder;
use crate::daemon::control::pending_request::submit::TargetKeys;
use crate::daemon::control::protocol::ControlRequest;
use crate::engine::operator_command::{OperatorCommand, SharedListing, Unrecognized};
use crate::engine::{Engine, ReplaceApproval, RotationRequest};

impl PendingRequest {
    /// Submits the request's commands and rotations to the engine. Records an
    /// outcome at once for each that the engine refuses.
    pub(in crate::daemon::control) async fn start(
        &mut self,
        request: ControlRequest,
        author: VerifiedPeer,
        engine: &mut Engine,
    ) {
        let authority = author.authority;
        // The ledger keeps the reason, and a person may have pasted a secret.
        let operator = |reason: Option<String>| {
            let reason = reason.map(|reason| redact::sanitize(&reason));
            Some(OperatorNote {
                reason,
                by: author.name,
            })
        };
        // Nothing that is refused now is done later.
        if let Some(problem) = engine
            .ledger_problem()
            .filter(|_| !request.is_waiting_rotation())
        {
            self.refuse(request.verb(), &format!("nothing was changed: {problem}"));
            return;
        }
        match request {
            ControlRequest::Rotate {
                keys,
                all,
                revoke_previous_now,
                revoke_previous_within,
                force,
                also,
                replace,
                no_wait,
                reason,
            } => {
                if let Some(within) = revoke_previous_within {
                    let order = LeakOrder {
                        within,
                        force,
                        also,
                        no_wait,
                        may_replace: replace,
                        authority,
                        operator: operator(reason),
                    };
                    if let Some(keys) = self.parse_keys(&keys, all) {
                        self.end_leaked(keys, order, engine).await;
                    }
                    return;
                }
                let rotation_request = RotationRequest {
                    operator: operator(reason),
                    revoke_previous: revoke_previous_now,
                    replacement: if replace {
                        ReplaceApproval::Approved
                    } else {
                        ReplaceApproval::Refused
                    },
                };
                let Some(keys) = self.parse_keys(&keys, all) else {
                    return;
                };
                if no_wait {
                    self.record_rotations(keys, &rotation_request, engine).await;
                } else {
                    self.request_rotations(keys, &rotation_request, engine);
                }
            }
            ControlRequest::Pause {
                keys,
                all,
                until,
                reason,
            } => self.pause(&keys, all, until, operator(reason), engine),
            ControlRequest::Resume { keys, all, reason } => {
                self.resume(&keys, all, operator(reason), engine);
            }
            ControlRequest::Revoke {
                credential_id,
                force,
                name,
                reason,
            } => {
                let credential = CredentialId::new(credential_id);
                if name.is_some() && authority < Authority::Full {
                    let problem = "only root or the owner of the ledger can confirm a name that \
                                   differs from the recorded one";
                    self.refuse(credential.as_str(), problem);
                    return;
                }
                let command = OperatorCommand::Revoke {
                    credential: credential.clone(),
                    force,
                    name,
                    authority,
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
                self.hold(what, until, authority, operator(reason), engine)
                    .await;
            }
            ControlRequest::Release { what, reason } => {
                self.set_hold(what, None, authority, operator(reason), engine)
                    .await;
            }
            ControlRequest::Adopt {
                key,
                credential_id,
                name,
                force,
                reason,
            } => {
                if !CredentialId::is_valid(&credential_id) {
                    self.refuse(
                        &credential_id,
                        &format!("{credential_id:?} is not a valid credential id"),
                    );
                    return;
                }
                let command = OperatorCommand::Adopt {
                    credential: CredentialId::new(credential_id),
                    force,
                    unrecognized: if authority == Authority::Full {
                        Unrecognized::Named(name)
                    } else {
                        Unrecognized::Refused
                    },
                    operator: operator(reason),
                };
                if let Some(keys) = self.parse_keys(&[key], false) {
                    self.submit_for_keys(keys, &command, engine);
                }
            }
            ControlRequest::AdoptFromSinks { apply, reason } => {
                let command = OperatorCommand::AdoptFromSinks {
                    apply,
                    listing: SharedListing::default(),
                    operator: operator(reason),
                };
                self.submit_for_keys(TargetKeys::All, &command, engine);
            }
            ControlRequest::Retire {
                keys,
                now,
                undo,
                reason,
            } => self.retire(&keys, now, undo, operator(reason), engine),
            ControlRequest::Prune { .. } => {
                self.refuse("ledger", "this process cannot prune its ledger");
            }
            ControlRequest::LogLevel { .. } => {
                self.refuse("log-level", "this process cannot change its log level");
            }
            ControlRequest::ChannelTested { .. } => {
                self.refuse("channel", "this process ends with its own work");
            }
            ControlRequest::UseCredential { .. } => {
                self.refuse("admin key", "this process ends with its own work");
            }
            ControlRequest::Reload => self.refuse(
                "reload",
                "this process cannot reload its \
                configuration",
            ),
        }
    }

    fn pause(
        &mut self,
        keys: &[String],
        all: bool,
        until: Option<String>,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        if let (Some(keys), Some(until)) = (self.parse_keys(keys, all), self.parse_time(until)) {
            self.submit_for_keys(keys, &OperatorCommand::Pause { until, operator }, engine);
        }
    }

    fn resume(
        &mut self,
        keys: &[String],
        all: bool,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        if let Some(keys) = self.parse_keys(keys, all) {
            self.submit_for_keys(keys, &OperatorCommand::Resume { operator }, engine);
        }
    }

    fn retire(
        &mut self,
        keys: &[String],
        now: bool,
        undo: bool,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        if now && undo {
            self.refuse("retire", "expected either now or undo, not both");
            return;
        }
        let command = if undo {
            OperatorCommand::UndoRetirement { operator }
        } else {
            OperatorCommand::Retire {
                is_immediate: now,
                operator,
            }
        };
        if let Some(keys) = self.parse_keys(keys, false) {
            self.submit_for_keys(keys, &command, engine);
        }
    }

    async fn hold(
        &mut self,
        target: String,
        until: Option<String>,
        authority: Authority,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        if let Some(until) = self.parse_time(until) {
            let until = Some(until.unwrap_or(HELD_UNTIL_RELEASED));
            self.set_hold(target, until, authority, operator, engine)
                .await;
        }
    }

    /// Parses the keys of a request. Returns `None` after a refusal.
    fn parse_keys(&mut self, names: &[String], all: bool) -> Option<TargetKeys> {
        match (names, all) {
            ([], true) => return Some(TargetKeys::All),
            ([], false) => self.refuse("keys", "expected the names of keys, or all keys"),
            (_, true) => self.refuse(
                "keys",
                "expected either the names of keys or all keys, not \
                both",
            ),
            (names, false) => {
                let mut keys = Vec::new();
                for name in names {
                    match KeyName::new(name) {
                        Ok(key) if keys.contains(&key) => {}
                        Ok(key) => keys.push(key),
                        Err(error) => self.refuse(
                            name,
                            &format!(
                                "{name:?} is not a valid key \
                            name: {error}"
                            ),
                        ),
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
                let reason = format!(
                    "{text:?} is not a valid time; expected one such as \
                    2026-12-01T00:00:00Z"
                );
                self.refuse("until", &reason);
                None
            }
        }
    }

    async fn set_hold(
        &mut self,
        target: String,
        until: Option<Timestamp>,
        authority: Authority,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        // An id is opaque and may have the form of a name: the configuration decides.
        let key = KeyName::new(&target).ok();
        if let Some(key) = key.filter(|key| engine.delivery_deadline(key).is_some()) {
            let command = OperatorCommand::Hold {
                credential: None,
                until,
                authority,
                operator,
            };
            self.submit_for_keys(TargetKeys::Named(vec![key]), &command, engine);
            return;
        }
        let credential = CredentialId::new(target);
        let command = OperatorCommand::Hold {
            credential: Some(credential.clone()),
            until,
            authority,
            operator,
        };
        self.submit_for_credential(&credential, command, engine)
            .await;
    }
}
