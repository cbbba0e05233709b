//! `rekeyd audit`: every row ever written, compared with the provider.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cli::{Cli, Failure, output, text};
use crate::core::names::{CredentialId, KeyName, Label};
use crate::core::rotation::Phase;
use crate::core::secret::CredentialCell;
use crate::core::{duration, outside, time};
use crate::daemon::credential::WithCredential;
use crate::daemon::start::identity;
use crate::engine::clock::{Clock as _, HostClock};
use crate::ledger::{self, Compared, Finding, Listed, Seen, compare, read};
use crate::provider::openai::OpenAi;
use crate::provider::{Answer, Credential, Provider};

#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What is told of one credential.
struct Line {
    standing: Standing,
    key: Option<KeyName>,
    phase: Option<Phase>,
    id: CredentialId,
}

/// How a credential that the provider or the ledger tells of stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Alive,
    AliveAgain,
    Double,
    Gone,
    Revoked,
    Lookalike,
    Foreign,
}

impl Standing {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ours, alive",
            Self::AliveAgain => "ours, alive again",
            Self::Double => "ours, a double",
            Self::Gone => "ours, gone",
            Self::Revoked => "ours, revoked",
            Self::Lookalike => "lookalike",
            Self::Foreign => "foreign",
        }
    }

    const fn is_wrong(self) -> bool {
        match self {
            Self::AliveAgain | Self::Double | Self::Gone => true,
            Self::Alive | Self::Revoked | Self::Lookalike | Self::Foreign => false,
        }
    }
}

impl Audit {
    pub(crate) async fn go(&self, cli: &Cli) -> Result<(), Failure> {
        let settings = cli.settings()?;
        let ledger = read::open(&settings.ledger)?;
        ledger::expect(&ledger, &settings.ledger, &identity(&settings))?;
        let cell = CredentialCell::new();
        let provider = OpenAi::new(&settings.provider, cell.clone());
        let provider = WithCredential::new(provider, cell, Cli::sources(&settings));
        let listed = provider
            .list()
            .await
            .map_err(|error| Failure::Other(error.to_string()))?
            .value;
        let mut known: BTreeMap<_, _> = listed
            .iter()
            .map(|one| (one.facts.id.clone(), one.clone()))
            .collect();
        let to_compare = listed.into_iter().map(|one| Listed {
            facts: one.facts,
            name: one.name,
        });
        let compared = compare::compare(&ledger, to_compare.collect(), |_| true)?;
        let mut keys: Vec<_> = settings.keys.iter().map(|key| key.name.clone()).collect();
        keys.extend(read::all_key_states(&ledger)?.into_keys());
        let mut lines = lines(compared, &keys);
        for line in &mut lines {
            line.look_closer(&provider, &mut known).await;
        }
        let now = HostClock.now();
        if self.json {
            let all = lines.iter().map(|line| line.to_json(&known));
            output::print_json(&Value::Array(all.collect()))?;
        } else {
            output::print(to_table(&lines, &known, now).as_bytes())?;
        }
        let wrong = lines.iter().filter(|line| line.standing.is_wrong()).count();
        if wrong == 0 {
            return Ok(());
        }
        Err(Failure::Other(format!(
            "{wrong} credentials of ours are not as the ledger says; a running rekeyd sees to it \
             at its next sweep"
        )))
    }
}

fn lines(compared: Compared, keys: &[KeyName]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (key, findings) in compared.findings {
        lines.extend(findings.into_iter().filter_map(|found| line(&key, found)));
    }
    for stranger in compared.strangers {
        let name = stranger.name.as_deref().unwrap_or_default();
        let lookalike = keys.iter().any(|key| Label::looks_like(name, key));
        lines.push(Line {
            standing: if lookalike {
                Standing::Lookalike
            } else {
                Standing::Foreign
            },
            key: None,
            phase: None,
            id: stranger.facts.id,
        });
    }
    lines
}

fn line(key: &KeyName, found: Finding) -> Option<Line> {
    let (standing, id) = match found.seen {
        Seen::AsExpected(facts) => (Standing::Alive, facts.id),
        Seen::Alive(facts) => (Standing::AliveAgain, facts.id),
        Seen::Double(facts) => (Standing::Double, facts.id),
        Seen::Absent => (Standing::Gone, found.credential?),
    };
    Some(Line {
        standing,
        key: Some(key.clone()),
        phase: Some(found.phase),
        id,
    })
}

fn to_table(lines: &[Line], known: &BTreeMap<CredentialId, Credential>, now: Timestamp) -> String {
    let rows: Vec<_> = lines.iter().map(|line| line.to_row(known, now)).collect();
    text::table(
        &[
            "STANDING",
            "KEY",
            "PHASE",
            "CREDENTIAL",
            "NAME",
            "AGE",
            "LAST USED",
            "OWNER",
        ],
        &rows,
    )
}

impl Line {
    /// Asks for the credential itself where the list says something else than
    /// the ledger: a list may be stale, and a daemon works on beside this.
    /// Without an answer the list counts.
    async fn look_closer(
        &mut self,
        provider: &impl Provider,
        known: &mut BTreeMap<CredentialId, Credential>,
    ) {
        if self.standing != Standing::AliveAgain && self.standing != Standing::Gone {
            return;
        }
        match (self.standing, provider.retrieve(&self.id).await) {
            (
                Standing::Gone,
                Ok(Answer {
                    value: Some(seen), ..
                }),
            ) => {
                known.insert(self.id.clone(), seen);
                self.standing = Standing::Alive;
            }
            (Standing::AliveAgain, Ok(Answer { value: None, .. })) => {
                self.standing = Standing::Revoked;
            }
            (_, _) => {}
        }
    }

    fn to_row(&self, known: &BTreeMap<CredentialId, Credential>, now: Timestamp) -> Vec<String> {
        let found = known.get(&self.id);
        let ago = |at: Option<Timestamp>| {
            at.map_or("-".to_owned(), |at| {
                duration::to_text(time::until(
                    time::whole_seconds(at),
                    time::whole_seconds(now),
                ))
            })
        };
        let shown =
            |text: Option<&String>| text.map_or("-".to_owned(), |text| outside::shown(text));
        vec![
            self.standing.as_str().to_owned(),
            self.key
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
            self.phase.map_or("-".to_owned(), |phase| phase.to_string()),
            outside::shown(self.id.as_str()),
            shown(found.and_then(|found| found.name.as_ref())),
            ago(found.and_then(|found| found.facts.created_at)),
            ago(found.and_then(|found| found.last_used_at)),
            shown(found.and_then(|found| found.owner.as_ref())),
        ]
    }

    fn to_json(&self, known: &BTreeMap<CredentialId, Credential>) -> Value {
        let found = known.get(&self.id);
        json!({
            "standing": self.standing.as_str(), "wrong": self.standing.is_wrong(),
            "key": self.key, "phase": self.phase.map(Phase::as_str),
            "credential_id": self.id,
            "name": found.and_then(|found| found.name.as_deref()).map(outside::shown),
            "created_at": found.and_then(|found| found.facts.created_at).map(time::to_text),
            "last_used_at": found.and_then(|found| found.last_used_at).map(time::to_text),
            "owner": found.and_then(|found| found.owner.as_deref()).map(outside::shown),
        })
    }
}
