//! The page about the control API has every route, member and answer.

use std::collections::{BTreeMap, BTreeSet};

use crate::readme::read_blocks;
use rekeyd::core::secret::Secret;
use rekeyd::daemon::control::protocol::{
    ControlRequest, ControlResponse, DaemonInfo, ErrorBody, Introduction, SentSecret,
};

const PAGE: &str = include_str!("../../docs/control-api.md");
const SERVER: &str = include_str!("../../src/daemon/control/server.rs");

/// Returns the sections below the headings `## METHOD /ROUTE`, by route.
fn sections() -> BTreeMap<String, String> {
    let sections = PAGE.split("\n## ").skip(1);
    let routes = sections.filter_map(|section| {
        let (heading, text) = section.split_once('\n')?;
        let (_, route) = heading.split_once(" /")?;
        Some((route.to_owned(), text.to_owned()))
    });
    routes.collect()
}

/// Returns a request of each kind with every member set.
fn full_requests() -> Vec<ControlRequest> {
    let text = || "a".to_owned();
    let (keys, reason) = (vec![text()], Some(text()));
    vec![
        ControlRequest::Rotate {
            keys: keys.clone(),
            all: true,
            revoke_previous_now: true,
            revoke_previous_within: Some(text()),
            force: true,
            also: keys.clone(),
            replace: true,
            no_wait: true,
            reason: reason.clone(),
        },
        ControlRequest::Revoke {
            credential_id: text(),
            force: true,
            name: Some(text()),
            reason: reason.clone(),
        },
        ControlRequest::Hold {
            what: text(),
            until: Some(text()),
            reason: reason.clone(),
        },
        ControlRequest::Release {
            what: text(),
            reason: reason.clone(),
        },
        ControlRequest::Adopt {
            key: text(),
            credential_id: text(),
            name: Some(text()),
            force: true,
            reason: reason.clone(),
        },
        ControlRequest::AdoptFromSinks {
            apply: true,
            reason: reason.clone(),
        },
        ControlRequest::Pause {
            keys: keys.clone(),
            all: true,
            until: Some(text()),
            reason: reason.clone(),
        },
        ControlRequest::Resume {
            keys: keys.clone(),
            all: true,
            reason: reason.clone(),
        },
        ControlRequest::Retire {
            keys,
            now: true,
            undo: true,
            reason: reason.clone(),
        },
        ControlRequest::Prune {
            archive: text(),
            sha256: text(),
            ledger: text(),
            before: text(),
            rotations: [(text(), 1)].into(),
            reason,
        },
        ControlRequest::LogLevel {
            level: text(),
            span: Some(text()),
        },
        ControlRequest::ChannelTested {
            channels: vec![text()],
        },
        ControlRequest::UseCredential {
            secret: SentSecret(Secret::new("sk-admin-example".to_owned())),
            file: text(),
        },
        ControlRequest::Reload,
    ]
}

/// Returns the first cell of each row of a section's table.
fn documented_members(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next().map(str::to_owned))
        .collect()
}

fn json_blocks(text: &str) -> Vec<String> {
    let (blocks, _) = read_blocks(text);
    let blocks = blocks.into_iter();
    blocks
        .filter(|block| block.language == "json")
        .map(|block| block.content)
        .collect()
}

#[test]
fn every_route_is_documented_with_its_members() {
    let mut sections = sections();
    for request in full_requests() {
        let section = sections
            .remove(request.verb())
            .unwrap_or_else(|| panic!("POST /{} is not documented", request.verb()));
        let body: serde_json::Value = serde_json::from_str(&request.body()).unwrap();
        let members: BTreeSet<_> = body.as_object().unwrap().keys().cloned().collect();
        assert_eq!(documented_members(&section), members, "{}", request.verb());
        for example in json_blocks(&section) {
            ControlRequest::parse(request.verb(), example.as_bytes())
                .unwrap_or_else(|error| panic!("{example}: {error}"));
        }
    }
    let reading: Vec<_> = sections.into_keys().collect();
    assert_eq!(
        reading,
        [
            "configuration",
            "daemon",
            "handshake",
            "ledger",
            "live",
            "ready"
        ]
    );
    for route in reading {
        assert!(SERVER.contains(&format!(".route(\"/{route}\", get(")));
    }
}

#[test]
fn documented_answers_have_every_member() {
    let (answers, _) = PAGE.split_once("\n## GET ").unwrap();
    let answers = json_blocks(answers);
    let [outcomes, error] = &answers[..] else {
        panic!("nothing checks another answer: {answers:?}");
    };
    let _: ControlResponse = serde_json::from_str(outcomes).unwrap();
    let _: ErrorBody = serde_json::from_str(error).unwrap();
    let outcome: serde_json::Value = serde_json::from_str(outcomes).unwrap();
    for member in outcome["outcomes"][0].as_object().unwrap().keys() {
        assert!(PAGE.contains(&format!("| `{member}` |")), "{member}");
    }
    let handshake = json_blocks(&sections()["handshake"]);
    let _: Introduction = serde_json::from_str(&handshake[0]).unwrap();
    let daemon = json_blocks(&sections()["daemon"]);
    let parsed: DaemonInfo = serde_json::from_str(&daemon[0]).unwrap();
    let documented: serde_json::Value = serde_json::from_str(&daemon[0]).unwrap();
    assert_eq!(serde_json::to_value(parsed).unwrap(), documented);
}
