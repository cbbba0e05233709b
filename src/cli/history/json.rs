//! A past rotation as JSON.

use std::io::Error;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::core::ids::{CredentialId, KeyName, Label};
#[cfg(test)]
use crate::core::lifecycle::Phase;
#[cfg(test)]
use crate::core::state::Trigger;
use crate::core::time;
use crate::ledger::HistoryEntry;

/// A rotation in the output of `rekeyd history --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HistoryJson<'a> {
    /// The id of the rotation.
    rotation: &'a str,
    /// Its key.
    #[cfg_attr(test, schemars(with = "String"))]
    key: &'a KeyName,
    /// A number that grows with each rotation of the key.
    sequence: u64,
    /// Why it started.
    #[cfg_attr(test, schemars(with = "Trigger"))]
    trigger: &'static str,
    /// The scheduled run that started it, if one did.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    scheduled_for: Option<String>,
    /// When it started.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    started_at: String,
    /// The name that rekeyd gave its credential; null for an adopted one.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    label: Option<&'a Label>,
    /// The id of its credential at the provider.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    credential_id: Option<&'a CredentialId>,
    /// The redacted secret, as the provider shows it.
    redacted_value: Option<&'a String>,
    /// When the provider created the credential.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    created_at: Option<String>,
    /// When the credential expires, if it does.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    expires_at: Option<String>,
    /// Its phase.
    #[cfg_attr(test, schemars(with = "Phase"))]
    phase: &'static str,
    /// When it became current.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    current_at: Option<String>,
    /// When a newer rotation replaced it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    retired_at: Option<String>,
    /// When its overlap ends.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    revoke_after: Option<String>,
    /// When its credential was revoked.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    revoked_at: Option<String>,
    /// Its last error, for people.
    error: Option<&'a String>,
    /// 1 if an operator holds its credential, otherwise 0.
    #[cfg_attr(test, schemars(extend("enum" = [0, 1])))]
    held: u8,
    /// When the hold ends; null until an operator releases the credential.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    hold_until: Option<String>,
    /// Who holds it.
    holder: Option<&'a String>,
    /// The reason that was given for the hold.
    hold_reason: Option<&'a String>,
    /// The name that the provider is expected to show.
    name: Option<&'a String>,
}

/// Returns the members of a rotation, by the names of the columns.
pub(super) fn to_json(entry: &HistoryEntry) -> Result<Value, Error> {
    let timestamp = |at: Option<Timestamp>| at.map(time::to_text);
    let object = HistoryJson {
        rotation: entry.rotation.as_str(),
        key: &entry.key,
        sequence: entry.sequence,
        trigger: entry.trigger.as_str(),
        scheduled_for: timestamp(entry.scheduled_for),
        started_at: time::to_text(entry.started_at),
        label: entry.label.as_ref(),
        credential_id: entry.credential.as_ref(),
        redacted_value: entry.redacted_value.as_ref(),
        created_at: timestamp(entry.created_at),
        expires_at: timestamp(entry.expires_at),
        phase: entry.phase.as_str(),
        current_at: timestamp(entry.current_at),
        retired_at: timestamp(entry.retired_at),
        revoke_after: timestamp(entry.revoke_after),
        revoked_at: timestamp(entry.revoked_at),
        error: entry.error.as_ref(),
        held: u8::from(entry.is_held),
        hold_until: timestamp(entry.hold_until),
        holder: entry.holder.as_ref(),
        hold_reason: entry.hold_reason.as_ref(),
        name: entry.name.as_ref(),
    };
    Ok(serde_json::to_value(object)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::json_schema;

    #[test]
    fn json_schema_is_that_of_the_output() {
        json_schema::check_file::<Vec<HistoryJson<'_>>>("history");
    }
}
