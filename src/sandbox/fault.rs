//! Faults that the sandbox can be asked to have.

use std::str::FromStr;

/// The operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `POST /organization/admin_api_keys`
    Create,
    /// `GET /organization/admin_api_keys`
    List,
    /// `GET /organization/admin_api_keys/{id}`
    Retrieve,
    /// `DELETE /organization/admin_api_keys/{id}`
    Delete,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The connection closes and nothing was done.
    DropBefore,
    /// It is done, and the connection closes without an answer.
    DropAfter,
    /// 500, and nothing was done.
    ErrorBefore,
    /// It is done, and the answer is 500.
    ErrorAfter,
    /// 429 with `retry-after: 1`.
    RateLimited,
    /// It is done, and no answer ever comes.
    Hang,
    /// It is done, and the answer takes two seconds.
    Slow,
    /// It is done, and the answer is cut off and no JSON.
    Garbage,
    /// 403 with HTML, as a proxy answers; nothing was done.
    Html,
    /// 401 about a missing scope.
    Scope,
    /// A list as it was before the last change.
    StaleList,
    /// The connection closes, and it is done three seconds later.
    Late,
}

const OPERATIONS: [(&str, Operation); 4] = [
    ("create", Operation::Create),
    ("list", Operation::List),
    ("retrieve", Operation::Retrieve),
    ("delete", Operation::Delete),
];

const KINDS: [(&str, Kind); 12] = [
    ("drop-before", Kind::DropBefore),
    ("drop-after", Kind::DropAfter),
    ("500-before", Kind::ErrorBefore),
    ("500-after", Kind::ErrorAfter),
    ("429", Kind::RateLimited),
    ("hang", Kind::Hang),
    ("slow", Kind::Slow),
    ("garbage", Kind::Garbage),
    ("html", Kind::Html),
    ("401-scope", Kind::Scope),
    ("stale-list", Kind::StaleList),
    ("late", Kind::Late),
];

/// One fault and how often it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fault {
    /// In which operation; none for any.
    pub operation: Option<Operation>,
    /// What goes wrong.
    pub kind: Kind,
    /// How often, from 0 to 1.
    pub probability: f64,
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = |pairs: Vec<&str>| pairs.join(", ");
        let parts: Vec<&str> = text.split(':').collect();
        let [operation, kind, probability] = parts[..] else {
            return Err(
                "a fault is OPERATION:KIND:PROBABILITY, such as create:drop-after:0.5".into(),
            );
        };
        let operation = match OPERATIONS.iter().find(|(name, _)| *name == operation) {
            Some((_, operation)) => Some(*operation),
            None if operation == "any" => None,
            None => {
                let known = OPERATIONS
                    .iter()
                    .map(|(name, _)| *name)
                    .chain(["any"])
                    .collect();
                return Err(format!(
                    "no operation {operation:?}; there are: {}",
                    names(known)
                ));
            }
        };
        let Some((_, kind)) = KINDS.iter().find(|(name, _)| *name == kind) else {
            let known = KINDS.iter().map(|(name, _)| *name).collect();
            return Err(format!("no kind {kind:?}; there are: {}", names(known)));
        };
        match probability.parse::<f64>() {
            Ok(probability) if (0.0..=1.0).contains(&probability) => Ok(Self {
                operation,
                kind: *kind,
                probability,
            }),
            Ok(_) | Err(_) => Err(format!("{probability:?} is no probability from 0 to 1")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_or_refused_with_what_there_is() {
        let fault: Fault = "create:drop-after:0.5".parse().unwrap();
        assert_eq!(fault.operation, Some(Operation::Create));
        assert_eq!(fault.kind, Kind::DropAfter);
        assert!("any:429:1".parse::<Fault>().unwrap().operation.is_none());
        for bad in [
            "create",
            "creat:429:1",
            "create:418:1",
            "create:429:2",
            "create:429:x",
        ] {
            assert!(bad.parse::<Fault>().is_err(), "{bad}");
        }
    }
}
