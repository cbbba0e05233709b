//! The rules of a project about its keys.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::core::duration;
use crate::core::ids::ProjectId;

/// A rule that the creates and updates of a project's keys must obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyRule {
    /// A key must have a lifetime.
    RequiresLifetime,
    /// A key must have a lifetime, and this is the longest.
    MaxLifetime(Duration),
    /// No key can be created.
    Disabled,
}

/// A rule of one project, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectPolicy {
    /// The project.
    pub project: ProjectId,
    /// The rule.
    pub rule: PolicyRule,
}

/// The error of a text that describes no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text has not two parts.
    #[error("expected PROJECT:RULE, such as proj_sandbox:max-lifetime=30d")]
    Syntax,
    /// The rule is unknown.
    #[error("unknown rule \"{0}\"; expected max-lifetime=DURATION, requires-lifetime or disabled")]
    Rule(String),
}

impl fmt::Display for PolicyRule {
    /// Writes what the API says of it in a refusal.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequiresLifetime => {
                formatter.write_str("The project's policy requires 'expires_in_seconds'.")
            }
            Self::MaxLifetime(longest) => write!(
                formatter,
                "The project's policy requires 'expires_in_seconds' of at most {}.",
                longest.as_secs()
            ),
            Self::Disabled => formatter.write_str("API key creation is disabled for this project."),
        }
    }
}

impl PolicyRule {
    /// Whether the rule permits a key with this lifetime.
    #[must_use]
    pub fn permits(self, lifetime: Option<Duration>) -> bool {
        match self {
            Self::RequiresLifetime => lifetime.is_some(),
            Self::MaxLifetime(longest) => lifetime.is_some_and(|lifetime| lifetime <= longest),
            Self::Disabled => false,
        }
    }
}

impl FromStr for PolicyRule {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || PolicyError::Rule(text.to_owned());
        match text.split_once('=') {
            None if text == "requires-lifetime" => Ok(Self::RequiresLifetime),
            None if text == "disabled" => Ok(Self::Disabled),
            Some(("max-lifetime", longest)) => duration::parse(longest)
                .map(Self::MaxLifetime)
                .map_err(|_| unknown()),
            None | Some(_) => Err(unknown()),
        }
    }
}

impl FromStr for ProjectPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (project, rule) = text.split_once(':').ok_or(PolicyError::Syntax)?;
        if project.is_empty() {
            return Err(PolicyError::Syntax);
        }
        Ok(Self {
            project: ProjectId::new(project),
            rule: rule.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_parsed() {
        let rule = |text: &str| text.parse::<ProjectPolicy>().map(|policy| policy.rule);
        let month = Duration::from_secs(30 * 86_400);
        assert_eq!(
            rule("p:max-lifetime=30d"),
            Ok(PolicyRule::MaxLifetime(month))
        );
        assert_eq!(
            rule("p:requires-lifetime"),
            Ok(PolicyRule::RequiresLifetime)
        );
        assert_eq!(rule("p:disabled"), Ok(PolicyRule::Disabled));
        for bad in ["", "p", ":disabled"] {
            assert_eq!(rule(bad), Err(PolicyError::Syntax), "{bad}");
        }
        for bad in ["p:", "p:max-lifetime", "p:max-lifetime=x", "p:disabled=1"] {
            assert!(matches!(rule(bad), Err(PolicyError::Rule(_))), "{bad}");
        }
    }

    #[test]
    fn the_longest_lifetime_is_permitted() {
        let hour = Duration::from_secs(3600);
        let rule = PolicyRule::MaxLifetime(hour);
        assert!(rule.permits(Some(hour)));
        assert!(!rule.permits(Some(hour + Duration::from_secs(1))));
        assert!(!rule.permits(None));
    }
}
