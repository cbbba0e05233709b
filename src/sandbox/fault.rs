//! The faults that the sandbox injects on request.

use std::fmt;

use crate::core::scope::Scope;
use crate::sandbox::operation::{ApiOperation, ApiRequest};

/// The effect of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection is closed without an answer, and nothing is done.
    DropBefore,
    /// The work is done, then the connection is closed without an answer.
    DropAfter,
    /// 500, and nothing is done.
    ErrorBefore,
    /// The work is done, then 500.
    ErrorAfter,
    /// 429 with `retry-after: 1`, and nothing is done.
    RateLimit,
    /// 429 with the code of a quota that is used up, and nothing is done.
    Quota,
    /// 403 with a code that concerns the whole organization, and nothing is done.
    Refused,
    /// The work is done, and no response is sent.
    Hang,
    /// The work is done, and the response is delayed.
    Slow,
    /// The work is done, and the response is truncated JSON.
    Garbage,
    /// 403 with a page of HTML, like that of an intermediate proxy; nothing is
    /// done.
    Html,
    /// 401 about a missing scope, and nothing is done.
    Scope,
    /// 403 with an error of the API that names no cause; nothing is done.
    Forbidden,
    /// The list is the one from before the last change. Only of lists.
    StaleList,
    /// The connection is closed without an answer, and the credential is
    /// created some seconds later. Only of creates.
    Late,
    /// The service account is created without a key, and the answer says so. Only of
    /// creates of accounts.
    NoKey,
    /// The service account is created without a key, then 500. Only of creates of accounts.
    NoAccountKey,
}

/// A fault that hits requests with some probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The operation that it hits; `None` for any.
    pub operation: Option<ApiOperation>,
    /// The project, or the admin keys, that it hits; `None` for all.
    pub scope: Option<Scope>,
    /// Its effect.
    pub kind: FaultKind,
    /// Its probability, from 0 (never) to 1 (always).
    pub probability: f64,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::DropBefore,
        Self::DropAfter,
        Self::ErrorBefore,
        Self::ErrorAfter,
        Self::RateLimit,
        Self::Quota,
        Self::Refused,
        Self::Hang,
        Self::Slow,
        Self::Garbage,
        Self::Html,
        Self::Scope,
        Self::Forbidden,
        Self::StaleList,
        Self::Late,
        Self::NoKey,
        Self::NoAccountKey,
    ];

    /// Returns its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DropBefore => "drop-before",
            Self::DropAfter => "drop-after",
            Self::ErrorBefore => "500-before",
            Self::ErrorAfter => "500-after",
            Self::RateLimit => "429",
            Self::Quota => "quota",
            Self::Refused => "refused",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Garbage => "garbage",
            Self::Html => "html",
            Self::Scope => "401-scope",
            Self::Forbidden => "forbidden",
            Self::StaleList => "stale-list",
            Self::Late => "late",
            Self::NoKey => "no-key",
            Self::NoAccountKey => "no-account-key",
        }
    }

    /// Returns the operation that it applies to, if it is only one.
    pub(super) const fn only_in(self) -> Option<ApiOperation> {
        match self {
            Self::StaleList => Some(ApiOperation::List),
            Self::Late | Self::NoKey | Self::NoAccountKey => Some(ApiOperation::Create),
            Self::DropBefore
            | Self::DropAfter
            | Self::ErrorBefore
            | Self::ErrorAfter
            | Self::RateLimit
            | Self::Quota
            | Self::Refused
            | Self::Hang
            | Self::Slow
            | Self::Garbage
            | Self::Html
            | Self::Scope
            | Self::Forbidden => None,
        }
    }

    /// Whether it applies only to creates of service accounts.
    pub(super) const fn is_of_accounts(self) -> bool {
        matches!(self, Self::NoKey | Self::NoAccountKey)
    }
}

impl Fault {
    /// Whether the fault applies to `request`.
    pub(super) fn applies_to(&self, request: &ApiRequest) -> bool {
        let is_selected = |operation: Option<ApiOperation>| {
            operation.is_none_or(|operation| operation == request.operation)
        };
        is_selected(self.operation)
            && is_selected(self.kind.only_in())
            && (self.scope.is_none() || self.scope == request.scope)
            && (request.creates_account || !self.kind.is_of_accounts())
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::ProjectId;

    /// Returns the requests, of each operation about admin keys and in two projects, that a
    /// fault applies to.
    fn hits(fault: &str) -> Vec<String> {
        let fault = Fault::parse(fault).unwrap();
        let projects = ["proj_a", "proj_b"].map(|id| Scope::Project(ProjectId::new(id)));
        let scopes = [vec![Scope::AdminKeys], projects.to_vec()].concat();
        let mut found = Vec::new();
        for operation in ApiOperation::ALL {
            for scope in &scopes {
                let request = ApiRequest::new(operation, Some(scope.clone()));
                if fault.applies_to(&request) {
                    found.push(format!("{operation} {scope}"));
                }
            }
        }
        found
    }

    #[test]
    fn faults_hit_their_operation_and_project_alone() {
        assert_eq!(hits("any:429:1").len(), 21);
        assert_eq!(hits("any@proj_a:429:1").len(), 7);
        assert_eq!(hits("list@proj_a:429:1"), ["list project:proj_a"]);
        assert_eq!(hits("any@admin-keys:late:1"), ["create admin-keys"]);
        assert_eq!(hits("any:stale-list:1").len(), 3);
        assert!(hits("any:no-key:1").is_empty());
        let account = ApiRequest {
            creates_account: true,
            ..ApiRequest::new(ApiOperation::Create, None)
        };
        assert!(Fault::parse("any:no-key:1").unwrap().applies_to(&account));
    }
}
