//! Retires a key, and undoes that.

use crate::core::change::{Change, KeyRetirement, OperatorNote, UndoneRetirement};
use crate::core::decide::outcome;
use crate::core::first_few::join_few;
use crate::core::ids::{CredentialId, RotationId};
use crate::core::lifecycle::Phase;
use crate::core::notification::AlertKind;
use crate::core::policy::overlap_or_default;
use crate::core::state::{KeyState, Retirement, Rotation};
use crate::core::time;
use crate::engine::operator_command::CommandError;
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::worker::Worker;

/// Says that a key is retired, and what ends that.
pub(crate) fn retired_problem(key: &KeyState) -> String {
    let since = key
        .retirement
        .map(|retirement| time::to_text(retirement.at));
    format!(
        "the key was retired at {}; hint: run `rekeyd retire {} --undo` first",
        since.unwrap_or_default(),
        key.key
    )
}

impl Worker {
    /// Retires the key, whether it is configured or not. With `is_immediate`, also tries to
    /// revoke its credentials before the answer.
    pub(super) async fn retire_key(
        &mut self,
        is_immediate: bool,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let key = self.state.key.clone();
        if let Some(retirement) = self.state.retirement
            && (retirement.is_immediate || !is_immediate)
        {
            let since = time::to_text(retirement.at);
            return Ok(format!("{key}: already retired since {since}"));
        }
        let retirement = Retirement {
            at: time::whole_seconds(self.overlap_start()),
            is_immediate,
        };
        let mut changes = vec![Change::from(KeyRetirement {
            retirement,
            operator: operator.clone(),
        })];
        changes.extend(self.retired_credentials(retirement));
        self.record(changes).await?;
        // A client that waits for a rotation of the key learns why there is none.
        self.request = None;
        self.request_problem = Some(retired_problem(&self.state));
        if is_immediate {
            return self.revoke_at_once(operator.as_ref()).await;
        }
        Ok(format!("{key}: retired; {}", self.describe_end()))
    }

    /// Returns the changes by which the credentials retire with their key. An open rotation
    /// is given up by the next steps.
    fn retired_credentials(&self, retirement: Retirement) -> Vec<Change> {
        let policy = self.managed.as_ref().map(|managed| managed.policy.as_ref());
        let overlap = overlap_or_default(policy);
        let retired = KeyState {
            retirement: Some(retirement),
            ..self.state.clone()
        };
        let live = retired.live.iter();
        let settled = live.filter(|row| matches!(row.phase, Phase::Current | Phase::Stranded));
        settled
            .flat_map(|row| outcome::retire_with_key(row, &retired, overlap, self.now()))
            .collect()
    }

    /// Revokes the credentials of a retired key, as far as nothing keeps them.
    async fn revoke_at_once(
        &mut self,
        operator: Option<&OperatorNote>,
    ) -> Result<String, CommandError> {
        let key = self.state.key.clone();
        let due: Vec<RotationId> = self
            .state
            .live
            .iter()
            .filter(|row| matches!(row.phase, Phase::Retired | Phase::Orphaned))
            .map(|row| row.id.clone())
            .collect();
        self.sync_sinks_first(&due).await?;
        let mut revoked: Vec<CredentialId> = Vec::new();
        for rotation in due {
            let credential = self
                .state
                .rotation(&rotation)
                .and_then(Rotation::credential);
            let credential = credential.map(|credential| credential.id.clone());
            self.revoke(&rotation).await?;
            if self.state.rotation(&rotation).is_some() {
                // It may have waited for a time that does not count any more.
                self.rechecks.insert(rotation);
            } else if let Some(credential) = credential {
                self.notices.push(OperatorNotice::new(
                    AlertKind::RevokedManually,
                    Some(credential.clone()),
                    operator,
                    format!("revoked {credential} of {key}, because the key was retired"),
                ));
                revoked.push(credential);
            }
        }
        let revoked = match revoked.as_slice() {
            [] => String::new(),
            revoked => format!("; revoked {}", join_few(revoked)),
        };
        let rest = match self.state.live.is_empty() {
            true if revoked.is_empty() => "; it has no live credential".to_owned(),
            true => String::new(),
            false => format!("; {}", self.describe_end()),
        };
        Ok(format!("{key}: retired{revoked}{rest}"))
    }

    /// Records which sinks are configured, if that is still to be done: no credential is
    /// revoked before. An answer about one of these shows the provider's time.
    async fn sync_sinks_first(&mut self, due: &[RotationId]) -> Result<(), CommandError> {
        let known = due
            .iter()
            .find_map(|rotation| self.state.rotation(rotation));
        let known = known.and_then(Rotation::credential).cloned();
        let Some(credential) = known.filter(|_| self.needs_sink_sync) else {
            return Ok(());
        };
        // What fails here is tried again by the revocation.
        let _ = self.retrieve(&credential).await;
        if let Some(mut changes) = self.sink_changes() {
            self.recognize_files(&mut changes).await;
            self.record(changes).await?;
            self.needs_sink_sync = false;
        }
        Ok(())
    }

    /// Describes when the live credentials of a retired key end.
    pub(super) fn describe_end(&self) -> String {
        let now = self.now();
        let ends = self.state.live.iter().map(|row| {
            let id = row
                .credential()
                .map_or("its open rotation", |credential| credential.id.as_str());
            if row.phase.is_open() {
                return format!("{id} is given up");
            }
            if let Some(error) = row.error.as_ref().filter(|_| row.deferral.is_some()) {
                return format!("{id} is not revoked yet: {error}");
            }
            let is_immediate = self
                .state
                .retirement
                .is_some_and(|retirement| retirement.is_immediate);
            match (row.hold(now), row.revoke_after) {
                (Some(_), _) if !is_immediate => {
                    format!("{id} is held and stays until `rekeyd release {id}`")
                }
                (_, Some(at)) if at > now && !is_immediate => {
                    format!("{id} is revoked after {}", time::to_text(at))
                }
                _ => format!("{id} is revoked as soon as possible"),
            }
        });
        let ends: Vec<_> = ends.collect();
        if ends.is_empty() {
            return "it has no live credential".to_owned();
        }
        join_few(ends)
    }

    pub(super) async fn undo_retirement(
        &mut self,
        operator: Option<OperatorNote>,
    ) -> Result<String, CommandError> {
        let key = self.state.key.clone();
        if !self.state.is_retired() {
            return Ok(format!("{key} is not retired"));
        }
        self.record(vec![Change::from(UndoneRetirement { operator })])
            .await?;
        Ok(if self.managed.is_some() {
            format!("{key}: no longer retired; rekeyd rotates it again, from now on")
        } else {
            format!("{key}: no longer retired, but it is not configured, so nothing rotates it")
        })
    }
}
