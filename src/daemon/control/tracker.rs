//! Requests that are being done: handed to the engine, and answered when it is
//! through with them. The same for a running daemon and for a command that
//! does the work itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::OperatorNote;
use crate::core::ids::{CredentialId, KeyName};
use crate::core::state::KeyState;
use crate::core::{duration, redact, time};
use crate::daemon::control::protocol::{ControlRequest, ControlResponse, RequestOutcome};
use crate::engine::operator_command::{self, CommandError, OperatorCommand};
use crate::engine::{Engine, RotationRequest};

/// How long an order may take: a few requests with their timeouts.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// How long the ledger may take to tell whose a credential is: everybody waits.
const LEDGER_TIMEOUT: Duration = Duration::from_secs(10);

/// A request, who made it, and who waits for its answer.
pub struct IncomingRequest {
    /// What is asked.
    pub request: ControlRequest,
    /// Who asks, for the event log.
    pub requested_by: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<ControlResponse>,
}

/// The requests that are being done.
#[derive(Default)]
pub(crate) struct RequestTracker {
    pending: Vec<PendingRequest>,
    /// The keys of which somebody who did not wait was told that they are
    /// rotated.
    acknowledged: BTreeSet<KeyName>,
}

struct PendingRequest {
    items: Vec<PendingItem>,
    acknowledged: Vec<KeyName>,
    outcomes: Vec<RequestOutcome>,
    reply: oneshot::Sender<ControlResponse>,
}

/// What a request asks of one key.
struct PendingItem {
    subject: String,
    awaiting: WaitCondition,
    deadline: Instant,
    timeout: Duration,
}

enum WaitCondition {
    /// For a rotation with a greater sequence.
    Rotation {
        key: KeyName,
        previous_sequence: u64,
    },
    /// For what becomes of an order.
    Command {
        result: oneshot::Receiver<Result<String, CommandError>>,
        started: Arc<AtomicBool>,
    },
}

/// Which keys a request is for.
enum TargetKeys {
    All,
    Named(Vec<KeyName>),
}

impl RequestTracker {
    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Hands a request to the engine. [`ControlRequest::Reload`] is not its matter.
    pub(crate) async fn submit(&mut self, job: IncomingRequest, engine: &mut Engine) {
        let IncomingRequest {
            request,
            requested_by: by,
            reply,
        } = job;
        let mut open = PendingRequest {
            items: Vec::new(),
            acknowledged: Vec::new(),
            outcomes: Vec::new(),
            reply,
        };
        open.start(request, by, engine).await;
        self.acknowledged.extend(open.acknowledged.drain(..));
        self.pending.push(open);
        self.reply_finished(engine);
    }

    /// Answers what is done.
    pub(crate) fn reply_finished(&mut self, engine: &mut Engine) {
        let looked = self.pending.iter_mut().flat_map(|open| open.poll(engine));
        let given_up: Vec<_> = looked.collect();
        self.acknowledged
            .retain(|key| engine.has_pending_request(key));
        for key in given_up {
            let is_wanted = self.pending.iter().any(|open| open.is_waiting_for(&key));
            // What was told as not done is not done later.
            if !is_wanted && !self.acknowledged.contains(&key) {
                engine.cancel_request(&key);
            }
        }
        for open in self.pending.extract_if(.., |open| open.items.is_empty()) {
            open.send_reply();
        }
    }

    /// Answers everybody who still waits: the engine stops.
    pub(crate) fn close(&mut self, engine: &mut Engine, why: &str) {
        self.reply_finished(engine);
        for mut open in std::mem::take(&mut self.pending) {
            for part in std::mem::take(&mut open.items) {
                open.outcomes.push(RequestOutcome {
                    about: part.subject,
                    done: false,
                    message: why.to_owned(),
                });
            }
            open.send_reply();
        }
    }
}

impl PendingRequest {
    async fn start(&mut self, request: ControlRequest, by: String, engine: &mut Engine) {
        // It is kept in the ledger, and a person may have pasted anything.
        let operator = |reason: Option<String>| {
            let reason = reason.map(|reason| redact::sanitize(&reason));
            Some(OperatorNote { reason, by })
        };
        match request {
            ControlRequest::Rotate {
                keys,
                all,
                revoke_previous_now,
                no_wait,
                reason,
            } => {
                let wish = RotationRequest {
                    operator: operator(reason),
                    revoke_previous: revoke_previous_now,
                };
                if let Some(keys) = self.parse_keys(&keys, all) {
                    self.request_rotations(keys, &wish, no_wait, engine);
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
                let order = OperatorCommand::Revoke {
                    credential: credential.clone(),
                    force,
                    operator: operator(reason),
                };
                self.submit_for_credential(&credential, order, engine).await;
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
                let order = OperatorCommand::Adopt {
                    credential: CredentialId::new(credential_id),
                    operator: operator(reason),
                };
                if let Some(keys) = self.parse_keys(&[key], false) {
                    self.submit_for_keys(keys, &order, engine);
                }
            }
            ControlRequest::Reload => self.refuse("reload", "nothing runs here that could reload"),
        }
    }

    /// The keys that are asked for; none, and a refusal, if they are no names.
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

    /// A time, if one was given; none, and a refusal, if it is no time.
    fn parse_time(&mut self, text: Option<String>) -> Option<Option<Timestamp>> {
        let Some(text) = text else {
            return Some(None);
        };
        match time::from_text(&text) {
            Ok(at) => Some(Some(at)),
            Err(_) => {
                let why = format!("{text:?} is no time; one such as 2026-12-01T00:00:00Z is");
                self.refuse("until", &why);
                None
            }
        }
    }

    fn request_rotations(
        &mut self,
        keys: TargetKeys,
        wish: &RotationRequest,
        no_wait: bool,
        engine: &mut Engine,
    ) {
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => {
                // That also says that the organization is the right one.
                engine.request_all(wish);
                engine.configured_keys()
            }
        };
        for key in keys {
            let before = engine.current_sequence(&key);
            let Some(limit) = engine.delivery_deadline(&key) else {
                self.refuse_unknown_key(&key, engine);
                continue;
            };
            engine.request_rotation(&key, wish.clone());
            if no_wait {
                self.succeed(key.as_str(), format!("{key} is rotated now"));
                self.acknowledged.push(key);
            } else {
                self.add_item(
                    key.to_string(),
                    WaitCondition::Rotation {
                        key,
                        previous_sequence: before,
                    },
                    limit,
                );
            }
        }
    }

    async fn set_hold(
        &mut self,
        what: String,
        until: Option<Timestamp>,
        operator: Option<OperatorNote>,
        engine: &mut Engine,
    ) {
        // A credential's id has an underscore, and a key's name cannot.
        if let Ok(key) = KeyName::new(&what) {
            let order = OperatorCommand::Hold {
                credential: None,
                until,
                operator,
            };
            self.submit_for_keys(TargetKeys::Named(vec![key]), &order, engine);
            return;
        }
        let credential = CredentialId::new(what);
        let order = OperatorCommand::Hold {
            credential: Some(credential.clone()),
            until,
            operator,
        };
        self.submit_for_credential(&credential, order, engine).await;
    }

    /// An order for the key that a credential belongs to. A ledger that does
    /// not tell is one request's trouble, and the daemon goes on.
    async fn submit_for_credential(
        &mut self,
        credential: &CredentialId,
        order: OperatorCommand,
        engine: &mut Engine,
    ) {
        let found = tokio::time::timeout(LEDGER_TIMEOUT, engine.key_of(credential)).await;
        let why = match found {
            Ok(Ok(Some(key))) => {
                self.submit_command(credential.as_str(), &key, order, engine);
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
        self.refuse(credential.as_str(), &why);
    }

    fn submit_for_keys(&mut self, keys: TargetKeys, order: &OperatorCommand, engine: &mut Engine) {
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => engine.configured_keys(),
        };
        for key in keys {
            self.submit_command(key.as_str(), &key, order.clone(), engine);
        }
    }

    fn submit_command(
        &mut self,
        about: &str,
        key: &KeyName,
        order: OperatorCommand,
        engine: &mut Engine,
    ) {
        let (reply, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let asked = operator_command::PendingCommand {
            command: order,
            started: Arc::clone(&begun),
            reply,
        };
        if engine.submit_command(key, asked) {
            self.add_item(
                about.to_owned(),
                WaitCondition::Command {
                    result: answer,
                    started: begun,
                },
                COMMAND_TIMEOUT,
            );
        } else {
            self.refuse_unknown_key(key, engine);
        }
    }

    fn add_item(&mut self, about: String, waits: WaitCondition, limit: Duration) {
        self.items.push(PendingItem {
            subject: about,
            awaiting: waits,
            deadline: Instant::now() + limit,
            timeout: limit,
        });
    }

    fn refuse_unknown_key(&mut self, key: &KeyName, engine: &Engine) {
        let names: Vec<_> = engine
            .configured_keys()
            .iter()
            .map(KeyName::to_string)
            .collect();
        let why = format!(
            "no key {key} is configured; there are: {}",
            names.join(", ")
        );
        self.refuse(key.as_str(), &why);
    }

    fn refuse(&mut self, about: &str, why: &str) {
        self.push_outcome(about, false, why.to_owned());
    }

    fn succeed(&mut self, about: &str, what: String) {
        self.push_outcome(about, true, what);
    }

    fn push_outcome(&mut self, about: &str, done: bool, message: String) {
        self.outcomes.push(RequestOutcome {
            about: about.to_owned(),
            done,
            message,
        });
    }

    /// Answers what is done. Gives the keys whose rotation is not waited for any
    /// more.
    fn poll(&mut self, engine: &Engine) -> Vec<KeyName> {
        let mut given_up = Vec::new();
        for mut part in std::mem::take(&mut self.items) {
            match part.poll(engine) {
                Some(Ok(message)) => self.push_outcome(&part.subject, true, message),
                Some(Err(message)) => {
                    self.push_outcome(&part.subject, false, message);
                    if let WaitCondition::Rotation { key, .. } = part.awaiting {
                        given_up.push(key);
                    }
                }
                None => self.items.push(part),
            }
        }
        given_up
    }

    /// Whether a rotation of `key` is waited for.
    fn is_waiting_for(&self, key: &KeyName) -> bool {
        self.items.iter().any(|part| match &part.awaiting {
            WaitCondition::Rotation { key: wanted, .. } => wanted == key,
            WaitCondition::Command { .. } => false,
        })
    }

    fn send_reply(self) {
        // Whoever asked may have gone.
        let _ = self.reply.send(ControlResponse {
            outcomes: self.outcomes,
        });
    }
}

impl PendingItem {
    fn poll(&mut self, engine: &Engine) -> Option<Result<String, String>> {
        let outcome = match &mut self.awaiting {
            WaitCondition::Rotation {
                key,
                previous_sequence: before,
            } => rotation_result(engine, key, *before),
            WaitCondition::Command { result: answer, .. } => match answer.try_recv() {
                Ok(outcome) => Some(outcome.map_err(|error| error.to_string())),
                Err(oneshot::error::TryRecvError::Empty) => None,
                Err(oneshot::error::TryRecvError::Closed) => {
                    Some(Err("the engine dropped it; report this".to_owned()))
                }
            },
        };
        let is_over = || Instant::now() >= self.deadline;
        outcome.or_else(|| is_over().then(|| self.timeout_result(engine)).flatten())
    }

    /// What is told when the time is over: of what has begun never that it is
    /// not done.
    fn timeout_result(&self, engine: &Engine) -> Option<Result<String, String>> {
        let limit = duration::to_text(self.timeout);
        match &self.awaiting {
            WaitCondition::Rotation { key, .. } if !engine.has_pending_request(key) => {
                Some(Err(format!(
                    "{key} was not delivered within {limit}; `rekeyd status {key}` shows what becomes \
                 of it"
                )))
            }
            // It ends by the time limits of what it asks.
            WaitCondition::Command { started: begun, .. } if begun.load(Ordering::Relaxed) => None,
            WaitCondition::Rotation { .. } | WaitCondition::Command { .. } => {
                Some(Err(format!("not done within {limit}")))
            }
        }
    }
}

/// What became of a wished rotation; none while that is open.
fn rotation_result(engine: &Engine, key: &KeyName, before: u64) -> Option<Result<String, String>> {
    let state = engine.state(key)?;
    let of_all = engine.active_conditions_of(key).into_iter().next();
    // What cannot even be begun is told, and not waited for.
    if engine.has_pending_request(key) && of_all.is_none() || state.open_rotation().is_some() {
        return None;
    }
    if state
        .current()
        .is_some_and(|current| current.sequence > before)
    {
        return Some(Ok(format!("{key}: rotated{}", hold_warning(engine, state))));
    }
    let problem = of_all.map(|active| active.problem);
    let problem = problem.or_else(|| state.problem.clone());
    let problem = problem.unwrap_or_else(|| "its rotation did not end".to_owned());
    Some(Err(format!("{key} was not rotated: {problem}")))
}

/// A warning of what was to go with the rotation and is held.
fn hold_warning(engine: &Engine, state: &KeyState) -> String {
    let now = engine.now();
    let live = state.live.iter();
    let kept = live.filter(|one| one.revoke_now && one.hold_until.is_some_and(|until| until > now));
    let ids: Vec<_> = kept
        .filter_map(|one| one.credential.as_ref())
        .map(|facts| facts.id.as_str())
        .collect();
    if ids.is_empty() {
        return String::new();
    }
    format!(
        "\nwarning: {} stays until its hold is over; `rekeyd release {}` ends it",
        ids.join(", "),
        state.key
    )
}
