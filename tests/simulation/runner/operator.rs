//! The operator, who acts on the first key and requests the rotations that wait for one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rekeyd::core::authority::Authority;
use rekeyd::core::change::OperatorNote;
use rekeyd::core::condition::Condition;
use rekeyd::core::ids::{CredentialId, KeyName};
use rekeyd::core::lifecycle::Phase;
use rekeyd::core::time;
use rekeyd::engine::operator_command::{
    CommandError, OperatorCommand, PendingCommand, Unrecognized,
};
use rekeyd::engine::{Engine, RotationRequest};
use rekeyd::platform::clock::Clock as _;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::process::{SimProcess, key_name};
use super::prune::PruneTask;
use crate::fault::OperatorAction;
use crate::scenario::PERIOD;
use crate::world::{LEAK_BOUND, SimWorld};

/// The time until an operator requests the rotations that wait for one.
const REQUEST_DELAY: Duration = Duration::from_secs(PERIOD.as_secs() / 4);

/// The reply that an operator waits for.
struct PendingReply {
    reply: oneshot::Receiver<Result<String, CommandError>>,
    /// The credential of another key that the command adopts, and the adopting key.
    shared: Option<(CredentialId, KeyName)>,
    /// The credentials that the command ends at a deadline.
    leaked: Vec<CredentialId>,
    /// Whether the command retires the key, or undoes that.
    retires: Option<bool>,
    submitted_at: Timestamp,
}

/// The operator of one process.
pub(super) struct Operator {
    /// The time from the start at which the operator requests a rotation of every key.
    requests_all_at: Option<Duration>,
    replies: Vec<PendingReply>,
    prunes: Vec<PruneTask>,
}

impl Operator {
    pub(super) fn new(world: &SimWorld) -> Self {
        let requests_all_at = world
            .needs_operator()
            .then(|| world.elapsed() + REQUEST_DELAY);
        Self {
            requests_all_at,
            replies: Vec::new(),
            prunes: Vec::new(),
        }
    }

    pub(super) fn waits_for_reply(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Performs the actions that are due.
    pub(super) fn act(&mut self, world: &Arc<SimWorld>, process: &SimProcess, engine: &mut Engine) {
        let conditions = engine.active_conditions();
        let mut conditions = conditions.iter();
        if self.requests_all_at.is_none()
            && conditions.any(|active| needs_operator(active.condition))
        {
            self.requests_all_at = Some(world.elapsed() + REQUEST_DELAY);
        }
        for action in world.take_operator_actions() {
            if action == OperatorAction::Prune {
                let ledger = process.services.ledger.clone();
                self.prunes.push(PruneTask::start(world, ledger));
                continue;
            }
            self.replies
                .extend(perform_action(action, world, process, engine));
        }
        self.undo_retirements(world, engine);
        self.receive_replies(world);
        if self.requests_all_at.is_some_and(|at| at <= world.elapsed()) {
            self.requests_all_at = None;
            world.check_no_create_beside_lookalikes();
            request_all(world, engine);
        }
    }

    /// Undoes the retirement that is over, and what a restored ledger has of an earlier one.
    fn undo_retirements(&mut self, world: &SimWorld, engine: &mut Engine) {
        if self.replies.iter().any(|one| one.retires.is_some()) {
            return;
        }
        for spec in world.configuration() {
            let key = key_name(spec.name);
            let Some(state) = engine.state(&key).filter(|_| !world.is_retired(spec.name)) else {
                continue;
            };
            if !state.is_retired() {
                if world.was_retired(spec.name) {
                    world.end_retirement();
                }
                continue;
            }
            world.begin_undo();
            let command = OperatorCommand::UndoRetirement { operator: None };
            let mut pending = submit_command(world, engine, &key, command);
            pending.retires = Some(false);
            self.replies.push(pending);
        }
    }

    /// Receives the replies, and checks that the engine drops no command.
    fn receive_replies(&mut self, world: &SimWorld) {
        self.replies
            .retain_mut(|pending| match pending.reply.try_recv() {
                Ok(result) => {
                    if result.is_ok() && !pending.leaked.is_empty() {
                        world.record_leak(&pending.leaked, pending.submitted_at);
                    }
                    match pending.retires.filter(|_| result.is_ok()) {
                        Some(true) => world.record_retirement(),
                        Some(false) => world.end_retirement(),
                        None => {}
                    }
                    if let (Ok(_), Some((credential, key))) = (result, &pending.shared) {
                        let (credential, key) = (credential.as_str(), key.as_str());
                        world.record_shared_adoption(credential, key, pending.submitted_at);
                    }
                    false
                }
                Err(TryRecvError::Empty) => true,
                Err(TryRecvError::Closed) => {
                    world.record_violation(
                        "an operator's command is dropped without a reply".to_owned(),
                    );
                    false
                }
            });
    }
}

/// Requests a rotation of every key if the keys wait for an operator: too many credentials
/// are alive, or lookalikes exist. Only the recorded error shows that.
pub(super) fn request_blocked_rotations(world: &SimWorld, engine: &mut Engine, reason: &str) {
    if reason.contains("max-live-credentials")
        || reason.contains("has no record of")
        || reason.contains("responses to a create were wrong")
    {
        request_all(world, engine);
    }
}

fn request_all(world: &SimWorld, engine: &mut Engine) {
    world.record_request_for_all();
    engine.request_all(&rotation_request(false));
}

/// Returns whether the condition needs an operator.
fn needs_operator(condition: Condition) -> bool {
    match condition {
        Condition::Organization => true,
        Condition::Ledger
        | Condition::Credential
        | Condition::Clock
        | Condition::Provider
        | Condition::Reconciliation
        | Condition::Quota
        | Condition::CreateRefusal
        | Condition::CreateLimit
        | Condition::ReadLimit
        | Condition::DeleteLimit => false,
    }
}

fn rotation_request(revoke_previous: bool) -> RotationRequest {
    let operator = OperatorNote {
        reason: None,
        by: "operator".to_owned(),
    };
    RotationRequest {
        operator: Some(operator),
        revoke_previous,
        replacement: rekeyd::engine::ReplaceApproval::Refused,
    }
}

/// Performs an action on the first key. Returns the reply to wait for, if the action is a
/// command.
fn perform_action(
    action: OperatorAction,
    world: &Arc<SimWorld>,
    process: &SimProcess,
    engine: &mut Engine,
) -> Option<PendingReply> {
    let configuration = world.configuration();
    let first = configuration.first()?;
    let key = key_name(first.name);
    let current = engine.state(&key).and_then(|state| {
        let credential = state.current()?.credential.as_ref()?;
        Some(credential.id.clone())
    });
    if action == OperatorAction::RotateAfterLeak {
        return end_present(world, engine, &key);
    }
    if action == OperatorAction::AdoptShared {
        return adopt_shared(world, engine, &key);
    }
    if action == OperatorAction::Retire {
        if !world.retire(first.name) {
            return None;
        }
        let command = OperatorCommand::Retire {
            is_immediate: false,
            operator: None,
        };
        let mut pending = submit_command(world, engine, &key, command);
        pending.retires = Some(true);
        return Some(pending);
    }
    let half_period_from = |now| Some(time::after(now, PERIOD / 2));
    let command = match action {
        OperatorAction::Rotate => {
            request_rotation(world, engine, &key, false);
            return None;
        }
        OperatorAction::RotateAndRevoke => {
            world.request_immediate_revocation(first.name);
            request_rotation(world, engine, &key, true);
            return None;
        }
        OperatorAction::Reload => {
            world.reconfigure();
            engine.reconfigure(process.services.clone(), process.managed_keys());
            return None;
        }
        OperatorAction::Revoke | OperatorAction::ForceRevoke => {
            let credential = current?;
            let force = action == OperatorAction::ForceRevoke;
            if force {
                world.request_deletion(credential.as_str());
            }
            OperatorCommand::Revoke {
                credential,
                force,
                name: None,
                authority: Authority::Full,
                operator: None,
            }
        }
        OperatorAction::Hold => OperatorCommand::Hold {
            credential: current,
            until: half_period_from(world.now()),
            authority: Authority::Full,
            operator: None,
        },
        OperatorAction::Pause => OperatorCommand::Pause {
            // The operator uses a clock of their own.
            until: half_period_from(world.true_now()),
            operator: None,
        },
        OperatorAction::AdoptShared
        | OperatorAction::RotateAfterLeak
        | OperatorAction::Retire
        | OperatorAction::Prune => return None,
        OperatorAction::Adopt => {
            let id = world.create_manually();
            world.request_deletion(&id);
            OperatorCommand::Adopt {
                force: false,
                unrecognized: Unrecognized::Adopted,
                credential: CredentialId::new(id),
                operator: None,
            }
        }
    };
    Some(submit_command(world, engine, &key, command))
}

/// Ends every present credential of a key at a deadline.
fn end_present(world: &SimWorld, engine: &mut Engine, key: &KeyName) -> Option<PendingReply> {
    world.record_rotation_request(key.as_str());
    let state = engine.state(key)?;
    let leaked: Vec<_> = state
        .live
        .iter()
        .filter_map(|row| Some(row.credential.as_ref()?.id.clone()))
        .collect();
    for credential in &leaked {
        world.request_deletion(credential.as_str());
    }
    let command = OperatorCommand::EndPresent {
        within: LEAK_BOUND,
        force: false,
        may_replace: false,
        holders: Vec::new(),
        authority: Authority::Full,
        operator: None,
    };
    let mut pending = submit_command(world, engine, key, command);
    pending.leaked = leaked;
    Some(pending)
}

/// Adopts a live credential of `first` into the second key.
fn adopt_shared(world: &SimWorld, engine: &mut Engine, first: &KeyName) -> Option<PendingReply> {
    let configuration = world.configuration();
    let second = key_name(configuration.get(1)?.name);
    let live = &engine.state(first)?.live;
    let mut retired = live.iter().filter(|row| row.phase == Phase::Retired);
    let shared = retired.next().or_else(|| engine.state(first)?.current())?;
    let credential = shared.credential.as_ref()?.id.clone();
    let command = OperatorCommand::Adopt {
        credential: credential.clone(),
        force: false,
        unrecognized: Unrecognized::Adopted,
        operator: None,
    };
    let mut pending = submit_command(world, engine, &second, command);
    pending.shared = Some((credential, second));
    Some(pending)
}

fn request_rotation(world: &SimWorld, engine: &mut Engine, key: &KeyName, revoke_previous: bool) {
    if engine.retirement_problem(key).is_some() || world.was_retired(key.as_str()) {
        return;
    }
    world.record_rotation_request(key.as_str());
    let is_accepted = engine.request_rotation(key, rotation_request(revoke_previous))
        && engine.has_pending_request(key);
    world.check(is_accepted, "the engine accepts a rotation request");
}

fn submit_command(
    world: &SimWorld,
    engine: &mut Engine,
    key: &KeyName,
    command: OperatorCommand,
) -> PendingReply {
    let (reply, receiver) = oneshot::channel();
    let command = PendingCommand {
        command,
        started: Arc::default(),
        reply,
    };
    let is_accepted = engine.submit_command(key, command);
    world.check(is_accepted, "the engine accepts an operator's command");
    PendingReply {
        reply: receiver,
        shared: None,
        leaked: Vec::new(),
        retires: None,
        submitted_at: world.true_now(),
    }
}
