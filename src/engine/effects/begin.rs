//! Begins a rotation: everything that is asked before its intent is recorded.

use std::time::Duration;

use crate::core::change::{Change, Intent, Moved};
use crate::core::names::{CredentialId, Label, RotationId};
use crate::core::policy::KeyPolicy;
use crate::core::record::{DeliveryState, Rotation, Trigger};
use crate::core::rotation::{Event, Phase};
use crate::core::step::Memory;
use crate::core::time;
use crate::engine::effects::pause_of;
use crate::engine::task::Begin;
use crate::engine::worker::{ManagedKey, Worker};
use crate::ledger::LedgerError;
use crate::provider::ProviderError;

/// The time over which `creates-per-day` counts.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// How long a listing says whether a key without rows is alone.
const LISTED_FOR: Duration = Duration::from_secs(5 * 60);

/// How far a step before the intent got.
enum Ready {
    /// It may be begun.
    Yes,
    /// Not now; the key is recorded as deferred, or something was done that
    /// makes room.
    No,
    /// Not now, and it is the daemon's matter: nothing is recorded.
    Parked,
}

impl Worker {
    /// Asks what is to be asked before a create, then records the intent.
    pub(crate) async fn intend(
        &mut self,
        managed: &ManagedKey,
        begin: Begin,
    ) -> Result<(), LedgerError> {
        let Begin {
            trigger,
            scheduled_for,
            missed,
            wish,
        } = begin;
        let ready = self.make_ready(managed, trigger).await?;
        match ready {
            Ready::Yes => {}
            Ready::No => {
                // The wish is answered, by a problem.
                self.wish = None;
                return Ok(());
            }
            Ready::Parked => return Ok(()),
        }
        self.wish = None;
        let (mut id, mut tail) = ([0; 8], [0; 3]);
        let chance = &self.parts.chance;
        if let Err(error) = chance.fill(&mut id).and_then(|()| chance.fill(&mut tail)) {
            return self.defer(&error.to_string(), None).await;
        }
        let rotation = RotationId::new(id);
        let by_hand = wish.as_ref().and_then(|wish| wish.by_hand.clone());
        let intent = Intent {
            rotation: rotation.clone(),
            label: Label::new(&managed.name, self.now(), tail),
            trigger,
            scheduled_for,
            timetable: managed.policy.timetable.to_text(),
            sinks: managed.all_sinks(),
            by_hand: by_hand.clone(),
        };
        let mut changes = Vec::new();
        changes.extend(missed.map(|(firing, why)| Change::Missed {
            firing,
            why,
            dropped: false,
        }));
        changes.push(Change::Intended(intent));
        if wish.is_some_and(|wish| wish.revoke_previous) {
            changes.push(Change::RevokePrevious {
                wanted: true,
                by_hand,
            });
        }
        self.record(changes).await?;
        self.memory = Some(Memory::new(rotation));
        Ok(())
    }

    async fn make_ready(
        &mut self,
        managed: &ManagedKey,
        trigger: Trigger,
    ) -> Result<Ready, LedgerError> {
        let by_hand = trigger == Trigger::Manual;
        if !self.within_budget(managed, by_hand).await? {
            return Ok(Ready::No);
        }
        match self.makes_room(managed, by_hand).await? {
            Ready::Yes => {}
            ready @ (Ready::No | Ready::Parked) => return Ok(ready),
        }
        for (sink, required) in &managed.sinks {
            if *required && let Err(problem) = sink.preflight().await {
                let problem = format!("no rotation begun: sink {}: {problem}", sink.id().name);
                self.defer(&problem, None).await?;
                return Ok(Ready::No);
            }
        }
        match self.asks_provider().await? {
            Ready::Yes => {}
            ready @ (Ready::No | Ready::Parked) => return Ok(ready),
        }
        if self.state.sequence == 0 && !by_hand {
            return self.is_alone().await;
        }
        Ok(Ready::Yes)
    }

    async fn defer(&mut self, problem: &str, after: Option<Duration>) -> Result<(), LedgerError> {
        let change = self.deferred(problem, after);
        self.record(vec![change]).await
    }

    /// `creates-per-day`: a guard against any loop, across restarts.
    async fn within_budget(
        &mut self,
        managed: &ManagedKey,
        by_hand: bool,
    ) -> Result<bool, LedgerError> {
        let now = self.now();
        let most = managed.policy.creates_per_day;
        let ledger = &self.parts.ledger;
        let (from, to) = (time::before(now, DAY), time::after(now, DAY));
        let (count, oldest) = ledger.creates_between(&managed.name, from, to).await?;
        if count < most {
            return Ok(true);
        }
        let problem = format!(
            "creates-per-day is used up: {count} credentials were made, or maybe made, for {} \
             in 24 hours, and {most} are allowed",
            managed.name
        );
        if by_hand {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(true);
        }
        let free = oldest.map(|oldest| time::until(now, time::after(oldest, DAY)));
        let problem = format!("no rotation begun: {problem}; `rekeyd rotate` rotates all the same");
        self.defer(&problem, free).await?;
        Ok(false)
    }

    /// `live-at-most`. What was stranded before any delivery of it began, and
    /// was never used, goes first: a crash loop must not end in a standstill.
    async fn makes_room(
        &mut self,
        managed: &ManagedKey,
        by_hand: bool,
    ) -> Result<Ready, LedgerError> {
        let live = self.state.live.iter();
        let live = live
            .filter(|rotation| rotation.credential.is_some())
            .count();
        if live < managed.policy.live_at_most {
            return Ok(Ready::Yes);
        }
        let problem = format!(
            "{live} credentials of {} are alive, and live-at-most is {}",
            managed.name, managed.policy.live_at_most
        );
        if by_hand {
            tracing::warn!(key = %managed.name, "{problem}; rotating by hand all the same");
            return Ok(Ready::Yes);
        }
        let stranded = self.state.live.iter();
        let candidates: Vec<_> = stranded.filter(|one| is_untouched(one)).cloned().collect();
        for candidate in candidates {
            match self.is_unused(&candidate, &managed.policy).await {
                Ok(true) => {
                    self.give_way(&candidate).await?;
                    return Ok(Ready::No);
                }
                Ok(false) => {}
                Err(error) if self.is_everybodys(&error).await => return Ok(Ready::Parked),
                Err(error) => {
                    self.defer(&error.to_string(), pause_of(&error)).await?;
                    return Ok(Ready::No);
                }
            }
        }
        let problem = format!(
            "no rotation begun: {problem}; see `rekeyd status` for what holds them, \
             and revoke what is not needed (`rekeyd revoke`)"
        );
        self.defer(&problem, None).await?;
        Ok(Ready::No)
    }

    /// Whether nobody but our own verification ever used it. What a process did
    /// whose last words are not in this ledger is not told by its row: of what
    /// was stranded long after it was made, a use in between was a consumer's.
    async fn is_unused(
        &self,
        rotation: &Rotation,
        policy: &KeyPolicy,
    ) -> Result<bool, ProviderError> {
        let Some(credential) = &rotation.credential else {
            return Ok(false);
        };
        let answer = self.parts.provider.retrieve(&credential.id).await;
        self.hear(&answer);
        let begun = rotation.started_at;
        let verified = time::after(begun, policy.verify_for + policy.settle);
        let ours_until = verified.min(rotation.stranded_at.unwrap_or(begun));
        let used = answer?.value.and_then(|found| found.last_used_at);
        Ok(used.is_none_or(|used| used <= ours_until))
    }

    async fn give_way(&mut self, rotation: &Rotation) -> Result<(), LedgerError> {
        let retired = Moved {
            revoke_after: Some(time::next_whole_second(self.now())),
            error: Some("never delivered and never used; it makes room".to_owned()),
            ..Moved::new(&rotation.id, Event::Replaced)
        };
        let changes = vec![
            Change::Moved(retired),
            Change::RevokeNow(rotation.id.clone()),
        ];
        self.record(changes).await
    }

    /// Whether the provider is there, takes our credential, and has our time,
    /// unless it has said so lately.
    async fn asks_provider(&mut self) -> Result<Ready, LedgerError> {
        let conditions = &self.parts.conditions;
        if !conditions.heard_lately(self.now()) {
            let turn = conditions.turn().await;
            if !conditions.heard_lately(self.now()) && conditions.allowed().provider {
                let answer = self.parts.provider.check().await;
                self.hear(&answer);
                drop(turn);
                if let Err(error) = answer {
                    if self.is_everybodys(&error).await {
                        return Ok(Ready::Parked);
                    }
                    self.defer(&error.to_string(), pause_of(&error)).await?;
                    return Ok(Ready::No);
                }
            }
        }
        if self.parts.conditions.may_begin() {
            Ok(Ready::Yes)
        } else {
            Ok(Ready::Parked)
        }
    }

    /// Before the first create of a key without rows: a live credential with
    /// its name tells of a ledger that was lost. All keys share one listing.
    async fn is_alone(&mut self) -> Result<Ready, LedgerError> {
        let now = self.now();
        let fresh = self
            .turn
            .compared_at
            .is_some_and(|at| at <= now && time::until(at, now) <= LISTED_FOR);
        if !fresh {
            self.wants_sweep = true;
            return Ok(Ready::Parked);
        }
        let lookalikes = self.parts.ledger.lookalikes(&self.state.key).await?;
        let lookalikes: Vec<_> = lookalikes.iter().map(CredentialId::as_str).collect();
        if lookalikes.is_empty() {
            return Ok(Ready::Yes);
        }
        let (key, ids) = (&self.state.key, lookalikes.join(", "));
        let problem = format!(
            "no rotation begun: this ledger knows nothing of {key}, but the provider has live \
             credentials that look like it ({ids}). If the ledger was lost, restore it from a \
             backup; to take one of them over: `rekeyd adopt {key} {}`; to begin anew beside \
             them: `rekeyd rotate {key}`",
            lookalikes.first().copied().unwrap_or_default()
        );
        self.defer(&problem, None).await?;
        Ok(Ready::No)
    }
}

/// Stranded, and this ledger never saw a delivery of it begin.
fn is_untouched(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Stranded && rotation.trigger != Trigger::Adopted && {
        let mut deliveries = rotation.deliveries.iter();
        deliveries.all(|delivery| delivery.state == DeliveryState::Pending)
    }
}

#[cfg(test)]
mod tests;
