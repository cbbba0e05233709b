//! Moving in with keys that people created manually: what their files hold is compared,
//! adopted and never overwritten unseen.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use rekeyd::core::ids::Label;
use rekeyd::provider::Provider as _;

use crate::support::daemon::Daemon;
use crate::support::unprivileged::UnprivilegedEnv;
use crate::support::{TestEnv, text, write};

/// How long an overlap of a second may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a credential as a person does, and returns its id and its secret.
pub(crate) fn create_manually(world: &TestEnv, name: &str) -> (String, String) {
    let url = world.base_url.parse().unwrap();
    let cell = crate::adapter::credential_with(&world.admin_key);
    let provider = crate::adapter::adapter_with(&url, Duration::from_secs(10), cell);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let label = Label::from_recorded(name.to_owned());
    let created = runtime.block_on(provider.create(&label, None)).unwrap();
    let id = created.value.metadata.id.as_str().to_owned();
    let secret = world.secret_of(&id);
    (id, secret)
}

/// Configures one key for each name, with a file named after it.
fn configure(world: &TestEnv, names: &[&str], options: &str) {
    let keys = names.iter().map(|name| {
        format!(
            "[key.{name}]\nschedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
             {options}[[key.{name}.sink]]\ntype = \"file\"\npath = \"DIR/{name}.key\"\n"
        )
    });
    world.configure(&keys.collect::<String>());
}

fn file(world: &TestEnv, key: &str) -> String {
    fs::read_to_string(world.path(&format!("{key}.key"))).unwrap()
}

/// Adopts a credential that nothing shows to be the key's, as root does, and releases it.
fn adopt_by_name(world: &TestEnv, key: &str, id: &str, name: &str) -> String {
    let adopted = world.ok(&["adopt", key, id, "--name", name, "--yes"]);
    let held = format!("on hold until `rekeyd release {id}`");
    assert!(adopted.contains(&held), "{adopted}");
    world.ok(&["release", id]);
    adopted
}

fn assert_refused(output: &Output, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    let message = text(&output.stderr);
    for part in parts {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn adoption_that_a_file_contradicts_is_refused() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a", "b"], "initial-rotation = \"scheduled\"\n");
    let (of_a, secret_a) = create_manually(&world, "made for a");
    let (of_b, secret_b) = create_manually(&world, "made for b");
    write(&world.path("a.key"), &format!("{secret_a}\n"));
    write(
        &world.path("b.key"),
        &format!("export KEY=\"{secret_b}\"\n"),
    );
    let end = &secret_a[secret_a.len() - 3..];
    assert_refused(&world.run(&["adopt", "a", &of_b]), &["a.key", end, &of_b]);
    assert_refused(&world.run(&["adopt", "b", &of_a]), &["b.key", &of_a]);
    assert!(world.history().is_empty());
    world.ok(&["adopt", "a", &of_a]);
    // Without a file there is nothing to compare, and a person may know better.
    fs::remove_file(world.path("b.key")).unwrap();
    adopt_by_name(&world, "b", &of_b, "made for b");
    let (other, _) = create_manually(&world, "another");
    assert_refused(&world.run(&["adopt", "a", &of_a]), &["in this ledger"]);
    // The file holds the current credential of the key: another one may exist beside it.
    adopt_by_name(&world, "a", &other, "another");
    write(&world.path("b.key"), &secret_a);
    let (last, _) = create_manually(&world, "the last");
    assert_refused(&world.run(&["adopt", "b", &last]), &["b.key"]);
    let forced = [
        "adopt", "b", &last, "--force", "--name", "the last", "--yes",
    ];
    world.ok(&forced);
    world.ok(&["release", &last]);
    // The word of a person about the credential is none about what the file holds.
    let before = world.live_ids().len();
    assert_refused(
        &world.run(&["rotate", "b"]),
        &["b.key", end, "neither wrote nor adopted", "--replace"],
    );
    assert_eq!(file(&world, "b"), secret_a);
    assert_eq!(world.live_ids().len(), before, "nothing was created");
    world.ok(&["rotate", "b", "--replace"]);
    assert_ne!(file(&world, "b"), secret_a);
    // What the file holds is what was adopted.
    world.ok(&["rotate", "a"]);
    assert_ne!(file(&world, "a"), format!("{secret_a}\n"));
}

/// The way from a fresh installation to an adopted key, as root and as an ordinary user.
#[test]
fn keys_are_listed_and_adopted_before_the_first_start() {
    type Command = Box<dyn Fn(&[&str]) -> Output>;
    for is_ordinary in [false, true] {
        let world = TestEnv::start(&[]);
        configure(&world, &["a"], "");
        let (id, secret) = create_manually(&world, "made by hand");
        write(&world.path("a.key"), &format!("{secret}\n"));
        let ledger = world.path("ledger.db");
        let run: Command = if is_ordinary {
            let ordinary = UnprivilegedEnv::new(world, &["a.key"]);
            Box::new(move |arguments| ordinary.run(arguments))
        } else {
            Box::new(move |arguments| world.run(arguments))
        };
        let audit = run(&["audit"]);
        let (listed, note) = (text(&audit.stdout), text(&audit.stderr));
        assert!(audit.status.success(), "{listed}{note}");
        let line = listed.lines().find(|line| line.contains(&id)).unwrap();
        assert!(line.starts_with("foreign"), "{line}");
        assert!(note.contains("there is no ledger at"), "{note}");
        assert!(!ledger.exists(), "an audit creates nothing");
        for arguments in [&["adopt", "--from-sinks"][..], &["adopt", "a", &id]] {
            let adopted = run(arguments);
            let message = text(&adopted.stderr);
            assert!(adopted.status.success(), "{arguments:?}: {message}");
        }
        let audit = text(&run(&["audit"]).stdout);
        let line = audit.lines().find(|line| line.contains(&id)).unwrap();
        assert!(line.starts_with("live"), "{line}");
    }
}

/// What a file holds of two keys, one of which is adopted by its id: at its adoption, at the
/// next rotation, and whether that is refused.
#[test]
fn adoption_covers_what_a_file_was_seen_to_hold() {
    const DEAD: &str = "sk-admin-DEADDEADdeaddead0123456789abcdefghij\n";
    let same = |content| (Some(content), Some(content));
    for ((at_adoption, later), is_refused) in [
        (same("<X>\n"), false),
        (same("# by hand\nexport OPENAI_ADMIN_KEY='<X>'\n"), false),
        ((Some("<X>\n"), None), false),
        ((Some("<X>\n"), Some("")), false),
        ((Some("<X>\n"), Some(DEAD)), false),
        ((None, None), false),
        // A person wrote another key there.
        ((Some("<X>\n"), Some("<Y>\n")), true),
        ((None, Some("<Y>\n")), true),
        ((Some(""), Some("<Y>\n")), true),
        // Nobody adopted the second key.
        (same("A_KEY=<X>\nB_KEY=<Y>\n"), true),
        ((Some("<X>\n"), Some("A_KEY=<X>\nB_KEY=<Y>\n")), true),
        // It was never seen to hold what was adopted.
        ((None, Some(DEAD)), true),
    ] {
        let world = TestEnv::start(&[]);
        configure(&world, &["a"], "initial-rotation = \"scheduled\"\n");
        let (adopted, x) = create_manually(&world, "X");
        let (_, y) = create_manually(&world, "Y");
        let put = |content: Option<&str>| match content {
            Some(content) => write(
                &world.path("a.key"),
                &content.replace("<X>", &x).replace("<Y>", &y),
            ),
            None => drop(fs::remove_file(world.path("a.key"))),
        };
        put(at_adoption);
        if at_adoption.is_some_and(|content| content.contains("<X>")) {
            world.ok(&["adopt", "a", &adopted]);
        } else {
            adopt_by_name(&world, "a", &adopted, "X");
        }
        put(later);
        let before = fs::read_to_string(world.path("a.key")).ok();
        let name = format!("{at_adoption:?} then {later:?}");
        if is_refused {
            let unknown = if later == Some(DEAD) { DEAD.trim() } else { &y };
            let end = &unknown[unknown.len() - 3..];
            let rotated = world.run(&["rotate", "a"]);
            assert_eq!(rotated.status.code(), Some(1), "{name}");
            assert_refused(&rotated, &["a.key", end, "neither wrote nor adopted"]);
            assert_eq!(
                fs::read_to_string(world.path("a.key")).ok(),
                before,
                "{name}"
            );
            world.ok(&["rotate", "a", "--replace"]);
        } else {
            world.ok(&["rotate", "a"]);
        }
        let current = world.history().remove(0);
        let current = current["credential_id"].as_str().unwrap().to_owned();
        assert_eq!(
            file(&world, "a").trim(),
            world.secret_of(&current),
            "{name}"
        );
    }
}

/// A file that was seen to hold an adopted key is checked like one that rekeyd wrote.
#[test]
fn file_of_an_adopted_key_is_repaired() {
    for (content, is_repaired) in [
        (Some("<X>\n"), None),
        (Some("# moved by hand\nexport ADMIN='<X>'\n"), None),
        (None, Some(true)),
        (Some(""), Some(true)),
        (Some("to be filled in\n"), Some(true)),
        (
            Some("sk-admin-DEADDEADdeaddead0123456789abcdefghij\n"),
            Some(true),
        ),
        (Some("<Z>\n"), Some(false)),
    ] {
        let world = TestEnv::start(&[]);
        configure(&world, &["a"], "");
        let (_, x) = create_manually(&world, "X");
        let (other, z) = create_manually(&world, "Z");
        write(&world.path("a.key"), &x);
        world.ok(&["adopt", "--from-sinks", "--yes"]);
        assert_eq!(world.history().len(), 1);
        match content {
            Some(content) => write(
                &world.path("a.key"),
                &content.replace("<X>", &x).replace("<Z>", &z),
            ),
            None => fs::remove_file(world.path("a.key")).unwrap(),
        }
        let checked = world.run(&["once"]);
        let status = world.run(&["status"]);
        let state = text(&status.stdout);
        match is_repaired {
            None => {
                assert_eq!(world.history().len(), 1, "{content:?}");
                assert!(state.contains("1 of 1"), "{content:?}: {state}");
            }
            Some(true) => {
                assert!(checked.status.success(), "{content:?}");
                let current = world.history().remove(0);
                assert_eq!(current["trigger"], "repair", "{content:?}");
                let current = current["credential_id"].as_str().unwrap().to_owned();
                assert_eq!(file(&world, "a").trim(), world.secret_of(&current));
            }
            Some(false) => {
                assert_eq!(file(&world, "a").trim(), z);
                assert_eq!(world.history().len(), 1, "{content:?}");
                assert_eq!(status.status.code(), Some(1), "{state}");
                assert!(state.contains("adopt --from-sinks"), "{state}");
                // Its adoption settles that: no credential is left alive and unknown.
                world.ok(&["adopt", "--from-sinks", "--yes"]);
                world.ok(&["rotate", "a"]);
                assert_ne!(file(&world, "a").trim(), z);
                assert!(
                    world
                        .history()
                        .iter()
                        .any(|row| row["credential_id"] == other)
                );
            }
        }
    }
}

#[test]
fn first_write_over_a_key_waits_for_its_adoption() {
    for (format, content) in [
        ("raw", "KEY\n"),
        ("raw", "KEY"),
        ("raw", "OPENAI_API_KEY=KEY\nDEBUG=1\n"),
        ("env", "OPENAI_ADMIN_KEY=KEY\n"),
        ("env", "# by hand\nexport OPENAI_ADMIN_KEY='KEY'\r\n"),
        ("json", "{\"value\":\"KEY\"}\n"),
        ("json", "{\"openai\":{\"admin\":\"KEY\"},\"other\":1}"),
    ] {
        let world = TestEnv::start(&[]);
        configure(&world, &["a"], "");
        let config = fs::read_to_string(world.path("config.toml")).unwrap();
        let variable = if format == "env" {
            "variable = \"OPENAI_ADMIN_KEY\"\n"
        } else {
            ""
        };
        let config = format!("{config}format = \"{format}\"\n{variable}");
        write(&world.path("config.toml"), &config);
        let (id, secret) = create_manually(&world, "by hand");
        let content = content.replace("KEY'", &format!("{secret}'"));
        let content = if content.contains(&secret) {
            content
        } else {
            let at = content.rfind("KEY").unwrap();
            format!("{}{secret}{}", &content[..at], &content[at + 3..])
        };
        write(&world.path("a.key"), &content);
        world.run(&["once"]);
        assert_refused(
            &world.run(&["rotate", "a"]),
            &[
                "a.key",
                "neither wrote nor adopted",
                "--replace",
                "--from-sinks",
            ],
        );
        assert_eq!(file(&world, "a"), content);
        assert_eq!(world.live_ids(), [id.as_str()], "nothing was created");
        let status = world.run(&["status"]);
        assert_eq!(status.status.code(), Some(1));
        assert!(
            text(&status.stdout).contains("a.key"),
            "{}",
            text(&status.stdout)
        );
        world.ok(&["adopt", "a", &id]);
        world.ok(&["rotate", "a"]);
        assert_ne!(file(&world, "a"), content);
        assert_eq!(
            world.live_ids().len(),
            2,
            "the former one is in its overlap"
        );
    }
}

#[test]
fn operator_replaces_a_key_once() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "");
    let (id, secret) = create_manually(&world, "by hand");
    write(&world.path("a.key"), &secret);
    world.ok(&["rotate", "a", "--replace"]);
    let current = world.history().remove(0);
    assert_eq!(
        file(&world, "a").trim(),
        world.secret_of(current["credential_id"].as_str().unwrap())
    );
    assert!(world.live_ids().contains(&id), "it is left to people");
    // What the ledger wrote once, it replaces from then on.
    write(&world.path("a.key"), &secret);
    world.ok(&["rotate", "a"]);
    // Another target is another first write, which the former approval does not cover.
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    write(
        &world.path("config.toml"),
        &config.replace("a.key", "moved.key"),
    );
    write(&world.path("moved.key"), &secret);
    assert_refused(&world.run(&["rotate", "a"]), &["moved.key", "--replace"]);
    assert_eq!(fs::read_to_string(world.path("moved.key")).unwrap(), secret);
    // Its own key, copied there by a person, is known.
    let newest = world.history().remove(0);
    let own = world.secret_of(newest["credential_id"].as_str().unwrap());
    write(&world.path("moved.key"), &own);
    world.ok(&["rotate", "a"]);
    assert_ne!(
        fs::read_to_string(world.path("moved.key")).unwrap().trim(),
        own
    );
}

/// Points the file sink of a key at another file.
fn retarget(world: &TestEnv, from: &str, to: &str) {
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    write(&world.path("config.toml"), &config.replace(from, to));
}

/// The approval of `--replace` is about the targets of its time, and ends with the rotation
/// that it was given for.
#[test]
fn replacement_covers_no_later_target() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "");
    retarget(
        &world,
        "type = \"file\"",
        "name = \"main\"\ntype = \"file\"",
    );
    let (_, first) = create_manually(&world, "first");
    let (_, second) = create_manually(&world, "second");
    write(&world.path("a.key"), &first);
    write(&world.path("moved.key"), &second);
    // The rotation that was asked for fails, and its approval waits for a retry.
    let restrict = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(world.dir.path(), mode).unwrap();
    };
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        restrict(0o500);
        world.run(&["rotate", "a", "--replace"]);
        restrict(0o700);
    }
    retarget(&world, "a.key", "moved.key");
    assert_refused(&world.run(&["rotate", "a"]), &["moved.key", "--replace"]);
    retarget(&world, "moved.key", "a.key");
    world.ok(&["rotate", "a", "--replace"]);
    assert_ne!(file(&world, "a"), first);
    // A sink that is added, before another rotation.
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let dir = world.dir.path().display();
    let added = format!(
        "{config}[[key.a.sink]]\nname = \"added\"\ntype = \"file\"\npath = \
         \"{dir}/moved.key\"\n"
    );
    write(&world.path("config.toml"), &added);
    assert_refused(&world.run(&["rotate", "a"]), &["moved.key", "--replace"]);
    assert_eq!(fs::read_to_string(world.path("moved.key")).unwrap(), second);
}

/// What stands in a target that this ledger knows is compared when its sink returns.
#[test]
fn returning_target_is_compared() {
    for is_ended in [false, true] {
        let world = TestEnv::start(&[]);
        configure(&world, &["a"], "");
        world.ok(&["once"]);
        let own = file(&world, "a");
        let old = world.history().remove(0)["credential_id"].clone();
        retarget(&world, "a.key", "moved.key");
        world.ok(&["rotate", "a"]);
        if is_ended {
            world.ok(&["revoke", old.as_str().unwrap(), "--force"]);
        }
        let (_, secret) = create_manually(&world, "by hand");
        write(&world.path("a.key"), &secret);
        retarget(&world, "moved.key", "a.key");
        let refused = world.run(&["rotate", "a"]);
        assert_refused(&refused, &["a.key", "neither wrote nor adopted"]);
        assert_eq!(file(&world, "a"), secret);
        // Its own one, whether that is dead or alive, is in the ledger.
        write(&world.path("a.key"), &own);
        world.ok(&["rotate", "a"]);
        assert_ne!(file(&world, "a"), own, "{is_ended}");
    }
}

#[test]
fn returning_target_with_an_ended_adopted_key_is_written() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "");
    let (id, secret) = create_manually(&world, "by hand");
    write(&world.path("a.key"), &secret);
    world.ok(&["adopt", "--from-sinks", "--yes"]);
    retarget(&world, "a.key", "moved.key");
    world.ok(&["rotate", "a"]);
    world.ok(&["revoke", &id, "--force"]);
    retarget(&world, "moved.key", "a.key");
    world.ok(&["rotate", "a"]);
    assert_ne!(file(&world, "a"), secret);
}

#[test]
fn files_without_a_key_are_written() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a", "b", "c"], "");
    write(&world.path("a.key"), "");
    write(&world.path("b.key"), "to be filled in\n");
    world.ok(&["once"]);
    for key in ["a", "b", "c"] {
        assert!(file(&world, key).starts_with("sk-admin-"));
    }
}

#[test]
fn unreadable_file_is_not_replaced_unseen() {
    // Root reads every file.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "");
    write(&world.path("a.key"), "perhaps a key, perhaps none");
    fs::set_permissions(world.path("a.key"), fs::Permissions::from_mode(0o0)).unwrap();
    assert_refused(&world.run(&["rotate", "a"]), &["unreadable", "--replace"]);
    world.ok(&["rotate", "a", "--replace"]);
}

#[test]
fn optional_sink_over_a_key_delays_no_rotation() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "");
    let config = fs::read_to_string(world.path("config.toml")).unwrap();
    let dir = world.dir.path().display();
    let optional = format!(
        "{config}[[key.a.sink]]\nname = \"copy\"\ntype = \"file\"\nrequired = false\n\
         path = \"{dir}/copy.key\"\n"
    );
    write(
        &world.path("config.toml"),
        &optional.replace(
            "type = \"file\"\npath = \"",
            "name = \"main\"\ntype = \"file\"\npath = \"",
        ),
    );
    let (_, secret) = create_manually(&world, "by hand");
    write(&world.path("copy.key"), &secret);
    world.ok(&["rotate", "a"]);
    world.run(&["once"]);
    assert_eq!(world.history()[0]["phase"], "current");
    assert_eq!(fs::read_to_string(world.path("copy.key")).unwrap(), secret);
}

#[test]
fn sinks_propose_what_to_adopt() {
    let world = TestEnv::start(&[]);
    let names = ["a", "b", "c", "d"];
    configure(&world, &names, "initial-rotation = \"scheduled\"\n");
    let mut daemon = Daemon::start(&world);
    daemon.wait_for("leaving it alone");
    let (of_a, secret_a) = create_manually(&world, "made for a");
    let (of_b, secret_b) = create_manually(&world, "made for b");
    write(&world.path("a.key"), &secret_a);
    write(&world.path("b.key"), &format!("B={secret_b}\n"));
    let shown = world.ok(&["adopt", "--from-sinks"]);
    for part in [
        &of_a,
        &of_b,
        "made for a",
        "a: would adopt",
        "hint: add --yes to adopt it",
        "c: no sink holds a key",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains(&secret_a[9..]), "{shown}");
    assert!(world.history().is_empty());
    // A key that the provider does not have.
    write(
        &world.path("d.key"),
        &format!("sk-admin-{}", "x1".repeat(30)),
    );
    assert_refused(
        &world.run(&["adopt", "--from-sinks"]),
        &["d.key", "no such credential"],
    );
    let adopted = world.run(&["adopt", "--from-sinks", "--yes", "--reason", "moving in"]);
    assert_refused(&adopted, &["d.key"]);
    let adopted = text(&adopted.stdout);
    assert!(
        adopted.contains(&format!("a: adopted {of_a} as its current credential")),
        "{adopted}"
    );
    assert!(
        adopted.contains(&format!("b: adopted {of_b} as its current credential")),
        "{adopted}"
    );
    fs::remove_file(world.path("d.key")).unwrap();
    let again = world.ok(&["adopt", "--from-sinks", "--yes"]);
    assert!(again.contains("a: no sink holds a key to adopt"), "{again}");
    let nothing = world.ok(&["adopt", "--from-sinks"]);
    assert!(!nothing.contains("--yes"), "{nothing}");
    assert_eq!(world.history().len(), 2);
}

/// A dead key whose end is by chance that of somebody else's credential is no match.
#[test]
fn dead_key_with_the_end_of_another_credential_is_not_adopted() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "initial-rotation = \"scheduled\"\n");
    let (id, secret) = create_manually(&world, "payroll, made by hand");
    let end = &secret[secret.len() - 3..];
    let dead = format!("sk-admin-{}{end}", "x1".repeat(30));
    write(&world.path("a.key"), &dead);
    for arguments in [
        &["adopt", "--from-sinks"][..],
        &["adopt", "--from-sinks", "--yes"],
    ] {
        let refused = world.run(arguments);
        assert_refused(
            &refused,
            &["a.key", end, &id, "refuses that key", "--force"],
        );
        assert!(!text(&refused.stdout).contains("adopt"), "nothing else");
    }
    let refused = world.run(&["adopt", "a", &id]);
    assert_refused(
        &refused,
        &["a.key", end, &id, "refuses that key", "--force"],
    );
    assert!(world.history().is_empty());
    // A project key is no admin key, whatever its end.
    write(&world.path("a.key"), &dead.replace("admin", "proj"));
    assert_refused(
        &world.run(&["adopt", "--from-sinks", "--yes"]),
        &["a.key", "no such credential"],
    );
    assert_refused(&world.run(&["adopt", "a", &id]), &["a.key", &id]);
    assert!(world.history().is_empty());
    write(&world.path("a.key"), &dead);
    // The end alone shows nothing, so a person has to know the credential.
    let name = "payroll, made by hand";
    assert_refused(
        &world.run(&["adopt", "a", &id, "--force"]),
        &["holds its secret", "belongs to", "--force --name"],
    );
    assert!(world.history().is_empty());
    let adopted = world.ok(&["adopt", "a", &id, "--force", "--name", name, "--yes"]);
    assert!(adopted.contains("on hold until"), "{adopted}");
}

/// Two consumers use one credential that a person made.
#[test]
fn two_keys_adopt_one_credential() {
    let world = TestEnv::start(&[]);
    configure(
        &world,
        &["a", "b"],
        "initial-rotation = \"scheduled\"\nrevoke-when-idle-for = \"0s\"\n",
    );
    let (id, secret) = create_manually(&world, "made for both");
    for key in ["a", "b"] {
        write(&world.path(&format!("{key}.key")), &secret);
    }
    let adopted = world.ok(&["adopt", "--from-sinks", "--yes"]);
    for key in ["a", "b"] {
        let line = format!("{key}: adopted {id} as its current credential\n");
        assert!(adopted.contains(&line), "{adopted}");
    }
    let rotated = world.ok(&["rotate", "a", "--revoke-previous-now"]);
    let kept = format!("warning: {id} stays live: b also uses it");
    assert!(rotated.contains(&kept), "{rotated}");
    world.ok(&["once"]);
    assert!(world.live_ids().contains(&id), "b still uses it");
    let history = world.history();
    let of_a = |row: &&serde_json::Value| row["key"] == "a" && row["credential_id"] == id.as_str();
    let error = history.iter().find(of_a).unwrap()["error"].to_string();
    assert!(
        error.contains("b also uses it and has not moved"),
        "{error}"
    );
    let refused = world.run(&["revoke", &id]);
    assert_refused(&refused, &["b.key"]);
    world.ok(&["rotate", "b", "--revoke-previous-now"]);
    world.ok(&["once"]);
    assert!(!world.live_ids().contains(&id));
    let history = world.history();
    let rows = history
        .iter()
        .filter(|row| row["credential_id"] == id.as_str());
    assert!(
        rows.clone().all(|row| row["phase"] == "revoked"),
        "{history:?}"
    );
    assert_eq!(rows.count(), 2);
}

/// What was revoked waits for nothing, and nobody holds it.
#[test]
fn revoked_shared_credential_is_shown_without_its_hold() {
    let world = TestEnv::start(&[]);
    let options = "initial-rotation = \"scheduled\"\nrevoke-when-idle-for = \"0s\"\n";
    configure(&world, &["a", "b"], options);
    let (id, secret) = create_manually(&world, "made for both");
    for key in ["a", "b"] {
        write(&world.path(&format!("{key}.key")), &secret);
    }
    world.ok(&["adopt", "--from-sinks", "--yes"]);
    world.ok(&["rotate", "a", "--revoke-previous-now"]);
    world.ok(&["once"]);
    world.ok(&["hold", &id, "--until", "2031-01-01T00:00:00Z"]);
    assert!(world.ok(&["history"]).contains("the hold ends at 2031"));
    // Waiting does nothing here: the other key has not moved.
    let refused = world.run(&["revoke", &id]);
    assert_refused(&refused, &["b.key", "rekeyd rotate b", "--force"]);
    world.ok(&["revoke", &id, "--force"]);
    assert!(!world.live_ids().contains(&id));
    let shown = world.ok(&["history"]);
    assert!(!shown.contains("on hold"), "{shown}");
    for row in world.history() {
        if row["credential_id"] == id.as_str() {
            let waits = ["error", "hold_until", "holder", "hold_reason"];
            let waits = waits.map(|column| row[column].clone());
            assert!(waits.iter().all(serde_json::Value::is_null), "{row}");
            assert_eq!(
                (&row["phase"], &row["held"]),
                (&"revoked".into(), &0.into())
            );
        }
    }
    let status = text(&world.run(&["status"]).stdout);
    assert!(!status.contains("is held"), "{status}");
}

/// One admin key, pasted everywhere, also as rekeyd's own.
#[test]
fn own_admin_key_is_adopted_by_each_key_whose_file_holds_it() {
    for (first, own) in [("app", "own"), ("app", "a-own")] {
        let world = TestEnv::start(&[]);
        configure_beside_own(&world, first, own);
        let (id, secret) = create_manually(&world, "pasted everywhere");
        write(&world.path("admin-key"), &secret);
        write(&world.path("app.key"), &secret);
        let shown = world.ok(&["adopt", "--from-sinks"]);
        for key in [first, own] {
            assert!(
                shown.contains(&format!("{key}: would adopt {id}")),
                "{shown}"
            );
        }
        let adopted = world.ok(&["adopt", "--from-sinks", "--yes"]);
        for key in [first, own] {
            let line = format!("{key}: adopted {id} as its current credential\n");
            assert!(adopted.contains(&line), "{adopted}");
        }
        world.ok(&["rotate", own, "--revoke-previous-now"]);
        world.ok(&["once"]);
        assert!(world.live_ids().contains(&id), "app still uses it");
        world.ok(&["rotate", first, "--revoke-previous-now"]);
        world.ok(&["once"]);
        assert!(!world.live_ids().contains(&id));
    }
}

/// A key that did not adopt rekeyd's former admin key is not left with a dead one.
#[test]
fn admin_key_in_an_unadopted_file_is_kept() {
    let world = TestEnv::start(&[]);
    configure_beside_own(&world, "app", "own");
    let (id, secret) = create_manually(&world, "pasted everywhere");
    write(&world.path("admin-key"), &secret);
    write(&world.path("app.key"), &secret);
    world.ok(&["adopt", "own", &id]);
    world.ok(&["rotate", "own", "--revoke-previous-now"]);
    world.ok(&["once"]);
    assert!(world.live_ids().contains(&id));
    let status = text(&world.run(&["status"]).stdout);
    assert!(
        status.contains(&format!("rekeyd adopt app {id}")),
        "{status}"
    );
    world.ok(&["adopt", "app", &id]);
}

/// A file that cannot be read just then may hold what a person made; an absent one does
/// not.
#[test]
fn credential_that_an_unseen_file_may_hold_is_kept() {
    for (kind, cause) in [
        ("absent", None),
        ("link", Some("symbolic link")),
        ("folder away", Some("its folder does not exist")),
        ("too long", Some("too long")),
    ] {
        let world = TestEnv::start(&[]);
        fs::create_dir(world.path("apart")).unwrap();
        configure(
            &world,
            &["a", "b"],
            "revoke-when-idle-for = \"0s\"\ninitial-rotation = \"scheduled\"\n",
        );
        let text = fs::read_to_string(world.path("config.toml")).unwrap();
        write(
            &world.path("config.toml"),
            &text.replace("b.key", "apart/b.key"),
        );
        let (id, secret) = create_manually(&world, "made for both");
        write(&world.path("a.key"), &secret);
        let other = world.path("apart/b.key");
        write(&other, &secret);
        world.ok(&["adopt", "a", &id]);
        match kind {
            "absent" => fs::remove_file(&other).unwrap(),
            "link" => {
                fs::rename(&other, world.path("apart/real")).unwrap();
                std::os::unix::fs::symlink("real", &other).unwrap();
            }
            "too long" => write(&other, &format!("{}{secret}", "#\n".repeat(100_000))),
            _ => fs::rename(world.path("apart"), world.path("elsewhere")).unwrap(),
        }
        world.run(&["rotate", "a", "--revoke-previous-now"]);
        world.run(&["once"]);
        assert_eq!(world.live_ids().contains(&id), cause.is_some(), "{kind}");
        let status = text_of_status(&world);
        for part in cause
            .into_iter()
            .flat_map(|cause| [cause, "apart/b.key", "at the latest"])
        {
            assert!(status.contains(part), "{kind}: {status}");
        }
    }
}

fn text_of_status(world: &TestEnv) -> String {
    text(&world.run(&["status"]).stdout)
}

/// What an earlier ledger made is adopted as `audit` says, one after the other, and none
/// of it asks for a further credential.
#[test]
fn adopted_beside_a_delivered_credential_is_retired() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "revoke-when-idle-for = \"0s\"\n");
    world.ok(&["rotate", "a"]);
    let current = file(&world, "a");
    let ids: Vec<_> = (0..3)
        .map(|number| create_manually(&world, &format!("by hand {number}")).0)
        .collect();
    for (number, id) in ids.iter().enumerate() {
        let adopted = adopt_by_name(&world, "a", id, &format!("by hand {number}"));
        assert!(
            adopted.contains("every sink holds the current credential"),
            "{adopted}"
        );
        world.ok(&["once"]);
    }
    assert_eq!(file(&world, "a"), current);
    assert_eq!(world.history().len(), 4);
    // Each goes one overlap later.
    let is_gone = || {
        world.run(&["once"]);
        let live = world.live_ids();
        ids.iter().all(|id| !live.contains(id))
    };
    let begun = Instant::now();
    while !is_gone() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", world.history());
    }
    world.ok(&["once"]);
    assert_eq!(world.history().len(), 4, "their end asks for no rotation");
    assert_eq!(file(&world, "a"), current);
}

/// A consumer whose file holds no key is given one at once, unless its key waits for the
/// schedule anyway, or an operator insists.
#[test]
fn adoption_for_an_empty_file_says_when_it_is_delivered() {
    for (content, initial, force, is_delivered) in [
        (None, "now", false, true),
        (Some(""), "now", false, true),
        (Some("changeme\n"), "now", false, true),
        (None, "now", true, false),
        (None, "scheduled", false, false),
    ] {
        let world = TestEnv::start(&[]);
        configure(
            &world,
            &["a"],
            &format!("initial-rotation = \"{initial}\"\n"),
        );
        let (id, _) = create_manually(&world, "by hand");
        if let Some(content) = content {
            write(&world.path("a.key"), content);
        }
        let force: &[&str] = if force { &["--force"] } else { &[] };
        let adopt = ["adopt", "a", &id, "--name", "by hand", "--yes"];
        let adopted = world.ok(&[&adopt, force].concat());
        world.ok(&["release", &id]);
        let promise = if is_delivered {
            "a is rotated now"
        } else {
            "as its current credential"
        };
        for part in [&format!("a: adopted {id}"), "a.key", promise] {
            assert!(adopted.contains(part), "{part}: {adopted}");
        }
        world.ok(&["once"]);
        assert_eq!(world.history().len(), 1 + usize::from(is_delivered));
        let is_there = |one: &str| one.starts_with("sk-admin-");
        let held = fs::read_to_string(world.path("a.key"));
        assert_eq!(held.is_ok_and(|held| is_there(&held)), is_delivered);
        world.ok(&["rotate", "a"]);
        assert!(is_there(&file(&world, "a")));
    }
}

/// Configures a key with a file, and one of rekeyd's own.
fn configure_beside_own(world: &TestEnv, key: &str, own: &str) {
    let options = "schedule = \"@monthly\"\noverlap = \"1s\"\nverify-interval = \"0s\"\n\
                   revoke-when-idle-for = \"0s\"\ninitial-rotation = \"scheduled\"\n";
    world.configure(&format!(
        "[key.{key}]\n{options}[[key.{key}.sink]]\ntype = \"file\"\npath = \"DIR/app.key\"\n\
         [key.{own}]\n{options}[[key.{own}.sink]]\ntype = \"self\"\n"
    ));
}

/// A secret in the place of an id is neither sent nor printed.
#[test]
fn secret_in_the_place_of_an_id_is_refused() {
    let world = TestEnv::start(&[]);
    configure(&world, &["a"], "initial-rotation = \"scheduled\"\n");
    let (_, secret) = create_manually(&world, "made for a");
    for command in [
        &["adopt", "a"][..],
        &["revoke"],
        &["hold"],
        &["release"],
        &["rotate"],
        &["pause"],
        &["resume"],
        &["history"],
        &["status"],
        &["schedule"],
    ] {
        let arguments: Vec<_> = command.iter().copied().chain([secret.as_str()]).collect();
        let refused = world.run(&arguments);
        assert_eq!(refused.status.code(), Some(2), "{command:?}");
        let printed = text(&refused.stdout) + &text(&refused.stderr);
        assert!(printed.contains("looks like a secret"), "{printed}");
        assert!(!printed.contains(&secret[12..24]), "{printed}");
    }
}
