//! The scenarios: the configured keys and their sinks, and how long faults may occur.

use std::time::Duration;

use crate::name_form::NameForm;
use crate::redaction::RedactionForm;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// The period of every key's schedule.
pub(crate) const PERIOD: Duration = Duration::from_secs(2 * 3_600);

/// The schedule with that period.
pub(crate) const SCHEDULE: &str = "0 */2 * * *";

/// The keys of one configuration.
pub(crate) type KeySpecs = Vec<KeySpec>;

#[derive(Debug, Clone)]
pub(crate) struct KeySpec {
    pub(crate) name: &'static str,
    pub(crate) overlap: Duration,
    pub(crate) sinks: Vec<SinkSpec>,
}

#[derive(Debug, Clone)]
pub(crate) struct SinkSpec {
    pub(crate) name: &'static str,
    pub(crate) kind: SinkKind,
    pub(crate) required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkKind {
    File,
    /// A file whose consumer reads it only when its `on-change` command runs.
    NotifiedFile,
    Webhook,
    /// A receiver that accepts connections and never responds.
    HangingWebhook,
    SelfCredential,
}

impl KeySpec {
    /// Returns whether a sink of this key hangs, so that no delivery to it completes.
    pub(crate) fn hangs(&self) -> bool {
        let mut sinks = self.sinks.iter();
        sinks.any(|sink| sink.kind == SinkKind::HangingWebhook)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) keys: KeySpecs,
    /// The other configuration, which a [`crate::fault::SimFault::Reconfiguration`] or a
    /// reload applies.
    pub(crate) changed_keys: KeySpecs,
    /// The time from the start in which faults may occur.
    pub(crate) fault_period: Duration,
    /// The time from the start to the first check that the world has converged.
    pub(crate) converges_after: Duration,
    /// The number of credentials that the daemon creates without any fault.
    pub(crate) rotations: usize,
    /// Whether another daemon, with a ledger of its own, rotates keys of the same names in
    /// the same organization, and has done so before the start.
    pub(crate) has_other_daemon: bool,
    /// The form in which the provider redacts secrets.
    pub(crate) redaction: RedactionForm,
    pub(crate) max_revoke_delay: Duration,
    /// The form in which the provider shows names.
    pub(crate) names: NameForm,
    /// Whether the provider limits the rate of creates, at times.
    pub(crate) limits_creates: bool,
    /// Whether lists and retrieves show ends of credentials that creates do not, and later
    /// nearer ones.
    pub(crate) shows_ends: bool,
}

impl Scenario {
    /// Returns the key and sink of the file from which rekeyd reads its own credential.
    pub(crate) fn own_file(&self) -> Option<(String, String)> {
        self.keys.iter().find_map(|key| {
            let mut sinks = key.sinks.iter();
            let sink = sinks.find(|sink| sink.kind == SinkKind::SelfCredential)?;
            Some((key.name.to_owned(), sink.name.to_owned()))
        })
    }
}

fn sink(name: &'static str, kind: SinkKind, required: bool) -> SinkSpec {
    SinkSpec {
        name,
        kind,
        required,
    }
}

fn key(name: &'static str, overlap_minutes: u32, sinks: Vec<SinkSpec>) -> KeySpec {
    KeySpec {
        name,
        overlap: MINUTE * overlap_minutes,
        sinks,
    }
}

/// Returns a scenario of one key with two required sinks, and two rotations.
pub(crate) fn small() -> Scenario {
    let file = sink("file", SinkKind::File, true);
    let hook = sink("hook", SinkKind::Webhook, true);
    let keys = vec![key("small", 10, vec![file.clone(), hook])];
    let other_hook = sink("other", SinkKind::Webhook, true);
    let changed_keys = vec![key("small", 10, vec![file, other_hook])];
    Scenario {
        name: "small",
        keys,
        changed_keys,
        fault_period: PERIOD + HOUR,
        converges_after: PERIOD * 2 - MINUTE,
        rotations: 2,
        has_other_daemon: false,
        redaction: RedactionForm::Dots,
        max_revoke_delay: WEEK,
        names: NameForm::Kept,
        shows_ends: false,
        limits_creates: false,
    }
}

/// Returns a scenario of three keys with three rotations each: one key has two required
/// sinks, one has an optional sink, and one is rekeyd's own credential. The files, except
/// that of rekeyd's own credential, have an `on-change` command.
pub(crate) fn large() -> Scenario {
    let hook = sink("hook", SinkKind::Webhook, true);
    let file = sink("file", SinkKind::NotifiedFile, true);
    let copy = sink("copy", SinkKind::NotifiedFile, false);
    let self_credential = sink("self", SinkKind::SelfCredential, true);
    let two = key("two", 10, vec![file, hook.clone()]);
    let optional = key("optional", 20, vec![hook.clone(), copy]);
    let own = key("own", 15, vec![self_credential]);
    // The other configuration replaces both sinks of one key, and lacks another key.
    let moved = sink("moved", SinkKind::NotifiedFile, true);
    let changed_keys = vec![key("two", 10, vec![moved]), own.clone()];
    Scenario {
        name: "large",
        keys: vec![two, optional, own],
        changed_keys,
        fault_period: PERIOD * 2 + HOUR,
        converges_after: PERIOD * 3 - MINUTE,
        rotations: 9,
        has_other_daemon: false,
        redaction: RedactionForm::Dots,
        max_revoke_delay: WEEK,
        names: NameForm::Kept,
        shows_ends: false,
        limits_creates: false,
    }
}

/// Returns the scenario of three keys at a provider with another form of redacted values.
pub(crate) fn redacted(redaction: RedactionForm) -> Scenario {
    Scenario {
        redaction,
        ..large()
    }
}

/// Returns the small scenario with a short time for which a retired credential in a file
/// is kept.
pub(crate) fn restored() -> Scenario {
    Scenario {
        name: "restored",
        max_revoke_delay: MINUTE * 30,
        ..small()
    }
}

/// Returns a scenario at a provider that changes names: of three keys for the form that
/// changes them most, and of one key for the others.
pub(crate) fn renamed(names: NameForm) -> Scenario {
    let scenario = if names == NameForm::PrefixedAndCutInLowerCase {
        large()
    } else {
        small()
    };
    Scenario {
        name: names.scenario_name(),
        names,
        ..scenario
    }
}

/// Returns a scenario of two keys with different overlaps, whose operator adopts a
/// credential of the first key into the second. The other configuration lacks the second.
pub(crate) fn sharing() -> Scenario {
    let file = sink("file", SinkKind::File, true);
    let hook = sink("hook", SinkKind::Webhook, true);
    let first = key("first", 30, vec![file]);
    let second = key("second", 10, vec![hook]);
    Scenario {
        name: "sharing",
        keys: vec![first.clone(), second],
        changed_keys: vec![first],
        fault_period: PERIOD + HOUR,
        converges_after: PERIOD * 2 - MINUTE,
        rotations: 4,
        has_other_daemon: false,
        redaction: RedactionForm::Dots,
        max_revoke_delay: WEEK,
        names: NameForm::Kept,
        shows_ends: false,
        limits_creates: false,
    }
}

/// Returns a scenario of two keys with a file each, and a short time for which a file keeps
/// a credential of another key.
pub(crate) fn copied() -> Scenario {
    let file = sink("file", SinkKind::File, true);
    let first = key("first", 30, vec![file.clone()]);
    let second = key("second", 10, vec![file]);
    Scenario {
        name: "copied",
        keys: vec![first.clone(), second],
        changed_keys: vec![first],
        max_revoke_delay: MINUTE * 20,
        ..sharing()
    }
}

/// Returns the small scenario at a provider whose lists alone show the ends of credentials.
pub(crate) fn expiring() -> Scenario {
    Scenario {
        name: "expiring",
        shows_ends: true,
        ..small()
    }
}

/// Returns a scenario of a key whose one sink is a receiver, beside a key with a file. The
/// other configuration lacks the first key.
pub(crate) fn received() -> Scenario {
    let hook = sink("hook", SinkKind::Webhook, true);
    let file = sink("file", SinkKind::File, true);
    let second = key("second", 10, vec![file]);
    Scenario {
        name: "received",
        keys: vec![key("first", 30, vec![hook]), second.clone()],
        changed_keys: vec![second],
        ..sharing()
    }
}

/// The number of keys that are due at once at a provider that limits creates.
const LIMITED_KEYS: usize = 200;

/// Returns a scenario of many keys with a file each that are due at once, at a provider that
/// limits the rate of creates at times.
pub(crate) fn limited() -> Scenario {
    let file = sink("file", SinkKind::File, true);
    let names = (0..LIMITED_KEYS).map(|number| format!("limited-{number:03}"));
    let keys = names.map(|name| key(name.leak(), 10, vec![file.clone()]));
    let keys: Vec<_> = keys.collect();
    Scenario {
        name: "limited",
        changed_keys: keys.clone(),
        keys,
        rotations: 2 * LIMITED_KEYS,
        limits_creates: true,
        ..small()
    }
}

/// Returns the small scenario beside another daemon.
pub(crate) fn shared() -> Scenario {
    Scenario {
        name: "shared",
        has_other_daemon: true,
        ..small()
    }
}

/// Returns a scenario of more keys with hanging receivers than the provider has places,
/// and of two keys with healthy sinks. All keys are due at once, and the healthy keys have
/// the last names. Each receiver has its own places.
pub(crate) fn hanging() -> Scenario {
    let receivers = ["receiver-a", "receiver-b", "receiver-c"];
    let names = [
        "hang-a", "hang-b", "hang-c", "hang-d", "hang-e", "hang-f", "hang-g", "hang-h", "hang-i",
        "hang-j", "hang-k", "hang-l", "hang-m", "hang-n", "hang-o",
    ];
    let hanging = names.iter().zip(receivers.into_iter().cycle());
    let hanging = hanging.map(|(name, receiver)| {
        let receiver = sink(receiver, SinkKind::HangingWebhook, true);
        key(name, 10, vec![receiver])
    });
    let file = sink("file", SinkKind::File, true);
    let hook = sink("hook", SinkKind::Webhook, true);
    let healthy = [
        key("healthy-a", 10, vec![file]),
        key("healthy-b", 10, vec![hook]),
    ];
    let keys: Vec<_> = hanging.chain(healthy).collect();
    Scenario {
        name: "hanging",
        keys: keys.clone(),
        changed_keys: keys,
        fault_period: PERIOD + HOUR,
        converges_after: PERIOD * 6 - MINUTE,
        rotations: 27,
        has_other_daemon: false,
        redaction: RedactionForm::Dots,
        max_revoke_delay: WEEK,
        names: NameForm::Kept,
        shows_ends: false,
        limits_creates: false,
    }
}
