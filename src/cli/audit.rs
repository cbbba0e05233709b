//! `rekeyd audit`: compares every row ever written with the provider.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::context::{GlobalOptions, credential_sources};
use crate::cli::daemon_options::DaemonOptions;
use crate::cli::dispatch::{self, note_as_of, open_ledger};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::renamed_keys::states_by_name;
use crate::cli::screen::Screen;
use crate::cli::service_view;
use crate::cli::table::{Cell, Column, Fit, NOTHING, Table, Tone};
use crate::config::settings::Settings;
use crate::core::active_credential::ActiveCredential;
use crate::core::decide::revocation::Identity;
use crate::core::ids::{CredentialId, KeyName, Label};
use crate::core::lifecycle::Phase;
use crate::core::reported_time::ReportedTime;
use crate::core::scope::Scope;
use crate::core::state::{KeyState, Rotation};
use crate::core::unmanaged::unmanaged;
use crate::core::{redact, time};
use crate::daemon::runtime::ledger_identity;
use crate::engine::conditions::FOREIGN_LIST;
use crate::engine::probe::describe_failed_request;
use crate::ledger::{Discrepancy, LedgerReader, Reconciliation, RemoteCredential, RemoteState};
use crate::platform::clock::{Clock as _, SystemClock};
use crate::provider::failover::FailoverProvider;
use crate::provider::openai::OpenAiProvider;
use crate::provider::{ListedCredential, Provider, ProviderResponse};

/// How long a list may still show a credential after its end.
const LIST_DELAY: Duration = Duration::from_secs(60);

/// The time between the two comparisons of a discrepancy, in which a running
/// rekeyd records what the provider has answered.
const SETTLING_TIME: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(crate) struct AuditCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show every column, and exact times beside the relative ones
    #[arg(long, short, conflicts_with = "json")]
    verbose: bool,
    /// As root, use root's own rights instead of the service's
    #[arg(long)]
    as_invoker: bool,
    #[command(flatten)]
    daemon: DaemonOptions,
}

/// One credential of the report.
struct AuditEntry {
    status: AuditStatus,
    key: Option<KeyName>,
    phase: Option<Phase>,
    id: CredentialId,
    /// The key whose label its name has, if it has no row.
    looks_like: Option<KeyName>,
    /// The name in its row, if the provider shows another one.
    recorded_name: Option<String>,
    /// Whether its row ended so recently that a list may still show it.
    may_be_stale: bool,
}

/// The status of a credential, by comparison of the provider with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuditStatus {
    Alive,
    /// The provider shows another name than its row has.
    OtherName,
    AliveAgain,
    Duplicate,
    Missing,
    Revoked,
    Lookalike,
    Unrecognized,
}

impl AuditStatus {
    /// Every status.
    #[cfg(test)]
    const ALL: [Self; 8] = [
        Self::Alive,
        Self::OtherName,
        Self::AliveAgain,
        Self::Duplicate,
        Self::Missing,
        Self::Revoked,
        Self::Lookalike,
        Self::Unrecognized,
    ];

    /// Returns the word in the table.
    const fn word(self) -> &'static str {
        match self {
            Self::Alive => "live",
            Self::OtherName => "other name",
            Self::AliveAgain => "live again",
            Self::Duplicate => "duplicate",
            Self::Missing => "missing",
            Self::Revoked => "revoked",
            Self::Lookalike => "lookalike",
            Self::Unrecognized => "foreign",
        }
    }

    /// Returns the text in JSON.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "ours, alive",
            Self::OtherName => "ours, other name",
            Self::AliveAgain => "ours, alive again",
            Self::Duplicate => "ours, a double",
            Self::Missing => "ours, gone",
            Self::Revoked => "ours, revoked",
            Self::Lookalike => "lookalike",
            Self::Unrecognized => "foreign",
        }
    }

    const fn is_discrepancy(self) -> bool {
        match self {
            Self::AliveAgain | Self::Duplicate | Self::Missing => true,
            Self::Alive
            | Self::OtherName
            | Self::Revoked
            | Self::Lookalike
            | Self::Unrecognized => false,
        }
    }
}

impl AuditCommand {
    pub(crate) async fn run(&self, options: &GlobalOptions) -> Result<(), Failure> {
        service_view::enter(options, self.as_invoker)?;
        let settings = dispatch::running_settings(&self.daemon, options).await?;
        output::report_note(&service_view::note_onlooker(&settings).unwrap_or_default());
        let reader = open_ledger(&self.daemon, &settings).await?;
        match &reader {
            Some(reader) => {
                note_as_of(reader, &settings);
                let identity = ledger_identity(&settings);
                reader.snapshot()?.check_identity(&identity)?;
            }
            None => output::report_note(&no_ledger_note(&settings)),
        }
        let active_credential = ActiveCredential::new();
        let provider = OpenAiProvider::new(&settings.provider, active_credential.clone());
        let provider =
            FailoverProvider::new(provider, active_credential, credential_sources(&settings));
        let configured = settings.keys.iter().map(|key| key.name.clone()).collect();
        let audit = Audit {
            provider: &provider,
            reader: reader.as_ref(),
            configured,
        };
        let Comparison {
            entries,
            remote_credentials,
        } = audit.compare_until_settled().await?;
        let now = SystemClock.now();
        if self.json {
            let all = entries
                .iter()
                .map(|entry| entry.to_json(&remote_credentials));
            output::print_json(&all.collect::<Vec<_>>())?;
        } else {
            output::print(
                to_table(
                    &entries,
                    &remote_credentials,
                    Screen::of_output(self.verbose),
                    now,
                )
                .as_bytes(),
            )?;
        }
        let unmanaged = find_unmanaged(&settings, reader.as_ref())?;
        for message in &unmanaged {
            output::report_error(message);
        }
        let discrepancies = entries
            .iter()
            .filter(|entry| entry.status.is_discrepancy())
            .count();
        let lookalikes = entries
            .iter()
            .filter(|entry| entry.status == AuditStatus::Lookalike);
        let lookalikes: Vec<_> = lookalikes.collect();
        let renamed = entries
            .iter()
            .filter(|entry| entry.status == AuditStatus::OtherName);
        let renamed: Vec<_> = renamed.collect();
        if discrepancies == 0 && !renamed.is_empty() {
            let message = other_name_message(&renamed, &remote_credentials);
            return Err(Failure::Other(message));
        }
        if discrepancies == 0 && lookalikes.is_empty() {
            return if unmanaged.is_empty() {
                Ok(())
            } else {
                Err(Failure::Reported)
            };
        }
        if discrepancies == 0 {
            return Err(Failure::Other(lookalike_message(&lookalikes)));
        }
        if let Some(reader) = &reader {
            let listed: Vec<_> = remote_credentials.into_keys().collect();
            if reader
                .snapshot()?
                .is_foreign_list(&Scope::AdminKeys, &listed)?
            {
                // No reconciliation corrects this: rekeyd does not start one.
                return Err(Failure::Other(FOREIGN_LIST.to_owned()));
            }
        }
        Err(Failure::Other(format!(
            "{} not match the ledger; hint: a running rekeyd corrects this at its next reconciliation",
            match discrepancies {
                1 => "1 credential does".to_owned(),
                _ => format!("{discrepancies} credentials do"),
            }
        )))
    }
}

/// Describes the live credentials of keys that are neither configured nor retired.
fn find_unmanaged(
    settings: &Settings,
    reader: Option<&LedgerReader>,
) -> Result<Vec<String>, Failure> {
    let Some(reader) = reader else {
        return Ok(Vec::new());
    };
    let is_configured = |key: &KeyName| settings.keys.iter().any(|one| one.name == *key);
    let states = states_by_name(settings, &reader.snapshot()?)?.into_values();
    let unmanaged = states
        .filter(|state| !is_configured(&state.key))
        .filter_map(|state| {
            let unmanaged = unmanaged(&state)?;
            Some(format!("{}: {}", state.key, unmanaged.text(&state.key)))
        });
    Ok(unmanaged.collect())
}

/// The two sides that are compared.
struct Audit<'a, P> {
    provider: &'a P,
    /// None if there is no ledger yet.
    reader: Option<&'a LedgerReader>,
    configured: Vec<KeyName>,
}

/// The result of one comparison.
struct Comparison {
    entries: Vec<AuditEntry>,
    /// What the provider shows of each listed credential.
    remote_credentials: BTreeMap<CredentialId, ListedCredential>,
}

impl<P: Provider> Audit<'_, P> {
    /// Compares, and once more before it reports a discrepancy: the provider and the
    /// ledger are not read at one time, and a running rekeyd changes one after the other.
    async fn compare_until_settled(&self) -> Result<Comparison, Failure> {
        let mut first = self.compare().await?;
        if first.entries.iter().any(|one| one.status.is_discrepancy()) {
            tokio::time::sleep(SETTLING_TIME).await;
            first.confirm_with(self.compare().await?);
        }
        Ok(first)
    }

    async fn compare(&self) -> Result<Comparison, Failure> {
        let listed = self
            .provider
            .list(&Scope::AdminKeys)
            .await
            .map_err(|error| {
                let advice = self.provider.admin_key_advice();
                Failure::Other(describe_failed_request(&error, &advice))
            })?
            .value;
        let mut remote_credentials: BTreeMap<_, _> = listed
            .iter()
            .map(|credential| (credential.metadata.id.clone(), credential.clone()))
            .collect();
        let remote = listed.into_iter().map(|credential| RemoteCredential {
            metadata: credential.metadata,
            name: credential.name,
            end: credential.end,
        });
        let named = |key: &KeyName| (key.clone(), key.clone());
        let mut keys: Vec<_> = self.configured.iter().map(named).collect();
        let mut states = BTreeMap::new();
        let reconciliation = match self.reader {
            Some(reader) => {
                let snapshot = reader.snapshot()?;
                states = snapshot.key_states()?;
                keys.extend(states.values().flat_map(|state| {
                    let names = state.names();
                    names.map(|name| (name.clone(), state.key.clone()))
                }));
                snapshot.reconcile(&Scope::AdminKeys, remote.collect())?
            }
            None => Reconciliation {
                discrepancies: BTreeMap::new(),
                unknown: remote.collect(),
            },
        };
        let mut entries = audit_entries(reconciliation, &keys, SystemClock.now());
        for entry in &mut entries {
            entry
                .confirm_with_provider(self.provider, &mut remote_credentials)
                .await;
            let state = entry.key.as_ref().and_then(|key| states.get(key));
            entry.compare_name(state, &remote_credentials);
        }
        Ok(Comparison {
            entries,
            remote_credentials,
        })
    }
}

impl Comparison {
    /// Replaces each discrepancy by the state in `later`, if it has one. What is a
    /// discrepancy there alone is work that has begun since.
    fn confirm_with(&mut self, mut later: Self) {
        self.entries.retain_mut(|entry| {
            if !entry.status.is_discrepancy() {
                return true;
            }
            let found = later
                .entries
                .iter()
                .position(|one| one.id == entry.id && one.key == entry.key);
            match found.map(|index| later.entries.swap_remove(index)) {
                Some(state) => *entry = state,
                // It was ended at the provider, and its row is now.
                None => return false,
            }
            if let Some(shown) = later.remote_credentials.remove(&entry.id) {
                self.remote_credentials.insert(entry.id.clone(), shown);
            }
            true
        });
    }
}

/// Says why no credential is rekeyd's.
fn no_ledger_note(settings: &Settings) -> String {
    format!(
        "there is no ledger at {} yet, so rekeyd knows none of these credentials; hint: to let a \
         key take one over, run `rekeyd adopt KEY CREDENTIAL_ID` before the first `rekeyd run`",
        settings.ledger.display()
    )
}

fn lookalike_message(lookalikes: &[&AuditEntry]) -> String {
    if let [one] = lookalikes {
        let key = one.looks_like.as_ref().map_or("KEY", |key| key.as_str());
        let id = redact::sanitize_name(one.id.as_str());
        format!(
            "1 credential looks like one of rekeyd's but is not in this ledger; hint: adopt it with \
             `rekeyd adopt {key} {id}`; consumers may use it, so revoke it at the provider only \
             after {key} was rotated and the overlap is over"
        )
    } else {
        format!(
            "{} credentials look like rekeyd's but are not in this ledger; hint: adopt each with \
             `rekeyd adopt KEY CREDENTIAL_ID`; consumers may use them, so revoke one at the \
             provider only after KEY was rotated and the overlap is over",
            lookalikes.len()
        )
    }
}

fn other_name_message(
    renamed: &[&AuditEntry],
    remote_credentials: &BTreeMap<CredentialId, ListedCredential>,
) -> String {
    let consequence = "so rekeyd does not revoke";
    if let [one] = renamed {
        let shown = remote_credentials.get(&one.id);
        let shown = shown.and_then(|listed| listed.name.as_deref());
        let shown = redact::sanitize_name(shown.unwrap_or_default());
        let recorded = redact::sanitize_name(one.recorded_name.as_deref().unwrap_or_default());
        let id = redact::sanitize_name(one.id.as_str());
        format!(
            "the provider shows {id} as \"{shown}\", not as \"{recorded}\", {consequence} it; \
             hint: find out at the provider who gave it that name"
        )
    } else {
        format!(
            "the provider shows {} credentials under other names than the ledger, {consequence} \
             them; hint: find out at the provider who gave them those names",
            renamed.len()
        )
    }
}

fn audit_entries(
    reconciliation: Reconciliation,
    keys: &[(KeyName, KeyName)],
    now: Timestamp,
) -> Vec<AuditEntry> {
    let mut entries = Vec::new();
    for (key, key_discrepancies) in reconciliation.discrepancies {
        entries.extend(
            key_discrepancies
                .into_iter()
                .filter_map(|discrepancy| audit_entry(&key, discrepancy, now)),
        );
    }
    for unknown in reconciliation.unknown {
        let name = unknown.name.as_deref().unwrap_or_default();
        let matching = keys.iter();
        let matching = matching.filter(|(of_key, _)| Label::matches_format(name, of_key));
        // A provider may put a prefix before names.
        let longest = matching.max_by_key(|(of_key, _)| of_key.as_str().len());
        let looks_like = longest.map(|(_, key)| key.clone());
        entries.push(AuditEntry {
            status: if looks_like.is_some() {
                AuditStatus::Lookalike
            } else {
                AuditStatus::Unrecognized
            },
            key: None,
            phase: None,
            id: unknown.metadata.id,
            looks_like,
            recorded_name: None,
            may_be_stale: false,
        });
    }
    entries
}

fn audit_entry(key: &KeyName, discrepancy: Discrepancy, now: Timestamp) -> Option<AuditEntry> {
    let revoked_at = discrepancy.revoked_at;
    let may_be_stale =
        revoked_at.is_some_and(|at| (at..time::after(at, LIST_DELAY)).contains(&now));
    let (status, id) = match discrepancy.remote_state {
        RemoteState::AsExpected(metadata) | RemoteState::OtherEnd(metadata, _) => {
            (AuditStatus::Alive, metadata.id)
        }
        RemoteState::UnexpectedlyLive(metadata) => (AuditStatus::AliveAgain, metadata.id),
        RemoteState::DuplicateLabel(metadata) => (AuditStatus::Duplicate, metadata.id),
        RemoteState::Absent => (AuditStatus::Missing, discrepancy.credential?),
    };
    Some(AuditEntry {
        status,
        key: Some(key.clone()),
        phase: Some(discrepancy.phase),
        id,
        looks_like: None,
        recorded_name: None,
        may_be_stale,
    })
}

/// The columns of the table.
const COLUMNS: [Column; 8] = [
    ("STATUS", Fit::Stays),
    ("KEY", Fit::Folds(1)),
    ("PHASE", Fit::LeftOut(2)),
    ("CREDENTIAL", Fit::Folds(2)),
    ("NAME", Fit::Folds(3)),
    ("CREATED", Fit::LeftOut(1)),
    ("LAST USED", Fit::LeftOut(3)),
    ("OWNER", Fit::LeftOut(4)),
];

fn to_table(
    entries: &[AuditEntry],
    remote_credentials: &BTreeMap<CredentialId, ListedCredential>,
    screen: Screen,
    now: Timestamp,
) -> String {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| entry.to_row(remote_credentials, &screen, now))
        .collect();
    Table::format(&COLUMNS, &rows, screen)
}

impl AuditEntry {
    /// Retrieves the credential where the list contradicts the ledger: a list
    /// may be stale, and a daemon may be working meanwhile. Without a response
    /// the list counts, as it does for what it still shows long after the end: a
    /// provider also answers 404 for what it hides.
    async fn confirm_with_provider(
        &mut self,
        provider: &impl Provider,
        remote_credentials: &mut BTreeMap<CredentialId, ListedCredential>,
    ) {
        if self.status != AuditStatus::AliveAgain && self.status != AuditStatus::Missing {
            return;
        }
        let Ok(ProviderResponse { value, .. }) = provider.retrieve(&self.id).await else {
            return;
        };
        self.resolve(value.is_some());
        if let Some(credential) = value {
            remote_credentials.insert(self.id.clone(), credential);
        }
    }

    /// Compares the name that the provider shows of a live credential with that of its row.
    /// Under another name it may be somebody else's, and rekeyd does not revoke it.
    fn compare_name(
        &mut self,
        state: Option<&KeyState>,
        remote_credentials: &BTreeMap<CredentialId, ListedCredential>,
    ) {
        let is_of_entry = |row: &&Rotation| {
            row.credential()
                .is_some_and(|recorded| recorded.id == self.id)
        };
        let row = state.and_then(|state| state.live.iter().find(is_of_entry));
        let recorded = row.and_then(|row| row.name.as_deref());
        let listed = remote_credentials.get(&self.id);
        let shown = listed.and_then(|listed| listed.name.as_deref());
        let identity = Identity::compare((recorded, None), (shown, None), None);
        if self.status == AuditStatus::Alive
            && let Some(recorded) = recorded
            && identity == Identity::OtherName
        {
            self.recorded_name = Some(recorded.to_owned());
            self.status = AuditStatus::OtherName;
        }
    }

    /// Resolves a contradiction, if the provider's answer to a retrieve can.
    const fn resolve(&mut self, is_shown: bool) {
        match (self.status, is_shown) {
            (AuditStatus::Missing, true) => self.status = AuditStatus::Alive,
            (AuditStatus::AliveAgain, false) if self.may_be_stale => {
                self.status = AuditStatus::Revoked;
            }
            (_, _) => {}
        }
    }

    fn to_row(
        &self,
        remote_credentials: &BTreeMap<CredentialId, ListedCredential>,
        screen: &Screen,
        now: Timestamp,
    ) -> Vec<Cell> {
        let remote = remote_credentials.get(&self.id);
        let time = |at: Option<Timestamp>| match at {
            Some(at) => screen.past_time(at, now),
            None => NOTHING.to_owned(),
        };
        let cell = |text: Option<&String>| {
            text.map_or(NOTHING.to_owned(), |text| redact::sanitize_name(text))
        };
        let tone = match self.status {
            AuditStatus::Lookalike | AuditStatus::OtherName => Tone::Warning,
            AuditStatus::Alive => Tone::Good,
            AuditStatus::Revoked | AuditStatus::Unrecognized => Tone::Dim,
            AuditStatus::AliveAgain | AuditStatus::Duplicate | AuditStatus::Missing => Tone::Bad,
        };
        vec![
            Cell::with_symbol(self.status.word(), tone, screen),
            self.key
                .as_ref()
                .map_or(NOTHING.to_owned(), ToString::to_string)
                .into(),
            self.phase
                .map_or(NOTHING.to_owned(), |phase| phase.to_string())
                .into(),
            redact::sanitize_name(self.id.as_str()).into(),
            cell(remote.and_then(|remote| remote.name.as_ref())).into(),
            time(remote.and_then(|remote| remote.metadata.created_at)).into(),
            match remote.map(|remote| remote.last_used) {
                Some(ReportedTime::Unreadable) => "?".to_owned(),
                last_used => time(last_used.and_then(ReportedTime::readable)),
            }
            .into(),
            cell(remote.and_then(|remote| remote.owner.as_ref())).into(),
        ]
    }

    fn to_json<'a>(
        &'a self,
        remote_credentials: &'a BTreeMap<CredentialId, ListedCredential>,
    ) -> AuditJson<'a> {
        let remote = remote_credentials.get(&self.id);
        let name = remote.and_then(|remote| remote.name.as_deref());
        let created_at = remote.and_then(|remote| remote.metadata.created_at);
        let last_used_at = remote.and_then(|remote| remote.last_used.readable());
        let owner = remote.and_then(|remote| remote.owner.as_deref());
        AuditJson {
            status: self.status.word(),
            standing: self.status.as_str(),
            wrong: self.status.is_discrepancy(),
            key: self.key.as_ref(),
            phase: self.phase.map(Phase::as_str),
            credential_id: &self.id,
            name: name.map(redact::sanitize_name),
            created_at: created_at.map(time::to_text),
            last_used_at: last_used_at.map(time::to_text),
            unreadable: remote.map(|remote| remote.unreadable_times.as_slice()),
            owner: owner.map(redact::sanitize_name),
        }
    }
}

/// A credential in the output of `rekeyd audit --json`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct AuditJson<'a> {
    /// How the ledger and the provider compare, in the words of the table.
    #[cfg_attr(test, schemars(extend("enum" = AuditStatus::ALL.map(AuditStatus::word))))]
    status: &'static str,
    /// The same in the words of version 0.1; use `status`.
    #[cfg_attr(test, schemars(extend(
        "enum" = AuditStatus::ALL.map(AuditStatus::as_str),
        "deprecated" = true
    )))]
    standing: &'static str,
    /// Whether the ledger and the provider disagree about it.
    wrong: bool,
    /// The key that it belongs to, if the ledger has it.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    key: Option<&'a KeyName>,
    /// Its phase, if the ledger has it.
    #[cfg_attr(test, schemars(with = "Option<Phase>"))]
    phase: Option<&'static str>,
    /// Its id at the provider.
    #[cfg_attr(test, schemars(with = "String"))]
    credential_id: &'a CredentialId,
    /// Its name at the provider; null if the provider does not list it.
    name: Option<String>,
    /// When the provider created it.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    created_at: Option<String>,
    /// When it was last used, according to the provider.
    #[cfg_attr(test, schemars(extend("format" = "date-time")))]
    last_used_at: Option<String>,
    /// The names of the times of the provider that rekeyd cannot read.
    #[cfg_attr(test, schemars(with = "Option<Vec<String>>"))]
    unreadable: Option<&'a [&'static str]>,
    /// Its owner at the provider.
    owner: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::golden::{
        assert_fits, assert_golden, at, credential_id, now, on_each_screen, rotation,
    };
    use crate::core::reported_time::ShownEnd;

    #[test]
    fn table_matches_the_golden_file() {
        let made =
            |number, phase| rotation("billing-exporter", number, phase, "2026-11-23T02:00:00Z");
        let key = Some(KeyName::new("billing-exporter").unwrap());
        let entry = |status, phase: Option<Phase>, number| AuditEntry {
            status,
            key: phase.and_then(|_| key.clone()),
            phase,
            id: credential_id(number),
            looks_like: key.clone().filter(|_| status == AuditStatus::Lookalike),
            recorded_name: (status == AuditStatus::OtherName).then(|| "billing-1".to_owned()),
            may_be_stale: false,
        };
        let entries = [
            entry(AuditStatus::Alive, Some(Phase::Current), 1),
            entry(AuditStatus::AliveAgain, Some(Phase::Revoked), 2),
            entry(AuditStatus::Duplicate, Some(Phase::Retired), 3),
            entry(AuditStatus::Missing, Some(Phase::Current), 4),
            entry(AuditStatus::Revoked, Some(Phase::Revoked), 5),
            entry(AuditStatus::Lookalike, None, 6),
            entry(AuditStatus::Unrecognized, None, 7),
            entry(AuditStatus::OtherName, Some(Phase::Current), 8),
        ];
        let listed = [1, 2, 3, 6, 7, 8].map(|number| {
            let rotation = made(number, Phase::Current);
            let listed = ListedCredential {
                metadata: rotation.credential.unwrap(),
                name: match number {
                    7 | 8 => Some("ci-runner".to_owned()),
                    _ => rotation.name,
                },
                end: ShownEnd::Unknown,
                last_used: ReportedTime::At(at("2026-11-24T11:10:00Z")),
                unreadable_times: Vec::new(),
                owner: Some("Ops (user_AbCdEfGh)".to_owned()),
            };
            (credential_id(number), listed)
        });
        let listed = BTreeMap::from(listed);
        let text = on_each_screen("audit", |screen| {
            let text = to_table(&entries, &listed, screen, now());
            assert_fits(&text, screen);
            text
        });
        let failures = [
            lookalike_message(&[&entries[5]]),
            lookalike_message(&[&entries[5], &entries[5]]),
            other_name_message(&[&entries[7]], &listed),
            other_name_message(&[&entries[7], &entries[7]], &listed),
        ];
        let failures = failures.map(|message| format!("error: {message}\n"));
        assert_golden("audit", &(text + &failures.concat()));
    }

    fn entry(status: AuditStatus, number: u8) -> AuditEntry {
        AuditEntry {
            status,
            key: Some(KeyName::new("billing").unwrap()),
            phase: Some(Phase::Retired),
            id: credential_id(number),
            looks_like: None,
            recorded_name: None,
            may_be_stale: false,
        }
    }

    #[test]
    fn listed_long_after_its_end_is_live_again_whatever_a_retrieve_answers() {
        for (age, is_shown, expected) in [
            (0, false, AuditStatus::Revoked),
            (59, false, AuditStatus::Revoked),
            (60, false, AuditStatus::AliveAgain),
            (86_400, false, AuditStatus::AliveAgain),
            // A clock that was set back proves nothing.
            (-5, false, AuditStatus::AliveAgain),
            (0, true, AuditStatus::AliveAgain),
            (60, true, AuditStatus::AliveAgain),
        ] {
            let key = KeyName::new("billing").unwrap();
            let row = rotation("billing", 1, Phase::Revoked, "2026-11-23T02:00:00Z");
            let discrepancy = Discrepancy {
                rotation: row.id,
                phase: row.phase,
                credential: Some(credential_id(1)),
                revoked_at: Some(now() - jiff::SignedDuration::from_secs(age)),
                remote_state: RemoteState::UnexpectedlyLive(row.credential.unwrap()),
            };
            let mut entry = audit_entry(&key, discrepancy, now()).unwrap();
            entry.resolve(is_shown);
            assert_eq!(entry.status, expected, "{age} s, shown: {is_shown}");
        }
    }

    #[test]
    fn another_name_of_a_live_credential_is_noticed() {
        for (recorded, shown, status, expected) in [
            (Some("a"), Some("a"), AuditStatus::Alive, AuditStatus::Alive),
            (
                Some("a"),
                Some("b"),
                AuditStatus::Alive,
                AuditStatus::OtherName,
            ),
            // A list may show no names, and an adopted row may have none.
            (Some("a"), None, AuditStatus::Alive, AuditStatus::Alive),
            (None, Some("b"), AuditStatus::Alive, AuditStatus::Alive),
            (
                Some("a"),
                Some("b"),
                AuditStatus::Missing,
                AuditStatus::Missing,
            ),
        ] {
            let mut row = rotation("billing", 1, Phase::Current, "2026-11-23T02:00:00Z");
            row.name = recorded.map(str::to_owned);
            let listed = ListedCredential {
                metadata: row.credential.clone().unwrap(),
                name: shown.map(str::to_owned),
                end: ShownEnd::Unknown,
                last_used: ReportedTime::None,
                unreadable_times: Vec::new(),
                owner: None,
            };
            let listed = BTreeMap::from([(credential_id(1), listed)]);
            let mut state = KeyState::unknown(KeyName::new("billing").unwrap());
            state.live.push(row);
            let mut entry = entry(status, 1);
            entry.compare_name(Some(&state), &listed);
            assert_eq!(entry.status, expected, "{recorded:?} {shown:?}");
        }
    }

    #[test]
    fn discrepancy_counts_if_a_second_comparison_has_it_too() {
        let comparison = |entries: &[(AuditStatus, u8)]| Comparison {
            entries: entries
                .iter()
                .map(|(status, number)| entry(*status, *number))
                .collect(),
            remote_credentials: BTreeMap::new(),
        };
        let mut first = comparison(&[
            (AuditStatus::Alive, 1),
            (AuditStatus::Missing, 2),
            (AuditStatus::Missing, 3),
            (AuditStatus::AliveAgain, 4),
            (AuditStatus::Duplicate, 5),
        ]);
        first.confirm_with(comparison(&[
            // Only there: its revocation has begun since.
            (AuditStatus::Missing, 1),
            (AuditStatus::Missing, 3),
            (AuditStatus::Revoked, 4),
            (AuditStatus::Duplicate, 5),
            (AuditStatus::Missing, 6),
        ]));
        let found = first.entries.iter().map(|one| (one.status, one.id.clone()));
        let expected = [
            (AuditStatus::Alive, 1),
            (AuditStatus::Missing, 3),
            (AuditStatus::Revoked, 4),
            (AuditStatus::Duplicate, 5),
        ];
        let expected = expected.map(|(status, number)| (status, credential_id(number)));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn json_schema_is_that_of_the_output() {
        crate::platform::json_schema::check_file::<Vec<AuditJson<'_>>>("audit");
    }
}
