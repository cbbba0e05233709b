//! Invalid sinks, and the exact text of their messages.

use crate::configuration::{
    command_key_text, expect_problems, file_key_text, parse_text, webhook_key_text,
};

#[test]
fn invalid_sinks_are_reported() {
    let no_type = file_key_text("").replace("type = \"file\"\n", "");
    let twice = |name: &str| {
        format!(
            "{}[[key.a.sink]]\ntype = \"file\"\npath = \"/k/b\"\n{name}",
            file_key_text("name = \"x\"")
        )
    };
    expect_problems(&[
        (
            &no_type,
            &[
                "3: key.a.sink[0]: has no type; \"file\", \"webhook\", \"command\" or \"self\" is allowed",
            ],
        ),
        (
            &file_key_text("").replace("\"file\"", "\"own\""),
            &[
                "4: key.a.sink[0].type: there is no sink type \"own\"; \"file\", \"webhook\", \"command\" or \"self\" is allowed",
            ],
        ),
        (
            &file_key_text("").replace("path", "paht"),
            &[
                "3: key.a.sink[0]: has no path; add path = \"/…\", the file to be written",
                "5: key.a.sink[0].paht: there is no such option; did you mean path?",
            ],
        ),
        (
            &file_key_text("required = 1"),
            &["6: key.a.sink[0].required: found a whole number; true or false is allowed"],
        ),
        (
            &file_key_text("timeout = \"6m\""),
            &["6: key.a.sink[0].timeout: \"6m\" is out of range; \"1s\" to \"5m\" is allowed"],
        ),
        (
            &file_key_text("name = \"a b\""),
            &[
                "6: key.a.sink[0].name: \"a b\" is no name for a sink; a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            &file_key_text("format = \"yaml\""),
            &[
                "6: key.a.sink[0].format: there is no format \"yaml\"; \"raw\", \"env\" or \"json\" is allowed",
            ],
        ),
        (
            &file_key_text("variable = \"A\""),
            &[
                "6: key.a.sink[0].variable: means nothing with format = \"raw\"; leave it out, or write format = \"env\"",
            ],
        ),
        (
            &file_key_text("format = \"env\"\nvariable = \"1A\""),
            &[
                "7: key.a.sink[0].variable: \"1A\" is no name of a variable; letters, digits and _ are allowed, and no digit first",
            ],
        ),
        (
            &file_key_text("mode = 640"),
            &["6: key.a.sink[0].mode: found a whole number; text in quotes is allowed"],
        ),
        (
            &file_key_text("mode = \"0888\""),
            &[
                "6: key.a.sink[0].mode: \"0888\" is no mode; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("mode = \"4755\""),
            &[
                "6: key.a.sink[0].mode: \"4755\" has a setuid, setgid or sticky bit; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("mode = \"0666\""),
            &[
                "6: key.a.sink[0].mode: \"0666\" lets in others than its owner and its group; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("mode = \"0604\""),
            &[
                "6: key.a.sink[0].mode: \"0604\" lets in others than its owner and its group; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("mode = \"0750\""),
            &[
                "6: key.a.sink[0].mode: \"0750\" makes a program of a secret; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("mode = \"0240\""),
            &[
                "6: key.a.sink[0].mode: \"0240\" does not let its owner read it; octal digits in quotes, such as \"0600\" or \"0640\", are allowed",
            ],
        ),
        (
            &file_key_text("").replace("/k/a", "/k/../a"),
            &["5: key.a.sink[0].path: \"/k/../a\" goes upwards; a path without .. is allowed"],
        ),
        (
            &file_key_text("owner = \"\""),
            &[
                "6: key.a.sink[0].owner: \"\" is no name or number of an account; such as \"billing\" or \"1000\"",
            ],
        ),
        (
            &twice(""),
            &[
                "7: key.a.sink[1]: has no name, and the key has another sink of type \"file\"; give each of them a name = \"…\"",
            ],
        ),
        (
            &twice("name = \"x\""),
            &[
                "10: key.a.sink[1].name: \"x\" is the name of key.a.sink[0] already; give each sink of a key another name",
            ],
        ),
        (
            &webhook_key_text("url = \"http://h/\"\nsigning-secret-file = \"/s\""),
            &[
                "5: key.a.sink[0].url: \"http://h\" is not safe for secrets; https is allowed, and http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &webhook_key_text(
                "url = \"http://127.0.0.1.example.com/\"\nsigning-secret-file = \"/s\"",
            ),
            &[
                "5: key.a.sink[0].url: \"http://127.0.0.1.example.com\" is not safe for secrets; https is allowed, and http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &webhook_key_text("url = \"https://u:p@h/?a=b#c\"\nsigning-secret-file = \"/s\""),
            &[
                "5: key.a.sink[0].url: a user or password stands in the URL; leave it out; a token is named by bearer-token-file",
                "5: key.a.sink[0].url: a part behind # stands in the URL; leave it out; it is never sent",
            ],
        ),
        (
            &webhook_key_text(""),
            &[
                "3: key.a.sink[0]: has no url; add url = \"https://…\", where it is posted to",
                "3: key.a.sink[0]: has no signing-secret-file; add signing-secret-file = \"/…\", a file with whsec_<base64>",
            ],
        ),
        (
            &webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"whsec_abc\""),
            &[
                "6: key.a.sink[0].signing-secret-file: this looks like a secret and not like a path; no secret may stand in this file: write it into a file with mode 0600 and name that",
            ],
        ),
        (
            &webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"/s\"\npath = \"/k\""),
            &[
                "7: key.a.sink[0].path: there is no such option; known here: type, name, required, timeout, url, signing-secret-file, ca-file, bearer-token-file",
            ],
        ),
    ]);
}

#[test]
fn invalid_command_sinks_are_reported() {
    let at = "5: key.a.sink[0].argv";
    let secret = "this looks like a secret; no secret may stand in this file: the new one comes \
                  on the command's standard input, and others are named by their file";
    let path = "a path from the root, such as \"/etc/rekeyd/file\", is allowed";
    for (argv, problems) in [
        (
            "[]",
            vec![format!(
                "{at}: names no program; a program by its path from the root, and its arguments, are allowed"
            )],
        ),
        (
            "\"/bin/put billing\"",
            vec![format!(
                "{at}: found text; a list of text in quotes is allowed"
            )],
        ),
        (
            "[\"/bin/put\", 1]",
            vec![format!(
                "{at}: found a list; a list of text in quotes is allowed"
            )],
        ),
        (
            "[\"put\"]",
            vec![format!("{at}[0]: \"put\" is no absolute path; {path}")],
        ),
        (
            "[\"\"]",
            vec![format!("{at}[0]: \"\" is no absolute path; {path}")],
        ),
        (
            "[\"/bin/\"]",
            vec![format!("{at}[0]: \"/bin/\" names no file; {path}")],
        ),
        (
            "[\"/bin/a\\u0000b\"]",
            vec![format!("{at}[0]: \"/bin/a\\0b\" names no file; {path}")],
        ),
        (
            "[\"/bin/put\", \"a\\u0000b\"]",
            vec![format!(
                "{at}[1]: has a NUL character; no program can be given one"
            )],
        ),
        (
            "[\"sh\", \"--key=sk-admin-Zq7\", \"whsec_Zq7\"]",
            vec![
                format!("{at}[0]: \"sh\" is no absolute path; {path}"),
                format!("{at}[1]: {secret}"),
                format!("{at}[2]: {secret}"),
            ],
        ),
    ] {
        let problems: Vec<_> = problems.iter().map(String::as_str).collect();
        expect_problems(&[(&command_key_text(&format!("argv = {argv}")), &problems)]);
    }
    expect_problems(&[
        (
            &command_key_text(""),
            &[
                "3: key.a.sink[0]: has no argv; add argv = [\"/…\"], the program that reads the secret from its standard input",
            ],
        ),
        (
            &command_key_text("argv = [\"/bin/put\"]\nshell = true"),
            &[
                "6: key.a.sink[0].shell: there is no such option; known here: type, name, required, timeout, argv",
            ],
        ),
    ]);
}

#[test]
fn invalid_on_change_commands_are_reported() {
    let at = "6: key.a.sink[0]";
    let path = "a path from the root, such as \"/etc/rekeyd/file\", is allowed";
    expect_problems(&[
        (
            &file_key_text("on-change = [\"reload\"]"),
            &[&format!(
                "{at}.on-change[0]: \"reload\" is no absolute path; {path}"
            )],
        ),
        (
            &file_key_text("on-change-timeout = \"1m\""),
            &[&format!(
                "{at}.on-change-timeout: means nothing without on-change; add on-change = [\"/…\"], or leave it out"
            )],
        ),
        (
            &file_key_text("on-change = [\"/bin/true\"]\non-change-timeout = \"1h\""),
            &[
                "7: key.a.sink[0].on-change-timeout: \"1h\" is out of range; \"1s\" to \"5m\" is allowed",
            ],
        ),
        (
            &file_key_text("on-change = [\"/k/a\"]"),
            &[
                "5: key.a.sink[0].path: /k/a is on-change of key.a.sink[0] already; name another file",
            ],
        ),
    ]);
    let settings = parse_text(&file_key_text("on-change = [\"/bin/true\", \"x y\"]")).unwrap();
    let id = settings.keys[0].sinks[0].id.to_string();
    assert_eq!(id, "file (file:/k/a)", "another program is no other sink");
}

#[test]
fn command_target_id_holds_every_argument() {
    let target = |argv: &str| {
        let settings = parse_text(&command_key_text(&format!("argv = {argv}"))).unwrap();
        settings.keys[0].sinks[0].id.to_string()
    };
    for (argv, expected) in [
        ("[\"/bin/put\"]", "command (command:/bin/put)"),
        (
            "[\"/bin//put\", \"a\", \"b c\"]",
            "command (command:/bin/put a \"b c\")",
        ),
        (
            "[\"/bin/put\", \"a b\", \"c\"]",
            "command (command:/bin/put \"a b\" c)",
        ),
        (
            "[\"/opt/sk-tools/put\", \"\", \"/etc/sk-x\"]",
            "command (command:/opt/sk-tools/put \"\" /etc/sk-x)",
        ),
    ] {
        assert_eq!(target(argv), expected);
    }
}

#[test]
fn two_writers_of_one_file_are_reported() {
    let at = |path: &str| file_key_text("").replace("/k/a", path);
    let already_written = |path: &str, what: &str| {
        format!("5: key.a.sink[0].path: {path} is {what} already; name another file")
    };
    let cases = [
        (
            at("/etc//./c.toml"),
            already_written("/etc/c.toml", "this configuration file"),
        ),
        (
            at("/var/lib/rekeyd//ledger.db"),
            already_written("/var/lib/rekeyd/ledger.db", "the ledger"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db-shm"),
            already_written("/var/lib/rekeyd/ledger.db-shm", "the ledger's -shm file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.lock"),
            already_written("/var/lib/rekeyd/ledger.db.lock", "the ledger's .lock file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.checkpoint"),
            already_written(
                "/var/lib/rekeyd/ledger.db.checkpoint",
                "the ledger's .checkpoint file",
            ),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.room"),
            already_written("/var/lib/rekeyd/ledger.db.room", "the ledger's .room file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.restoring"),
            already_written(
                "/var/lib/rekeyd/ledger.db.restoring",
                "the ledger's .restoring file",
            ),
        ),
        (
            format!("{}[provider]\ncredential-file = \"/own\"\n", at("/own")),
            already_written("/own", "the credential file"),
        ),
        (
            format!("{}[provider]\nca-file = \"/ca\"\n", at("/ca")),
            already_written("/ca", "provider.ca-file"),
        ),
        (
            format!(
                "{}{}",
                at("/s"),
                webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"/s\"")
                    .replace("key.a", "key.z")
            ),
            already_written("/s", "signing-secret-file of key.z.sink[0]"),
        ),
        (
            format!(
                "{}{}",
                at("/bin/put"),
                command_key_text("argv = [\"/bin/put\"]").replace("key.a", "key.z")
            ),
            already_written("/bin/put", "argv of key.z.sink[0]"),
        ),
    ];
    for (text, message) in &cases {
        expect_problems(&[(text, &[message])]);
    }
    let first = at("/k/.a.rekeyd").replace("key.a", "key.b");
    expect_problems(&[(
        &format!("{}{first}", file_key_text("")),
        &[
            "11: key.b.sink[0].path: /k/.a.rekeyd is written first by key.a.sink[0] already; name another file",
        ],
    )]);
    // The same file is reported in either order.
    let beside = file_key_text("").replace("/k/a", "/k/.b.rekeyd");
    let other = at("/k/b").replace("key.a", "key.b");
    expect_problems(&[(
        &format!("{beside}{other}"),
        &[
            "11: key.b.sink[0].path: /k/.b.rekeyd is written by key.a.sink[0] already; name another file",
        ],
    )]);
    let two = format!(
        "{}{}",
        file_key_text(""),
        file_key_text("").replace("key.a", "key.b")
    );
    expect_problems(&[(
        &two,
        &["11: key.b.sink[0].path: /k/a is written by key.a.sink[0] already; name another file"],
    )]);
}

/// The disk decides whether two options name one file, not the spelling.
#[test]
fn two_names_of_one_file_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let symlink = |target: &str, name: &str| std::os::unix::fs::symlink(target, at(name)).unwrap();
    std::fs::create_dir_all(at("out/sub")).unwrap();
    std::fs::create_dir(at("elsewhere")).unwrap();
    symlink("out", "link");
    symlink("link", "second-link");
    for (name, content) in [("out/present", "old"), ("out/ledger.db", ""), ("own", "")] {
        std::fs::write(at(name), content).unwrap();
    }
    std::fs::hard_link(at("out/present"), at("elsewhere/hard")).unwrap();
    std::fs::hard_link(at("own"), at("elsewhere/own")).unwrap();
    symlink("out/ledger.db", "ledger-link");
    symlink("out/future", "dangling");
    let text = |first: &str, second: &str| {
        let one = file_key_text("").replace("/k/a", &at(first));
        let other = file_key_text("").replace("/k/a", &at(second));
        format!(
            "{one}{}[provider]\ncredential-file = \"{}\"\n[ledger]\npath = \"{}\"\n",
            other.replace("key.a", "key.b"),
            at("own"),
            at("ledger-link"),
        )
    };
    let conflict = |option: &str, name: &str, other: &str, owner: &str| {
        format!(
            "{option}: {} is another name of {}, which is {owner} already; name another file",
            at(name),
            at(other)
        )
    };
    let by_first = "written by key.a.sink[0]";
    for (first, second, owner) in [
        ("out/key", "link/key", by_first),
        ("second-link/key", "out/key", by_first),
        ("out/present", "link/present", by_first),
        ("out/present", "elsewhere/hard", by_first),
        ("out/none/key", "link/none/key", by_first),
        ("out/future", "dangling", by_first),
        ("link/.key.rekeyd", "out/key", "TEMP"),
    ] {
        let option = "11: key.b.sink[0].path";
        let expected = if owner == "TEMP" {
            conflict(option, "out/.key.rekeyd", first, by_first)
        } else {
            conflict(option, second, first, owner)
        };
        expect_problems(&[(&text(first, second), &[&expected])]);
    }
    for (name, other, owner) in [
        ("out/ledger.db", "ledger-link", "the ledger"),
        ("link/ledger.db", "ledger-link", "the ledger"),
        (
            "link/ledger.db-wal",
            "ledger-link-wal",
            "the ledger's -wal file",
        ),
        ("elsewhere/own", "own", "the credential file"),
    ] {
        let expected = conflict("5: key.a.sink[0].path", name, other, owner);
        expect_problems(&[(&text(name, "elsewhere/key"), &[&expected])]);
    }
    let text = text("out/key", "elsewhere/key");
    assert!(
        parse_text(&text).is_ok(),
        "files of one name in two folders"
    );
}

const SELF_SINK: &str = "[key.a]\nschedule = \"@daily\"\n[[key.a.sink]]\ntype = \"self\"\n";

#[test]
fn self_sink_needs_a_credential_file_and_is_unique() {
    let with_file = |keys: &str| format!("{keys}[provider]\ncredential-file = \"/k/own\"\n");
    let two = with_file(&format!("{SELF_SINK}{}", SELF_SINK.replace(".a", ".b")));
    let path = with_file(&format!("{SELF_SINK}path = \"/k/a\"\n"));
    let beside = with_file(&format!(
        "{SELF_SINK}[[key.a.sink]]\ntype = \"file\"\npath = \"/k/.own.rekeyd\"\n"
    ));
    expect_problems(&[
        (
            SELF_SINK,
            &[
                "4: key.a.sink[0].type: replaces [provider] credential-file, and there is none; set it to the file with the admin key that rekeyd works with",
            ],
        ),
        (
            &two,
            &[
                "8: key.b.sink[0].type: key.a.sink[0] replaces rekeyd's own admin key already; there may be one sink of type \"self\" in the whole file",
            ],
        ),
        (
            &path,
            &[
                "5: key.a.sink[0].path: there is no such option; known here: type, name, required, timeout",
            ],
        ),
        (
            &beside,
            &[
                "7: key.a.sink[1].path: /k/.own.rekeyd is beside the credential file already; name another file",
            ],
        ),
    ]);
}

#[test]
fn self_sink_is_delivered_last() {
    let text = format!(
        "[provider]\ncredential-file = \"/k/own\"\n{SELF_SINK}[[key.a.sink]]\ntype = \"file\"\npath = \"/k/a\"\n"
    );
    let settings = parse_text(&text).unwrap();
    let sinks = settings.keys[0].sinks.iter();
    let order: Vec<_> = sinks.map(|sink| sink.id.to_string()).collect();
    assert_eq!(order.len(), 2);
    assert!(order[1].contains("self:/k/own"), "{order:?}");
}
