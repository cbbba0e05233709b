//! Whole rotations by the real binary against the sandbox.

use crate::support::{TestEnv, file_key_text, read_ledger, text, write, write_ledger};

#[test]
fn new_key_is_rotated_and_all_views_agree() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["check"]);
    world.ok(&["once"]);
    let history = world.history();
    assert_eq!(history.len(), 1);
    let row = &history[0];
    assert_eq!(row["phase"], "current");
    assert_eq!(row["trigger"], "first");
    let id = row["credential_id"].as_str().unwrap();
    let secret = world.secret_of(id);
    let delivered = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(delivered, format!("{secret}\n"));
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["status", "--json"])).unwrap();
    assert_eq!(status["keys"][0]["current"]["credential_id"], id);
    assert_eq!(status["keys"][0]["healthy"], true);
    assert_eq!(status["keys"][0]["overlap"], serde_json::json!([]));
    // No rotation is due, so none starts.
    world.ok(&["once"]);
    assert_eq!(world.history().len(), 1);
    assert_eq!(world.live_ids(), [id]);
}

#[test]
fn manual_rotation_retires_the_previous_credential() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    world.ok(&["rotate", "billing", "--reason", "somebody left"]);
    let history = world.history();
    let phases: Vec<_> = history
        .iter()
        .map(|row| row["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["current", "retired"]);
    assert_eq!(history[0]["trigger"], "manual");
    // Both credentials live until the overlap is over.
    assert_eq!(world.live_ids().len(), 2);
    let delivered = std::fs::read_to_string(world.path("billing.key")).unwrap();
    assert_eq!(
        delivered.trim(),
        world.secret_of(history[0]["credential_id"].as_str().unwrap())
    );
    let ledger = read_ledger(&world.path("ledger.db"));
    let reason: String = ledger
        .query_row(
            "SELECT detail ->> 'reason' FROM events WHERE event = 'started' ORDER BY seq DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(reason, "somebody left");
}

#[test]
fn history_has_the_columns_and_values_of_the_view() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    world.ok(&["rotate", "billing"]);
    let ledger = read_ledger(&world.path("ledger.db"));
    let view = ledger.prepare("SELECT * FROM history").unwrap();
    let columns: Vec<String> = view.column_names().map(str::to_owned).collect();
    let texts: Vec<_> = columns
        .iter()
        .map(|name| format!("CAST({name:?} AS TEXT)"))
        .collect();
    let sql = format!(
        "SELECT {} FROM history ORDER BY sequence DESC",
        texts.join(", ")
    );
    let mut rows = ledger.prepare(&sql).unwrap();
    let rows = rows.query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect());
    let rows: Vec<Vec<Option<String>>> = rows.unwrap().map(Result::unwrap).collect();

    let lines = rows.iter().map(|row| {
        let cells: Vec<_> = row
            .iter()
            .map(|cell| cell.clone().unwrap_or_default())
            .collect();
        cells.join(",")
    });
    let lines: Vec<_> = std::iter::once(columns.join(",")).chain(lines).collect();
    assert_eq!(world.ok(&["history", "--csv"]), lines.join("\n") + "\n");

    let objects = world.history();
    assert_eq!(objects.len(), rows.len());
    for (object, row) in objects.iter().zip(rows) {
        assert_eq!(object.as_object().unwrap().len(), columns.len());
        for (name, cell) in columns.iter().zip(row) {
            let value = &object[name];
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            let expected = (!value.is_null()).then_some(text);
            assert_eq!(expected, cell, "{name}");
        }
    }
}

/// An empty answer would look like that of a key that never rotated.
#[test]
fn commands_refuse_a_key_that_does_not_exist() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let ledger = world.path("ledger.db");
    let ledger = ledger.to_str().unwrap();
    let before = world.history();
    for arguments in [
        &["history", "biling"][..],
        &["history", "biling", "--json"],
        &["history", "biling", "--ledger", ledger],
        &["history", "biling", "--ledger", ledger, "--csv"],
        &["schedule", "biling"],
        &["schedule", "biling", "--json"],
        &["status", "biling"],
        &["show", "biling"],
        &["rotate", "biling"],
        &["pause", "biling"],
        &["resume", "biling"],
        &["retire", "biling"],
        &["hold", "biling"],
        &["release", "biling"],
        &["adopt", "biling", "key_a"],
    ] {
        let output = world.run(arguments);
        let shown = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {shown}");
        assert!(shown.contains("biling"), "{arguments:?}: {shown}");
        assert_eq!(text(&output.stdout), "", "{arguments:?}");
    }
    for arguments in [
        &["history", "billing"][..],
        &["history", "billing", "--ledger", ledger],
    ] {
        assert!(world.ok(arguments).contains("billing"), "{arguments:?}");
    }
    assert_eq!(world.history(), before);
}

#[test]
fn history_lists_the_newest_up_to_its_limit() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    for _ in 0..2 {
        world.ok(&["rotate", "billing"]);
    }
    let mut newest: Option<Vec<u64>> = None;
    for (limit, count) in [("9", 3), ("2", 2), ("0", 0)] {
        let stdout = world.ok(&["history", "--json", "--limit", limit]);
        let stdout: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let rows = stdout.as_array().unwrap().iter();
        let sequences: Vec<_> = rows.map(|row| row["sequence"].as_u64().unwrap()).collect();
        assert!(
            sequences.is_sorted_by(|newer, next| newer > next),
            "{sequences:?}"
        );
        let all = newest.get_or_insert_with(|| sequences.clone());
        assert_eq!(
            (sequences.len(), &sequences[..]),
            (count, &all[..count]),
            "{limit}"
        );
    }
}

#[test]
fn uncertain_create_is_found_revoked_and_never_repeated() {
    let world = TestEnv::start(&["--fault", "create:drop-after:1"]);
    world.configure(&file_key_text("24h"));
    let output = world.run(&["rotate", "billing"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("not rotated"));
    let history = world.history();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0]["phase"], "revoked");
    assert!(
        world.live_ids().is_empty(),
        "what was made without us knowing its secret is gone"
    );
    let created: Vec<_> = world
        .keys()
        .into_iter()
        .filter(|key| key["name"] == history[0]["label"])
        .collect();
    assert_eq!(created.len(), 1);
}

#[test]
fn unreachable_provider_starts_no_rotation() {
    let mut world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    world.stop_sandbox();
    let output = world.run(&["rotate", "billing"]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("cannot reach the provider at"), "{stderr}");
    let history = world.history();
    assert_eq!(history.len(), 1, "nothing was begun");
    assert_eq!(history[0]["phase"], "current");
}

#[test]
fn unready_sink_defers_the_create() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h").replace("DIR/billing.key", "DIR/missing/billing.key"));
    let output = world.run(&["once"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(world.live_ids().is_empty());
    assert!(world.history().is_empty());
    // The folder may be created later: the configuration may be right.
    assert_eq!(world.run(&["check"]).status.code(), Some(1));
}

#[test]
fn second_writer_exits_with_75_and_names_the_holder() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    let _lock =
        rekeyd::ledger::WriterLock::acquire(&world.path("ledger.db"), "rekeyd run").unwrap();
    let output = world.run(&["rotate", "billing"]);
    assert_eq!(output.status.code(), Some(75));
    assert!(
        text(&output.stderr).contains("rekeyd run (process "),
        "{}",
        text(&output.stderr)
    );
    assert!(world.live_ids().is_empty());
}

#[test]
fn ledger_of_another_provider_or_organization_is_rejected() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    let original = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let organization = original.replace("[provider]", "[provider]\norganization = \"org-other\"");
    let provider = original.replace(&world.base_url, "http://127.0.0.1:9/v1");
    for (other, named) in [
        (&provider, "http://127.0.0.1:9/v1 (no organization)"),
        (&organization, "(organization org-other)"),
    ] {
        write(&world.path("config.toml"), other);
        for command in [&["once"][..], &["run"], &["rotate", "--all"]] {
            let output = world.run(command);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{stderr}");
            let owner = format!("belongs to {} (no organization)", world.base_url);
            assert!(
                stderr.contains(&owner) && stderr.contains(named),
                "{stderr}"
            );
        }
    }
    // The right provider still works, and has no new credential.
    write(&world.path("config.toml"), &original);
    world.ok(&["once"]);
    assert_eq!(world.live_ids().len(), 1);
}

#[test]
fn empty_ledger_is_bound_to_the_configured_provider() {
    let world = TestEnv::start(&[]);
    world.configure("");
    let original = std::fs::read_to_string(world.path("config.toml")).unwrap();
    let other = original.replace(&world.base_url, "http://127.0.0.1:9/v1");
    write(&world.path("config.toml"), &other);
    // The service was started before it was configured: no provider answers there.
    world.run(&["once", "--for", "1s"]);
    assert!(world.path("ledger.db").exists());
    world.configure(&file_key_text("24h"));
    world.ok(&["once"]);
    assert_eq!(world.history().len(), 1);
    write(&world.path("config.toml"), &other);
    assert_eq!(world.run(&["once"]).status.code(), Some(78));
}

#[test]
fn unrecognized_or_newer_database_is_rejected_unchanged() {
    let world = TestEnv::start(&[]);
    world.configure(&file_key_text("24h"));
    write(
        &world.path("ledger.db"),
        &"not a database, only text. ".repeat(100),
    );
    let output = world.run(&["once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("is not a ledger"),
        "{}",
        text(&output.stderr)
    );
    std::fs::remove_file(world.path("ledger.db")).unwrap();
    let newer = write_ledger(&world.path("ledger.db"));
    newer
        .execute_batch("PRAGMA application_id = 0x726b7964; PRAGMA user_version = 999")
        .unwrap();
    drop(newer);
    let output = world.run(&["once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("version 999"),
        "{}",
        text(&output.stderr)
    );
    assert!(world.live_ids().is_empty());
}
