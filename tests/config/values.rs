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

#[test]
fn paths() {
    expect_values(
        "credential-file",
        |value| {
            format!(
                "[provider]\ncredential-file = {value}\n{}",
                file_key_text("")
            )
        },
        &[
            r#""/etc/rekeyd/admin-key""#,
            r#""/a""#,
            r#""/etc/my keys/ä""#,
            r#""//etc/key""#,
            r#""/etc/./key""#,
        ],
        &[
            "1",
            "true",
            r#"["/etc/key"]"#,
            r#""""#,
            r#""key""#,
            r#""./key""#,
            r#""../key""#,
            r#""~/key""#,
            r#""$HOME/key""#,
            r#""file:///etc/key""#,
            r#""/""#,
            r#""/etc/""#,
            r#""/etc/..""#,
            r#""/etc/.""#,
            r#"" /etc/key""#,
            r#""/etc/key\n""#,
            r#""/etc/\u0000key""#,
            r#""/etc/\u007fkey""#,
        ],
    );
}

#[test]
fn urls() {
    expect_values(
        "base-url",
        |value| format!("[provider]\nbase-url = {value}\n{}", file_key_text("")),
        &[
            r#""https://api.openai.com/v1""#,
            r#""https://api.openai.com:8443/v1""#,
            r#""https://192.0.2.1/v1""#,
            r#""https://[2001:db8::1]:8443/v1""#,
            r#""http://localhost:8080/v1""#,
            r#""http://127.0.0.1:8080/v1""#,
            r#""http://[::1]/v1""#,
        ],
        &[
            "1",
            r#""""#,
            r#""api.openai.com""#,
            r#""api.openai.com/v1""#,
            r#""//api.openai.com/v1""#,
            r#""https:api.openai.com/v1""#,
            r#""https:///v1""#,
            r#""https://""#,
            r#""ftp://api.openai.com/v1""#,
            r#""file:///v1""#,
            r#""http://api.openai.com/v1""#,
            r#""http://localhost.example.com/v1""#,
            r#""http://127.0.0.1.example.com/v1""#,
            r#""http://0.0.0.0/v1""#,
            r#""https://user@api.openai.com/v1""#,
            r#""https://user:word@api.openai.com/v1""#,
            r#""https://api.openai.com/v1?a=b""#,
            r#""https://api.openai.com/v1#a""#,
            r#"" https://api.openai.com/v1""#,
            r#""https://api.openai.com/v1 ""#,
            r#""https://api.openai.com\\v1""#,
            r#""https://api.openai.com/v1\n""#,
            r#""https://api.openai.com:99999/v1""#,
            r#""https://api openai.com/v1""#,
        ],
    );
}

#[test]
fn numbers() {
    expect_values(
        "max-live-credentials",
        |value| {
            format!(
                "[defaults]\nmax-live-credentials = {value}\n{}",
                file_key_text("")
            )
        },
        &["3", "20", "+5", "0x5", "1_0"],
        &[
            "0",
            "1",
            "-3",
            "1.5",
            "3.0",
            "1e1",
            "nan",
            "inf",
            "true",
            r#""3""#,
            "[3]",
            "{ a = 3 }",
            "1000000000",
            "9223372036854775807",
        ],
    );
}

#[test]
fn addresses_to_listen_at() {
    expect_values(
        "listen",
        |value| format!("[metrics]\nlisten = {value}\n{}", file_key_text("")),
        &[
            r#""127.0.0.1:9464""#,
            r#""0.0.0.0:9464""#,
            r#""[::1]:9464""#,
            r#""[::]:65535""#,
            r#""unix:/run/rekeyd/metrics.sock""#,
            r#""unix:///run/rekeyd/metrics.sock""#,
            r#""systemd""#,
        ],
        &[
            "9464",
            r#""unix:""#,
            r#""unix:metrics.sock""#,
            r#""unix:/run/rekeyd/""#,
            r#""unix:/run/rekeyd/../metrics.sock""#,
            r#""unix:/run/rekeyd/metrics.sock:/metrics""#,
            r#""unix:/run/rekeyd/metrics.sock?x""#,
            r#""Systemd""#,
            r#""systemd:""#,
            r#""""#,
            r#""9464""#,
            r#"":9464""#,
            r#""127.0.0.1""#,
            r#""127.0.0.1:""#,
            r#""127.0.0.1:-1""#,
            r#""127.0.0.1:65536""#,
            r#""127.0.0.1:9464 ""#,
            r#"" 127.0.0.1:9464""#,
            r#""127.1:9464""#,
            r#""127.0.0.01:9464""#,
            r#""::1:9464""#,
            r#""[::1]""#,
            r#""localhost:9464""#,
            r#""*:9464""#,
            r#""http://127.0.0.1:9464""#,
        ],
    );
}

#[test]
fn levels_of_the_log() {
    expect_values(
        "level",
        |value| format!("[log]\nlevel = {value}\n{}", file_key_text("")),
        &[
            r#""error""#,
            r#""off""#,
            r#""DEBUG""#,
            r#""engine=debug""#,
            r#""info, rekeyd::sink::file = trace""#,
            r#""warn,hyper=debug""#,
        ],
        &[
            "3",
            r#""""#,
            r#""loud""#,
            r#""info,debug""#,
            r#""engin=debug""#,
            r#""engine=""#,
            r#""engine:debug""#,
        ],
    );
}

#[test]
fn formats_of_the_log() {
    expect_values(
        "format",
        |value| format!("[log]\nformat = {value}\n{}", file_key_text("")),
        &[r#""auto""#, r#""human""#, r#""json""#, r#""journald""#],
        &["true", r#""""#, r#""text""#, r#""JSON""#],
    );
}
