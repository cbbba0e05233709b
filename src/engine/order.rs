//! What a person asks to be done with one credential, beside the schedule.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::core::change::{Adoption, ByHand, Change, Moved};
use crate::core::due::ends;
use crate::core::names::{CredentialId, RotationId};
use crate::core::policy::{Held, held};
use crate::core::record::{CredentialFacts, Delivery, Pause, Rotation};
use crate::core::rotation::{Event, Phase};
use crate::core::time;
use crate::engine::effects::shown_end;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::ProviderError;

/// Something to do with one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Revoke it now; with `force` also when a sink may hold it.
    Revoke {
        /// The credential.
        credential: CredentialId,
        /// Whether a sink may be left with a dead one.
        force: bool,
        /// Who asked, and why.
        by_hand: Option<ByHand>,
    },
    /// The schedule does not revoke it before `until`, or with none that it
    /// may again. Without a credential: all that are alive.
    Hold {
        /// The credential.
        credential: Option<CredentialId>,
        /// Not before this.
        until: Option<Timestamp>,
        /// Who asked, and why.
        by_hand: Option<ByHand>,
    },
    /// Begin nothing by schedule before `until`, or with none before a
    /// [`Order::Resume`].
    Pause {
        /// Not before this.
        until: Option<Timestamp>,
        /// Who asked, and why.
        by_hand: Option<ByHand>,
    },
    /// Rotate by schedule again.
    Resume {
        /// Who asked, and why.
        by_hand: Option<ByHand>,
    },
    /// Take a credential made by hand into the ledger.
    Adopt {
        /// The credential.
        credential: CredentialId,
        /// Who asked, and why.
        by_hand: Option<ByHand>,
    },
}

/// An order, and who waits for what became of it.
pub struct Asked {
    /// What is to be done.
    pub order: Order,
    /// Set once it is being done: from then on it cannot be told as not done.
    pub begun: Arc<AtomicBool>,
    /// What was done, or why not.
    pub reply: oneshot::Sender<Result<String, String>>,
}

impl Worker {
    /// Does what a person asked for, and says what became of it.
    pub(crate) async fn obey(&mut self, asked: Asked) -> Result<(), LedgerError> {
        let Asked {
            order,
            begun,
            reply,
        } = asked;
        // Whoever asked was told meanwhile that it was not done.
        if reply.is_closed() {
            return Ok(());
        }
        begun.store(true, Ordering::Relaxed);
        let done = match order {
            Order::Revoke {
                credential,
                force,
                by_hand,
            } => self.revoke_by_hand(&credential, force, by_hand).await,
            Order::Hold {
                credential,
                until,
                by_hand,
            } => self.hold(credential.as_ref(), until, by_hand).await,
            Order::Pause { until, by_hand } => self.pause(until, by_hand).await,
            Order::Resume { by_hand } => self.resume(by_hand).await,
            Order::Adopt {
                credential,
                by_hand,
            } => self.adopt(&credential, by_hand).await,
        };
        let (told, result) = match done {
            Ok(told) => (told, Ok(())),
            Err(error) => (Err(error.to_string()), Err(error)),
        };
        // Whoever asked may have gone.
        let _ = reply.send(told);
        result
    }

    fn rotation_of(&self, credential: &CredentialId) -> Option<&Rotation> {
        self.state.live.iter().find(|rotation| {
            let facts = rotation.credential.as_ref();
            facts.is_some_and(|facts| facts.id == *credential)
        })
    }

    async fn revoke_by_hand(
        &mut self,
        credential: &CredentialId,
        force: bool,
        by_hand: Option<ByHand>,
    ) -> Result<Result<String, String>, LedgerError> {
        let Some(found) = self.rotation_of(credential).cloned() else {
            return Ok(Err(format!(
                "{credential} is not alive in this ledger; `rekeyd history` shows every one"
            )));
        };
        let Some(facts) = found.credential.clone() else {
            return Ok(Err(format!("{credential} has no credential yet")));
        };
        // Asking also tells whether this host's clock can be believed.
        let in_use = self.in_use(&facts).await;
        let holders = self.holders(&found);
        if !force && !holders.is_empty() {
            return Ok(Err(format!(
                "{credential} may be held by {}; rotate first (`rekeyd rotate {}`), or leave \
                 them with a dead key (--force)",
                holders.join(", "),
                self.state.key
            )));
        }
        let done = match in_use {
            Ok(false) => self.delete(&facts).await,
            Ok(true) => {
                return Ok(Err(format!(
                    "{credential} is what rekeyd itself works with; it is never revoked by rekeyd"
                )));
            }
            Err(error) => Err(error),
        };
        match done {
            Ok(true) => {}
            Ok(false) => {
                return Ok(Err(format!(
                    "the provider still shows {credential} after deleting it; try again"
                )));
            }
            Err(error) => return Ok(Err(format!("{error}; try again"))),
        }
        let event = match found.phase {
            Phase::Orphaned => Event::Deleted,
            Phase::Intended
            | Phase::Created
            | Phase::Verified
            | Phase::Current
            | Phase::Retired
            | Phase::Stranded
            | Phase::Revoked
            | Phase::Failed => Event::RevokedByHand,
        };
        let moved = Moved {
            by_hand,
            ..Moved::new(&found.id, event)
        };
        let mut changes = vec![Change::Moved(moved)];
        if !holders.is_empty() {
            // Should it be seen alive once more, its holders do not count either.
            changes.push(Change::RevokeNow(found.id.clone()));
        }
        self.record(changes).await?;
        Ok(Ok(format!("revoked {credential}")))
    }

    async fn in_use(&self, facts: &CredentialFacts) -> Result<bool, ProviderError> {
        // Asking at all makes sure that a credential is in use.
        let seen = self.retrieve(facts).await?.value;
        let redacted = shown_end(seen.as_ref(), facts);
        Ok(self.parts.provider.may_be_in_use(redacted))
    }

    /// The sinks that may hold it now.
    fn holders(&self, rotation: &Rotation) -> Vec<String> {
        let overlap = self.overlap();
        let now = self.now();
        // By a clock that is not believed, no overlap is over.
        let believed = self.parts.conditions.allowed().clock;
        let alone = |delivery: &Delivery| Rotation {
            deliveries: vec![delivery.clone()],
            ..rotation.clone()
        };
        let holding = rotation.deliveries.iter().filter(|delivery| {
            match held(&alone(delivery), &self.state, overlap) {
                Held::Not => false,
                Held::Until(at) => at > now || !believed,
                Held::Open => true,
            }
        });
        holding.map(|delivery| delivery.sink.to_string()).collect()
    }

    async fn hold(
        &mut self,
        credential: Option<&CredentialId>,
        until: Option<Timestamp>,
        by_hand: Option<ByHand>,
    ) -> Result<Result<String, String>, LedgerError> {
        if until.is_some_and(|until| until <= self.now()) {
            let key = &self.state.key;
            return Ok(Err(format!(
                "nothing of {key} can be held until a time that is over; `rekeyd release` ends a hold"
            )));
        }
        let wanted = |rotation: &&Rotation| {
            let facts = rotation.credential.as_ref();
            facts.is_some_and(|facts| credential.is_none_or(|wanted| facts.id == *wanted))
        };
        let found: Vec<_> = self.state.live.iter().filter(wanted).cloned().collect();
        if found.is_empty() {
            return Ok(Err(match credential {
                Some(credential) => format!(
                    "{credential} is not alive in this ledger; `rekeyd history` shows every one"
                ),
                None => format!("{} has no live credential", self.state.key),
            }));
        }
        let changes = found.iter().map(|rotation| Change::Hold {
            rotation: rotation.id.clone(),
            until: until.map(time::next_whole_second),
            by_hand: by_hand.clone(),
        });
        self.record(changes.collect()).await?;
        let ids: Vec<_> = found
            .iter()
            .filter_map(|rotation| rotation.credential.as_ref())
            .map(|facts| facts.id.as_str())
            .collect();
        let ids = ids.join(", ");
        Ok(Ok(match until {
            Some(until) if until == Timestamp::MAX => {
                format!("the schedule does not revoke {ids} before `rekeyd release`")
            }
            Some(until) => format!(
                "the schedule does not revoke {ids} before {}",
                time::to_text(until)
            ),
            None => format!("the schedule may revoke {ids} again"),
        }))
    }

    async fn pause(
        &mut self,
        until: Option<Timestamp>,
        by_hand: Option<ByHand>,
    ) -> Result<Result<String, String>, LedgerError> {
        let (now, key) = (self.now(), self.state.key.clone());
        let until = until.map(time::next_whole_second);
        if until.is_some_and(|until| until <= now) {
            return Ok(Err(format!(
                "{key} cannot be paused until a time that is over"
            )));
        }
        // A longer pause is the same one.
        let before = self.state.pause.filter(|pause| pause.holds(now));
        let from = before.map_or(time::whole_seconds(now), |pause| pause.from);
        let pause = Pause { from, until };
        self.record(vec![Change::Paused { pause, by_hand }]).await?;
        let mut told = match until {
            Some(until) => format!(
                "{key}: nothing is begun by schedule before {}",
                time::to_text(until)
            ),
            None => format!("{key}: nothing is begun by schedule before `rekeyd resume {key}`"),
        };
        if self.state.open().is_some() {
            told.push_str("; the rotation that is open is finished");
        }
        if let Some((near, end)) = ends(&self.state)
            && until.is_none_or(|until| near < until)
        {
            told.push_str(&format!(
                "\nwarning: its credential ends at {}; {key} is rotated from {} on in spite of \
                 the pause",
                time::to_text(end),
                time::to_text(near)
            ));
        }
        Ok(Ok(told))
    }

    async fn resume(
        &mut self,
        by_hand: Option<ByHand>,
    ) -> Result<Result<String, String>, LedgerError> {
        let (now, key) = (self.now(), self.state.key.clone());
        let Some(pause) = self.state.pause.filter(|pause| pause.holds(now)) else {
            return Ok(Ok(format!("{key} is not paused")));
        };
        let pause = Pause {
            until: Some(time::whole_seconds(now)),
            ..pause
        };
        self.record(vec![Change::Paused { pause, by_hand }]).await?;
        Ok(Ok(format!("{key} is rotated by schedule again")))
    }

    async fn adopt(
        &mut self,
        credential: &CredentialId,
        by_hand: Option<ByHand>,
    ) -> Result<Result<String, String>, LedgerError> {
        let Some(managed) = self.managed.clone() else {
            return Ok(Err(format!("the key {} is not configured", self.state.key)));
        };
        if let Some(key) = self.parts.ledger.key_of(credential).await? {
            return Ok(Err(format!(
                "{credential} is in this ledger already, as one of the key {key}"
            )));
        }
        let answer = self.parts.provider.retrieve(credential).await;
        self.hear(&answer);
        let found = match answer {
            Ok(answer) => answer.value,
            Err(error) => return Ok(Err(format!("{error}; try again"))),
        };
        let Some(found) = found else {
            return Ok(Err(format!("the provider has no credential {credential}")));
        };
        let redacted = found.facts.redacted_value.as_deref().unwrap_or_default();
        let own = managed.sinks.iter().any(|(sink, _)| sink.is_own());
        if self.parts.provider.may_be_in_use(redacted) && !own {
            return Ok(Err(format!(
                "{credential} is what rekeyd itself works with; only a key with the sink \
                 \"self\" can adopt it"
            )));
        }
        let mut id = [0; 8];
        if let Err(error) = self.parts.chance.fill(&mut id) {
            return Ok(Err(error.to_string()));
        }
        // What is open will be current: then there is one already.
        let alive = self.state.current().is_some() || self.state.open().is_some();
        let event = if alive {
            Event::AdoptedBesides
        } else {
            Event::Adopted
        };
        let adoption = Adoption {
            rotation: RotationId::new(id),
            credential: found.facts,
            event,
            sinks: managed.all_sinks(),
            by_hand,
        };
        self.record(vec![Change::Adopted(adoption)]).await?;
        let phase = if alive { "stranded" } else { "current" };
        Ok(Ok(format!(
            "adopted {credential} as {phase} of {}",
            self.state.key
        )))
    }
}

#[cfg(test)]
mod tests;
