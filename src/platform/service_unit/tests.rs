use super::*;

/// A root with the units that the package installs, and these further files.
fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let packaged = [
        (
            "rekeyd.service",
            include_str!("../../../systemd/rekeyd.service"),
        ),
        (
            "rekeyd@.service",
            include_str!("../../../systemd/rekeyd@.service"),
        ),
        (
            "rekeyd-once.service",
            include_str!("../../../systemd/rekeyd-once.service"),
        ),
        (
            "rekeyd-once@.service",
            include_str!("../../../systemd/rekeyd-once@.service"),
        ),
    ];
    let packaged = packaged.map(|(name, text)| (format!("lib/systemd/system/{name}"), text));
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), *text));
    for (name, text) in packaged.into_iter().chain(files) {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    root
}

fn find(root: &tempfile::TempDir, file: &str) -> Option<ServiceUnit> {
    let default_file = Path::new("/etc/rekeyd/config.toml");
    let units = ServiceUnit::find_below(root.path(), Path::new(file), default_file);
    units.into_iter().next()
}

const DROP_IN: &str = "etc/systemd/system/rekeyd.service.d/paths.conf";

#[test]
fn unit_is_found_by_its_configuration() {
    let plain = root(&[]);
    for (file, expected) in [
        ("/etc/rekeyd/config.toml", Some("rekeyd.service")),
        ("/etc/rekeyd/acme.toml", Some("rekeyd@acme.service")),
        ("/srv/acme.toml", None),
    ] {
        let unit = find(&plain, file);
        assert_eq!(unit.map(|unit| unit.name).as_deref(), expected, "{file}");
    }
    let other = root(&[(
        "etc/systemd/system/rekeyd.service.d/file.conf",
        "[Service]\nExecStart=\nExecStart=/usr/bin/rekeyd run --config /srv/acme.toml\n",
    )]);
    assert_eq!(
        find(&other, "/srv/acme.toml").unwrap().name,
        "rekeyd.service"
    );
    let default = find(&other, "/etc/rekeyd/config.toml").unwrap();
    assert_eq!(
        default.name, "rekeyd-once.service",
        "the other no longer runs it"
    );
    let timer = root(&[(
        "etc/systemd/system/timers.target.wants/rekeyd-once.timer",
        "",
    )]);
    let unit = find(&timer, "/etc/rekeyd/config.toml").unwrap();
    assert_eq!(unit.name, "rekeyd-once.service");
    let instance = root(&[(
        "etc/systemd/system/timers.target.wants/rekeyd-once@acme.timer",
        "",
    )]);
    let unit = find(&instance, "/etc/rekeyd/acme.toml").unwrap();
    assert_eq!(unit.name, "rekeyd-once@acme.service");
    assert_eq!(unit.instance(), Some("acme"));
}

#[test]
fn the_last_value_of_a_variable_names_the_configuration() {
    for (lines, expected) in [
        ("Environment=REKEYD_CONFIG=/a.toml", "/a.toml"),
        (
            "Environment=REKEYD_CONFIG=/a.toml REKEYD_CONFIG=/b.toml",
            "/b.toml",
        ),
        (
            "Environment=REKEYD_CONFIG=/a.toml\nEnvironment=REKEYD_CONFIG=/b.toml",
            "/b.toml",
        ),
        (
            "Environment=REKEYD_CONFIG=/a.toml\nEnvironment=",
            "/etc/rekeyd/config.toml",
        ),
        (
            "Environment=REKEYD_CONFIGS=/a.toml",
            "/etc/rekeyd/config.toml",
        ),
        (r"Environment=REKEYD_CONFIG=/a\x20b.toml", "/a b.toml"),
        (
            "ExecStart=\nExecStart=/usr/bin/rekeyd --config=/c.toml run",
            "/c.toml",
        ),
        (
            "ExecStart=\nExecStart=/usr/bin/rekeyd --config \"/c d.toml\" run",
            "/c d.toml",
        ),
        (
            "ExecStart=\nExecStart=/usr/bin/rekeyd --configs=/c.toml run",
            "/etc/rekeyd/config.toml",
        ),
        (
            "Environment=FILE=/e.toml\nExecStart=\nExecStart=/usr/bin/rekeyd --config ${FILE} run",
            "/e.toml",
        ),
        (
            "Environment=FILE=/e.toml\nExecStart=\nExecStart=/usr/bin/rekeyd --config=$FILE run",
            "/e.toml",
        ),
    ] {
        let root = root(&[(DROP_IN, &format!("[Service]\n{lines}\n"))]);
        let unit = ServiceUnit::load(root.path(), "rekeyd.service").unwrap();
        let file = unit.configuration_file(Path::new("/etc/rekeyd/config.toml"));
        assert_eq!(file, Path::new(expected), "{lines}");
    }
}

#[test]
fn variables_of_files_count_and_unset_ones_do_not() {
    for (lines, expected) in [
        ("EnvironmentFile=/etc/default/rekeyd", Some("/f.toml")),
        (
            "EnvironmentFile=/etc/default/rekeyd\nEnvironment=REKEYD_CONFIG=/a.toml",
            Some("/f.toml"),
        ),
        ("EnvironmentFile=-/etc/default/rekeyd", Some("/f.toml")),
        ("EnvironmentFile=\"/etc/default/rekeyd\"", Some("/f.toml")),
        (
            "EnvironmentFile=/etc/default/rekeyd\nEnvironmentFile=/etc/default/%p-later",
            Some("/g.toml"),
        ),
        (
            "EnvironmentFile=/etc/default/rekeyd\nEnvironmentFile=",
            None,
        ),
        ("EnvironmentFile=-/etc/default/absent", None),
        ("EnvironmentFile=etc/default/rekeyd", None),
        ("#EnvironmentFile=/etc/default/rekeyd", None),
        (
            "EnvironmentFile=/etc/default/rekeyd\nUnsetEnvironment=REKEYD_CONFIG",
            None,
        ),
        (
            "EnvironmentFile=/etc/default/rekeyd\nUnsetEnvironment=REKEYD_CONFIG=/f.toml",
            None,
        ),
        (
            "EnvironmentFile=/etc/default/rekeyd\nUnsetEnvironment=REKEYD_CONFIG=/a.toml",
            Some("/f.toml"),
        ),
    ] {
        let root = root(&[
            (DROP_IN, &format!("[Service]\n{lines}\n")),
            (
                "etc/default/rekeyd",
                "# REKEYD_CONFIG=/x.toml\nREKEYD_CONFIG=\"/f.toml\"\n",
            ),
            ("etc/default/rekeyd-later", "REKEYD_CONFIG=/g.toml\n"),
        ]);
        let unit = ServiceUnit::load(root.path(), "rekeyd.service").unwrap();
        let file = unit.configuration_file(Path::new("/default"));
        assert_eq!(file, Path::new(expected.unwrap_or("/default")), "{lines}");
    }
}

#[test]
fn a_masked_or_unreadable_unit_is_not_replaced_by_another() {
    let drop_in = (DROP_IN, "[Service]\nUser=ops\n");
    let masked = root(&[("etc/systemd/system/rekeyd.service", ""), drop_in]);
    assert!(ServiceUnit::load(masked.path(), "rekeyd.service").is_none());
    let folder = root(&[("etc/systemd/system/rekeyd.service/file", ""), drop_in]);
    assert!(ServiceUnit::load(folder.path(), "rekeyd.service").is_none());
    let latin = root(&[drop_in]);
    let own = latin.path().join("etc/systemd/system/rekeyd.service");
    std::fs::write(
        own,
        b"[Unit]\nDescription=Schl\xfcssel\n[Service]\nUser=a\n",
    )
    .unwrap();
    let unit = ServiceUnit::load(latin.path(), "rekeyd.service").unwrap();
    assert_eq!(unit.user(), Some("ops"));
}

#[test]
fn links_of_writable_paths_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink("real", &link).unwrap();
    let option = format!(
        "[Service]\nPrivateTmp=no\nReadWritePaths={}\n",
        link.display()
    );
    let root = root(&[(DROP_IN, &option)]);
    let unit = find(&root, "/etc/rekeyd/config.toml").unwrap();
    for name in ["link", "link/file", "real", "real/file"] {
        assert_eq!(unit.write_problem(&dir.path().join(name)), None, "{name}");
    }
    assert!(unit.write_problem(&dir.path().join("real2")).is_some());
}

#[test]
fn own_folders_are_below_their_parents() {
    for (folder, expected) in [
        ("rekeyd", Some("/var/lib/rekeyd")),
        ("rekeyd:alias", Some("/var/lib/rekeyd")),
        ("a/b", Some("/var/lib/a/b")),
        ("/etc", None),
        ("../../etc", None),
        ("a/../../etc", None),
    ] {
        let found = own_folder("/var/lib", folder);
        assert_eq!(found.as_deref(), expected.map(Path::new), "{folder}");
    }
}

#[test]
fn drop_ins_and_instances_count() {
    let root = root(&[
        (
            "etc/systemd/system/rekeyd.service.d/user.conf",
            "[Service]\nUser=ops\nSupplementaryGroups=a \"b\"\nSupplementaryGroups=c\n\
             Environment=HTTPS_PROXY=http://p:1 \"A=b c\" \\\n  D=e\n",
        ),
        // Overridden by the one of the same name above.
        (
            "lib/systemd/system/rekeyd.service.d/user.conf",
            "[Service]\nUser=nobody\n",
        ),
        (
            "etc/systemd/system/service.d/zz.conf",
            "[Unit]\nUser=wrong\n[Service]\n# SupplementaryGroups=d\nSupplementaryGroups=\n",
        ),
    ]);
    let unit = find(&root, "/etc/rekeyd/config.toml").unwrap();
    assert_eq!((unit.user(), unit.group()), (Some("ops"), Some("rekeyd")));
    assert_eq!(unit.supplementary_groups(), Vec::<String>::new(), "reset");
    let environment = unit.environment();
    let value = |name: &str| {
        let mut found = environment.iter().filter(|(own, _)| own == name);
        found.next_back().map(|(_, value)| value.to_str().unwrap())
    };
    assert_eq!(value("HTTPS_PROXY"), Some("http://p:1"));
    assert_eq!((value("A"), value("D")), (Some("b c"), Some("e")));
    assert_eq!(
        unit.state_directory().unwrap(),
        Path::new("/var/lib/rekeyd")
    );
    let instance = find(&root, "/etc/rekeyd/acme.toml").unwrap();
    assert_eq!(instance.user(), Some("rekeyd"));
    assert_eq!(instance.state_directory(), None, "the unit unsets it");
}

#[test]
fn unit_may_write_what_it_names() {
    let root = root(&[(
        DROP_IN,
        "[Service]\nReadWritePaths=/etc/billing -/srv/a\nReadOnlyPaths=/srv/a/ro\n",
    )]);
    let unit = find(&root, "/etc/rekeyd/config.toml").unwrap();
    for (path, expected) in [
        ("/var/lib/rekeyd", None),
        ("/var/lib/rekeyd/deep/er", None),
        ("/run/rekeyd", None),
        ("/etc/billing", None),
        ("/srv/a/x", None),
        (
            "/srv/a/ro",
            Some(
                "rekeyd.service may not write to /srv/a/ro; hint: run `systemctl edit rekeyd`, add the two lines `[Service]` and `ReadWritePaths=/srv/a/ro`, then run `systemctl restart rekeyd`",
            ),
        ),
        ("/etc/billing2", Some("may not write to /etc/billing2")),
        ("/etc/other", Some("may not write to /etc/other")),
        (
            "/home/anna",
            Some(
                "files in /home are private to rekeyd.service (ProtectHome=), so consumers would not find /home/anna",
            ),
        ),
        ("/root", Some("(ProtectHome=)")),
        ("/tmp/nowhere", Some("(PrivateTmp=)")),
        ("/var/tmp/nowhere", Some("(PrivateTmp=)")),
    ] {
        let problem = unit
            .write_problem(Path::new(path))
            .map(|problem| problem.to_string());
        match (&problem, expected) {
            (None, None) => {}
            (Some(problem), Some(expected)) => assert!(problem.contains(expected), "{problem}"),
            (_, _) => panic!("{path}: {problem:?}"),
        }
    }
    let instance = find(&root, "/etc/rekeyd/acme.toml").unwrap();
    assert_eq!(
        instance.write_problem(Path::new("/var/lib/rekeyd/acme/x")),
        None
    );
    assert_eq!(instance.write_problem(Path::new("/run/rekeyd-acme")), None);
    assert!(instance.write_problem(Path::new("/etc/billing")).is_some());
}

#[test]
fn admin_key_is_found_where_the_unit_gets_it() {
    let name = "openai-admin-key";
    let of = |root: &tempfile::TempDir, file: &str| {
        let found = find(root, file).unwrap().stored_credential(name)?;
        let path = found.path.strip_prefix(root.path()).unwrap().to_owned();
        Some((path.to_str().unwrap().to_owned(), found.is_encrypted))
    };
    let default_file = "/etc/rekeyd/config.toml";
    assert_eq!(of(&root(&[]), default_file), None);
    // Where it is missing, it belongs.
    let empty = root(&[]);
    for (file, expected, unit) in [
        (default_file, "openai-admin-key", "rekeyd"),
        (
            "/etc/rekeyd/acme.toml",
            "openai-admin-key.acme",
            "rekeyd@acme",
        ),
    ] {
        let place = find(&empty, file).unwrap().credential_place(name).unwrap();
        assert_eq!(
            place.path,
            empty.path().join("etc/credstore").join(expected)
        );
        assert_eq!(place.unit_for_commands(), unit);
    }
    let plain = root(&[
        ("etc/credstore/openai-admin-key", "x"),
        ("etc/credstore/openai-admin-key.acme", "x"),
    ]);
    let expected = |path: &str, is_encrypted| Some((path.to_owned(), is_encrypted));
    assert_eq!(
        of(&plain, default_file),
        expected("etc/credstore/openai-admin-key", false)
    );
    let instance = expected("etc/credstore/openai-admin-key.acme", false);
    assert_eq!(of(&plain, "/etc/rekeyd/acme.toml"), instance);
    let encrypted_file = "etc/credstore.encrypted/openai-admin-key";
    let encrypted = root(&[
        (encrypted_file, "x"),
        (
            "etc/systemd/system/rekeyd.service.d/encrypted.conf",
            include_str!("../../../systemd/examples/encrypted.conf"),
        ),
    ]);
    assert_eq!(of(&encrypted, default_file), expected(encrypted_file, true));
    // The line of the package does not decrypt.
    assert_eq!(of(&root(&[(encrypted_file, "x")]), default_file), None);
    let elsewhere = root(&[
        ("srv/key", "x"),
        (
            DROP_IN,
            "[Service]\nLoadCredential=\nLoadCredential=openai-admin-key:/srv/key\n",
        ),
    ]);
    assert_eq!(of(&elsewhere, default_file), expected("srv/key", false));
}

#[test]
fn missing_state_folders_are_made_as_the_service_manager_does() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let root = root(&[(
        DROP_IN,
        "[Service]\nStateDirectory=rekeyd/deep kept ../outside\nStateDirectoryMode=0750\n",
    )]);
    let state = root.path().join("var/lib");
    std::fs::create_dir_all(state.join("kept")).unwrap();
    let mode = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(state.join("kept"), mode).unwrap();
    let unit = find(&root, "/etc/rekeyd/config.toml").unwrap();
    let own = root.path().metadata().unwrap();
    // Root can give it to anybody, and everybody to themselves.
    let is_root = rustix::process::geteuid().is_root();
    let user = if is_root { 4_711 } else { own.uid() };
    let owner = (rustix::fs::Uid::from_raw(user), rustix::process::getegid());
    for _ in 0..2 {
        unit.make_state_folders(Some(owner)).unwrap();
        for (folder, mode, owner) in [("rekeyd/deep", 0o750, user), ("kept", 0o711, own.uid())] {
            let found = state.join(folder).metadata().unwrap();
            assert_eq!(found.mode() & 0o7777, mode, "{folder}");
            assert_eq!(found.uid(), owner, "{folder}");
        }
    }
    assert!(!root.path().join("var/outside").exists());
}

#[test]
fn units_in_use_run_the_configuration() {
    let link = |root: &tempfile::TempDir, path: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("anything", path).unwrap();
    };
    let daemon_link = "etc/systemd/system/multi-user.target.wants/rekeyd.service";
    let timer_link = "etc/systemd/system/timers.target.wants/rekeyd-once.timer";
    let failed = "run/systemd/units/invocation:rekeyd-once.service";
    let (daemon, once) = ("rekeyd.service", "rekeyd-once.service");
    for (links, expected) in [
        (&[][..], &[daemon][..]),
        (&[daemon_link], &[daemon]),
        (&[timer_link], &[once]),
        (&[failed], &[once]),
        (&[daemon_link, failed], &[daemon, once]),
        (&[daemon_link, timer_link], &[daemon, once]),
    ] {
        let root = root(&[]);
        for path in links {
            link(&root, path);
        }
        let file = Path::new("/etc/rekeyd/config.toml");
        let units = ServiceUnit::in_use(ServiceUnit::find_below(root.path(), file, file));
        let names: Vec<_> = units.iter().map(|unit| unit.name.as_str()).collect();
        assert_eq!(names, expected, "{links:?}");
    }
}

#[test]
fn process_knows_its_unit_by_its_control_group() {
    for (text, expected) in [
        (
            "0::/system.slice/rekeyd-once.service\n",
            Some("rekeyd-once.service"),
        ),
        (
            "0::/system.slice/system-rekeyd.slice/rekeyd@acme.service\n",
            Some("rekeyd@acme.service"),
        ),
        (
            "12:pids:/x\n1:name=systemd:/system.slice/rekeyd.service\n0::/\n",
            Some("rekeyd.service"),
        ),
        ("0::/user.slice/user-0.slice/session-1.scope\n", None),
        ("0::/system.slice/cron.service\n", None),
        ("0::/\n", None),
        ("", None),
    ] {
        assert_eq!(unit_of_cgroup(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn service_manager_makes_the_folders_of_a_unit_that_never_ran() {
    let root = root(&[(
        DROP_IN,
        "[Service]\nStateDirectory=rekeyd second\nRuntimeDirectory=rekeyd\n",
    )]);
    let unit = find(&root, "/etc/rekeyd/config.toml").unwrap();
    std::fs::create_dir_all(root.path().join("var/lib/second")).unwrap();
    for (folder, expected) in [
        ("/var/lib/rekeyd", true),
        ("/var/lib/rekeyd/keys", true),
        ("/run/rekeyd", true),
        // It has run: what is missing now, it does not make.
        ("/var/lib/second/keys", false),
        ("/var/lib/rekeyd-other", false),
        ("/var/lib", false),
        ("/etc/billing", false),
    ] {
        let is_made = unit.makes_at_start(Path::new(folder));
        assert_eq!(is_made, expected, "{folder}");
    }
}

#[test]
fn restrictions_are_those_of_the_unit_and_its_drop_ins() {
    let forbidden = |files: &[(&str, &str)]| -> Vec<_> {
        let unit = find(&root(files), "/etc/rekeyd/config.toml").unwrap();
        let restrictions = unit.restrictions().into_iter();
        restrictions.map(|one| one.drop_in).collect()
    };
    let all = ["executable-memory.conf", "netlink.conf", "proc.conf"];
    assert_eq!(forbidden(&[]), all);
    // Each example loosens its own restriction and no other.
    for (name, text) in [
        (
            all[0],
            include_str!("../../../systemd/examples/executable-memory.conf"),
        ),
        (
            all[1],
            include_str!("../../../systemd/examples/netlink.conf"),
        ),
        (all[2], include_str!("../../../systemd/examples/proc.conf")),
    ] {
        let expected: Vec<_> = all.into_iter().filter(|other| *other != name).collect();
        assert_eq!(forbidden(&[(DROP_IN, text)]), expected, "{name}");
    }
    let inverted = "[Service]\nRestrictAddressFamilies=\nRestrictAddressFamilies=~AF_PACKET\n";
    assert!(!forbidden(&[(DROP_IN, inverted)]).contains(&all[1]));
}

#[test]
fn sandbox_has_the_lines_of_the_unit() {
    let home = "[Service]\nProtectHome=read-only\nExecStartPre=/bin/true\n";
    let unit = find(&root(&[(DROP_IN, home)]), "/etc/rekeyd/config.toml").unwrap();
    assert!(unit.has_no_new_privileges());
    let lines = unit.sandbox_lines();
    for line in [
        "User=rekeyd",
        "CapabilityBoundingSet=",
        "MemoryDenyWriteExecute=yes",
        "ProtectHome=read-only",
        "SystemCallFilter=~@privileged @resources",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line}: {lines:?}");
    }
    let is_other = |line: &String| line.starts_with("Exec") || line.starts_with("Type");
    assert!(!lines.iter().any(is_other), "{lines:?}");
}

#[test]
fn units_with_one_user_are_those_in_use() {
    let default_file = Path::new("/etc/rekeyd/config.toml");
    let wanted = |name: &str| format!("etc/systemd/system/multi-user.target.wants/{name}");
    let (acme, beta) = (wanted("rekeyd@acme.service"), wanted("rekeyd@beta.service"));
    let own_user = include_str!("../../../systemd/examples/own-user.conf");
    let names = |files: &[(&str, &str)], file: &str| -> Vec<_> {
        let root = root(files);
        let unit = find(&root, file).unwrap();
        let others = unit.units_of_same_user(default_file).into_iter();
        others.map(|other| other.name).collect()
    };
    let both = [
        (acme.as_str(), ""),
        (beta.as_str(), ""),
        ("run/systemd/units/invocation:rekeyd.service", ""),
    ];
    assert_eq!(names(&[], "/etc/rekeyd/acme.toml"), [""; 0]);
    assert_eq!(
        names(&both, "/etc/rekeyd/acme.toml"),
        ["rekeyd.service", "rekeyd@beta.service"]
    );
    let moved = "etc/systemd/system/rekeyd@acme.service.d/own-user.conf";
    let moved = [&both[..], &[(moved, own_user)]].concat();
    assert_eq!(names(&moved, "/etc/rekeyd/acme.toml"), [""; 0]);
    assert_eq!(names(&moved, "/etc/rekeyd/beta.toml"), ["rekeyd.service"]);
    let unit = find(&root(&moved), "/etc/rekeyd/acme.toml").unwrap();
    assert_eq!(unit.user(), Some("rekeyd-acme"));
    assert!(unit.makes_at_start(Path::new("/var/lib/rekeyd-acme")));
    assert!(!unit.makes_at_start(Path::new("/var/lib/rekeyd/acme")));
}
