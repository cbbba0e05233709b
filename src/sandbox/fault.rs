//! The faults that the sandbox injects on request.

use std::fmt;

use crate::core::ids::ProjectId;
use crate::core::scope::Scope;
use crate::sandbox::operation::{ApiOperation, ApiRequest};
use crate::sandbox::project_option::is_valid_id;

/// The text that stands for the admin keys behind `@`.
const ADMIN_KEYS: &str = "admin-keys";

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

/// The error of a text that describes no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The text has not three parts.
    #[error(
        "expected OPERATION[@PROJECT]:KIND:PROBABILITY, such as create:drop-after:0.2 or \
         list@proj_sandbox:429:1"
    )]
    Syntax,
    /// The operation is unknown.
    #[error("unknown operation \"{given}\"; expected {known} or any", known = operations())]
    Operation {
        /// The operation in the text.
        given: String,
    },
    /// The text behind `@` is no id of a project.
    #[error("\"{0}\" is not a project's id; expected letters, digits, _ and -, or admin-keys")]
    Project(String),
    /// The kind is unknown.
    #[error("unknown kind \"{given}\"; expected one of {known}", known = kinds())]
    Kind {
        /// The kind in the text.
        given: String,
    },
    /// The probability is no number from 0 to 1.
    #[error("\"{0}\" is not a probability; expected a number from 0 to 1")]
    Probability(String),
    /// The kind does not apply to the operation.
    #[error("{kind} applies only to {only}, not to {operation}")]
    UnsupportedPair {
        /// The kind.
        kind: FaultKind,
        /// The operation that it applies to.
        only: ApiOperation,
        /// The operation in the text.
        operation: ApiOperation,
    },
    /// The fault never hits a request about admin keys.
    #[error("{0} applies only to projects")]
    ProjectsOnly(&'static str),
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
    const fn only_in(self) -> Option<ApiOperation> {
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
    const fn is_of_accounts(self) -> bool {
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

    /// Parses `create:drop-after:0.2` or `list@proj_abc:429:1`. With `any`, a kind of a
    /// single operation applies to that one.
    ///
    /// # Errors
    /// [`FaultError`], whose message lists the allowed values.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let parts: Vec<&str> = text.split(':').collect();
        let [target, kind, probability] = parts[..] else {
            return Err(FaultError::Syntax);
        };
        let (operation, scope) = match target.split_once('@') {
            Some((operation, scope)) => (operation, Some(parse_scope(scope)?)),
            None => (target, None),
        };
        let fault = Self {
            operation: parse_operation(operation)?,
            scope,
            kind: parse_kind(kind)?,
            probability: parse_probability(probability)?,
        };
        fault.check_combination()?;
        Ok(fault)
    }

    /// Checks that the fault can hit a request.
    fn check_combination(&self) -> Result<(), FaultError> {
        let kind = self.kind;
        if let (Some(operation), Some(only)) = (self.operation, kind.only_in())
            && operation != only
        {
            return Err(FaultError::UnsupportedPair {
                kind,
                only,
                operation,
            });
        }
        if self.scope != Some(Scope::AdminKeys) {
            return Ok(());
        }
        match self.operation {
            Some(operation) if operation.is_of_projects() => {
                Err(FaultError::ProjectsOnly(operation.as_str()))
            }
            Some(_) | None if kind.is_of_accounts() => Err(FaultError::ProjectsOnly(kind.as_str())),
            Some(_) | None => Ok(()),
        }
    }
}

fn parse_operation(text: &str) -> Result<Option<ApiOperation>, FaultError> {
    if text == "any" {
        return Ok(None);
    }
    ApiOperation::ALL
        .into_iter()
        .find(|operation| operation.as_str() == text)
        .map(Some)
        .ok_or_else(|| FaultError::Operation {
            given: text.to_owned(),
        })
}

fn parse_scope(text: &str) -> Result<Scope, FaultError> {
    match text {
        ADMIN_KEYS => Ok(Scope::AdminKeys),
        id if is_valid_id(id) => Ok(Scope::Project(ProjectId::new(id))),
        _ => Err(FaultError::Project(text.to_owned())),
    }
}

fn parse_kind(text: &str) -> Result<FaultKind, FaultError> {
    FaultKind::ALL
        .into_iter()
        .find(|known| known.as_str() == text)
        .ok_or_else(|| FaultError::Kind {
            given: text.to_owned(),
        })
}

fn parse_probability(text: &str) -> Result<f64, FaultError> {
    text.parse::<f64>()
        .ok()
        .filter(|number| (0.0..=1.0).contains(number))
        .ok_or_else(|| FaultError::Probability(text.to_owned()))
}

impl std::str::FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

fn operations() -> String {
    ApiOperation::ALL.map(ApiOperation::as_str).join(", ")
}

fn kinds() -> String {
    FaultKind::ALL.map(FaultKind::as_str).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_parsed_and_others_are_rejected() {
        for kind in FaultKind::ALL {
            let fault = Fault::parse(&format!("any:{kind}:0.5")).unwrap();
            assert_eq!((fault.operation, fault.kind), (None, kind));
        }
        for bad in [
            "",
            "create",
            "create:drop-after",
            "create:drop-after:0.5:x",
            "make:drop-after:0.5",
            "create:drop:0.5",
            "create:429:1.5",
            "create:429:NaN",
            "create:429:-1",
            "create:stale-list:1",
            "list:late:1",
            "list:no-key:1",
            "create@:429:1",
            "create@proj a:429:1",
            "@proj_a:429:1",
            "verify@admin-keys:429:1",
            "create@admin-keys:no-key:1",
        ] {
            assert!(Fault::parse(bad).is_err(), "{bad}");
        }
    }

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
