//! A request as the command line has it, for the log.

use crate::core::first_few::join_few;
use crate::core::plural::counted;
use crate::core::redact;
use crate::daemon::control::protocol::ControlRequest;

/// Describes a request for the log: its command line, since each of its options changes what
/// it does, and its reason.
pub(super) fn request_text(request: &ControlRequest) -> String {
    let verb = match request {
        ControlRequest::AdoptFromSinks { .. } => "adopt",
        ControlRequest::Prune { .. } => "ledger prune",
        ControlRequest::ChannelTested { .. } => "notify --test",
        ControlRequest::Rotate { .. }
        | ControlRequest::Revoke { .. }
        | ControlRequest::Hold { .. }
        | ControlRequest::Release { .. }
        | ControlRequest::Adopt { .. }
        | ControlRequest::Pause { .. }
        | ControlRequest::Resume { .. }
        | ControlRequest::Retire { .. }
        | ControlRequest::LogLevel { .. }
        | ControlRequest::UseCredential { .. }
        | ControlRequest::Reload => request.verb(),
    };
    let words = [verb.to_owned()].into_iter();
    let words: Vec<_> = words
        .chain(arguments(request).into_iter().flatten())
        .collect();
    let what = redact::sanitize(&words.join(" "));
    match request.reason() {
        Some(reason) => format!("{what} (reason: {})", redact::sanitize(reason)),
        None => what,
    }
}

/// Returns the arguments that are set.
fn arguments(request: &ControlRequest) -> Vec<Option<String>> {
    match request {
        ControlRequest::Rotate {
            keys,
            all,
            revoke_previous_now,
            revoke_previous_within,
            force,
            also,
            replace,
            no_wait,
            reason: _,
        } => vec![
            names(keys),
            flag(*all, "--all"),
            flag(*revoke_previous_now, "--revoke-previous-now"),
            option("--revoke-previous-within", revoke_previous_within.as_ref()),
            flag(*force, "--force"),
            (!also.is_empty()).then(|| format!("--yes (also {})", join_few(also))),
            flag(*replace, "--replace"),
            flag(*no_wait, "--no-wait"),
        ],
        ControlRequest::Revoke {
            credential_id,
            force,
            name,
            reason: _,
        } => vec![
            Some(credential_id.clone()),
            flag(*force, "--force"),
            option("--name", name.as_ref()),
        ],
        ControlRequest::Hold {
            what,
            until,
            reason: _,
        } => vec![Some(what.clone()), option("--until", until.as_ref())],
        ControlRequest::Release { what, reason: _ } => vec![Some(what.clone())],
        ControlRequest::Adopt {
            key,
            credential_id,
            name,
            force,
            reason: _,
        } => vec![
            Some(format!("{key} {credential_id}")),
            option("--name", name.as_ref()),
            flag(*force, "--force"),
        ],
        ControlRequest::AdoptFromSinks { apply, reason: _ } => {
            vec![Some("--from-sinks".to_owned()), flag(*apply, "--yes")]
        }
        ControlRequest::Pause {
            keys,
            all,
            until,
            reason: _,
        } => vec![
            names(keys),
            flag(*all, "--all"),
            option("--until", until.as_ref()),
        ],
        ControlRequest::Resume {
            keys,
            all,
            reason: _,
        } => vec![names(keys), flag(*all, "--all")],
        ControlRequest::Retire {
            keys,
            now,
            undo,
            reason: _,
        } => vec![names(keys), flag(*now, "--now"), flag(*undo, "--undo")],
        ControlRequest::Prune {
            archive,
            sha256: _,
            ledger: _,
            before: _,
            rotations,
            reason: _,
        } => vec![
            Some(format!("--archive {archive}")),
            Some(format!("({})", counted(rotations.len(), "rotation"))),
        ],
        ControlRequest::LogLevel { level, span } => {
            vec![Some(level.clone()), option("--for", span.as_ref())]
        }
        ControlRequest::ChannelTested { channels } => vec![names(channels)],
        ControlRequest::UseCredential { secret: _, file } => vec![Some(file.clone())],
        ControlRequest::Reload => Vec::new(),
    }
}

fn flag(is_set: bool, name: &str) -> Option<String> {
    is_set.then(|| name.to_owned())
}

fn option(name: &str, value: Option<&String>) -> Option<String> {
    Some(format!("{name} {}", value?))
}

fn names(keys: &[String]) -> Option<String> {
    (!keys.is_empty()).then(|| join_few(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_has_each_argument_of_a_request() {
        for (verb, body, expected) in [
            (
                "rotate",
                r#"{"all":true,"no_wait":true}"#,
                "rotate --all --no-wait",
            ),
            (
                "rotate",
                r#"{"keys":["a","b"],"revoke_previous_within":"30s","force":true,"also":["c"]}"#,
                "rotate a, b --revoke-previous-within 30s --force --yes (also c)",
            ),
            (
                "rotate",
                r#"{"keys":["a"],"replace":true,"revoke_previous_now":true,"reason":"why"}"#,
                "rotate a --revoke-previous-now --replace (reason: why)",
            ),
            (
                "revoke",
                r#"{"credential_id":"key_1","force":true}"#,
                "revoke key_1 --force",
            ),
            (
                "hold",
                r#"{"what":"a","until":"2026-12-01T00:00:00Z"}"#,
                "hold a --until 2026-12-01T00:00:00Z",
            ),
            ("release", r#"{"what":"key_1"}"#, "release key_1"),
            (
                "adopt",
                r#"{"key":"a","credential_id":"key_1","name":"ci","force":true}"#,
                "adopt a key_1 --name ci --force",
            ),
            (
                "adopt-from-sinks",
                r#"{"apply":true}"#,
                "adopt --from-sinks --yes",
            ),
            ("retire", r#"{"keys":["a"],"now":true}"#, "retire a --now"),
            (
                "prune",
                r#"{"archive":"old.archive","sha256":"00","ledger":"1","before":"2024-01-01T00:00:00Z",
                    "rotations":{"0011223344556677":41},"reason":"why"}"#,
                "ledger prune --archive old.archive (1 rotation) (reason: why)",
            ),
            ("pause", r#"{"all":true}"#, "pause --all"),
            ("resume", r#"{"keys":["a"]}"#, "resume a"),
            (
                "log-level",
                r#"{"level":"info,engine=debug","for":"10m"}"#,
                "log-level info,engine=debug --for 10m",
            ),
            (
                "use-credential",
                r#"{"secret":"sk-admin-0123456789abcdef","file":"/root/new-key"}"#,
                "use-credential /root/new-key",
            ),
            ("reload", "{}", "reload"),
        ] {
            let request = ControlRequest::parse(verb, body.as_bytes()).unwrap();
            assert_eq!(request_text(&request), expected);
        }
    }
}
