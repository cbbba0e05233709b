//! The configurations of all scenarios, in one place for renames. DIR, PROVIDER, RECEIVER
//! and METRICS are replaced by the scenario's values; WEEKLY, MONTHLY and YEARLY by
//! schedules that do not fire soon.

/// The views of the ledger.
pub(crate) const VIEWS: [&str; 3] = ["history", "deliveries", EVENTS_VIEW];

/// The view of the events.
pub(crate) const EVENTS_VIEW: &str = "events";

/// The paths of the provider and the ledger.
const PROGRAM: &str = r#"
[provider]
base-url = "PROVIDER"
credential-file = "DIR/admin-key"
[ledger]
path = "DIR/ledger.db"
[control]
socket = "DIR/control.sock"
"#;

const METRICS: &str = r#"
[metrics]
listen = "METRICS"
"#;

/// Defaults without delays for which a test would wait.
const IMPATIENT: &str = r#"
[defaults]
verify-interval = "0s"
"#;

/// Returns a key whose secret goes to a file of its name.
fn file_key(name: &str, options: &str) -> String {
    format!(
        r#"
[key.{name}]
{options}
[[key.{name}.sink]]
type = "file"
name = "file"
path = "DIR/{name}.key"
"#
    )
}

fn all(parts: &[&str]) -> String {
    parts.concat()
}

/// Configurations for each kind of `status`.
pub(crate) mod commands {
    use super::{IMPATIENT, PROGRAM, all, file_key};

    const MONTHLY: &str = "schedule = \"MONTHLY\"\noverlap = \"24h\"\nexpires-after = \"60d\"";

    fn billing() -> String {
        file_key("billing", MONTHLY)
    }

    fn by_age() -> String {
        file_key("by-age", "every = \"30d\"")
    }

    fn scheduled() -> String {
        let zone = "timezone = \"Europe/Berlin\"\njitter = \"10m\"";
        let options = format!("schedule = \"WEEKLY\"\ninitial-rotation = \"scheduled\"\n{zone}");
        file_key("scheduled", &options)
    }

    /// Returns a key with a sink whose folder is missing.
    fn failing(patience: &str) -> String {
        let options = format!("schedule = \"YEARLY\"\ndelivery-deadline = \"{patience}\"");
        file_key("failing", &options).replace("DIR/failing", "DIR/missing/failing")
    }

    pub(crate) fn three_keys() -> String {
        all(&[PROGRAM, IMPATIENT, &billing(), &by_age(), &scheduled()])
    }

    pub(crate) fn one_fails() -> String {
        all(&[&three_keys(), &failing("1h")])
    }

    pub(crate) fn one_is_overdue() -> String {
        all(&[&three_keys(), &failing("1s")])
    }

    pub(crate) fn one_key() -> String {
        all(&[PROGRAM, IMPATIENT, &billing()])
    }
}

/// Configurations for the running daemon: every type of sink, and two channels.
pub(crate) mod service {
    use super::{IMPATIENT, METRICS, PROGRAM, all};

    const BILLING: &str = r#"
[key.billing]
schedule = "MONTHLY"
overlap = "24h"
expires-after = "60d"
[[key.billing.sink]]
type = "file"
name = "raw-file"
path = "DIR/files/raw.key"
mode = "0640"
on-change = ["/bin/sh", "DIR/record", "DIR/on-change", "after", "second word"]
on-change-timeout = "1m"
[[key.billing.sink]]
type = "file"
name = "env-file"
path = "DIR/files/env"
format = "env"
variable = "OPENAI_KEY"
[[key.billing.sink]]
type = "file"
name = "json-file"
path = "DIR/files/json"
format = "json"
[[key.billing.sink]]
type = "webhook"
url = "RECEIVER/hook?token=hidden"
owner = "OWN-USER"
signing-secret-file = "DIR/signing-secret"
bearer-token-file = "DIR/bearer-token"
[[key.billing.sink]]
type = "command"
argv = ["/bin/sh", "DIR/record", "DIR/command-sink", "first", "second word"]
"#;

    const OTHER: &str = r#"
[key.other]
schedule = "MONTHLY"
[[key.other.sink]]
type = "file"
path = "DIR/files/other.key"
"#;

    const NOTIFIERS: &str = r#"
[[notify]]
type = "webhook"
url = "RECEIVER/notify"
signing-secret-file = "DIR/signing-secret"
on = ["rotated"]
keys = ["billing"]
[[notify]]
type = "command"
argv = ["/bin/sh", "DIR/record", "DIR/notification", "first", "second word"]
on = ["rotated"]
keys = ["billing"]
"#;

    pub(crate) fn every_sink() -> String {
        all(&[PROGRAM, METRICS, IMPATIENT, BILLING, OTHER, NOTIFIERS])
    }

    /// The key that rotates rekeyd's own admin key.
    const OWN: &str = r#"
[key.own]
schedule = "MONTHLY"
[[key.own.sink]]
type = "self"
"#;

    pub(crate) fn self_credential() -> String {
        all(&[PROGRAM, IMPATIENT, OWN])
    }

    pub(crate) fn with_a_mistake() -> String {
        every_sink().replace("MONTHLY", "@sometimes")
    }
}

/// Configurations for a provider that fails in every way.
pub(crate) mod faults {
    use super::{IMPATIENT, METRICS, PROGRAM, all, file_key};

    /// Returns a key that rotates only on request.
    fn key(name: &str) -> String {
        file_key(
            name,
            "schedule = \"YEARLY\"\ninitial-rotation = \"scheduled\"\nverify-timeout = \"1s\"",
        )
    }

    const KEYS: [&str; 8] = [
        "forbidden",
        "html",
        "rate-limited",
        "lost",
        "garbage",
        "server-error",
        "refused",
        "hanging",
    ];

    pub(crate) fn a_key_for_each_fault() -> String {
        all(&[PROGRAM, METRICS, IMPATIENT, &KEYS.map(key).concat()])
    }

    const DELIVERING: &str = r#"
[key.delivering]
schedule = "YEARLY"
[[key.delivering.sink]]
type = "webhook"
url = "RECEIVER/silent"
owner = "OWN-USER"
signing-secret-file = "DIR/signing-secret"
timeout = "3s"
"#;

    /// Returns a key whose receiver does not answer.
    pub(crate) fn never_delivered() -> String {
        all(&[PROGRAM, IMPATIENT, DELIVERING])
    }

    /// Returns a key whose secret does not work in time.
    pub(crate) fn never_verified() -> String {
        let key = file_key("verifying", "schedule = \"YEARLY\"");
        all(&[PROGRAM, IMPATIENT, DELIVERING, &key])
    }

    /// Returns keys whose ledger and provider disagree.
    pub(crate) fn three_keys() -> String {
        let keys = ["revived", "missing", "doubled"];
        let keys = keys.map(|name| file_key(name, "schedule = \"YEARLY\""));
        all(&[PROGRAM, IMPATIENT, &keys.concat()])
    }
}

/// Configurations for sinks that fail, and for sinks that are removed and added.
pub(crate) mod deliveries {
    use super::{IMPATIENT, METRICS, PROGRAM, all, file_key};

    fn hook_key(name: &str) -> String {
        format!(
            r#"
[key.{name}]
schedule = "YEARLY"
[[key.{name}.sink]]
type = "webhook"
url = "RECEIVER/{name}"
owner = "OWN-USER"
signing-secret-file = "DIR/signing-secret"
[[key.{name}.sink]]
type = "file"
name = "file"
path = "DIR/{name}.key"
"#
        )
    }

    const CHANGED: &str = r#"
[key.changed]
schedule = "YEARLY"
[[key.changed.sink]]
type = "file"
path = "DIR/changed.key"
on-change = ["/bin/sh", "DIR/on-change", "DIR/ready"]
"#;

    const OPTIONAL: &str = r#"
[key.optional]
schedule = "YEARLY"
[[key.optional.sink]]
type = "file"
path = "DIR/optional.key"
[[key.optional.sink]]
type = "webhook"
url = "RECEIVER/optional"
owner = "OWN-USER"
signing-secret-file = "DIR/signing-secret"
required = false
"#;

    /// A key whose retired credential is in use and revoked within a day.
    const USED: &str = r#"
[key.used]
schedule = "YEARLY"
overlap = "0s"
revoke-when-idle-for = "1h"
max-revoke-delay = "1d"
[[key.used.sink]]
type = "file"
path = "DIR/used.key"
"#;

    const ANOTHER_SINK: &str = r#"
[[key.NAME.sink]]
type = "file"
name = "another"
path = "DIR/NAME.another"
"#;

    fn another_sink(name: &str) -> String {
        ANOTHER_SINK.replace("NAME", name)
    }

    fn moving(options: &str) -> String {
        file_key("moving", options)
    }

    fn keys() -> String {
        let hooks = ["refusing", "failing", "hanging"].map(hook_key).concat();
        all(&[PROGRAM, METRICS, IMPATIENT, CHANGED, OPTIONAL, USED, &hooks])
    }

    pub(crate) fn first() -> String {
        let moving = moving("schedule = \"YEARLY\"\noverlap = \"1h\"");
        all(&[&keys(), &moving, &another_sink("moving")])
    }

    /// Returns the configuration with one more sink of a key whose rotation is open.
    pub(crate) fn with_a_sink_added() -> String {
        all(&[&first(), &another_sink("hanging")])
    }

    /// Returns the configuration with one sink less, another schedule and a longer
    /// overlap.
    pub(crate) fn with_a_sink_removed() -> String {
        let moving = moving("schedule = \"MONTHLY\"\noverlap = \"2h\"");
        all(&[&keys(), &moving, &another_sink("hanging")])
    }

    pub(crate) fn with_the_sink_again() -> String {
        all(&[&with_a_sink_removed(), &another_sink("moving")])
    }
}

/// Configurations for firings at a given second.
pub(crate) mod firings {
    use super::{IMPATIENT, PROGRAM, all, file_key};

    fn key(name: &str, schedule: &str, options: &str) -> String {
        file_key(
            name,
            &format!("schedule = \"{schedule}\"\noverlap = \"1h\"\n{options}"),
        )
    }

    pub(crate) fn three_keys(schedule: &str) -> String {
        let dropped = key("dropped", schedule, "catch-up-window = \"1s\"");
        let keys = [
            key("missed", schedule, ""),
            dropped,
            key("paused", schedule, ""),
        ];
        all(&[PROGRAM, IMPATIENT, &keys.concat()])
    }
}

/// Configurations for notifications.
pub(crate) mod notifications {
    use super::{IMPATIENT, PROGRAM, all, file_key};

    const NOTIFIER: &str = r#"
[[notify]]
type = "webhook"
url = "RECEIVER/notify"
signing-secret-file = "DIR/signing-secret"
on = ["failure", "recovered", "overdue", "expiring", "rotated", "orphan", "lookalike", "clock", "hold"]
"#;

    const MAIL: &str = r#"
[[notify]]
type = "sendmail"
to = ["ops@example.com", "root"]
on = ["rotated"]
"#;

    fn yearly(name: &str) -> String {
        file_key(name, "schedule = \"YEARLY\"\noverlap = \"1h\"")
    }

    fn waiting(name: &str) -> String {
        file_key(
            name,
            "schedule = \"YEARLY\"\ninitial-rotation = \"scheduled\"",
        )
    }

    fn without_folder(name: &str) -> String {
        let options =
            "schedule = \"YEARLY\"\ninitial-rotation = \"FIRST\"\ndelivery-deadline = \"1s\"";
        file_key(name, options).replace(&format!("DIR/{name}"), &format!("DIR/missing/{name}"))
    }

    fn failing() -> String {
        without_folder("failing").replace("FIRST", "now")
    }

    fn expiring() -> String {
        without_folder("expiring").replace("FIRST", "scheduled")
    }

    pub(crate) fn about_keys() -> String {
        let keys = [failing(), expiring(), yearly("billing"), yearly("alike")];
        all(&[PROGRAM, IMPATIENT, NOTIFIER, &keys.concat()])
    }

    pub(crate) fn about_all() -> String {
        let keys = [yearly("one"), yearly("two"), waiting("lost")];
        all(&[PROGRAM, IMPATIENT, NOTIFIER, &keys.concat()])
    }

    pub(crate) fn by_mail() -> String {
        all(&[PROGRAM, IMPATIENT, MAIL, &yearly("billing")])
    }
}

/// Configurations for exit codes.
pub(crate) mod exit_codes {
    use super::{IMPATIENT, PROGRAM, all, file_key};

    pub(crate) fn good() -> String {
        all(&[
            PROGRAM,
            IMPATIENT,
            &file_key("billing", "schedule = \"YEARLY\""),
        ])
    }

    /// Returns a configuration whose sink's folder the host may create later.
    pub(crate) fn without_folder() -> String {
        good().replace("DIR/billing", "DIR/missing/billing")
    }

    pub(crate) fn without_control_socket() -> String {
        good().replace("DIR/control.sock", "")
    }

    pub(crate) fn another_provider() -> String {
        good().replace("PROVIDER", "http://127.0.0.1:9/v1")
    }

    pub(crate) fn another_ledger() -> String {
        good().replace("DIR/ledger.db", "DIR/another.db")
    }

    pub(crate) const NOT_TOML: &str = "[provider\n";

    pub(crate) fn unknown_option() -> String {
        good().replace("schedule", "shedule")
    }
}

/// Configurations for a rehearsal with every recorded kind of sink.
pub(crate) mod rehearsal {
    use super::{IMPATIENT, PROGRAM, all};

    const KEY: &str = r#"
[key.billing]
schedule = "MONTHLY"
[[key.billing.sink]]
type = "file"
path = "/etc/billing/openai.key"
[[key.billing.sink]]
type = "webhook"
url = "https://deploy.example.com/hook?token=hidden"
signing-secret-file = "DIR/signing-secret"
[[key.billing.sink]]
type = "command"
argv = ["/usr/local/bin/put-secret", "a b"]
[[notify]]
type = "sendmail"
to = "ops@example.com"
on = ["rotated"]
"#;

    pub(crate) fn every_recorded_sink() -> String {
        all(&[PROGRAM, IMPATIENT, KEY])
    }
}

/// Configurations for the environment of a command.
pub(crate) mod environment {
    use super::{IMPATIENT, PROGRAM, all, file_key};

    fn key() -> String {
        file_key("billing", "schedule = \"YEARLY\"")
    }

    /// Returns a configuration without an admin key, which the environment supplies.
    pub(crate) fn without_credential_file() -> String {
        let program = PROGRAM.replace("credential-file = \"DIR/admin-key\"\n", "");
        all(&[&program, IMPATIENT, &key()])
    }

    /// Returns a configuration that also lacks the folder of the ledger.
    pub(crate) fn without_ledger() -> String {
        let program = PROGRAM.replace("[ledger]\npath = \"DIR/ledger.db\"\n", "");
        all(&[&program, IMPATIENT, &key()])
    }
}
