//! Learns the ends of credentials from lists and retrieves.

use jiff::Timestamp;

use crate::core::change::{Change, CredentialUpdate, Transition};
use crate::core::decide::shown_end::{EndJudgement, is_short_life, judge_end, short_life_problem};
use crate::core::ids::{CredentialId, RotationId};
use crate::core::lifecycle::{LifecycleEvent, Phase};
use crate::core::policy::RetryClass;
use crate::core::reported_time::{EXPIRY_FIELD, ShownEnd};
use crate::core::state::{CredentialMetadata, Rotation};
use crate::core::time;
use crate::engine::effects::{PERMANENT_FAILURE_PAUSE, retry_delay};
use crate::engine::worker::Worker;
use crate::ledger::{Discrepancy, LedgerError, RemoteState};
use crate::provider::{ListedCredential, ProviderError};

impl Worker {
    /// Keeps the end that a retrieve shows, if it is not the recorded one: this worker
    /// handles it next.
    pub(super) fn observe_end(&self, listed: &ListedCredential) {
        let id = &listed.metadata.id;
        let rows = self.state.live.iter();
        let rows = rows.filter(|row| row.credential().is_some_and(|one| one.id == *id));
        for row in rows {
            if self.judge_end_of(row, listed.end) != EndJudgement::Keep {
                self.observed_ends.push(Discrepancy {
                    rotation: row.id.clone(),
                    phase: row.phase,
                    credential: Some(id.clone()),
                    revoked_at: None,
                    remote_state: RemoteState::OtherEnd(listed.metadata.clone(), listed.end),
                });
            }
        }
    }

    /// Records the end that a list or a retrieve shows, or asks the provider once more
    /// before.
    pub(super) async fn learn_end(
        &mut self,
        rotation: &RotationId,
        shown: ShownEnd,
    ) -> Result<(), LedgerError> {
        let Some(row) = self.state.rotation(rotation).cloned() else {
            return Ok(());
        };
        let Some(credential) = row.credential.as_ref().filter(|_| !ends_anyway(row.phase)) else {
            return Ok(());
        };
        let end = match self.judge_end_of(&row, shown) {
            EndJudgement::Keep => {
                // The same end may have been recorded since it was queued.
                if readable(shown) != Some(credential.expires_at) {
                    let conditions = &self.services.conditions;
                    conditions.report_unreadable_times(&[EXPIRY_FIELD]);
                }
                return Ok(());
            }
            EndJudgement::Record(end) => end,
            EndJudgement::Confirm(end) => match self.shown_end(&credential.id).await {
                Ok(again) if readable(again) == Some(end) => end,
                Ok(_) => return Ok(()),
                Err(error) => {
                    self.needs_follow_up = true;
                    if !self.is_global_failure(&error).await {
                        tracing::warn!(key = %self.state.key, %rotation, "{error}");
                    }
                    return Ok(());
                }
            },
        };
        self.log_other_end(&row, credential, end);
        let mut changes = vec![end_change(&row, credential, end)];
        if end.is_some() {
            self.services.conditions.observe_other_end();
        }
        let short = end.filter(|end| self.is_short_life_of(&row, *end));
        if let Some(end) = short {
            // Its successor would end as soon, so the key waits and shows why.
            if row.phase == Phase::Current && self.state.open_rotation().is_none() {
                let problem = short_life_problem(credential, end);
                changes.push(self.back_off_key(&problem, None));
            }
        }
        self.record(changes).await
    }

    /// Checks the end of a new credential that works, before its first delivery, if this
    /// provider may end it earlier than its answer to the create said. Returns whether it can
    /// be delivered.
    pub(super) async fn check_new_end(&mut self, row: &Rotation) -> Result<bool, LedgerError> {
        let Some(credential) = row
            .credential
            .as_ref()
            .filter(|_| self.may_end_earlier(row))
        else {
            return Ok(true);
        };
        let shown = match self.shown_end(&credential.id).await {
            Ok(shown) => shown,
            Err(error) if self.is_global_failure(&error).await => return Ok(false),
            // Nothing but a guess speaks against it, and the next list shows its end.
            Err(_) if !self.is_answered_short() => return Ok(true),
            Err(error) => {
                let (text, pause) = (error.to_string(), retry_delay(&error));
                let retry = self.schedule_retry(&row.id, RetryClass::Provider, &text, pause);
                self.record(vec![retry]).await?;
                return Ok(false);
            }
        };
        match self.judge_end_of(row, shown) {
            EndJudgement::Confirm(Some(end)) if self.is_short_life_of(row, end) => {
                self.services.conditions.observe_other_end();
                let problem = short_life_problem(credential, end);
                let abandoned = Transition {
                    error: Some(problem.clone()),
                    ..Transition::new(&row.id, LifecycleEvent::Abandoned)
                };
                let changes = vec![
                    end_change(row, credential, Some(end)),
                    Change::from(abandoned),
                    self.back_off_key(&problem, Some(PERMANENT_FAILURE_PAUSE)),
                ];
                self.record(changes).await?;
                Ok(false)
            }
            EndJudgement::Record(end) => {
                self.log_other_end(row, credential, end);
                self.record(vec![end_change(row, credential, end)]).await?;
                Ok(true)
            }
            EndJudgement::Keep | EndJudgement::Confirm(_) => Ok(true),
        }
    }

    /// Returns whether the provider may end a new credential earlier than recorded: its own
    /// answer said so, or this happened before.
    fn may_end_earlier(&self, row: &Rotation) -> bool {
        let mut others = self.state.live.iter().filter(|other| other.id != row.id);
        let is_short = |other: &Rotation| {
            let end = other.credential().and_then(|one| one.expires_at);
            end.is_some_and(|end| self.is_short_life_of(other, end))
        };
        self.is_answered_short()
            || self.services.conditions.shows_other_ends()
            || others.any(is_short)
    }

    /// Returns whether the answer to the create ended the new credential soon.
    fn is_answered_short(&self) -> bool {
        let in_flight = self.in_flight.as_ref();
        in_flight.is_some_and(|in_flight| in_flight.is_short_lived)
    }

    /// Retrieves a credential, and returns the end that the answer shows.
    async fn shown_end(&self, id: &CredentialId) -> Result<ShownEnd, ProviderError> {
        let answer = self.services.provider.retrieve(id).await;
        self.observe_response(&answer);
        Ok(answer?.value.map_or(ShownEnd::Unknown, |listed| listed.end))
    }

    fn judge_end_of(&self, row: &Rotation, shown: ShownEnd) -> EndJudgement {
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let expires_in = policy.and_then(|policy| policy.expires_after);
        let recorded = row
            .credential()
            .and_then(|credential| credential.expires_at);
        judge_end(recorded, begin_of(row), expires_in, shown, self.now())
    }

    fn is_short_life_of(&self, row: &Rotation, end: Timestamp) -> bool {
        let policy = self.managed.as_ref().map(|managed| &managed.policy);
        let expires_in = policy.and_then(|policy| policy.expires_after);
        is_short_life(begin_of(row), end, expires_in)
    }

    fn log_other_end(
        &self,
        row: &Rotation,
        credential: &CredentialMetadata,
        end: Option<Timestamp>,
    ) {
        let ends = |end: Option<Timestamp>| {
            end.map_or_else(
                || "has no end".to_owned(),
                |end| format!("ends at {}", time::to_text(end)),
            )
        };
        let key = &self.state.key;
        tracing::warn!(%key, rotation = %row.id, credential = %credential.id,
            "{key}: the provider shows that {} {}; by the ledger it {}",
            credential.id, ends(end), ends(credential.expires_at));
    }
}

/// Returns when the credential of a rotation was created.
fn begin_of(row: &Rotation) -> Timestamp {
    let created_at = row
        .credential()
        .and_then(|credential| credential.created_at);
    created_at.unwrap_or(row.started_at)
}

/// Returns whether a credential is revoked whatever its end is.
const fn ends_anyway(phase: Phase) -> bool {
    matches!(phase, Phase::Orphaned | Phase::Revoked | Phase::Failed)
}

/// Returns the end in an answer that has one: `Some(None)` if it never comes.
fn readable(shown: ShownEnd) -> Option<Option<Timestamp>> {
    match shown {
        ShownEnd::Unknown => None,
        ShownEnd::Never => Some(None),
        ShownEnd::At(end) => Some(Some(time::whole_seconds(end))),
    }
}

fn end_change(row: &Rotation, credential: &CredentialMetadata, end: Option<Timestamp>) -> Change {
    Change::from(CredentialUpdate {
        rotation: row.id.clone(),
        credential: CredentialMetadata {
            expires_at: end,
            ..credential.clone()
        },
        is_endless: end.is_none(),
    })
}
