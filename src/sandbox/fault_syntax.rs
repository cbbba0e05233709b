//! The text of a fault on the command line.

use crate::core::ids::ProjectId;
use crate::core::scope::Scope;
use crate::sandbox::fault::{Fault, FaultKind};
use crate::sandbox::operation::ApiOperation;
use crate::sandbox::project_option::is_valid_id;

/// The text that stands for the admin keys behind `@`.
const ADMIN_KEYS: &str = "admin-keys";

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

impl Fault {
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
}
