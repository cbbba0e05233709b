//! Deletes credentials, looks for those that are missing, and heeds what a
//! sweep has found.

use std::time::Duration;

use crate::core::change::{Change, LAST_DAY, Moved};
use crate::core::names::RotationId;
use crate::core::policy::{BETWEEN_LOOKS, Held, LOOKS_FOR_GONE, Waiting, held};
use crate::core::record::{CredentialFacts, Missing, Rotation};
use crate::core::rotation::{Event, Phase};
use crate::core::time;
use crate::engine::condition::{Condition, agree, disagreement};
use crate::engine::effects::{pause_of, shown_end};
use crate::engine::sweep::{Finding, Seen};
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;
use crate::provider::{Answer, Credential, ProviderError};

/// How soon a credential that is still used is looked at again.
const BETWEEN_USES: Duration = Duration::from_secs(15 * 60);

/// A person is told so long before a credential that is still used goes.
const LAST_WARNING: Duration = Duration::from_secs(24 * 3_600);

/// What a fresh look at the provider says about a revocation.
enum Verdict {
    /// It is still there and goes.
    Delete,
    /// It is gone already.
    Gone,
    /// It stays for now, and this is recorded.
    Stay(Vec<Change>),
}

impl Worker {
    /// Deletes a credential after a fresh look, and asks whether it is gone.
    pub(crate) async fn revoke(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let found = self.state.rotation(rotation).cloned();
        let Some((found, credential)) = found.and_then(|found| {
            let credential = found.credential.clone();
            credential.map(|credential| (found, credential))
        }) else {
            return Err(LedgerError::Corrupt(format!(
                "no credential for the rotation {rotation}"
            )));
        };
        let done = match self.judge(&found, &credential).await {
            Ok(Verdict::Delete) => self.delete(&credential).await,
            Ok(Verdict::Gone) => Ok(true),
            Ok(Verdict::Stay(changes)) => return self.record(changes).await,
            Err(error) => Err(error),
        };
        let change = match done {
            Ok(true) => Change::Moved(Moved::new(rotation, Event::Deleted)),
            Ok(false) => {
                let text = "the provider still shows it after deleting it";
                self.postponed(rotation, Waiting::Provider, text, None)
            }
            Err(error) if self.is_everybodys(&error).await => return Ok(()),
            Err(error) => {
                let text = error.to_string();
                self.postponed(rotation, Waiting::Provider, &text, pause_of(&error))
            }
        };
        self.record(vec![change]).await
    }

    /// Deletes, and asks whether it is gone.
    pub(crate) async fn delete(&self, credential: &CredentialFacts) -> Result<bool, ProviderError> {
        let deleted = self.parts.provider.delete(&credential.id).await;
        self.hear(&deleted);
        deleted?;
        let after = self.retrieve(credential).await?;
        Ok(after.value.is_none())
    }

    pub(crate) async fn retrieve(
        &self,
        credential: &CredentialFacts,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        let answer = self.parts.provider.retrieve(&credential.id).await;
        self.hear(&answer);
        answer
    }

    async fn judge(
        &self,
        rotation: &Rotation,
        credential: &CredentialFacts,
    ) -> Result<Verdict, ProviderError> {
        let answer = self.retrieve(credential).await?;
        let Some(seen) = &answer.value else {
            return Ok(Verdict::Gone);
        };
        if self.works_with(shown_end(Some(seen), credential)).await? {
            let reason = "rekeyd itself works with it";
            return Ok(self.stay(rotation, BETWEEN_USES, reason));
        }
        let now = self.now();
        if self.waits_for_a_time(rotation) && !answer.date.is_some_and(|date| agree(date, now)) {
            let problem = disagreement(answer.date, now);
            self.parts.conditions.raise(Condition::Clock, &problem);
            return Ok(Verdict::Stay(Vec::new()));
        }
        if rotation.phase != Phase::Retired || rotation.revoke_now {
            return Ok(Verdict::Delete);
        }
        if let Some(verdict) = self.still_used(rotation, seen) {
            return Ok(verdict);
        }
        self.successor_lives(rotation).await
    }

    /// Whether it goes because a time has come, which a wrong clock may only say.
    fn waits_for_a_time(&self, rotation: &Rotation) -> bool {
        let is_held = || held(rotation, &self.state, self.overlap()) != Held::Not;
        let by_itself = rotation.phase == Phase::Retired || is_held();
        rotation.hold_until.is_some() || (by_itself && !rotation.revoke_now)
    }

    /// Whether rekeyd itself works with this credential, although it asked
    /// for a reason to leave it.
    async fn works_with(&self, redacted: &str) -> Result<bool, ProviderError> {
        let provider = &self.parts.provider;
        if !provider.may_be_in_use(redacted) {
            return Ok(false);
        }
        // It may have fallen back to it; a check tries what is newer.
        let answer = provider.check().await;
        self.hear(&answer);
        answer?;
        Ok(provider.may_be_in_use(redacted))
    }

    fn stay(&self, rotation: &Rotation, pause: Duration, reason: &str) -> Verdict {
        Verdict::Stay(vec![Change::HeldBack {
            rotation: rotation.id.clone(),
            retry_at: time::after(self.now(), pause),
            reason: reason.to_owned(),
        }])
    }

    /// `hold-while-used`: somebody may read its sink late.
    fn still_used(&self, rotation: &Rotation, seen: &Credential) -> Option<Verdict> {
        let policy = &self.managed.as_ref()?.policy;
        let (used, now) = (seen.last_used_at?, self.now());
        // What was used before it was delivered everywhere was used by our own
        // verification.
        let by_others = rotation.current_at.is_none_or(|at| used > at);
        let recent = by_others && time::until(used, now) < policy.hold_while_used;
        let end = time::after(rotation.revoke_after?, policy.hold_at_most);
        if !recent || now >= end {
            return None;
        }
        let (used, last) = (time::to_text(used), time::to_text(end));
        let mut reason = format!("it was used at {used}; it goes at {last} at the latest");
        if time::until(now, end) <= LAST_WARNING {
            reason.push_str("; ");
            reason.push_str(LAST_DAY);
        }
        let pause = BETWEEN_USES.min(time::until(now, end));
        Some(self.stay(rotation, pause, &reason))
    }

    /// The newest that works is never revoked: what replaced this one is
    /// looked at as well.
    async fn successor_lives(&self, rotation: &Rotation) -> Result<Verdict, ProviderError> {
        let current = self.state.current();
        let Some((current, credential)) = current.and_then(|current| {
            let credential = current.credential.as_ref();
            credential.map(|credential| (current, credential))
        }) else {
            return Ok(Verdict::Stay(Vec::new()));
        };
        if self.retrieve(credential).await?.value.is_some() {
            return Ok(Verdict::Delete);
        }
        let reason = "what replaced it is missing at the provider";
        let mut changes = match self.stay(rotation, BETWEEN_LOOKS, reason) {
            Verdict::Stay(changes) => changes,
            Verdict::Delete | Verdict::Gone => Vec::new(),
        };
        if current.missing.is_none() {
            changes.push(Change::Missing {
                rotation: current.id.clone(),
                missing: self.missing(current),
            });
        }
        Ok(Verdict::Stay(changes))
    }

    /// That it is missing once more.
    fn missing(&self, rotation: &Rotation) -> Missing {
        let start_over = self.parts.conditions.holds(Condition::Organization);
        match rotation.missing {
            Some(before) if !start_over => Missing {
                since: before.since,
                looks: before.looks + 1,
            },
            Some(_) | None => Missing {
                since: time::whole_seconds(self.now()),
                looks: 1,
            },
        }
    }

    /// Asks for a credential that may be gone. Three answers of 404 over a
    /// quarter of an hour prove it; a list proves nothing.
    pub(crate) async fn look(&mut self, rotation: &RotationId) -> Result<(), LedgerError> {
        let found = self.state.rotation(rotation).cloned();
        let Some((found, credential)) = found.and_then(|found| {
            let credential = found.credential.clone();
            credential.map(|credential| (found, credential))
        }) else {
            return Ok(());
        };
        let change = match self.retrieve(&credential).await {
            Ok(answer) if answer.value.is_some() && found.missing.is_some() => {
                Change::Found(rotation.clone())
            }
            Ok(answer) if answer.value.is_some() => return Ok(()),
            Ok(_) => {
                let missing = self.missing(&found);
                if missing.looks >= LOOKS_FOR_GONE {
                    Change::Moved(Moved::new(rotation, Event::Gone))
                } else {
                    Change::Missing {
                        rotation: rotation.clone(),
                        missing,
                    }
                }
            }
            Err(error) if self.is_everybodys(&error).await => return Ok(()),
            // Not an answer: it is asked again with the next sweep, or at once
            // where it is missing already.
            Err(error) => {
                tracing::warn!(key = %self.state.key, %rotation, "{error}");
                match found.missing {
                    Some(missing) => Change::Missing {
                        rotation: rotation.clone(),
                        missing: Missing {
                            since: time::whole_seconds(self.now()),
                            looks: missing.looks,
                        },
                    },
                    None => return Ok(()),
                }
            }
        };
        self.record(vec![change]).await
    }

    /// What a sweep found about one rotation of this key.
    pub(crate) async fn heed(&mut self, finding: Finding) -> Result<(), LedgerError> {
        let Finding { rotation, seen, .. } = finding;
        let row = self.state.rotation(&rotation);
        match seen {
            Seen::AsExpected(_) => Ok(()),
            Seen::Absent if row.is_some_and(may_be_gone) => self.look(&rotation).await,
            Seen::Absent => Ok(()),
            Seen::Alive(facts) if row.is_none() => self.seen_alive(&rotation, facts).await,
            Seen::Alive(_) => Ok(()),
            // The row may have got its credential since the list was made.
            Seen::Double(facts) if self.is_known(&facts) || row.is_some_and(is_unsettled) => Ok(()),
            Seen::Double(facts) => self.heed_double(&rotation, &facts).await,
        }
    }

    fn is_known(&self, facts: &CredentialFacts) -> bool {
        let mut live = self.state.live.iter();
        live.any(|rotation| {
            let known = rotation.credential.as_ref();
            known.is_some_and(|known| known.id == facts.id)
        })
    }

    async fn heed_double(
        &mut self,
        rotation: &RotationId,
        facts: &CredentialFacts,
    ) -> Result<(), LedgerError> {
        match self.revoke_double(rotation, facts).await {
            Ok(change) => self.record(vec![change]).await,
            Err(error) => self.swept_in_vain(rotation, &error).await,
        }
    }

    /// The next sweep finds it again.
    async fn swept_in_vain(
        &mut self,
        rotation: &RotationId,
        error: &ProviderError,
    ) -> Result<(), LedgerError> {
        self.unclear = true;
        if !self.is_everybodys(error).await {
            tracing::warn!(key = %self.state.key, %rotation, "{error}; it is tried again");
        }
        Ok(())
    }

    /// A list may be old: that it is alive is asked again before it is
    /// believed.
    async fn seen_alive(
        &mut self,
        rotation: &RotationId,
        facts: CredentialFacts,
    ) -> Result<(), LedgerError> {
        match self.retrieve(&facts).await {
            Ok(answer) if answer.value.is_some() => {
                let moved = Moved {
                    credential: Some(facts),
                    ..Moved::new(rotation, Event::SeenAlive)
                };
                self.record(vec![Change::Moved(moved)]).await?;
                // While it was taken for gone no sink was taken from it.
                self.reconcile = true;
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => self.swept_in_vain(rotation, &error).await,
        }
    }

    /// Deletes a credential that bears the label of a rotation and is not the
    /// one of its row.
    pub(crate) async fn revoke_double(
        &self,
        rotation: &RotationId,
        double: &CredentialFacts,
    ) -> Result<Change, ProviderError> {
        let deleted = self.parts.provider.delete(&double.id).await;
        self.hear(&deleted);
        deleted?;
        Ok(Change::DoubleRevoked {
            rotation: rotation.clone(),
            credential: double.id.clone(),
        })
    }
}

/// Whether absence from a list is a reason to look.
fn may_be_gone(rotation: &Rotation) -> bool {
    rotation.missing.is_none()
        && matches!(
            rotation.phase,
            Phase::Current | Phase::Stranded | Phase::Retired
        )
}

/// Whether its create has no answer yet.
fn is_unsettled(rotation: &Rotation) -> bool {
    rotation.phase == Phase::Intended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Course;
    use crate::engine::tests::fake::{Fakes, at, key};
    use crate::engine::tests::rows::{created, current, intended, moved};

    /// The one rotation that these changes lead to.
    async fn after(changes: Vec<Change>) -> Rotation {
        let fakes = Fakes::new(&[]);
        fakes.ledger(vec![(key(), changes)]).await;
        let managed = fakes.managed(key(), |_| {});
        let engine = fakes.open(vec![managed], Course::ByHand).await;
        engine.state(&key()).unwrap().live[0].clone()
    }

    #[tokio::test]
    async fn only_what_should_be_there_and_is_not_missed_yet_may_be_gone() {
        let mut found_open = created(1);
        found_open.push(moved(1, Event::FoundOpen));
        for (changes, may) in [
            (current(1), true),
            (found_open, true),
            (intended(1), false),
            (created(1), false),
        ] {
            let mut rotation = after(changes).await;
            assert_eq!(may_be_gone(&rotation), may, "{}", rotation.phase);
            assert_eq!(is_unsettled(&rotation), rotation.phase == Phase::Intended);
            rotation.missing = Some(Missing {
                since: at(),
                looks: 1,
            });
            assert!(!may_be_gone(&rotation), "it is looked for already");
        }
    }
}
