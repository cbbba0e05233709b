//! The simulated sinks, and the simulated disk.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rekeyd::core::names::SinkId;
use rekeyd::core::record::CredentialFacts;
use rekeyd::core::secret::ends_as;
use rekeyd::ledger::{Disk, LedgerError};
use rekeyd::sink::{DeliveryError, Look, Parcel, Receipt, Sink, Taken};

use crate::fault::{Fault, Op};
use crate::scenario::Kind;
use crate::world::{Place, World, op_of, told};

/// How long a receiver takes that applies what it took later.
const LATE_BY: Duration = Duration::from_secs(40);

/// A sink as one process sees it.
pub(crate) struct SimSink {
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
    pub(crate) id: SinkId,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

fn failed(taken: Taken) -> Result<(), DeliveryError> {
    Err(DeliveryError {
        taken,
        message: format!("{taken:?}"),
    })
}

#[async_trait]
impl Sink for SimSink {
    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn inspect(&self) -> Vec<String> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), String> {
        match self.world.begin(self.life, Op::Preflight, "").await {
            Some(_) => Err("out of order".to_owned()),
            None => Ok(()),
        }
    }

    fn lost(&self, credential: &CredentialFacts) -> Look {
        if self.kind == Kind::Hook {
            return Box::pin(std::future::ready(None));
        }
        let (world, life) = (Arc::clone(&self.world), self.life);
        let (place, redacted) = (self.place.clone(), credential.redacted_value.clone());
        Box::pin(async move {
            world.begin(life, Op::Look, "").await;
            let Some(content) = world.content(&place) else {
                return Some("it is gone".to_owned());
            };
            let same = ends_as(&content, redacted.as_deref()?) == Some(true);
            (!same).then(|| "it holds something else".to_owned())
        })
    }

    fn has_after(&self) -> bool {
        self.kind == Kind::Told
    }

    async fn after(&self, taken: &Receipt) -> Result<(), String> {
        let about = format!("{:?} {}", self.place, taken.sequence);
        let fault = self.world.begin(self.life, Op::After, &about).await;
        match fault {
            Some(Fault::Fails) => return Err("it failed".to_owned()),
            Some(Fault::Hangs) => {
                self.world.time_out().await;
                return Err("it hung".to_owned());
            }
            _ => {}
        }
        let told = told(&self.place);
        if let Some(content) = self.world.content(&self.place) {
            let sequence = self.world.next_sequence(&told, &content);
            self.world.put(&told, sequence, &content, None);
        }
        self.world.end(fault).await;
        if fault == Some(Fault::LostReply) {
            return Err("nobody knows".to_owned());
        }
        Ok(())
    }

    async fn deliver(&self, parcel: &Parcel) -> Result<(), DeliveryError> {
        let about = format!("{:?} {}", self.place, parcel.sequence);
        let fault = self.world.begin(self.life, op_of(self.kind), &about).await;
        match fault {
            Some(Fault::Refused) => return failed(Taken::Refused),
            Some(Fault::Fails) => return failed(Taken::No),
            Some(Fault::Hangs) => {
                self.world.time_out().await;
                return failed(Taken::Maybe);
            }
            _ => {}
        }
        let late = (fault == Some(Fault::LandsLate)).then_some(LATE_BY);
        // A file is replaced whatever stands in it.
        let sequence = match self.kind {
            Kind::Hook => parcel.sequence,
            Kind::File | Kind::Told | Kind::Own => self
                .world
                .next_sequence(&self.place, parcel.secret.expose()),
        };
        self.world
            .put(&self.place, sequence, parcel.secret.expose(), late);
        self.world.end(fault).await;
        if matches!(fault, Some(Fault::LostReply | Fault::LandsLate)) {
            return failed(Taken::Maybe);
        }
        Ok(())
    }
}

/// The disk as one process sees it.
pub(crate) struct SimDisk {
    pub(crate) world: Arc<World>,
    pub(crate) life: u64,
    pub(crate) fault: std::sync::Mutex<Option<Fault>>,
}

fn broken() -> LedgerError {
    LedgerError::BatchLost("the disk is full".to_owned())
}

#[async_trait]
impl Disk for SimDisk {
    async fn before(&self) -> Result<(), LedgerError> {
        let fault = self.world.begin(self.life, Op::Commit, "").await;
        *self.fault.lock().unwrap() = fault;
        if fault == Some(Fault::Fails) {
            return Err(broken());
        }
        Ok(())
    }

    async fn after(&self) -> Result<(), LedgerError> {
        let fault = self.fault.lock().unwrap().take();
        self.world.end(fault).await;
        if fault == Some(Fault::LostReply) {
            return Err(broken());
        }
        Ok(())
    }
}
