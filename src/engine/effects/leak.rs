//! Ends what may have leaked: sets the deadline of every present credential of a key, and
//! requests the rotation that replaces them.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::active_credential::CredentialUsage;
use crate::core::authority::Authority;
use crate::core::change::{Change, CredentialName, DeadlineUpdate, UnadoptedHolder};
use crate::core::decide::revocation::Identity;
use crate::core::ids::{CredentialId, RotationId};
use crate::core::notification::AlertKind;
use crate::core::state::{RevocationDeadline, Rotation};
use crate::core::time;
use crate::engine::effects::redacted_value_of;
use crate::engine::effects::revoke::{ExpectedName, identify};
use crate::engine::operator_command::{CommandError, FileHolder};
use crate::engine::operator_notice::OperatorNotice;
use crate::engine::rotation_request::RotationRequest;
use crate::engine::worker::Worker;
use crate::ledger::LedgerError;

/// An operator's order to end what may have leaked.
pub(super) struct EndOrder {
    /// The time until the deadline.
    pub(super) within: Duration,
    /// Whether doubts about a credential do not keep it alive.
    pub(super) force: bool,
    /// What the operator may do.
    pub(super) authority: Authority,
}

/// Why a credential is not ended without `--force`.
struct Objection {
    problem: String,
    /// The other name that the provider shows of it.
    shown_name: Option<String>,
}

impl Worker {
    /// Ends every present credential of the key `within` a time, and requests a rotation.
    /// Changes nothing if one of them may be rekeyd's own, is held, or shows another name,
    /// unless the operator insists.
    pub(super) async fn end_present(
        &mut self,
        order: EndOrder,
        holders: &[FileHolder],
        request: RotationRequest,
    ) -> Result<String, CommandError> {
        let EndOrder {
            within,
            force,
            authority,
        } = order;
        // A credential may have rows of other keys, which also get the deadline.
        let present = self.present_credentials().collect();
        let _locks = self.lock_credentials(present).await?;
        let mut problems = Vec::new();
        let mut changes = Vec::new();
        for row in self.state.live.clone() {
            let Some(objection) = self.objection(row.clone()).await? else {
                continue;
            };
            problems.push(objection.problem);
            let may_confirm = authority == Authority::Full;
            changes.extend(objection.shown_name.filter(|_| may_confirm).map(|name| {
                Change::from(CredentialName {
                    rotation: row.id,
                    name,
                })
            }));
        }
        let key = self.state.key.clone();
        if !problems.is_empty() && !force {
            return Err(CommandError::Rejected(format!(
                "{key}: not rotated: {}; hint: add --force to revoke it anyway",
                problems.join("; ")
            )));
        }
        let deadline = RevocationDeadline {
            at: time::whole_seconds(time::after(self.now(), within)),
            is_forced: force,
        };
        for row in &self.state.live {
            changes.push(Change::from(DeadlineUpdate {
                rotation: row.id.clone(),
                deadline,
                holders: self.unadopted_holders(row, holders)?,
                operator: request.operator.clone(),
            }));
        }
        let notice = OperatorNotice::new(
            AlertKind::RevokedManually,
            None,
            request.operator.as_ref(),
            format!(
                "ordered the end of every present credential of {key} at {}, because they may have \
                 leaked",
                time::to_text(deadline.at)
            ),
        );
        self.record(changes).await?;
        self.notices.push(notice);
        self.request = Some(match self.request.take() {
            Some(earlier) => earlier.merge(request),
            None => request,
        });
        Ok(format!(
            "{key}: its present credentials are revoked {}",
            self.present_deadlines(deadline)
        ))
    }

    /// Describes when the present credentials end: an earlier deadline is not moved.
    fn present_deadlines(&self, requested: RevocationDeadline) -> String {
        let live = self.state.live.iter();
        let deadlines = live.filter_map(|row| Some(row.deadline?.at));
        let deadlines: BTreeSet<_> = deadlines.collect();
        let last = deadlines.last().copied().unwrap_or(requested.at);
        match deadlines.first() {
            Some(first) if *first < last => format!(
                "at {} at the latest; earlier deadlines stay (the first is at {})",
                time::to_text(last),
                time::to_text(*first)
            ),
            Some(_) | None => format!("at {}", time::to_text(last)),
        }
    }

    /// Returns those of `holders` whose files hold the credential of a row.
    fn unadopted_holders(
        &self,
        row: &Rotation,
        holders: &[FileHolder],
    ) -> Result<Vec<UnadoptedHolder>, CommandError> {
        let id = row.credential().map(|credential| &credential.id);
        let of_row = holders.iter().filter(|one| Some(&one.credential) == id);
        let of_row = of_row.map(|holder| {
            let mut rotation = [0; 8];
            let entropy = &self.services.entropy;
            let filled = entropy.fill(&mut rotation);
            filled.map_err(|error| CommandError::Rejected(error.to_string()))?;
            Ok(UnadoptedHolder {
                key: holder.key.clone(),
                rotation: RotationId::new(rotation),
                sinks: holder.sinks.clone(),
            })
        });
        of_row.collect()
    }

    /// Records the earlier deadlines that count since the clock was set back.
    pub(crate) async fn move_deadlines(&mut self) -> Result<(), LedgerError> {
        let moved = self.deadlines.iter().filter_map(|(rotation, at)| {
            let deadline = self.state.rotation(rotation)?.deadline?;
            (*at < deadline.at).then(|| {
                Change::from(DeadlineUpdate {
                    rotation: rotation.clone(),
                    deadline: RevocationDeadline {
                        at: time::whole_seconds(*at),
                        ..deadline
                    },
                    holders: Vec::new(),
                    operator: None,
                })
            })
        });
        let moved: Vec<_> = moved.collect();
        if !moved.is_empty() {
            self.record(moved).await?;
        }
        self.deadlines.clear();
        Ok(())
    }

    pub(super) fn present_credentials(&self) -> impl Iterator<Item = CredentialId> {
        let live = self.state.live.iter().filter_map(Rotation::credential);
        live.map(|credential| credential.id.clone())
    }

    /// Returns why a credential is not ended without `--force`.
    async fn objection(&mut self, row: Rotation) -> Result<Option<Objection>, CommandError> {
        if row.credential.is_none() {
            return Ok(None);
        }
        let objection = |problem: String| {
            Ok(Some(Objection {
                problem,
                shown_name: None,
            }))
        };
        let Some(row) = self.record_missing_name(row).await? else {
            return Err(CommandError::Rejected(
                "the provider does not respond, so nothing was changed; hint: try again".to_owned(),
            ));
        };
        let Some(credential) = row.credential.clone() else {
            return Ok(None);
        };
        let id = &credential.id;
        if let Some(until) = row.hold(self.now()) {
            let until = until.map(|until| format!(" until {}", time::to_text(until)));
            let until = until.unwrap_or_default();
            return objection(format!("{id} is on hold{until} (`rekeyd release {id}`)"));
        }
        let answer = self.retrieve(&credential).await?;
        let Some(listed) = answer.value else {
            return Ok(None);
        };
        match identify(
            &credential,
            &listed,
            ExpectedName::of_rotation(&row, &self.services.conditions),
        ) {
            Identity::Confirmed | Identity::ConfirmedByOperator => {}
            Identity::OtherName | Identity::Unproven => {
                let recorded = row.name.as_deref().unwrap_or_default();
                let shown = listed.name.as_deref().unwrap_or_default();
                return Ok(Some(Objection {
                    problem: format!(
                        "the provider shows {id} as {shown:?}, not as {recorded:?}, so it may not \
                         be rekeyd's; only root or the owner of the ledger can confirm that name \
                         with --force"
                    ),
                    shown_name: listed.name.clone(),
                }));
            }
        }
        let redacted = redacted_value_of(Some(&listed), &credential);
        if self.observe_usage(id, redacted.as_deref()).await? == CredentialUsage::MayBeInUse {
            return objection(format!(
                "{id} may be rekeyd's own admin key: this process does not know its \
                 secret, and the end that the provider shows does not rule it out"
            ));
        }
        Ok(None)
    }
}
