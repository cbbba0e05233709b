//! Parsing any configuration file ends, without a panic and without a secret in a
//! message.

use std::path::Path;

use proptest::prelude::*;
use rekeyd::config::{Environment, Problem, parse, render_problems};

/// Returns the problems; none if the text is valid.
fn find_problems(text: &str) -> Vec<Problem> {
    let now = "2026-11-24T03:00:00Z".parse().unwrap();
    let path = Path::new("/etc/rekeyd/config.toml");
    match parse(path, text, &Environment::empty(now)) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason: {text}");
            problems
        }
    }
}

/// Returns the messages, in one line each and as a terminal shows them.
fn problem_messages(text: &str) -> Vec<String> {
    let problems = find_problems(text);
    let lines = problems.iter().map(ToString::to_string);
    lines.chain([render_problems(&problems, false)]).collect()
}

/// Returns the header of every table of the file, and the lines that choose its type: from the
/// program's own list, so that a new table is tried too.
fn headers() -> Vec<String> {
    let sections = rekeyd::config::options::all_sections().into_iter();
    sections.map(|section| header_of(section.name)).collect()
}

fn header_of(section: &str) -> String {
    match section.split_once('.').unwrap_or((section, "")) {
        ("top", _) => String::new(),
        ("key", _) => "[key.a]".to_owned(),
        ("sink", "") => "[[key.a.sink]]".to_owned(),
        ("sink", kind) => format!("[[key.a.sink]]\ntype = \"{kind}\""),
        ("notify", "") => "[[notify]]".to_owned(),
        ("notify", kind) => format!("[[notify]]\ntype = \"{kind}\""),
        (table, _) => format!("[{table}]"),
    }
}

/// Returns a random token, as a password generator makes it.
fn token() -> impl Strategy<Value = String> {
    "[A-Za-z][0-9][A-Z][a-z][A-Za-z0-9]{18,40}"
}

/// Returns a line with `secret` as a value, a name, a header or a comment, or as
/// something that is not TOML.
fn line_with(secret: String) -> impl Strategy<Value = String> {
    let names: Vec<&str> = rekeyd::config::options::all_sections()
        .into_iter()
        .flat_map(|section| section.names())
        .collect();
    let forms = vec![
        "\"S\"",
        "'S'",
        "S",
        "\"S",
        "'S",
        "\"\"\"S",
        "\"\"\"\nS\n\"\"\"",
        "[\"a\", \"S\"]",
        "[\"S\", 1]",
        "[\n \"a\",\n \"S\",\n 1]",
        "{ path = \"S\" }",
        "{ S = 1 }",
        "[{ type = \"S\" }]",
        "1 # S",
        "\"https://u:S@h/\"",
        "\"https://h/?S\"",
        "https://u:S@h",
        "\"S\" S",
        "= \"S\"",
        "\"\\S\"",
        "[S",
        "{ S",
        "\"a S\"",
        "\"KEY=S\"",
    ];
    let value = secret.clone();
    let option = (prop::sample::select(names), prop::sample::select(forms))
        .prop_map(move |(name, form)| format!("{name} = {}", form.replace('S', &value)));
    let other = prop::sample::select(vec![
        "S = 1",
        "S",
        "\"S\" = 1",
        "[S]",
        "[provider.S]",
        "[[key.S.sink]]",
        "[key.\"S\"]",
        "[S",
        "# S",
        "provider.S = 1",
        "mode \"S\"",
        "S: 1",
        "[provider] S",
        "path S = 1",
        "= S",
    ]);
    prop_oneof![3 => option, 1 => other.prop_map(move |line| line.replace('S', &secret))]
}

/// Returns every option that has one place in the file, with its table before it, and names
/// that are no option or have a secret in them.
fn dotted_options() -> Vec<String> {
    let sections = rekeyd::config::options::all_sections().into_iter();
    let options = sections.flat_map(|section| {
        let table = match section.name.split_once('.').unwrap_or((section.name, "")) {
            ("top", _) => String::new(),
            ("key", _) => "key.a.".to_owned(),
            (table, _) => format!("{table}."),
        };
        section.names().map(move |name| format!("{table}{name}"))
    });
    let others = [
        "provider.sk-admin-Zq7",
        "key.sk-admin-Zq7.schedule",
        "key.a.sink",
        "nonsense",
    ];
    options.chain(others.map(str::to_owned)).collect()
}

/// Returns headers and lines with a token, and the token.
fn text_with_token() -> impl Strategy<Value = (String, String)> {
    let header = || prop::sample::select(headers());
    token().prop_flat_map(move |token| {
        let part = (header(), line_with(token.clone()))
            .prop_map(|(header, line)| format!("{header}\n{line}\n"));
        let parts = prop::collection::vec(part, 1..5);
        parts.prop_map(move |parts| (parts.concat(), token.clone()))
    })
}

/// Returns a TOML value of any type, sometimes a valid one.
fn toml_value() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f32>().prop_map(|number| format!("{number:?}").to_lowercase()),
        Just("2026-11-24T03:00:00Z".to_owned()),
        "[ -~äß€]{0,12}".prop_map(|text| format!("{text:?}")),
        "[0-9]{0,6}[smhdw]".prop_map(|text| format!("{text:?}")),
        "(\\*|[0-9,/-]{1,4}) [0-9*]{1,2} \\* [0-9*]{1,2} [0-7*]".prop_map(|t| format!("{t:?}")),
        "(/|\\.|a|\\.\\.){0,5}".prop_map(|text| format!("{text:?}")),
        "(https?|file)://[a-z:@\\[\\]0-9.]{0,12}/[a-z?#]{0,4}".prop_map(|t| format!("{t:?}")),
        Just("\"file\"".to_owned()),
        Just("\"webhook\"".to_owned()),
        Just("\"command\"".to_owned()),
        Just("\"env\"".to_owned()),
        Just("\"0640\"".to_owned()),
    ];
    plain.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            ("[a-z]{1,4}", inner).prop_map(|(name, value)| format!("{{ {name} = {value} }}")),
        ]
    })
}

/// Returns lines of existing headers and options, in any order.
fn config_text() -> impl Strategy<Value = String> {
    let other_headers = [
        "[key.b]",
        "[key]",
        "[[key]]",
        "[key.\"\"]",
        "[key.a.sink]",
        "[[key.b.sink]]",
        "[notify]",
    ];
    let other_headers = other_headers.map(str::to_owned);
    let header = prop::sample::select([headers(), other_headers.to_vec()].concat());
    let name = prop::sample::select(
        rekeyd::config::options::all_sections()
            .into_iter()
            .flat_map(|section| section.names())
            .chain(["nonsense", "\"\"", "a.b"])
            .collect::<Vec<_>>(),
    );
    let line = prop_oneof![
        1 => header,
        4 => (name, toml_value()).prop_map(|(name, value)| format!("{name} = {value}")),
    ];
    prop::collection::vec(line, 0..24).prop_map(|lines| lines.join("\n"))
}

#[test]
fn every_table_has_a_header() {
    for expected in [
        "[security]",
        "[log]",
        "type = \"self\"",
        "type = \"sendmail\"",
    ] {
        let has = |header: &String| header.contains(expected);
        assert!(headers().iter().any(has), "{expected}");
    }
    // Each is a table that the program knows: of an empty one it says nothing but what is missing.
    for header in headers() {
        for message in problem_messages(&format!("{header}\n")) {
            assert!(!message.contains("unknown"), "{header}: {message}");
        }
    }
}

/// Every option, with a word in each form that a value may have.
#[test]
fn no_option_repeats_its_value() {
    let sections = rekeyd::config::options::all_sections().into_iter();
    let names: std::collections::BTreeSet<_> =
        sections.flat_map(|section| section.names()).collect();
    // The types of the other table, too: a sink that notifies, a channel with a secret.
    let other_headers = [
        "[[notify]]\ntype = \"file\"",
        "[[key.a.sink]]\ntype = \"sendmail\"",
    ];
    let headers = [headers(), other_headers.map(str::to_owned).to_vec()].concat();
    let forms = [
        "W",
        "W ",
        "-W",
        "12W",
        "/W",
        "/W/",
        "/W\\u0007",
        "W/../x",
        "0 3 * * W",
        "*/W * * * *",
        "5/W * * * *",
        "1-W * * * *",
        "0 3 * * 1#W",
        "0 3 W * * 7 8",
        "@W",
        "W@",
        "W,x@y",
        "https://W/",
        "http://W/",
        "https://W:x/",
        "W://h/",
        "https://h/?W",
        "https://W@h/",
        "0W",
        "Europe/W",
        "127.0.0.1:W",
        "W:9464",
        "30 W",
        "1W",
    ];
    for (header, form) in headers
        .iter()
        .flat_map(|header| forms.map(|form| (header, form)))
    {
        let value = form.replace('W', "Hqzvw");
        for value in [
            format!("\"{value}\""),
            format!("[\"{value}\", \"{value}\"]"),
        ] {
            let mut text = format!("{header}\n");
            for name in names.iter().filter(|name| !header.contains(*name)) {
                text.push_str(&format!("{name} = {value}\n"));
            }
            for message in problem_messages(&text) {
                assert!(!message.contains("Hqzvw"), "{text}\n{message}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        problem_messages(&text);
    }

    #[test]
    fn any_toml_is_read_or_refused(text in config_text()) {
        problem_messages(&text);
    }

    #[test]
    fn a_random_token_in_the_file_is_not_in_a_message((text, token) in text_with_token()) {
        for message in problem_messages(&text) {
            prop_assert!(!message.contains(&token[..8]), "{}\n{}", text, message);
        }
    }

    /// A password may be a word, which only its place tells from a name.
    #[test]
    fn no_text_of_a_value_or_a_comment_is_in_a_snippet(
        (text, token) in text_with_token(),
        word in prop::sample::select(vec!["hunter2", "swordfish", "1234567890123"]),
    ) {
        let is_name = |line: &str| !line.contains('=') || line.contains(&format!("{token} ="));
        let lines: Vec<&str> = text.lines().filter(|line| !is_name(line)).collect();
        let text = format!("[provider]\n{}", lines.join("\n").replace(&token, word));
        for problem in find_problems(&text) {
            let snippet = problem.snippet.map(|snippet| snippet.text).unwrap_or_default();
            prop_assert!(!snippet.contains(word), "{}\n{}", text, snippet);
        }
    }

    /// Not even a short word, which nothing but its place tells from a name.
    #[test]
    fn a_word_in_a_value_is_not_in_a_message(
        (text, token) in text_with_token(),
        word in "[QXZ][a-z]{3}[QXZ]",
    ) {
        let is_name = |line: &str| {
            let (before, value) = line.split_once('=').unwrap_or((line, ""));
            before.contains(&token) || value.contains(&format!("{token} ="))
        };
        let lines: Vec<&str> = text.lines().filter(|line| !is_name(line)).collect();
        let text = lines.join("\n").replace(&token, &word);
        for message in problem_messages(&text) {
            prop_assert!(!message.contains(&word), "{}\n{}", text, message);
        }
    }

    #[test]
    fn a_secret_in_the_file_is_not_in_a_message(
        option in prop::sample::select(dotted_options()),
        quote in prop::sample::select(vec!["\"", "'", "", "\"\"\""]),
        prefix in prop::sample::select(vec!["", "https://user:", "./", "@", "KEY=", "/etc/"]),
        end in prop::sample::select(vec!["", "@h/", "\n", "\" x"]),
    ) {
        let text = format!("{option} = {quote}{prefix}sk-admin-Zq7Tw9xYv{end}{quote}\n");
        for message in problem_messages(&text) {
            prop_assert!(!message.contains("Zq7"), "{}", message);
        }
    }
}
