//! The faults that the sandbox injects on request.

use std::fmt;

/// An operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiOperation {
    /// `POST /organization/admin_api_keys`.
    Create,
    /// `GET /organization/admin_api_keys`, which also verifies a secret.
    List,
    /// `GET /organization/admin_api_keys/{key_id}`.
    Retrieve,
    /// `DELETE /organization/admin_api_keys/{key_id}`.
    Delete,
}

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
    /// The list is the one from before the last change. Only of lists.
    StaleList,
    /// The connection is closed without an answer, and the credential is
    /// created some seconds later. Only of creates.
    Late,
}

/// A fault that hits requests with some probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// The operation that it hits; `None` for any.
    pub operation: Option<ApiOperation>,
    /// Its effect.
    pub kind: FaultKind,
    /// Its probability, from 0 (never) to 1 (always).
    pub probability: f64,
}

/// The error of a text that describes no fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// The text has not three parts.
    #[error("expected OPERATION:KIND:PROBABILITY, such as create:drop-after:0.2")]
    Syntax,
    /// The operation is unknown.
    #[error("unknown operation \"{0}\"; expected create, list, retrieve, delete or any")]
    Operation(String),
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
}

impl ApiOperation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Create, Self::List, Self::Retrieve, Self::Delete];

    /// Returns its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::List => "list",
            Self::Retrieve => "retrieve",
            Self::Delete => "delete",
        }
    }
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
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
        Self::StaleList,
        Self::Late,
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
            Self::StaleList => "stale-list",
            Self::Late => "late",
        }
    }

    /// Returns the operation that it applies to, if it is only one.
    const fn only_in(self) -> Option<ApiOperation> {
        match self {
            Self::StaleList => Some(ApiOperation::List),
            Self::Late => Some(ApiOperation::Create),
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
            | Self::Scope => None,
        }
    }
}

impl Fault {
    /// Whether the fault applies to `operation`.
    #[must_use]
    pub fn applies_to(&self, operation: ApiOperation) -> bool {
        self.operation
            .is_none_or(|operation_filter| operation_filter == operation)
            && self.kind.only_in().is_none_or(|only| only == operation)
    }

    /// Parses `create:drop-after:0.2`. With `any`, a kind of a single operation
    /// applies to that one.
    ///
    /// # Errors
    /// [`FaultError`], whose message lists the allowed values.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let parts: Vec<&str> = text.split(':').collect();
        let [operation, kind, probability] = parts[..] else {
            return Err(FaultError::Syntax);
        };
        let operation = match operation {
            "any" => None,
            word => Some(
                ApiOperation::ALL
                    .into_iter()
                    .find(|operation| operation.as_str() == word)
                    .ok_or_else(|| FaultError::Operation(word.to_owned()))?,
            ),
        };
        let kind = FaultKind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| FaultError::Kind {
                given: kind.to_owned(),
            })?;
        if let (Some(operation), Some(only)) = (operation, kind.only_in())
            && operation != only
        {
            return Err(FaultError::UnsupportedPair {
                kind,
                only,
                operation,
            });
        }
        let probability = probability
            .parse::<f64>()
            .ok()
            .filter(|number| (0.0..=1.0).contains(number))
            .ok_or_else(|| FaultError::Probability(probability.to_owned()))?;
        Ok(Self {
            operation,
            kind,
            probability,
        })
    }
}

impl std::str::FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for ApiOperation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
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
        ] {
            assert!(Fault::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn single_operation_kinds_apply_only_there() {
        let fault = Fault::parse("any:late:1").unwrap();
        assert!(fault.applies_to(ApiOperation::Create));
        assert!(!fault.applies_to(ApiOperation::List));
    }
}
