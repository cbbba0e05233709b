//! Compares every row ever written with the provider's list.
//!
//! A list may be stale and a create may land late, so what is found is a
//! reason to look, and proves nothing by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::core::names::{CredentialId, KeyName, Label};
use crate::engine::condition::Condition;
use crate::engine::probe::{is_everybodys, problem};
use crate::engine::worker::Parts;
use crate::ledger::{Compared, Listed, Stranger};
pub(crate) use crate::ledger::{Finding, Seen};
use crate::provider::Credential;

/// When the provider is swept again after an unclear create: it may land late.
pub(crate) const AFTER_UNCLEAR: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3_600),
];

/// How soon a sweep is tried again that the provider did not answer; the last
/// pace is kept.
pub(crate) const AFTER_FAILURE: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// What a sweep found, by key.
pub(crate) type Findings = BTreeMap<KeyName, Vec<Finding>>;

/// A credential at the provider that looks like one of a key's and has no row.
pub(crate) struct Lookalike {
    pub(crate) key: KeyName,
    pub(crate) id: CredentialId,
    pub(crate) name: String,
}

/// What a sweep found.
pub(crate) struct Swept {
    pub(crate) findings: Findings,
    pub(crate) lookalikes: Vec<Lookalike>,
}

/// Lists, compares, and tells of strangers. None if the provider or the ledger
/// did not answer.
pub(crate) async fn sweep(parts: Arc<Parts>, keys: Arc<Vec<KeyName>>) -> Option<Swept> {
    let listed = match parts.provider.list().await {
        Ok(listed) => listed,
        Err(error) => {
            // A list may fail while all else works.
            if !is_everybodys(&parts, &error).await {
                tracing::warn!(
                    "cannot compare the ledger with the provider: {error}; it is tried again soon"
                );
            }
            return None;
        }
    };
    let now = parts.clock.now();
    parts
        .conditions
        .hear(listed.date, now, parts.clock.monotonic());
    let compared = match parts.ledger.compare(to_compare(listed.value)).await {
        Ok(compared) => compared,
        Err(error) => {
            let text = problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            return None;
        }
    };
    let Compared {
        findings,
        strangers,
    } = compared;
    let mut lookalikes = Vec::new();
    let strangers = strangers
        .into_iter()
        .map(|found| {
            let name = found.name.as_deref().unwrap_or_default();
            let alike = keys.iter().find(|key| Label::looks_like(name, key));
            lookalikes.extend(alike.map(|key| Lookalike {
                key: key.clone(),
                id: found.facts.id.clone(),
                name: name.to_owned(),
            }));
            Stranger {
                id: found.facts.id,
                lookalike: alike.is_some(),
                name: found.name,
            }
        })
        .collect();
    match parts.ledger.note_sweep(now, strangers).await {
        Ok(new) => tell_strangers(&new),
        // Who looks like our keys is not noted: a key without rows would take
        // itself to be alone.
        Err(error) => {
            let text = problem(Condition::Ledger, &error.to_string());
            parts.conditions.raise(Condition::Ledger, &text);
            return None;
        }
    }
    Some(Swept {
        findings,
        lookalikes,
    })
}

/// What the ledger compares of a list.
pub(crate) fn to_compare(listed: Vec<Credential>) -> Vec<Listed> {
    let listed = listed.into_iter();
    let listed = listed.map(|one| Listed {
        facts: one.facts,
        name: one.name,
    });
    listed.collect()
}

fn tell_strangers(new: &[Stranger]) {
    for stranger in new.iter().filter(|stranger| stranger.lookalike) {
        let name = stranger.name.as_deref().unwrap_or_default();
        tracing::warn!(
            credential = %stranger.id,
            "{} bears the name {name}, which looks like a label of this configuration, but it is \
             not in this ledger; it is left alone: `rekeyd audit` shows more",
            stranger.id
        );
    }
    let foreign = new.iter().filter(|stranger| !stranger.lookalike).count();
    if foreign > 0 {
        tracing::info!(
            count = foreign,
            "{foreign} admin keys of this organization are not rekeyd's and are left alone"
        );
    }
}
