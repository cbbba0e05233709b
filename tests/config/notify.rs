//! Invalid `[[notify]]` tables, and the exact text of their messages.

use std::collections::BTreeSet;
use std::path::Path;

use crate::configuration::{expect_problems, file_key_text, parse_text};
use rekeyd::core::notification::EventKind;

/// Returns a command channel with these lines from line 4 on, and a key after it.
fn with_command_channel(lines: &str) -> String {
    let key = file_key_text("");
    format!("[[notify]]\ntype = \"command\"\nargv = [\"/bin/page\"]\n{lines}\n{key}")
}

#[test]
fn valid_channels_are_accepted() {
    let text = with_command_channel("");
    let settings = parse_text(&text).unwrap();
    let listener = &settings.notify[0].subscription;
    assert_eq!(listener.channel.as_str(), "command:/bin/page");
    assert_eq!(listener.on, BTreeSet::from(EventKind::DEFAULT));
    assert_eq!(listener.keys, None);
    let every = EventKind::NAMES;
    let settings = parse_text(&with_command_channel(&format!(
        "on = {every:?}\nkeys = [\"a\"]"
    )))
    .unwrap();
    assert_eq!(
        settings.notify[0].subscription.on.len(),
        EventKind::NAMES.len()
    );
    for to in ["\"root\"", "[\"root\", \"ops+rekeyd@example.com\"]"] {
        let text =
            with_command_channel("").replace("argv = [\"/bin/page\"]", &format!("to = {to}"));
        let settings = parse_text(&text.replace("\"command\"", "\"sendmail\"")).unwrap();
        let id = settings.notify[0].subscription.channel.as_str();
        assert!(id.starts_with("sendmail:root"), "{id}");
    }
    // The query of a URL may have a token.
    let hook = "[[notify]]\ntype = \"webhook\"\nurl = \"https://a/b?token=c\"\n\
                signing-secret-file = \"/s\"\n";
    let settings = parse_text(&format!("{hook}{}", file_key_text(""))).unwrap();
    assert_eq!(
        settings.notify[0].subscription.channel.as_str(),
        "webhook:https://a/b"
    );
}

#[test]
fn channels_have_names_and_reminders() {
    let channel = |program: &str, lines: &str| {
        format!("[[notify]]\ntype = \"command\"\nargv = [\"/bin/{program}\"]\n{lines}\n")
    };
    let text = [
        channel("a", "remind-every = \"1d\""),
        channel("b", "name = \"command-2\""),
        channel("c", ""),
        file_key_text(""),
    ]
    .concat();
    let settings = parse_text(&text).unwrap();
    let names: Vec<_> = settings.notify.iter().map(|one| &*one.name).collect();
    assert_eq!(names, ["command", "command-2", "command-3"]);
    let day = std::time::Duration::from_secs(86_400);
    let reminders: Vec<_> = settings
        .notify
        .iter()
        .map(|one| one.subscription.remind_every)
        .collect();
    assert_eq!(reminders, [Some(day), None, None]);
    expect_problems(&[
        (
            &with_command_channel("name = \"Ops!\""),
            &[
                "4: notify[0].name: not a valid name for a notification channel; a name is 1 to \
                 48 characters of a-z, 0-9 and -, and does not begin with -",
            ],
        ),
        (
            &with_command_channel("on = [\"test\"]"),
            &[
                "4: notify[0].on[0]: unknown event; expected \"failure\", \"recovered\", \"overdue\", \"expiring\", \"rotated\", \"orphan\", \"lookalike\", \"clock\", \"hold\" or \"operator\"",
            ],
        ),
    ]);
}

#[test]
fn invalid_types_events_and_keys_are_reported() {
    expect_problems(&[
        (
            &with_command_channel("").replace("type = \"command\"\n", ""),
            &[
                "1: notify[0]: missing option `type`; expected \"webhook\", \"command\" or \"sendmail\"",
            ],
        ),
        (
            &with_command_channel("").replace("\"command\"", "\"slack\""),
            &[
                "2: notify[0].type: unknown type of notification channel; expected \"webhook\", \"command\" or \"sendmail\"",
            ],
        ),
        (
            &with_command_channel("on = [\"failures\"]"),
            &["4: notify[0].on[0]: unknown event; did you mean \"failure\"?"],
        ),
        (
            &with_command_channel("on = [\"failure\", \"everything\"]"),
            &[
                "4: notify[0].on[1]: unknown event; expected \"failure\", \"recovered\", \"overdue\", \"expiring\", \"rotated\", \"orphan\", \"lookalike\", \"clock\", \"hold\" or \"operator\"",
            ],
        ),
        (
            &with_command_channel("on = \"failure\""),
            &[
                "4: notify[0].on: expected a list of quoted strings, such as on = [\"failure\", \"recovered\"]",
            ],
        ),
        (
            &with_command_channel("on = [\"recovered\"]"),
            &[
                "4: notify[0].on: the channel would never send anything; expected an event other than \"recovered\", such as on = [\"failure\", \"recovered\"]",
            ],
        ),
        (
            &with_command_channel("keys = [\"b\"]").replace("key.a", "key.billing"),
            &["4: notify[0].keys[0]: unknown key; use the name of a [key.NAME] in this file"],
        ),
        (
            &with_command_channel("keys = [\"biling\"]").replace("key.a", "key.billing"),
            &["4: notify[0].keys[0]: unknown key; did you mean \"billing\"?"],
        ),
        (
            &with_command_channel("keys = []"),
            &[
                "4: notify[0].keys: the list of keys is empty; list the names of keys, or remove `keys` to select all of them",
            ],
        ),
        (
            &with_command_channel("timeout = \"1m\""),
            &[
                "4: notify[0].timeout: unknown option; expected one of type, on, keys, remind-every, name, argv",
            ],
        ),
        (
            &with_command_channel("[[notify]]\ntype = \"command\"\nargv = [\"/bin/page\"]"),
            &[
                "4: notify[1]: another [[notify]] already sends to command:/bin/page; combine them into one [[notify]]",
            ],
        ),
    ]);
}

#[test]
fn invalid_channel_targets_are_reported() {
    let only = |lines: &str| format!("[[notify]]\n{lines}\n{}", file_key_text(""));
    expect_problems(&[
        (
            &only("type = \"command\""),
            &[
                "1: notify[0]: missing option `argv`; add argv = [\"/usr/local/bin/page-someone\"], a program that reads the notification from its standard input",
            ],
        ),
        (
            &only("type = \"webhook\"\nurl = \"http://a.example/\""),
            &[
                "1: notify[0]: missing option `signing-secret-file`; add signing-secret-file = \"/etc/rekeyd/webhook-secret\", a file with whsec_<base64>",
                "3: notify[0].url: http to another host would send secrets unencrypted; use https, or http to localhost, 127.0.0.1 or [::1]",
            ],
        ),
        (
            &only("type = \"sendmail\""),
            &[
                "1: notify[0]: missing option `to`; add to = \"ops@example.com\", the address of a recipient or a list of addresses",
            ],
        ),
        (
            &only("type = \"sendmail\"\nto = \"-oQ/tmp\""),
            &[
                "3: notify[0].to: not a valid mail address; use a user of this host or NAME@HOST, each in its own quotes",
            ],
        ),
        (
            &only("type = \"sendmail\"\nto = [\"a@b\", \"a@b, c@d\"]"),
            &[
                "3: notify[0].to[1]: not a valid mail address; use a user of this host or NAME@HOST, each in its own quotes",
            ],
        ),
        // A sink would overwrite this file.
        (
            &only("type = \"command\"\nargv = [\"/k/a\"]"),
            &["8: key.a.sink[0].path: the file is the argv of notify[0]; use another file"],
        ),
    ]);
}

/// A secret may be the name of a table: no suggestion repeats it.
#[test]
fn no_suggestion_shows_what_may_be_a_secret() {
    let token = "p1AvKlUjaO54GSxM1DwbE7kg20RTz96i";
    let text = format!(
        "[key.{token}]\n[[notify]]\ntype = \"sendmail\"\nto = \"ops\"\nkeys = [\"{token}\"]\n"
    );
    let problems = parse_text(&text).unwrap_err();
    assert!(problems.iter().any(|one| one.contains("unknown key")));
    for problem in problems {
        assert!(!problem.contains(token), "{problem}");
    }
}

/// `check` looks at what a sandbox forbids it, as at any other program.
#[test]
fn sendmail_is_a_program_that_no_sink_may_write() {
    let channel = "[[notify]]\ntype = \"sendmail\"\nto = \"root\"\n";
    let text = format!("{channel}{}", file_key_text(""));
    let settings = parse_text(&text).unwrap();
    let [(location, program)] = settings.protected_files.programs() else {
        panic!("{:?}", settings.protected_files);
    };
    assert_eq!(location, "notify[0]");
    assert_eq!(program, Path::new("/usr/sbin/sendmail"));
    expect_problems(&[(
        &text.replace("/k/a", "/usr/sbin/sendmail"),
        &["8: key.a.sink[0].path: the file is the program of notify[0]; use another file"],
    )]);
}
