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
                "3: key.a.sink[0]: missing option `type`; expected \"file\", \"webhook\", \"command\" or \"self\"",
            ],
        ),
        (
            &file_key_text("").replace("\"file\"", "\"own\""),
            &[
                "4: key.a.sink[0].type: unknown type of sink; expected \"file\", \"webhook\", \"command\" or \"self\"",
            ],
        ),
        (
            &file_key_text("").replace("path", "paht"),
            &[
                "3: key.a.sink[0]: missing option `path`; add path = \"/etc/billing/openai.key\", the file to write",
                "5: key.a.sink[0].paht: unknown option; did you mean `path`?",
            ],
        ),
        (
            &file_key_text("required = 1"),
            &["6: key.a.sink[0].required: expected true or false, such as required = false"],
        ),
        (
            &file_key_text("timeout = \"6m\""),
            &[
                "6: key.a.sink[0].timeout: out of range; expected a duration from 1s to 5m, such as timeout = \"30s\"",
            ],
        ),
        (
            &file_key_text("name = \"a b\""),
            &[
                "6: key.a.sink[0].name: not a valid name for a sink; a name is 1 to 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            &file_key_text("format = \"yaml\""),
            &["6: key.a.sink[0].format: unknown value; expected \"raw\", \"env\" or \"json\""],
        ),
        (
            &file_key_text("variable = \"A\""),
            &[
                "6: key.a.sink[0].variable: has no effect with format = \"raw\"; remove it, or set format = \"env\"",
            ],
        ),
        (
            &file_key_text("format = \"env\"\nvariable = \"1A\""),
            &[
                "7: key.a.sink[0].variable: not a valid variable name; use letters, digits and `_`, and do not begin with a digit",
            ],
        ),
        (
            &file_key_text("mode = 640"),
            &["6: key.a.sink[0].mode: expected a quoted string, such as mode = \"0640\""],
        ),
        (
            &file_key_text("mode = \"0888\""),
            &[
                "6: key.a.sink[0].mode: not a valid mode; expected an octal mode, such as mode = \"0640\"",
            ],
        ),
        (
            &file_key_text("mode = \"4755\""),
            &[
                "6: key.a.sink[0].mode: sets a setuid, setgid or sticky bit; use mode = \"0640\" or mode = \"0600\"",
            ],
        ),
        (
            &file_key_text("mode = \"0666\""),
            &[
                "6: key.a.sink[0].mode: gives every user of this host access to the secret; use mode = \"0640\" or mode = \"0600\"",
            ],
        ),
        (
            &file_key_text("mode = \"0604\""),
            &[
                "6: key.a.sink[0].mode: gives every user of this host access to the secret; use mode = \"0640\" or mode = \"0600\"",
            ],
        ),
        (
            &file_key_text("mode = \"0750\""),
            &[
                "6: key.a.sink[0].mode: makes the file executable; use mode = \"0640\" or mode = \"0600\"",
            ],
        ),
        (
            &file_key_text("mode = \"0240\""),
            &[
                "6: key.a.sink[0].mode: does not let the owner read the file; use mode = \"0640\" or mode = \"0600\"",
            ],
        ),
        (
            &file_key_text("").replace("/k/a", "/k/../a"),
            &["5: key.a.sink[0].path: the path contains `..`; use a path without it"],
        ),
        (
            &file_key_text("").replace("/k/a", "/k/.a.0123456789abcdef.rekeyd"),
            &[
                "5: key.a.sink[0].path: the name has the form of a temporary file, which rekeyd removes; use another name",
            ],
        ),
        (
            &file_key_text("owner = \"\""),
            &[
                "6: key.a.sink[0].owner: not a valid user or group; expected a name or a number, such as owner = \"billing\"",
            ],
        ),
        (
            &twice(""),
            &[
                "7: key.a.sink[1]: missing option `name`: the key has another sink of type \"file\"; add a different name to each of them, such as name = \"billing-host\"",
            ],
        ),
        (
            &twice("name = \"x\""),
            &[
                "10: key.a.sink[1].name: already the name of key.a.sink[0]; use a different name for each sink of a key",
            ],
        ),
        (
            &webhook_key_text("url = \"http://h/\"\nsigning-secret-file = \"/s\""),
            &[
                "5: key.a.sink[0].url: http to another host would send secrets unencrypted; use https, or http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &webhook_key_text(
                "url = \"http://127.0.0.1.example.com/\"\nsigning-secret-file = \"/s\"",
            ),
            &[
                "5: key.a.sink[0].url: http to another host would send secrets unencrypted; use https, or http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &webhook_key_text("url = \"https://u:p@h/?a=b#c\"\nsigning-secret-file = \"/s\""),
            &[
                "5: key.a.sink[0].url: the URL contains a user name or a password; remove them; to send a token, write it to a file and set `bearer-token-file`",
                "5: key.a.sink[0].url: the URL contains a fragment, which is never sent; remove everything from `#` on",
            ],
        ),
        (
            &webhook_key_text(""),
            &[
                "3: key.a.sink[0]: missing option `url`; add url = \"https://billing.example.com/openai-key\", where rekeyd sends the secret",
                "3: key.a.sink[0]: missing option `signing-secret-file`; add signing-secret-file = \"/etc/rekeyd/webhook-secret\", a file with whsec_<base64>",
            ],
        ),
        (
            &webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"whsec_abc\""),
            &[
                "6: key.a.sink[0].signing-secret-file: expected the path of a file, but this looks like a secret; write the secret to a file that only rekeyd can read, and set its path, such as signing-secret-file = \"/etc/rekeyd/webhook-secret\"",
            ],
        ),
        (
            &webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"/s\"\npath = \"/k\""),
            &[
                "7: key.a.sink[0].path: unknown option; expected one of type, name, required, timeout, url, owner, unauthenticated-receiver, signing-secret-file, ca-file, client-certificate, client-key, bearer-token-file",
            ],
        ),
    ]);
}

/// What says whose a receiver is must have an effect.
#[test]
fn contradictions_about_the_receiver_are_reported() {
    let at = "7: key.a.sink[0]";
    let with = |url: &str, lines: &str| {
        webhook_key_text(&format!(
            "url = \"{url}\"\nsigning-secret-file = \"/s\"\n{lines}"
        ))
    };
    let (https, http, socket) = ("https://h/", "http://localhost:1/", "unix:/run/app.sock");
    for url in [https, http, socket] {
        assert!(parse_text(&with(url, "unauthenticated-receiver = false")).is_ok());
    }
    for (url, line) in [
        (http, ""),
        (socket, ""),
        (http, "owner = \"billing\""),
        (socket, "owner = \"1000\""),
        (http, "unauthenticated-receiver = true"),
        (http, "owner = \"0\"\nunauthenticated-receiver = false"),
    ] {
        assert!(parse_text(&with(url, line)).is_ok(), "{url} {line}");
    }
    for (url, line, expected) in [
        (
            https,
            "owner = \"billing\"",
            ".owner: has no effect with https: the certificate names the receiver; remove it",
        ),
        (
            https,
            "unauthenticated-receiver = true",
            ".unauthenticated-receiver: has no effect with https; remove it",
        ),
        (
            socket,
            "unauthenticated-receiver = true",
            ".unauthenticated-receiver: has no effect with a Unix socket, which shows the receiver's user; remove it, or set `owner`",
        ),
        (
            http,
            "owner = \"\"",
            ".owner: not a valid user or group; expected a name or a number, such as owner = \"billing\"",
        ),
        (
            http,
            "owner = \"-x\"",
            ".owner: not a valid user or group; expected a name or a number, such as owner = \"billing\"",
        ),
        (
            http,
            "owner = \"a:b\"",
            ".owner: not a valid user or group; expected a name or a number, such as owner = \"billing\"",
        ),
        (
            http,
            "owner = 1000",
            ".owner: expected a quoted string, such as owner = \"billing\"",
        ),
        (
            http,
            "unauthenticated-receiver = 1",
            ".unauthenticated-receiver: expected true or false, such as unauthenticated-receiver = true",
        ),
    ] {
        expect_problems(&[(&with(url, line), &[&format!("{at}{expected}")])]);
    }
    let both = "unauthenticated-receiver = true\nowner = \"billing\"";
    expect_problems(&[(
        &with(http, both),
        &[
            "7: key.a.sink[0].unauthenticated-receiver: cannot be combined with `owner`; remove one of them",
        ],
    )]);
}

#[test]
fn sockets_are_identified_by_their_path_and_that_of_the_request() {
    for (url, expected) in [
        ("unix:/run/app.sock", "unix:/run/app.sock:/"),
        ("unix:/run/app.sock:/", "unix:/run/app.sock:/"),
        (
            "unix:///run//./app.sock:/a/b?token=1",
            "unix:/run/app.sock:/a/b",
        ),
    ] {
        let lines = format!("url = \"{url}\"\nsigning-secret-file = \"/s\"");
        let settings = parse_text(&webhook_key_text(&lines)).unwrap();
        let id = settings.keys[0].sinks[0].id.to_string();
        assert_eq!(id, format!("webhook (webhook:{expected})"), "{url}");
    }
    let too_long = format!("unix:/{}", "s".repeat(107));
    let invalid = "not a valid Unix socket; expected unix:/PATH of a socket, or unix:/PATH:/PATH-OF-THE-REQUEST, such as url = \"https://billing.example.com/openai-key\"";
    for (url, expected) in [
        ("unix:run/app.sock", invalid),
        ("unix:", invalid),
        ("unix:/", invalid),
        ("unix:/run/", invalid),
        ("unix:@abstract", invalid),
        ("unix:/run/../app.sock", invalid),
        ("unix:/run/app.sock:hook", invalid),
        ("unix:/run/app.sock?token=1", invalid),
        ("unix:/run/app.sock:/hook#part", invalid),
        ("unix:/run/app sock", invalid),
        (
            &*too_long,
            "the path of a socket cannot be 108 bytes long; use a path of at most 107 bytes",
        ),
    ] {
        let lines = format!("url = \"{url}\"\nsigning-secret-file = \"/s\"");
        let expected = format!("5: key.a.sink[0].url: {expected}");
        expect_problems(&[(&webhook_key_text(&lines), &[&expected])]);
    }
    // A socket is a file of which no other sink makes anything else.
    let lines = "url = \"unix:/k/a\"\nsigning-secret-file = \"/s\"";
    let both = format!(
        "{}[key.b]\nschedule = \"@daily\"\n[[key.b.sink]]\ntype = \"webhook\"\n{lines}\n",
        file_key_text("")
    );
    assert_eq!(parse_text(&both).unwrap_err().len(), 1);
    expect_problems(&[]);
}

#[test]
fn invalid_command_sinks_are_reported() {
    let at = "5: key.a.sink[0].argv";
    let secret = "looks like a secret, and every user of this host can see arguments; write the \
                  secret to a file, and pass the path of the file";
    let example = "such as argv = [\"/usr/local/bin/put-secret\", \"billing\"]";
    let path = format!("expected an absolute path, {example}");
    for (argv, problems) in [
        (
            "[]",
            vec![format!(
                "{at}: expected a program and its arguments, {example}"
            )],
        ),
        (
            "\"/bin/put billing\"",
            vec![format!(
                "{at}: expected a list of quoted strings, {example}"
            )],
        ),
        (
            "[\"/bin/put\", 1]",
            vec![format!("{at}[1]: expected a quoted string, {example}")],
        ),
        ("[\"put\"]", vec![format!("{at}[0]: {path}")]),
        ("[\"\"]", vec![format!("{at}[0]: {path}")]),
        (
            "[\"/bin/\"]",
            vec![format!(
                "{at}[0]: the path is that of a directory; expected the path of a file, {example}"
            )],
        ),
        (
            "[\"/bin/a\\u0000b\"]",
            vec![format!(
                "{at}[0]: contains a control character; remove it from the path"
            )],
        ),
        (
            "[\"/bin/put\", \"a\\u0000b\"]",
            vec![format!(
                "{at}[1]: contains a NUL character, which no argument can have; remove it"
            )],
        ),
        (
            "[\"sh\", \"--key=sk-admin-Zq7\", \"whsec_Zq7\"]",
            vec![
                format!("{at}[0]: {path}"),
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
                "3: key.a.sink[0]: missing option `argv`; add argv = [\"/usr/local/bin/put-secret\", \"billing\"], a program that reads the secret from its standard input",
            ],
        ),
        (
            &command_key_text("argv = [\"/bin/put\"]\nshell = true"),
            &[
                "6: key.a.sink[0].shell: unknown option; expected one of type, name, required, timeout, argv",
            ],
        ),
    ]);
}

#[test]
fn invalid_on_change_commands_are_reported() {
    let at = "6: key.a.sink[0]";
    expect_problems(&[
        (
            &file_key_text("on-change = [\"reload\"]"),
            &[&format!(
                "{at}.on-change[0]: expected an absolute path, such as on-change = [\"/usr/bin/systemctl\", \"reload\", \"billing\"]"
            )],
        ),
        (
            &file_key_text("on-change-timeout = \"1m\""),
            &[&format!(
                "{at}.on-change-timeout: has no effect without `on-change`; add `on-change`, or remove it"
            )],
        ),
        (
            &file_key_text("on-change = [\"/bin/true\"]\non-change-timeout = \"1h\""),
            &[
                "7: key.a.sink[0].on-change-timeout: out of range; expected a duration from 1s to 5m, such as on-change-timeout = \"30s\"",
            ],
        ),
        (
            &file_key_text("on-change = [\"/k/a\"]"),
            &[
                "5: key.a.sink[0].path: the file is the on-change of key.a.sink[0]; use another file",
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
    let already_written =
        |what: &str| format!("5: key.a.sink[0].path: the file is {what}; use another file");
    let cases = [
        (
            at("/etc//./c.toml"),
            already_written("this configuration file"),
        ),
        (
            at("/var/lib/rekeyd//ledger.db"),
            already_written("the ledger"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db-shm"),
            already_written("the ledger's -shm file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.lock"),
            already_written("the ledger's .lock file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.checkpoint"),
            already_written("the ledger's .checkpoint file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.room"),
            already_written("the ledger's .room file"),
        ),
        (
            at("/var/lib/rekeyd/ledger.db.restoring"),
            already_written("the ledger's .restoring file"),
        ),
        (
            format!("{}[provider]\ncredential-file = \"/own\"\n", at("/own")),
            already_written("the credential file"),
        ),
        (
            format!("{}[provider]\nca-file = \"/ca\"\n", at("/ca")),
            already_written("provider.ca-file"),
        ),
        (
            format!(
                "{}{}",
                at("/s"),
                webhook_key_text("url = \"https://h/\"\nsigning-secret-file = \"/s\"")
                    .replace("key.a", "key.z")
            ),
            already_written("the signing-secret-file of key.z.sink[0]"),
        ),
        (
            format!(
                "{}{}",
                at("/bin/put"),
                command_key_text("argv = [\"/bin/put\"]").replace("key.a", "key.z")
            ),
            already_written("the argv of key.z.sink[0]"),
        ),
    ];
    for (text, message) in &cases {
        expect_problems(&[(text, &[message])]);
    }
    let first = at("/k/.a.rekeyd").replace("key.a", "key.b");
    expect_problems(&[(
        &format!("{}{first}", file_key_text("")),
        &[
            "11: key.b.sink[0].path: the file is the temporary file of key.a.sink[0]; use another file",
        ],
    )]);
    // The same file is reported in either order.
    let beside = file_key_text("").replace("/k/a", "/k/.b.rekeyd");
    let other = at("/k/b").replace("key.a", "key.b");
    expect_problems(&[(
        &format!("{beside}{other}"),
        &["11: key.b.sink[0].path: the file is already written by key.a.sink[0]; use another file"],
    )]);
    let two = format!(
        "{}{}",
        file_key_text(""),
        file_key_text("").replace("key.a", "key.b")
    );
    expect_problems(&[(
        &two,
        &["11: key.b.sink[0].path: the file is already written by key.a.sink[0]; use another file"],
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
    let conflict = |option: &str, owner: &str| {
        format!("{option}: under another name, the file is {owner}; use another file")
    };
    let by_first = "already written by key.a.sink[0]";
    for (first, second, owner) in [
        ("out/key", "link/key", by_first),
        ("second-link/key", "out/key", by_first),
        ("out/present", "link/present", by_first),
        ("out/present", "elsewhere/hard", by_first),
        ("out/none/key", "link/none/key", by_first),
        ("out/future", "dangling", by_first),
        ("link/.key.rekeyd", "out/key", by_first),
    ] {
        let option = "11: key.b.sink[0].path";
        expect_problems(&[(&text(first, second), &[&conflict(option, owner)])]);
    }
    for (name, owner) in [
        ("out/ledger.db", "the ledger"),
        ("link/ledger.db", "the ledger"),
        ("link/ledger.db-wal", "the ledger's -wal file"),
        ("elsewhere/own", "the credential file"),
    ] {
        let expected = conflict("5: key.a.sink[0].path", owner);
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
                "4: key.a.sink[0].type: needs [provider] credential-file, which is not set; set it to the path of the file with rekeyd's admin key",
            ],
        ),
        (
            &two,
            &[
                "8: key.b.sink[0].type: key.a.sink[0] already replaces rekeyd's own admin key; use only one sink of type \"self\" in the whole file",
            ],
        ),
        (
            &path,
            &[
                "5: key.a.sink[0].path: unknown option; expected one of type, name, required, timeout",
            ],
        ),
        (
            &beside,
            &[
                "7: key.a.sink[1].path: the file is the temporary file of the credential file; use another file",
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
