//! The example configuration is valid as shipped and with every option enabled, and it is
//! complete.

use std::collections::BTreeSet;
use std::path::Path;

use crate::json_schema::{from_toml, problems, schema};
use rekeyd::config::options;
use rekeyd::config::settings::Settings;
use rekeyd::config::{Environment, parse};

const EXAMPLE: &str = include_str!("../../config.example.toml");

fn parse_settings(text: &str) -> Settings {
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    parse(
        Path::new("/etc/rekeyd/config.toml"),
        text,
        &Environment::empty(now),
    )
    .unwrap_or_else(|problems| {
        let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", messages.join("\n"))
    })
}

/// Returns the example with every option enabled: `#name = …` without the `#`.
fn example_with_all_options() -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let option = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|letter: char| letter.is_ascii_lowercase()));
        text.push_str(option.unwrap_or(line));
        text.push('\n');
    }
    text
}

#[test]
fn example_is_valid_as_shipped_and_with_all_options() {
    let plain = parse_settings(EXAMPLE);
    let full = parse_settings(&example_with_all_options());
    let schema = schema("config");
    for text in [EXAMPLE, &example_with_all_options()] {
        assert_eq!(problems(&schema, &from_toml(text)), [""; 0]);
    }
    assert_eq!(plain.keys.len(), 2);
    let is_header = |line: &&str| *line == "[[key.billing.sink]]";
    let written = EXAMPLE.lines().filter(is_header).count();
    assert_eq!(plain.keys[0].sinks.len(), written);
    assert!(written >= 4);
    assert!(full.provider.organization.is_some());
    assert_eq!(plain.notify.len(), 3);
    // Commented-out values, except the keys', are the defaults.
    let on = |settings: &Settings| settings.notify[0].subscription.on.clone();
    assert_eq!(on(&plain), on(&full));
}

#[test]
fn commented_out_values_are_the_defaults() {
    let plain = parse_settings(EXAMPLE);
    let full = parse_settings(&example_with_all_options());
    let provider = |settings: &Settings| {
        let provider = &settings.provider;
        (
            provider.base_url.clone(),
            provider.request_timeout,
            provider.max_in_flight,
            provider.reconcile_every,
            settings.ledger.clone(),
        )
    };
    assert_eq!(provider(&plain), provider(&full));
    let key = |settings: &Settings| {
        let policy = &settings.keys[0].policy;
        let sinks: Vec<_> = settings.keys[0]
            .sinks
            .iter()
            .map(|sink| (sink.id.clone(), sink.required, sink.timeout))
            .collect();
        (
            [
                policy.verify_timeout,
                policy.verify_interval,
                policy.delivery_deadline,
            ],
            [policy.revoke_when_idle_for, policy.max_revoke_delay],
            (policy.max_creates_per_day, policy.max_live_credentials),
            sinks,
        )
    };
    assert_eq!(key(&plain), key(&full));
    // The default overlap is a day, or less where the gaps are shorter.
    let defaults = example_with_all_options().replace("overlap = \"24h\"\n", "");
    assert_eq!(
        parse_settings(&defaults).keys[0].policy.overlap,
        plain.keys[0].policy.overlap
    );
    let raw = example_with_all_options()
        .replace("format = \"raw\"\n", "")
        .replace("mode = \"0600\"\n", "");
    // Only a mode that is written there says what a file from before may have.
    let target = |settings: &Settings| {
        let sinks = format!("{:?}", settings.keys[0].sinks);
        sinks.replace("has_mode_option: true", "has_mode_option: false")
    };
    assert_eq!(target(&parse_settings(&raw)), target(&full));
    let variable = example_with_all_options().replace("variable = \"OPENAI_ADMIN_KEY\"\n", "");
    assert_eq!(target(&parse_settings(&variable)), target(&full));
}

#[test]
fn example_has_every_option() {
    let text = example_with_all_options();
    let top: toml::Table = text.parse().unwrap();
    let names = |value: &toml::Value| -> BTreeSet<String> {
        value.as_table().unwrap().keys().cloned().collect()
    };
    let key = &top["key"]["billing"];
    let sinks = key["sink"].as_array().unwrap();
    let of_type_in = |key: &toml::Value, kind: &str| -> BTreeSet<String> {
        let sinks = key["sink"].as_array().unwrap();
        let found = sinks
            .iter()
            .filter(|sink| sink["type"].as_str() == Some(kind));
        found.flat_map(names).collect()
    };
    let notifiers = top["notify"].as_array().unwrap();
    let notifiers_of_type = |kind: &str| -> BTreeSet<String> {
        let found = notifiers
            .iter()
            .filter(|table| table["type"].as_str() == Some(kind));
        found.flat_map(names).collect()
    };
    for section in options::all_sections() {
        let shown = match section.name.split_once('.') {
            None => match section.name {
                "top" => top.keys().cloned().collect(),
                "defaults" => names(&top["defaults"]),
                // `schedule` and `every` exclude each other, so each is in one key.
                "key" => names(key)
                    .into_iter()
                    .chain(names(&top["key"]["rekeyd"]))
                    .collect(),
                "sink" => sinks.iter().flat_map(names).collect(),
                "notify" => notifiers.iter().flat_map(names).collect(),
                table => names(&top[table]),
            },
            Some(("sink", "self")) => of_type_in(&top["key"]["rekeyd"], "self"),
            Some(("sink", kind)) => of_type_in(key, kind),
            Some(("notify", kind)) => notifiers_of_type(kind),
            // The only value is the default.
            Some(("key", "admin-key")) => BTreeSet::from(["type".to_owned()]),
            Some(other) => panic!("no test for {other:?}"),
        };
        assert!(!shown.is_empty(), "config.example.toml has no {section:?}");
        for option in section.names() {
            assert!(
                shown.contains(option),
                "config.example.toml lacks {option} of {section:?}"
            );
        }
    }
    for option in options::DEFAULTS.names() {
        assert!(names(key).contains(option), "the key lacks {option}");
    }
}

/// The example that a message shows of an option is a value that the option takes.
#[test]
fn examples_in_messages_are_accepted() {
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    for section in options::all_sections() {
        let table = match section.name.split_once('.') {
            Some(("sink", kind)) => format!("[[key.billing.sink]]\ntype = \"{kind}\""),
            Some(("notify", kind)) => format!("[[notify]]\ntype = \"{kind}\""),
            Some(("key", _)) => "[key.billing]".to_owned(),
            Some(other) => panic!("no test for {other:?}"),
            None => match section.name {
                "top" => String::new(),
                "key" => "[key.billing]".to_owned(),
                "sink" => "[[key.billing.sink]]".to_owned(),
                "notify" => "[[notify]]".to_owned(),
                name => format!("[{name}]"),
            },
        };
        for option in section.options {
            let needed = match option.needs {
                Some(need) => {
                    let example = section.find(need.option).unwrap().example;
                    let value = need
                        .text
                        .map_or(example.to_owned(), |text| format!("{text:?}"));
                    format!("{} = {value}\n", need.option)
                }
                None if option.name == "keys" => "type = \"sendmail\"\nto = \"root\"\n".to_owned(),
                None => String::new(),
            };
            let (name, example) = (option.name, option.example);
            let key = if name == "keys" { "[key.billing]" } else { "" };
            let text = format!("{table}\n{needed}{name} = {example}\n{key}");
            let problems = parse(Path::new("/etc/c.toml"), &text, &Environment::empty(now));
            let problems = problems.err().unwrap_or_default();
            let is_refused = problems.iter().any(|problem| {
                let path = problem.option.trim_end_matches("]").trim_end_matches("[0");
                path == name || path.ends_with(&format!(".{name}")) || problem.option.is_empty()
            });
            assert!(!is_refused, "{text}: {problems:?}");
        }
    }
}
