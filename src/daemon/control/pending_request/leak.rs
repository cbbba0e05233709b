//! Ends what may have leaked of keys, with the other keys that share it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::core::authority::Authority;
use crate::core::change::OperatorNote;
use crate::core::duration;
use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::daemon::control::leak_wait::{Follower, LeakFollowUp, LeakWait};
use crate::daemon::control::pending_item::WaitCondition;
use crate::daemon::control::pending_request::PendingRequest;
use crate::daemon::control::pending_request::submit::{CONFIGURED, LEDGER_TIMEOUT, TargetKeys};
use crate::daemon::control::protocol::RequestOutcome;
use crate::engine::operator_command::{FileHolder, OperatorCommand, PendingCommand};
use crate::engine::{Engine, ReplaceApproval, RotationRequest, SharingKey};

/// How long revocations may take after their deadline.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The members of a request that ends what may have leaked.
pub(super) struct LeakOrder {
    pub(super) within: String,
    pub(super) force: bool,
    pub(super) also: Vec<String>,
    pub(super) no_wait: bool,
    pub(super) may_replace: bool,
    pub(super) authority: Authority,
    pub(super) operator: Option<OperatorNote>,
}

impl PendingRequest {
    /// Sets the deadline of every present credential of `keys`, and rotates them and the
    /// keys that share one. Nothing begins unless the request names all of those.
    pub(super) async fn end_leaked(
        &mut self,
        keys: TargetKeys,
        order: LeakOrder,
        engine: &mut Engine,
    ) {
        let within = match duration::parse(&order.within) {
            Ok(within) => within,
            Err(error) => {
                self.refuse("revoke_previous_within", &error.to_string());
                return;
            }
        };
        let keys = match keys {
            TargetKeys::Named(keys) => keys,
            TargetKeys::All => {
                engine.confirm_organization();
                self.note_skipped(engine);
                engine.configured_keys()
            }
        };
        let mut named: BTreeSet<KeyName> = keys.iter().cloned().collect();
        named.extend(order.also.iter().filter_map(|key| KeyName::new(key).ok()));
        let mut sharing = Vec::new();
        for key in &keys {
            let found = tokio::time::timeout(LEDGER_TIMEOUT, engine.sharing_keys(key)).await;
            match found {
                Ok(Ok(found)) => sharing.push(found),
                Ok(Err(error)) => return self.refuse(key.as_str(), &error.to_string()),
                Err(_) => return self.refuse(key.as_str(), "the ledger did not respond in time"),
            }
        }
        let mut has_unnamed = false;
        for (key, found) in keys.iter().zip(&sharing) {
            has_unnamed |= self.refuse_unnamed(key, found, &named);
        }
        if has_unnamed {
            return;
        }
        for key in &keys {
            self.report_lookalikes(key, engine).await;
        }
        self.begin(keys, sharing, within, &order, engine);
    }

    /// Reports what may have leaked with a key and cannot be revoked, since no row says
    /// that it is rekeyd's.
    async fn report_lookalikes(&mut self, key: &KeyName, engine: &Engine) {
        let found = tokio::time::timeout(LEDGER_TIMEOUT, engine.lookalikes_of(key)).await;
        let lookalikes = match found {
            Ok(Ok(lookalikes)) => lookalikes,
            Ok(Err(error)) => return self.refuse(key.as_str(), &error.to_string()),
            Err(_) => return self.refuse(key.as_str(), "the ledger did not respond in time"),
        };
        if lookalikes.is_empty() {
            return;
        }
        let ids = join_few(&lookalikes);
        let message = format!(
            "{key}: {ids} may have leaked too: the provider shows {} like this key's, and the \
             ledger has no record of {}; hint: adopt each with `rekeyd adopt {key} ID` and repeat \
             this command, or revoke each at the provider",
            if lookalikes.len() == 1 {
                "a name"
            } else {
                "names"
            },
            if lookalikes.len() == 1 { "it" } else { "them" },
        );
        self.refuse(key.as_str(), &message);
    }

    /// Submits the command of each key that leaked, with the keys that follow it.
    fn begin(
        &mut self,
        keys: Vec<KeyName>,
        sharing: Vec<Vec<SharingKey>>,
        within: Duration,
        order: &LeakOrder,
        engine: &mut Engine,
    ) {
        // A key that has nothing but the credential of another one in its files follows
        // that, whether it is named or not.
        let mut new_holders = BTreeSet::new();
        for (key, found) in keys.iter().zip(&sharing) {
            let holders = found.iter().filter(|one| one.is_new_holder());
            let others = holders.filter(|one| !new_holders.contains(key) && one.key != *key);
            let others: Vec<_> = others.map(|one| one.key.clone()).collect();
            new_holders.extend(others);
        }
        let leaking = keys.into_iter().zip(sharing);
        let leaking: Vec<_> = leaking
            .filter(|(key, _)| !new_holders.contains(key))
            .collect();
        let mut following: BTreeSet<KeyName> = leaking.iter().map(|(key, _)| key.clone()).collect();
        for (key, found) in leaking {
            let holders = found.iter().flat_map(SharingKey::file_holders).collect();
            let followers = found
                .into_iter()
                .filter(|one| one.needs_rotation && following.insert(one.key.clone()))
                .map(|one| Follower {
                    previous_sequence: engine.current_sequence(&one.key),
                    key: one.key,
                });
            let followers = followers.collect();
            self.end_present(key, within, order, (followers, holders), engine);
        }
    }

    /// Refuses a request about a key that shares a credential with a key that the request
    /// does not name.
    fn refuse_unnamed(
        &mut self,
        key: &KeyName,
        sharing: &[SharingKey],
        named: &BTreeSet<KeyName>,
    ) -> bool {
        let unnamed = sharing.iter().filter(|one| !named.contains(&one.key));
        let unnamed: Vec<_> = unnamed.collect();
        if unnamed.is_empty() {
            return false;
        }
        let consequences = SharingKey::describe_all(&unnamed);
        let are_rotated = unnamed.iter().any(|one| one.needs_rotation);
        let step = if are_rotated && unnamed.iter().all(|one| one.is_included()) {
            "hint: add --yes to rotate them too"
        } else {
            "hint: add --yes to continue anyway"
        };
        self.outcomes.push(RequestOutcome {
            about: key.to_string(),
            done: false,
            message: format!("{key}: not rotated: {}; {step}", consequences.join("; ")),
            shared_with: unnamed.iter().map(|one| one.key.to_string()).collect(),
            consequences,
            name: None,
        });
        true
    }

    fn end_present(
        &mut self,
        key: KeyName,
        within: Duration,
        order: &LeakOrder,
        (followers, holders): (Vec<Follower>, Vec<FileHolder>),
        engine: &mut Engine,
    ) {
        let Some(timeout) = engine.delivery_deadline(&key) else {
            self.refuse_unknown_key(&key, CONFIGURED, engine);
            return;
        };
        let request = RotationRequest {
            operator: order.operator.clone(),
            revoke_previous: false,
            replacement: ReplaceApproval::Refused,
        };
        let (reply, result) = oneshot::channel();
        let command = PendingCommand {
            command: OperatorCommand::EndPresent {
                within,
                force: order.force,
                may_replace: order.may_replace,
                holders,
                authority: order.authority,
                operator: order.operator.clone(),
            },
            started: Arc::new(AtomicBool::new(false)),
            reply,
        };
        let previous_sequence = engine.current_sequence(&key);
        if !engine.submit_command(&key, command) {
            self.refuse_unknown_key(&key, CONFIGURED, engine);
            return;
        }
        let follow_up = LeakFollowUp {
            within,
            followers,
            request,
            no_wait: order.no_wait,
        };
        let subject = key.to_string();
        let wait = LeakWait::of_command(key, previous_sequence, within, result, follow_up);
        let timeout = timeout.max(within + REVOCATION_TIMEOUT);
        self.add_item(subject, WaitCondition::Leak(wait), timeout);
    }

    /// Rotates the keys that share what leaked. A daemon does so because the deadline is
    /// also in their rows.
    pub(super) fn follow(&mut self, follow_up: LeakFollowUp, engine: &mut Engine) {
        for follower in follow_up.followers {
            if !engine.is_scheduling() {
                engine.request_rotation(&follower.key, follow_up.request.clone());
            }
            if follow_up.no_wait {
                continue;
            }
            let timeout = engine.delivery_deadline(&follower.key);
            let timeout = timeout.unwrap_or(REVOCATION_TIMEOUT);
            let subject = follower.key.to_string();
            let wait = WaitCondition::Leak(LeakWait::of_follower(follower, follow_up.within));
            self.add_item(subject, wait, timeout);
        }
    }
}
