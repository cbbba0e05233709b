//! The simulated provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rekeyd::core::names::{CredentialId, Label};
use rekeyd::core::record::CredentialFacts;
use rekeyd::core::secret::{CredentialCell, Secret};
use rekeyd::core::time;
use rekeyd::daemon::credential::Places;
use rekeyd::provider::{
    Answer, Cause, Credential, NewCredential, Outcome, Provider, ProviderError, Retry,
};

use crate::fault::{Fault, Op};
use crate::scenario::Kind;
use crate::world::{self, BOOTSTRAP, World};

/// As long ago is what a stale list shows.
const STALE_BY: Duration = Duration::from_secs(600);

/// How long after the answer was given up a create lands: before and after
/// each of the sweeps that look for it.
const LATE_BY: [Duration; 3] = [
    Duration::from_secs(45),
    Duration::from_secs(600),
    Duration::from_secs(3_000),
];

/// The provider as one process sees it.
pub(crate) struct SimProvider {
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
    pub(crate) cell: CredentialCell,
}

fn error(
    operation: &str,
    outcome: Outcome,
    cause: Cause,
    date: Option<Timestamp>,
) -> ProviderError {
    ProviderError {
        operation: operation.to_owned(),
        outcome,
        retry: Retry::Later(None),
        cause,
        message: format!("{cause:?}"),
        request_id: None,
        date,
    }
}

impl SimProvider {
    fn answer<T>(&self, value: T) -> Result<Answer<T>, ProviderError> {
        let date = Some(time::whole_seconds(self.world.true_now()));
        Ok(Answer { value, date })
    }

    fn said(&self, operation: &str, cause: Cause) -> ProviderError {
        let outcome = if cause.is_outage() {
            Outcome::Unknown
        } else {
            Outcome::NotDone
        };
        error(operation, outcome, cause, Some(self.world.true_now()))
    }

    /// A request with the credential in use: what goes wrong with it, and
    /// whether it is refused at the door.
    async fn request(&self, op: Op, about: &str) -> Result<Option<Fault>, ProviderError> {
        let operation = format!("{op:?}");
        let fault = self.world.begin(self.life, op, about).await;
        let used = self.cell.get();
        if !used.is_some_and(|used| self.world.works(used.expose())) {
            return Err(self.said(&operation, Cause::CredentialRefused));
        }
        match fault {
            Some(Fault::Refused) => Err(self.said(&operation, Cause::Refused)),
            Some(Fault::Fails) => Err(self.said(&operation, Cause::ServerError)),
            Some(Fault::Hangs) => {
                self.world.time_out().await;
                Err(error(&operation, Outcome::Unknown, Cause::NoAnswer, None))
            }
            fault => Ok(fault),
        }
    }

    /// The answer to something that was done.
    async fn done<T>(
        &self,
        op: Op,
        fault: Option<Fault>,
        value: T,
    ) -> Result<Answer<T>, ProviderError> {
        self.world.end(fault).await;
        if matches!(fault, Some(Fault::LostReply | Fault::LandsLate)) {
            self.world.time_out().await;
            let operation = format!("{op:?}");
            return Err(error(&operation, Outcome::Unknown, Cause::NoAnswer, None));
        }
        self.answer(value)
    }
}

fn facts(one: &world::Credential) -> CredentialFacts {
    CredentialFacts {
        id: CredentialId::new(one.id.clone()),
        redacted_value: Some(one.redacted()),
        created_at: Some(time::whole_seconds(one.created_at)),
        expires_at: None,
    }
}

fn listed(one: &world::Credential) -> Credential {
    Credential {
        facts: facts(one),
        name: Some(one.name.clone()),
        last_used_at: None,
        owner: None,
    }
}

#[async_trait]
impl Provider for SimProvider {
    async fn create(
        &self,
        label: &Label,
        expires_in: Option<Duration>,
    ) -> Result<Answer<NewCredential>, ProviderError> {
        let fault = match self.request(Op::Create, label.as_str()).await {
            Ok(fault) => fault,
            Err(error) => {
                self.world.sent(label);
                return Err(error);
            }
        };
        let late = (fault == Some(Fault::LandsLate)).then(|| {
            let seconds = usize::try_from(self.world.true_now().as_second()).unwrap();
            LATE_BY[seconds % LATE_BY.len()]
        });
        let made = self.world.create(label, late);
        let mut facts = made.as_ref().map_or_else(nothing, facts);
        let life = facts.created_at.zip(expires_in);
        facts.expires_at = life.map(|(born, life)| time::after(born, life));
        let made = NewCredential {
            facts,
            secret: made.map(|made| Secret::new(made.secret)),
        };
        self.done(Op::Create, fault, made).await
    }

    async fn check(&self) -> Result<Answer<()>, ProviderError> {
        self.request(Op::Check, "").await?;
        self.answer(())
    }

    fn may_be_in_use(&self, redacted_value: &str) -> bool {
        self.cell.may_be(redacted_value)
    }

    async fn list(&self) -> Result<Answer<Vec<Credential>>, ProviderError> {
        let fault = self.request(Op::List, "").await?;
        let now = self.world.true_now();
        let at = if fault == Some(Fault::Stale) {
            time::before(now, STALE_BY)
        } else {
            now
        };
        self.answer(self.world.listed(at).iter().map(listed).collect())
    }

    async fn retrieve(
        &self,
        id: &CredentialId,
    ) -> Result<Answer<Option<Credential>>, ProviderError> {
        self.request(Op::Retrieve, id.as_str()).await?;
        let all = self.world.listed(self.world.true_now());
        let found = all.iter().find(|one| one.id == id.as_str());
        self.answer(found.map(listed))
    }

    async fn verify(&self, secret: &Secret) -> Result<Answer<()>, ProviderError> {
        let fault = self.world.begin(self.life, Op::Verify, "").await;
        match fault {
            Some(Fault::Fails) => Err(self.said("verify", Cause::ServerError)),
            Some(Fault::Refused) => Err(self.said("verify", Cause::CredentialRefused)),
            _ if !self.world.works(secret.expose()) => {
                Err(self.said("verify", Cause::CredentialRefused))
            }
            _ => self.answer(()),
        }
    }

    async fn delete(&self, id: &CredentialId) -> Result<Answer<()>, ProviderError> {
        let fault = self.request(Op::Delete, id.as_str()).await?;
        self.world.delete(id.as_str());
        self.done(Op::Delete, fault, ()).await
    }
}

fn nothing() -> CredentialFacts {
    CredentialFacts {
        id: CredentialId::new(String::new()),
        redacted_value: None,
        created_at: None,
        expires_at: None,
    }
}

/// The file that rekeyd's own credential is read from.
pub(crate) struct OwnFile(pub(crate) Arc<World>);

impl Places for OwnFile {
    fn read(&self) -> (Vec<(String, Secret)>, Vec<String>) {
        let keys = &self.0.scenario.keys;
        let own = keys.iter().find_map(|key| {
            let mut sinks = key.sinks.iter();
            let sink = sinks.find(|sink| sink.kind == Kind::Own)?;
            Some((key.name.to_owned(), sink.name.to_owned()))
        });
        let content = own.and_then(|place| self.0.content(&place));
        let secret = Secret::new(content.unwrap_or_else(|| BOOTSTRAP.to_owned()));
        (vec![("file".to_owned(), secret)], Vec::new())
    }
}
