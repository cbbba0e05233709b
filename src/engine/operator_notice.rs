//! What an operator did to a credential, and what rekeyd found at a file, for the people who
//! are notified.

use crate::core::change::OperatorNote;
use crate::core::ids::CredentialId;
use crate::core::notification::AlertKind;
use crate::core::redact;
use crate::platform::users;

/// What an operator did, or what rekeyd found.
pub(crate) struct OperatorNotice {
    pub(crate) kind: AlertKind,
    pub(crate) credential: Option<CredentialId>,
    pub(crate) text: String,
}

impl OperatorNotice {
    /// Returns a notice of what `operator` did.
    pub(crate) fn new(
        kind: AlertKind,
        credential: Option<CredentialId>,
        operator: Option<&OperatorNote>,
        done: String,
    ) -> Self {
        let by = operator.map(|operator| users::describe_author(&operator.by));
        let by = by.as_deref().unwrap_or("an operator");
        let reason = operator.and_then(|operator| operator.reason.as_deref());
        let reason = reason.map(|reason| format!(" (reason: {reason})"));
        Self {
            kind,
            credential,
            text: redact::sanitize(&format!("{by} {done}{}", reason.unwrap_or_default())),
        }
    }
}
