//! The example configuration: every option with its meaning, and with its default or an
//! example.

use std::collections::BTreeSet;

use rekeyd::alerting::channel::CHANNEL_TYPES;
use rekeyd::alerting::channel::target::COMMON_OPTIONS as CHANNEL_OPTIONS;
use rekeyd::config::options;
use rekeyd::config_reader::section::{ConfigOption, DefaultValue, Section};
use rekeyd::sink::SINK_TYPES;
use rekeyd::sink::target::COMMON_OPTIONS as SINK_OPTIONS;

use super::markup::comment;
use super::meaning_of;

const INTRODUCTION: &str = "\
#:schema file:///usr/share/rekeyd/schemas/config.schema.json
# The configuration of rekeyd, usually /etc/rekeyd/config.toml.
#
# Lines that begin with \"#\" and a space are explanations. Lines that begin
# with \"#\" and no space are options: with their defaults, or with an example
# where there is no default. Remove the \"#\" to change them.
#
# Durations are text with one unit: \"30s\", \"15m\", \"24h\", \"7d\". Paths are
# absolute. This file holds no secrets: each secret is in a file of its own,
# which only its owner may read (chmod 0600). No user but root and rekeyd's own
# may have write access to this file. `rekeyd check` prints all problems at
# once.
";

/// The key of most of the example.
const KEY: &str = "billing";

/// The key of rekeyd's own credential.
const OWN_KEY: &str = "rekeyd";

/// The type of the sink of rekeyd's own credential, which needs a key of its own.
const OWN_TYPE: &str = "self";

/// The type and the option that has no effect with https, and the URL that it is shown with.
const LOCAL_TYPE: &str = "webhook";
const LOCAL_OPTION: &str = "owner";
const LOCAL_URL: &str = "url = \"http://127.0.0.1:9465/openai-key\"";

/// Optional options that the example needs.
const NEEDED: [&str; 1] = ["credential-file"];

/// Returns the whole example.
pub(super) fn render() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in [
        options::PROVIDER,
        options::LEDGER,
        options::CONTROL,
        options::METRICS,
        options::LOG,
        options::SECURITY,
    ] {
        push_heading(&mut text, section.about, &format!("[{}]", section.name));
        push_options(&mut text, section, &[]);
    }
    push_channels(&mut text);
    push_heading(&mut text, options::DEFAULTS.about, "[defaults]");
    push_options(&mut text, options::DEFAULTS, &[]);
    push_key(&mut text);
    push_own_key(&mut text);
    text
}

fn push_channels(text: &mut String) {
    for (number, channel_type) in CHANNEL_TYPES.iter().enumerate() {
        let is_first = number == 0;
        if is_first {
            text.push_str(&format!("\n{}", comment(CHANNEL_OPTIONS.about)));
        } else {
            text.push('\n');
        }
        let about = format!(
            "`\"{}\"`: {}",
            channel_type.name,
            in_a_row(channel_type.options)
        );
        text.push_str(&format!("[[notify]]\n{}", comment(&about)));
        text.push_str(&format!("type = \"{}\"\n", channel_type.name));
        push_options(text, channel_type.options, &[]);
        if is_first {
            push_options(text, CHANNEL_OPTIONS, &["type"]);
        }
    }
}

fn push_key(text: &mut String) {
    push_heading(text, options::KEY.about, &format!("[key.{KEY}]"));
    for option in options::KEY.options {
        let DefaultValue::RequiredUnless(other) = option.default else {
            continue;
        };
        let (mark, needed) = match option.name {
            "schedule" => ("", format!(" A key needs this or \"{other}\".")),
            _ => ("# ", String::new()),
        };
        text.push_str(&comment(&format!("{}{needed}", meaning_of(option))));
        text.push_str(&format!("{mark}{} = {}\n", option.name, option.example));
    }
    let has_default = |option: &&ConfigOption| matches!(option.default, DefaultValue::Described(_));
    for option in options::KEY.options.iter().filter(has_default) {
        push_option(text, option);
    }
    text.push_str("# Options that differ from [defaults]:\n");
    for option in options::DEFAULTS.options {
        text.push_str(&format!("#{} = {}\n", option.name, option.example));
    }
    let header = format!("[[key.{KEY}.sink]]\n");
    text.push_str(&format!("\n{}", comment(SINK_OPTIONS.about)));
    let types = SINK_TYPES.iter().filter(|kind| kind.name != OWN_TYPE);
    for (number, sink_type) in types.enumerate() {
        let is_first = number == 0;
        if !is_first {
            text.push('\n');
        }
        let (name, section) = (sink_type.name, sink_type.options);
        let about = format!("`\"{name}\"`: {}", in_a_row(section));
        text.push_str(&format!("{header}{}type = \"{name}\"\n", comment(&about)));
        let further = further_sinks(&header, name, section);
        if !further.is_empty() {
            let option = SINK_OPTIONS.find("name").unwrap();
            text.push_str(&format!("{}name = \"{name}\"\n", explanation(option)));
        }
        let left_out: &[&str] = if name == LOCAL_TYPE {
            &[LOCAL_OPTION]
        } else {
            &[]
        };
        push_options(text, section, left_out);
        if is_first && further.is_empty() {
            push_options(text, SINK_OPTIONS, &["type"]);
        } else if is_first {
            push_options(text, SINK_OPTIONS, &["type", "name"]);
        }
        text.push_str(&further);
    }
}

/// Returns a sink for each text of an option that has options of its own.
fn further_sinks(header: &str, type_name: &str, section: Section) -> String {
    let mut text = String::new();
    let mut shown = BTreeSet::new();
    for option in section.options {
        let Some((other, value)) = option
            .needs
            .and_then(|need| Some((need.option, need.text?)))
        else {
            continue;
        };
        if !shown.insert((other, value)) {
            continue;
        }
        let name = format!("{type_name}-{value}");
        text.push_str(&format!(
            "\n{}",
            comment(&format!("Another sink, with `{other} = \"{value}\"`."))
        ));
        text.push_str(&format!(
            "{header}type = \"{type_name}\"\nname = \"{name}\"\n"
        ));
        for required in section.options.iter().filter(|option| is_required(option)) {
            let example = required.example.trim_end_matches('"');
            text.push_str(&format!("{} = {example}.{value}\"\n", required.name));
        }
        text.push_str(&format!("{other} = \"{value}\"\n"));
        let is_of_it = |option: &&ConfigOption| {
            let need = option.needs.map(|need| (need.option, need.text));
            need == Some((other, Some(value)))
        };
        for option in section.options.iter().filter(is_of_it) {
            push_option(&mut text, option);
        }
    }
    if let Some(option) = section
        .find(LOCAL_OPTION)
        .filter(|_| type_name == LOCAL_TYPE)
    {
        text.push_str(&format!(
            "\n{}{header}type = \"{type_name}\"\nname = \"local\"\n{LOCAL_URL}\n",
            comment("Another sink, whose receiver runs on this host.")
        ));
        text.push_str(&explanation(option));
        text.push_str(&format!("{} = {}\n", option.name, option.example));
        let secret = section.find("signing-secret-file").unwrap();
        text.push_str(&format!("{} = {}\n", secret.name, secret.example));
    }
    text
}

fn push_own_key(text: &mut String) {
    let own_type = SINK_TYPES
        .iter()
        .find(|kind| kind.name == OWN_TYPE)
        .unwrap();
    text.push_str(&format!(
        "\n{}[key.{OWN_KEY}]\nevery = \"30d\"\n",
        comment(
            "rekeyd's own admin key, rotated like any other. You create the first one; with \
             `rekeyd adopt rekeyd CREDENTIAL_ID` it is revoked as well once it is replaced."
        )
    ));
    let about = format!("`\"{OWN_TYPE}\"`: {}", in_a_row(own_type.options));
    text.push_str(&format!("[[key.{OWN_KEY}.sink]]\n{}", comment(&about)));
    text.push_str(&format!("type = \"{OWN_TYPE}\"\n"));
    push_options(text, own_type.options, &[]);
}

/// Returns what a section is about, as it continues a line.
fn in_a_row(section: Section) -> String {
    let mut letters = section.about.chars();
    let first: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_lowercase)
        .collect();
    let is_abbreviation = letters.clone().next().is_some_and(char::is_uppercase);
    if is_abbreviation {
        section.about.to_owned()
    } else {
        format!("{first}{}", letters.as_str())
    }
}

fn push_heading(text: &mut String, about: &str, header: &str) {
    text.push_str(&format!("\n{}{header}\n", comment(about)));
}

fn push_options(text: &mut String, section: Section, left_out: &[&str]) {
    for option in section.options {
        let is_elsewhere = option.needs.is_some_and(|need| need.text.is_some());
        if !is_elsewhere && !left_out.contains(&option.name) {
            push_option(text, option);
        }
    }
}

/// Returns the comment above an option, with a default that its value does not show.
fn explanation(option: &ConfigOption) -> String {
    let meaning = meaning_of(option);
    match option.default {
        DefaultValue::Described(default) => comment(&format!("{meaning} Default: {default}.")),
        DefaultValue::None => comment(&format!("{meaning} No default.")),
        DefaultValue::Required | DefaultValue::RequiredUnless(_) | DefaultValue::Value(_) => {
            comment(&meaning)
        }
    }
}

fn push_option(text: &mut String, option: &ConfigOption) {
    let value = if let DefaultValue::Value(value) = option.default {
        value
    } else {
        option.example
    };
    let mark = if is_required(option) || NEEDED.contains(&option.name) {
        ""
    } else {
        "#"
    };
    text.push_str(&explanation(option));
    text.push_str(&format!("{mark}{} = {value}\n", option.name));
}

fn is_required(option: &ConfigOption) -> bool {
    option.default == DefaultValue::Required
}
