//! What people are told about a key that does not exist where it was looked for.

use crate::config_reader::suggestion::closest_match;
use crate::core::first_few::join_few;
use crate::core::ids::KeyName;
use crate::core::redact;

/// The keys that a command could have meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownKeys<'a> {
    /// The keys of the configuration.
    pub(crate) configured: &'a [KeyName],
    /// All of which one is suggested, also from the ledger.
    pub(crate) all: &'a [KeyName],
}

/// Says that no key `name` is in this `place`, as in `configured`, which keys there are, and
/// which one was probably meant.
pub(crate) fn describe_unknown_key(name: &str, place: &str, keys: KnownKeys<'_>) -> String {
    let configured = join_few(keys.configured);
    let configured = match configured.as_str() {
        "" => "none",
        names => names,
    };
    let known: Vec<_> = keys.all.iter().map(KeyName::as_str).collect();
    let hint = closest_match(name, &known);
    let hint = hint.map(|key| format!("; hint: did you mean {key}?"));
    format!(
        "no key {} is {place}; configured keys: {configured}{}",
        redact::sanitize_name(name),
        hint.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_key_is_suggested_wherever_it_is() {
        let keys = |names: &[&str]| -> Vec<KeyName> {
            let names = names.iter().map(|name| KeyName::new(name));
            names.map(Result::unwrap).collect()
        };
        let (configured, all) = (keys(&["billing"]), keys(&["billing", "reports"]));
        let known = KnownKeys {
            configured: &configured,
            all: &all,
        };
        for (name, expected) in [
            (
                "bilings",
                "configured keys: billing; hint: did you mean billing?",
            ),
            (
                "report",
                "configured keys: billing; hint: did you mean reports?",
            ),
            ("nothing", "configured keys: billing"),
        ] {
            assert_eq!(
                describe_unknown_key(name, "configured or in the ledger", known),
                format!("no key {name} is configured or in the ledger; {expected}")
            );
        }
        let none = KnownKeys {
            configured: &[],
            all: &[],
        };
        assert_eq!(
            describe_unknown_key("x", "configured", none),
            "no key x is configured; configured keys: none"
        );
    }
}
