//! The settings of a valid configuration, its defaults, and the checks of the files that
//! it names.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::configuration::{environment, file_key_text, parse_text, webhook_key_text};
use rekeyd::config::{Environment, ProblemKind, host_problems, load, parse};
use rekeyd::core::secret_text::SecretTextError;

#[test]
fn omitted_options_have_defaults() {
    let empty = parse_text("").unwrap();
    assert!(empty.keys.is_empty());
    assert_eq!(
        empty.provider.base_url.as_str(),
        "https://api.openai.com/v1"
    );
    assert_eq!(empty.ledger, Path::new("/var/lib/rekeyd/ledger.db"));

    let mut service = environment();
    service.state_directory = Some("/var/lib/other".into());
    let settings = parse(Path::new("/etc/c.toml"), "", &service).unwrap();
    assert_eq!(settings.ledger, Path::new("/var/lib/other/ledger.db"));

    let settings = parse_text(&file_key_text("")).unwrap();
    let policy = &settings.keys[0].policy;
    assert_eq!(policy.overlap, Duration::from_secs(12 * 3_600));
    let weekly = parse_text(&file_key_text("").replace("@daily", "@weekly")).unwrap();
    assert_eq!(
        weekly.keys[0].policy.overlap,
        Duration::from_secs(24 * 3_600)
    );
    let sink = &settings.keys[0].sinks[0];
    assert_eq!(sink.id.to_string(), "file (file:/k/a)");
}

#[test]
fn keys_are_ordered_by_name() {
    let second = file_key_text("").replace("/k/a", "/k/b");
    let settings = parse_text(&[second.replace("key.a", "key.b"), file_key_text("")].concat());
    let keys = settings.unwrap().keys;
    let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn keys_without_options_of_their_own_share_a_policy() {
    let key = |name| {
        let text = file_key_text("").replace("key.a", &format!("key.{name}"));
        text.replace("/k/a", &format!("/k/{name}"))
    };
    let own = key("c").replace("@daily\"", "@daily\"\noverlap = \"1h\"");
    let three = [key("a"), key("b"), own].concat();
    let keys = parse_text(&three).unwrap().keys;
    assert!(Arc::ptr_eq(&keys[0].policy, &keys[1].policy));
    assert_eq!(keys[2].policy.overlap, Duration::from_secs(3_600));

    // The jitter of each key is its own.
    let jitter = format!("[defaults]\njitter = \"1h\"\n{three}");
    let keys = parse_text(&jitter).unwrap().keys;
    assert!(!Arc::ptr_eq(&keys[0].policy, &keys[1].policy));

    // A problem with the defaults is reported for each key.
    let wrong = format!("[defaults]\noverlap = \"2d\"\n{three}");
    let problems = parse_text(&wrong).unwrap_err();
    for (problem, key) in problems.iter().zip(["a", "b"]) {
        assert!(problem.contains(&format!("key.{key}.overlap")), "{problem}");
    }
    assert_eq!(problems.len(), 2);
}

#[test]
fn systemd_directories_are_read_from_the_environment() {
    let now = environment().now;
    let read = |value: &'static str| Environment::read(now, move |_| Some(value.into()));
    let two = read("/var/lib/one:/var/lib/two");
    assert_eq!(two.state_directory.unwrap(), Path::new("/var/lib/one"));
    let one = Environment::read(now, |name| {
        (name == "CREDENTIALS_DIRECTORY").then(|| "/run/credentials/x".into())
    });
    assert_eq!(one.state_directory, None);
    assert_eq!(
        one.credentials_directory.unwrap(),
        Path::new("/run/credentials/x")
    );
    assert_eq!(one.admin_key_variable, None);
    assert_eq!(read("sk-admin-x\n").admin_key_variable, Some(Ok(())));
    for nothing in ["", "relative"] {
        let none = read(nothing);
        assert_eq!(none.state_directory, None, "{nothing}");
        assert_eq!(none.admin_key_variable.is_some(), !nothing.is_empty());
    }
}

#[test]
fn required_sinks_come_first_and_target_ids_omit_the_query() {
    let text = format!(
        "{}[[key.a.sink]]\ntype = \"webhook\"\nurl = \"https://h:444/x?token=1\"\nsigning-secret-file = \"/s\"\n",
        file_key_text("required = false")
    );
    let settings = parse_text(&text).unwrap();
    let ids: Vec<_> = settings.keys[0]
        .sinks
        .iter()
        .map(|sink| sink.id.to_string())
        .collect();
    assert_eq!(
        ids,
        ["webhook (webhook:https://h:444/x)", "file (file:/k/a)"]
    );
    for host in ["localhost:1", "127.8.9.1", "[::1]:9"] {
        let text = webhook_key_text(&format!(
            "url = \"http://{host}/\"\nsigning-secret-file = \"/s\""
        ));
        assert!(parse_text(&text).is_ok(), "{host}");
    }
    let slash = parse_text("[provider]\nbase-url = \"http://127.0.0.1:8787/v1/\"\n").unwrap();
    assert_eq!(slash.provider.base_url.as_str(), "http://127.0.0.1:8787/v1");
}

#[test]
fn all_problems_are_reported_and_syntax_errors_name_their_line() {
    let text = "[provider]\nmax-in-flight = 0\nfoo = 1\n[key.a]\nschedule = \"x y\"\n[key.b]\n";
    assert_eq!(parse_text(text).unwrap_err().len(), 6);
    let broken =
        parse_text("[provider]\nbase-url = \"https://sk-admin-secret\norganization = ok\n")
            .unwrap_err();
    for message in &broken {
        assert!(!message.contains("secret"), "{message}");
    }
    assert!(
        broken[0].starts_with("/etc/c.toml:2: invalid TOML: "),
        "{broken:?}"
    );
    let missing = parse_text("[key.a]\nschedule = \"@daily\n").unwrap_err();
    assert!(
        missing.iter().all(|message| !message.contains("has no")),
        "{missing:?}"
    );
}

#[test]
fn excess_problems_are_counted_not_listed() {
    let text = "[provider]\nmax-in-flight = 0\n[key.a]\n".to_owned();
    let wrong: String = (0..1_005)
        .map(|number| format!("x{number} = 1\n"))
        .collect();
    let messages = parse_text(&format!("{text}{wrong}")).unwrap_err();
    assert_eq!(messages.len(), 1_001);
    assert!(
        messages[0].starts_with("/etc/c.toml:2: "),
        "{}",
        messages[0]
    );
    // Besides the options, key.a has neither a schedule nor a sink.
    assert_eq!(messages[1_000], "/etc/c.toml: 8 further problems not shown");
}

#[test]
fn unsafe_or_unreadable_file_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    let displayed = path.display();
    let messages = || -> Vec<String> {
        let problems = load(&path, &environment()).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        messages(),
        [format!(
            "{displayed}: cannot open the file: no such file or directory; set --config or REKEYD_CONFIG to the path of the configuration"
        )]
    );
    fs::write(&path, "\n").unwrap();
    for (mode, text) in [(0o664, "0664"), (0o602, "0602")] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            messages(),
            [format!(
                "{displayed}: the file has mode {text}, so other users can write to it; run: chmod go-w {displayed}"
            )]
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(load(&path, &environment()).is_ok());
    fs::write(&path, b"\n\xff").unwrap();
    assert_eq!(
        messages(),
        [format!(
            "{displayed}:2: the file is not valid UTF-8; save the file as UTF-8"
        )]
    );
}

#[test]
fn host_problems_name_missing_and_exposed_files() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("key");
    let displayed = secret.display().to_string();
    // Root may follow the hint for another user.
    let user = rustix::process::geteuid().as_raw();
    let name = rekeyd::platform::users::user_name(user).unwrap_or_else(|| user.to_string());
    let owner = if user == 0 {
        String::new()
    } else {
        format!(" -o {name}")
    };
    let settings = parse_text(&format!("[provider]\ncredential-file = {displayed:?}\n")).unwrap();
    let problems = host_problems(&settings, &environment());
    assert!(
        problems
            .iter()
            .all(|problem| problem.kind == ProblemKind::Host)
    );
    assert_eq!(
        problems[0].to_string(),
        format!(
            "/etc/c.toml: provider.credential-file: {displayed} does not exist; hint: enter the secret into the command `install -m 0600{owner} /dev/stdin {displayed}`"
        )
    );
    fs::write(&secret, "sk-admin-host").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    // rekeyd narrows it, unless it has another name.
    assert!(host_problems(&settings, &environment()).is_empty());
    fs::hard_link(&secret, folder.path().join("too")).unwrap();
    assert_eq!(
        host_problems(&settings, &environment())[0].to_string(),
        format!(
            "/etc/c.toml: provider.credential-file: {displayed} has mode 0644: other users can read or write it; hint: chmod 0640 {displayed}"
        )
    );
    let mut service = environment();
    service.credentials_directory = Some(folder.path().to_owned());
    assert!(host_problems(&settings, &service).is_empty());
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    assert!(host_problems(&settings, &environment()).is_empty());

    // The first admin key is systemd's, and a sink of type "self" creates the file.
    let made = folder.path().join("made");
    let text = format!(
        "[provider]\ncredential-file = {made:?}\n[key.a]\nschedule = \"@monthly\"\n\
         [[key.a.sink]]\ntype = \"self\"\n"
    );
    let settings = parse_text(&text).unwrap();
    assert_eq!(host_problems(&settings, &environment()).len(), 1);
    fs::rename(&secret, folder.path().join("openai-admin-key")).unwrap();
    assert!(host_problems(&settings, &service).is_empty());
    // A shell does not get it, and reads the path from which systemd loads it.
    let mut shell = environment();
    shell.credential_stores = vec![folder.path().to_owned()];
    assert!(host_problems(&settings, &shell).is_empty());
    let without = parse_text("").unwrap();
    assert!(host_problems(&without, &shell).is_empty());
    assert_eq!(host_problems(&without, &environment()).len(), 1);
    // Without such a sink the file is not needed as long as a key is passed.
    let no_file = parse_text(&format!("[provider]\ncredential-file = {made:?}\n")).unwrap();
    assert!(host_problems(&no_file, &service).is_empty());
    assert_eq!(host_problems(&no_file, &shell).len(), 1);
    assert_eq!(host_problems(&no_file, &environment()).len(), 1);
    let mut as_service = environment();
    as_service.passed_admin_key = Some(Ok(()));
    assert!(host_problems(&no_file, &as_service).is_empty());
    as_service.passed_admin_key = Some(Err(SecretTextError::SeveralLines { lines: 2 }));
    assert_eq!(host_problems(&no_file, &as_service).len(), 1);
    // One that cannot be decrypted is there.
    let reason = "systemd-creds: Bad message".to_owned();
    as_service.passed_admin_key = Some(Err(SecretTextError::Unreadable { reason }));
    let problems = host_problems(&no_file, &as_service);
    let message = problems.iter().map(ToString::to_string).collect::<String>();
    let expected = "the unit's openai-admin-key cannot be read: systemd-creds: Bad message; hint:";
    assert!(message.contains(expected), "{message}");
    // A file that is there counts, whatever is passed.
    as_service.passed_admin_key = Some(Ok(()));
    fs::write(&made, "").unwrap();
    assert_eq!(host_problems(&no_file, &as_service).len(), 1);
    fs::remove_file(&made).unwrap();
    // The same holds for a template's unit, here for /etc/c.toml.
    let (plain, of_instance) = ("openai-admin-key", "openai-admin-key.c");
    fs::rename(folder.path().join(plain), folder.path().join(of_instance)).unwrap();
    assert!(host_problems(&without, &shell).is_empty());

    // Sinks check their own files with roots.
    let roots = folder.path().join("roots.pem");
    let settings = parse_text(&format!("[provider]\nca-file = {roots:?}\n")).unwrap();
    let mut with_key = environment();
    with_key.admin_key_variable = Some(Ok(()));
    let message = || {
        let problems = host_problems(&settings, &with_key);
        problems.iter().map(ToString::to_string).collect::<String>()
    };
    let displayed = roots.display();
    assert_eq!(
        message(),
        format!(
            "/etc/c.toml: provider.ca-file: cannot read ca-file {displayed}: no such file or directory"
        )
    );
    fs::write(&roots, "").unwrap();
    assert!(
        message().contains("it contains no certificate"),
        "{}",
        message()
    );
    let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(&roots, certificate.cert.pem()).unwrap();
    assert_eq!(message(), "");

    let nothing = parse_text("").unwrap();
    assert_eq!(
        host_problems(&nothing, &environment())[0].to_string(),
        "/etc/c.toml: provider.credential-file: found no admin key; hint: set [provider] credential-file to the path of its file, or pass the key with systemd's LoadCredential=openai-admin-key"
    );
    service.admin_key_variable = Some(Ok(()));
    assert!(host_problems(&nothing, &service).is_empty());
    service.admin_key_variable = Some(Err(SecretTextError::SeveralLines { lines: 2 }));
    assert_eq!(
        host_problems(&nothing, &service)[0].to_string(),
        "/etc/c.toml: provider.credential-file: $OPENAI_ADMIN_KEY has 2 lines; hint: write nothing but the secret, in one line and without a comment"
    );
}

/// Returns the problems that the host may repair, with an admin key in the environment.
fn problems_with_key(text: &str) -> String {
    let settings = parse_text(text).unwrap();
    let mut with_key = environment();
    with_key.admin_key_variable = Some(Ok(()));
    let problems = host_problems(&settings, &with_key);
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.join("\n")
}

#[test]
fn client_certificate_of_the_provider_is_checked_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key_file) = (folder.path().join("client.pem"), folder.path().join("key"));
    let text = format!("[provider]\nclient-certificate = {file:?}\nclient-key = {key_file:?}\n");
    let made = || rcgen::generate_simple_self_signed(vec!["rekeyd".to_owned()]).unwrap();
    let (own, other) = (made(), made());
    let write_key = |text: &str| {
        fs::write(&key_file, text).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    let found = problems_with_key(&text);
    assert!(
        found.starts_with(
            "/etc/c.toml: provider.client-certificate: cannot read client-certificate "
        ),
        "{found}"
    );
    fs::write(&file, own.cert.pem()).unwrap();
    write_key(&other.signing_key.serialize_pem());
    let found = problems_with_key(&text);
    assert!(
        found.contains("is not the key of client-certificate"),
        "{found}"
    );
    write_key(&own.signing_key.serialize_pem());
    assert_eq!(problems_with_key(&text), "");
}

#[test]
fn metrics_that_other_hosts_reach_need_a_decision() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let password = format!("password-file = {file:?}\n");
    let refused = "/etc/c.toml: metrics.listen: /metrics at ";
    let missing = "/etc/c.toml: metrics.password-file: ";
    for (listen, options, expected) in [
        ("127.0.0.1:9464", "", ""),
        ("[::1]:9464", "", ""),
        ("unix:/run/rekeyd/metrics.sock", "", ""),
        ("systemd", "", ""),
        ("0.0.0.0:9464", "", refused),
        ("[::]:9464", "", refused),
        ("192.0.2.1:9464", "unprotected = false\n", refused),
        ("0.0.0.0:9464", "unprotected = true\n", ""),
        ("0.0.0.0:9464", password.as_str(), missing),
        ("127.0.0.1:9464", password.as_str(), missing),
    ] {
        let found = problems_with_key(&format!("[metrics]\nlisten = \"{listen}\"\n{options}"));
        assert!(found.starts_with(expected), "{listen} {options}: {found}");
        assert_eq!(
            found.is_empty(),
            expected.is_empty(),
            "{listen} {options}: {found}"
        );
    }
    fs::write(&file, "secret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let found = problems_with_key(&format!("[metrics]\nlisten = \"0.0.0.0:9464\"\n{password}"));
    assert_eq!(found, "");
}

#[test]
fn group_that_does_not_exist_is_reported() {
    let settings = parse_text("[control]\nadmins = [\"root\", \"opps-no-such\"]\n").unwrap();
    let mut with_key = environment();
    with_key.admin_key_variable = Some(Ok(()));
    let problems = host_problems(&settings, &with_key);
    let messages: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let expected = "/etc/c.toml: control.admins: group opps-no-such is not in /etc/group; hint: create it, or use its number if a directory service provides it";
    assert_eq!(messages, [expected]);
}

#[test]
fn socket_path_has_the_length_that_the_kernel_allows() {
    let parse = |length: usize| {
        let path = format!("/{}", "s".repeat(length - 1));
        parse_text(&format!("[control]\nsocket = \"{path}\"\n"))
    };
    assert!(parse(107).is_ok());
    let expected = "/etc/c.toml:2: control.socket: the path of a socket cannot be 108 bytes long; use a path of at most 107 bytes";
    assert_eq!(parse(108).unwrap_err(), [expected]);
}
