//! Which values an option takes, and which it refuses: one table for each kind of value.

use crate::configuration::{command_key_text, file_key_text, parse_text};
use crate::json_schema::{from_toml, problems, schema};

/// Returns the text of a configuration with one value in a given place.
type Place = fn(&str) -> String;

/// Compares a table of TOML values with what an option takes. A refusal names the option.
fn expect_values(option: &str, text_with: Place, accepted: &[&str], refused: &[&str]) {
    let schema = schema("config");
    for value in accepted {
        let parsed = parse_text(&text_with(value));
        assert!(parsed.is_ok(), "{option} = {value}: {:?}", parsed.err());
        let refused = problems(&schema, &from_toml(&text_with(value)));
        assert_eq!(refused, [""; 0], "{option} = {value}");
    }
    for value in refused {
        let problems = parse_text(&text_with(value)).expect_err(value);
        let is_named = problems.iter().all(|problem| problem.contains(option));
        assert!(is_named, "{option} = {value}: {problems:?}");
    }
}

#[test]
fn modes_of_files() {
    expect_values(
        "mode",
        |value| file_key_text(&format!("mode = {value}")),
        &[
            r#""0600""#,
            r#""600""#,
            r#""0640""#,
            r#""0660""#,
            r#""400""#,
            r#""0440""#,
        ],
        &[
            "640",
            "0o640",
            "true",
            r#"["0640"]"#,
            r#""""#,
            r#""64""#,
            r#""00640""#,
            r#""0o640""#,
            r#""+640""#,
            r#""-640""#,
            r#"" 640""#,
            r#""640 ""#,
            r#""0648""#,
            r#""u=rw,g=r""#,
            r#""rw-r-----""#,
            // Digits of other scripts.
            r#""٠٦٤٠""#,
            r#""０６４０""#,
            r#""0644""#,
            r#""0641""#,
            r#""0740""#,
            r#""0650""#,
            r#""2640""#,
            r#""1600""#,
            r#""4600""#,
            r#""0040""#,
            r#""0000""#,
        ],
    );
}

#[test]
fn owners_and_groups_of_files() {
    for option in ["owner", "group"] {
        let text_with: Place = if option == "owner" {
            |value| file_key_text(&format!("owner = {value}"))
        } else {
            |value| file_key_text(&format!("group = {value}"))
        };
        expect_values(
            option,
            text_with,
            &[
                r#""billing""#,
                r#""_apt""#,
                r#""systemd-network""#,
                r#""svc.app""#,
                r#""machine$""#,
                r#""EXAMPLE+alice""#,
                r#""alice@example.com""#,
                r#""0""#,
                r#""1000""#,
                r#""4294967294""#,
            ],
            &[
                "1000",
                r#""""#,
                r#"" billing""#,
                r#""billing ""#,
                r#""a b""#,
                r#""a:b""#,
                r#""../root""#,
                r#""-1""#,
                r#""-billing""#,
                r#""a\nb""#,
                r#""a\u0000""#,
                r#""bil\u200bling""#,
                r#""４２""#,
            ],
        );
    }
}

#[test]
fn names_of_variables() {
    expect_values(
        "variable",
        |value| file_key_text(&format!("format = \"env\"\nvariable = {value}")),
        &[r#""OPENAI_ADMIN_KEY""#, r#""_x""#, r#""a1""#],
        &[
            "1",
            r#""""#,
            r#""1A""#,
            r#""A-B""#,
            r#""A B""#,
            r#""A=""#,
            r#""A$""#,
            r#""Ä""#,
            r#""A\n""#,
            r#""export A""#,
        ],
    );
}

#[test]
fn command_lines() {
    expect_values(
        "argv",
        |value| command_key_text(&format!("argv = {value}")),
        &[
            r#"["/bin/true"]"#,
            r#"["/bin/true", "", "-x", "a b", "$HOME", "ä", "--file=/k/a"]"#,
            r#"["/opt/my tool/run", "*"]"#,
        ],
        &[
            r#""/bin/true""#,
            r#""/bin/true -x""#,
            "[]",
            r#"[""]"#,
            r#"["true"]"#,
            r#"["./true"]"#,
            r#"["~/true"]"#,
            r#"["/bin/"]"#,
            r#"["/bin/true", 1]"#,
            r#"["/bin/true", ["a"]]"#,
            r#"["/bin/true", "a\u0000b"]"#,
            r#"["/bin/tr\nue"]"#,
            r#"["/bin/true", "sk-admin-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"]"#,
            r#"["/bin/true", "--token=sk-admin-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"]"#,
        ],
    );
}

#[test]
fn addresses_for_mail() {
    expect_values(
        "to",
        |value| {
            format!(
                "{}\n[[notify]]\ntype = \"sendmail\"\nto = {value}\n",
                file_key_text("")
            )
        },
        &[
            r#""root""#,
            r#""ops@example.com""#,
            r#""first.last+tag@mail.example.com""#,
            r#"["root", "ops@example.com"]"#,
        ],
        &[
            "1",
            r#""""#,
            "[]",
            r#"[""]"#,
            r#"[["root"]]"#,
            r#""a b@example.com""#,
            r#""root, ops""#,
            r#""a@b@c""#,
            r#""@example.com""#,
            r#""ops@""#,
            r#""-oQ/tmp""#,
            r#""ops@example.com\nBcc: x@example.com""#,
            r#""Ops <ops@example.com>""#,
            r#""|/bin/sh""#,
            r#""$(id)""#,
            r#""ops@exa\u200bmple.com""#,
        ],
    );
}
