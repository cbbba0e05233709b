//! Messages about the system's errors: its words in lower case, without the number.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, assert_no_error_number, binary, file_key_text, text, write};

#[test]
fn messages_about_system_errors_have_no_number() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    fs::create_dir(world.path("folder")).unwrap();
    write(&world.path("file"), "no folder");
    let configuration = fs::read_to_string(world.path("config.toml")).unwrap();
    let variant = |name: &str, from: &str, to: &str| {
        assert!(configuration.contains(from), "{from}: {configuration}");
        write(&world.path(name), &configuration.replacen(from, to, 1));
        path(name)
    };
    let (ledger, sink) = (path("ledger.db"), path("billing.key"));
    let below_file = path("file/x");
    let ledger_below_file = variant("a.toml", &ledger, &below_file);
    let sink_below_file = variant("b.toml", &sink, &below_file);
    let key_below_file = variant("c.toml", &path("admin-key"), &below_file);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (arguments, expected) in [
        (&["--config", &below_file, "check"][..], "not a directory"),
        (
            &["--config", "/nowhere", "check"],
            "no such file or directory",
        ),
        (&["--config", &ledger_below_file, "once"], "not a directory"),
        (
            &["--config", &sink_below_file, "check"],
            "file is not a folder",
        ),
        (&["--config", &key_below_file, "check"], "not a directory"),
        (&["backup", &below_file], "not a directory"),
        (&["restore", &below_file], "not a directory"),
        (&["sandbox", "--listen", &address], "address already in use"),
        (&["sandbox", "--state", &below_file], "not a directory"),
        (&["demo", "--dir", &below_file], "not a directory"),
    ] {
        let output = if arguments[0] == "--config" {
            Command::new(binary()).args(arguments).output().unwrap()
        } else {
            world.run(arguments)
        };
        let messages = text(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}: {messages}");
        assert!(messages.contains(expected), "{arguments:?}: {messages}");
        assert_no_error_number(&messages);
    }
}

#[test]
fn folder_that_rekeyd_may_not_write_to_has_advice_that_helps() {
    let world = TestEnv::start(&[]);
    fs::create_dir(world.path("keys")).unwrap();
    let key = file_key_text("24h").replace("billing.key", "keys/billing.key");
    world.configure(&key);
    let world = UnprivilegedEnv::new(world, &["keys"]);
    let folder = world.env.path("keys");
    let allow = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o500);
    let messages = text(&world.run(&["check"]).stderr);
    let command = format!("chmod u+rwx {}", folder.display());
    assert!(messages.contains(": permission denied"), "{messages}");
    assert!(messages.contains(&command), "{messages}");
    // What the command does.
    allow(0o700);
    let output = world.run(&["check"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}
