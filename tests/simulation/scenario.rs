//! What is configured, and how long there is trouble.

use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// How often every key rotates.
pub(crate) const PERIOD: Duration = Duration::from_secs(2 * 3_600);

/// That, as a schedule.
pub(crate) const SCHEDULE: &str = "0 */2 * * *";

/// The keys.
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
    /// A file whose consumer reads it only when it is told to.
    NotifiedFile,
    Webhook,
    /// A receiver that accepts connections and never answers.
    HangingWebhook,
    SelfCredential,
}

impl KeySpec {
    /// Whether it can never be delivered.
    pub(crate) fn hangs(&self) -> bool {
        let mut sinks = self.sinks.iter();
        sinks.any(|sink| sink.kind == SinkKind::HangingWebhook)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) keys: KeySpecs,
    /// What is configured after [`crate::fault::SimFault::Reconfigured`].
    pub(crate) changed_keys: KeySpecs,
    /// How long faults strike, from the beginning.
    pub(crate) fault_period: Duration,
    /// When all is to be at rest for the first time.
    pub(crate) rest_after: Duration,
    /// How many credentials it makes without any fault.
    pub(crate) rotations: usize,
    /// Whether another daemon, with a ledger of its own, rotates keys of the
    /// same names in the same organization, and did so before.
    pub(crate) neighbour: bool,
}

fn sink(name: &'static str, kind: SinkKind, required: bool) -> SinkSpec {
    SinkSpec {
        name,
        kind,
        required,
    }
}

fn key(name: &'static str, minutes: u32, sinks: Vec<SinkSpec>) -> KeySpec {
    KeySpec {
        name,
        overlap: MINUTE * minutes,
        sinks,
    }
}

/// One key with two sinks, two rotations.
pub(crate) fn small() -> Scenario {
    let file = sink("file", SinkKind::File, true);
    let hook = sink("hook", SinkKind::Webhook, true);
    let keys = vec![key("small", 10, vec![file.clone(), hook])];
    let other = sink("other", SinkKind::Webhook, true);
    let changed = vec![key("small", 10, vec![file, other])];
    Scenario {
        name: "small",
        keys,
        changed_keys: changed,
        fault_period: PERIOD + HOUR,
        rest_after: PERIOD * 2 - MINUTE,
        rotations: 2,
        neighbour: false,
    }
}

/// Three keys: one with two required sinks, one with an optional one, and
/// rekeyd's own; three rotations each. What runs after a file has changed tells
/// its consumers.
pub(crate) fn large() -> Scenario {
    let hook = sink("hook", SinkKind::Webhook, true);
    let told = sink("file", SinkKind::NotifiedFile, true);
    let copy = sink("copy", SinkKind::NotifiedFile, false);
    let own = sink("self", SinkKind::SelfCredential, true);
    let two = key("two", 10, vec![told, hook.clone()]);
    let optional = key("optional", 20, vec![hook.clone(), copy]);
    let own = key("own", 15, vec![own]);
    // Its sinks are others now, and of one key nothing is left.
    let moved = sink("moved", SinkKind::NotifiedFile, true);
    let changed = vec![key("two", 10, vec![moved]), own.clone()];
    Scenario {
        name: "large",
        keys: vec![two, optional, own],
        changed_keys: changed,
        fault_period: PERIOD * 2 + HOUR,
        rest_after: PERIOD * 3 - MINUTE,
        rotations: 9,
        neighbour: false,
    }
}

/// The small one, where another daemon was first.
pub(crate) fn shared() -> Scenario {
    Scenario {
        name: "shared",
        neighbour: true,
        ..small()
    }
}

/// Keys whose receivers never answer, more than there are places at the
/// provider, and two keys whose sinks are in order. All are due at once, and
/// the names of the latter come last. Each receiver has its own places.
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
    let file = key("sound-a", 10, vec![sink("file", SinkKind::File, true)]);
    let hook = key("sound-b", 10, vec![sink("hook", SinkKind::Webhook, true)]);
    let keys: Vec<_> = hanging.chain([file, hook]).collect();
    Scenario {
        name: "hanging",
        keys: keys.clone(),
        changed_keys: keys,
        fault_period: PERIOD + HOUR,
        rest_after: PERIOD * 6 - MINUTE,
        rotations: 27,
        neighbour: false,
    }
}
