//! rekeyd's own admin credential, rotated like any other, through the binary.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::fs;

use support::World;

const OWN: &str = "[key.own]\nschedule = \"@monthly\"\noverlap = \"1s\"\nsettle = \"0s\"\n\
    hold-while-used = \"0s\"\n[[key.own.sink]]\ntype = \"self\"\n";

fn in_file(world: &World) -> String {
    let text = fs::read_to_string(world.path("admin-key")).unwrap();
    text.trim().to_owned()
}

fn newest(world: &World) -> serde_json::Value {
    world.history().remove(0)
}

#[test]
fn the_file_is_replaced_and_the_next_process_works_with_it() {
    let world = World::start(&[]);
    world.configure(OWN);
    world.ok(&["once"]);
    let first = newest(&world);
    assert_eq!(first["phase"], "current");
    let id = first["credential_id"].as_str().unwrap();
    assert_eq!(in_file(&world), world.secret_of(id));

    world.ok(&["rotate", "own"]);
    let second = newest(&world);
    let id = second["credential_id"].as_str().unwrap();
    assert_eq!(in_file(&world), world.secret_of(id));
    world.ok(&["check", "--online"]);
}
