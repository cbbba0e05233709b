//! The simulated sinks and the simulated disk.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rekeyd::core::expected_secret::ExpectedSecret;
use rekeyd::core::ids::SinkId;
use rekeyd::core::secret::{EndMatch, Secret};
use rekeyd::core::state::{FileAccess, FileNote, KeyState, LeftFile};
use rekeyd::ledger::{FaultInjector, IdleWriter, LedgerError};
use rekeyd::sink::{
    Acceptance, BlockingInspection, DeliveredPayload, DeliveryError, Destination, Drift, DriftKind,
    Payload, Sink, SinkError, SinkProblem, TargetContent,
};

use crate::fault::{SimFault, SimOperation};
use crate::scenario::SinkKind;
use crate::world::{SimWorld, SinkLocation, consumer_cache};

/// The delay after which a slow receiver applies an accepted secret.
const LATE_DELIVERY_DELAY: Duration = Duration::from_secs(40);

/// A sink, as one process uses it.
pub(crate) struct SimSink {
    pub(crate) world: Arc<SimWorld>,
    pub(crate) process: u64,
    pub(crate) id: SinkId,
    pub(crate) location: SinkLocation,
    pub(crate) kind: SinkKind,
}

/// Returns the operation that a delivery to a sink of this kind is.
fn delivery_operation(kind: SinkKind) -> SimOperation {
    match kind {
        SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => SimOperation::Deliver,
        SinkKind::Webhook | SinkKind::HangingWebhook => SimOperation::DeliverWebhook,
    }
}

impl SimSink {
    /// Returns what the sink's file holds.
    fn file_content(&self) -> TargetContent {
        let content = self.world.sink_content(&self.location);
        content.map_or(TargetContent::NoKey, |content| {
            TargetContent::Keys(vec![Secret::new(content)])
        })
    }
}

fn delivery_error(acceptance: Acceptance) -> Result<(), DeliveryError> {
    Err(DeliveryError::new(acceptance, format!("{acceptance:?}")))
}

#[async_trait]
impl Sink for SimSink {
    fn destination(&self) -> Destination {
        match self.kind {
            SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => Destination::File,
            SinkKind::Webhook | SinkKind::HangingWebhook => Destination::Endpoint {
                scheme: "https".to_owned(),
                host: self.id.name.clone(),
                port: 443,
            },
        }
    }

    fn id(&self) -> &SinkId {
        &self.id
    }

    async fn check(&self) -> Vec<SinkProblem> {
        Vec::new()
    }

    async fn preflight(&self) -> Result<(), SinkError> {
        match self
            .world
            .begin_operation(self.process, SimOperation::Preflight, "")
            .await
        {
            Some(_) => Err(SinkProblem::host("the sink is not ready".to_owned()).into()),
            None => Ok(()),
        }
    }

    async fn check_drift(&self, expected: &ExpectedSecret) -> Option<Drift> {
        match self.kind {
            SinkKind::Webhook | SinkKind::HangingWebhook => return None,
            SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => {}
        }
        self.world
            .begin_operation(self.process, SimOperation::CheckDrift, "")
            .await;
        let Some(content) = self.world.sink_content(&self.location) else {
            return Some(drift(DriftKind::Missing, "the file is missing"));
        };
        let is_other = expected.compare(&content) == EndMatch::Different;
        is_other.then(|| drift(DriftKind::OtherContent, "the file has other content"))
    }

    /// Returns the key in a file that somebody wrote.
    async fn inspect(&self) -> TargetContent {
        if !self.world.was_restored(&self.location) {
            return TargetContent::Unknown;
        }
        self.file_content()
    }

    fn blocking_inspection(&self) -> Option<BlockingInspection> {
        match self.kind {
            SinkKind::Webhook | SinkKind::HangingWebhook => return None,
            SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => {}
        }
        let content = self.file_content();
        Some(Box::new(move || content))
    }

    fn inspection_may_block(&self) -> bool {
        false
    }

    async fn deliver_with_note(
        &self,
        payload: &Payload,
    ) -> Result<Option<LeftFile>, DeliveryError> {
        self.deliver(payload).await?;
        let note = match self.kind {
            SinkKind::File | SinkKind::NotifiedFile => self.world.file_note(&self.location),
            SinkKind::SelfCredential => None,
            SinkKind::Webhook | SinkKind::HangingWebhook => return Ok(None),
        };
        let access = Some(FileAccess {
            owner: 1,
            group: 1,
            mode: 0o640,
        });
        Ok(Some(LeftFile { note, access }))
    }

    async fn read_noted(&self, note: FileNote) -> TargetContent {
        let is_unchanged = self.world.file_note(&self.location) == Some(note);
        let content = self.world.sink_content(&self.location);
        match content.filter(|_| is_unchanged) {
            Some(content) => TargetContent::Keys(vec![Secret::new(content)]),
            None => TargetContent::Unknown,
        }
    }

    fn has_on_change(&self) -> bool {
        self.kind == SinkKind::NotifiedFile
    }

    async fn run_on_change(&self, delivered: &DeliveredPayload) -> Result<(), SinkProblem> {
        let subject = format!("{:?} {}", self.location, delivered.sequence);
        let fault = self
            .world
            .begin_operation(self.process, SimOperation::OnChange, &subject)
            .await;
        match fault {
            Some(SimFault::Failure) => {
                return Err(SinkProblem::host("the command failed".to_owned()));
            }
            Some(SimFault::Timeout) => {
                self.world.wait_for_timeout().await;
                return Err(SinkProblem::host("the command timed out".to_owned()));
            }
            _ => {}
        }
        let cache = consumer_cache(&self.location);
        if let Some(content) = self.world.sink_content(&self.location) {
            let sequence = self.world.next_sequence(&cache, &content);
            self.world.write_sink(&cache, sequence, &content, None);
        }
        self.world.end_operation(fault).await;
        if fault == Some(SimFault::LostResponse) {
            let message = "the exit status of the command is lost";
            return Err(SinkProblem::host(message.to_owned()));
        }
        Ok(())
    }

    async fn deliver(&self, payload: &Payload) -> Result<(), DeliveryError> {
        let subject = format!("{:?} {}", self.location, payload.sequence);
        let fault = self
            .world
            .begin_operation(self.process, delivery_operation(self.kind), &subject)
            .await;
        if self.kind == SinkKind::HangingWebhook {
            self.world.wait_for_timeout().await;
            return delivery_error(Acceptance::Uncertain);
        }
        match fault {
            Some(SimFault::Rejection) => return delivery_error(Acceptance::Rejected),
            Some(SimFault::Failure) => return delivery_error(Acceptance::NotAccepted),
            Some(SimFault::Timeout) => {
                self.world.wait_for_timeout().await;
                return delivery_error(Acceptance::Uncertain);
            }
            _ => {}
        }
        let delay = (fault == Some(SimFault::LateEffect)).then_some(LATE_DELIVERY_DELAY);
        // A file has no sequence of its own: each delivery replaces its content.
        let sequence = match self.kind {
            SinkKind::Webhook | SinkKind::HangingWebhook => payload.sequence,
            SinkKind::File | SinkKind::NotifiedFile | SinkKind::SelfCredential => self
                .world
                .next_sequence(&self.location, payload.secret.expose()),
        };
        if self.world.rejects_repetition(&self.location, sequence) {
            return delivery_error(Acceptance::Rejected);
        }
        self.world
            .write_sink(&self.location, sequence, payload.secret.expose(), delay);
        self.world.end_operation(fault).await;
        if fault == Some(SimFault::RejectedRepetition) {
            self.world.reject_repetition(&self.location, sequence);
            self.world.wait_for_timeout().await;
            return delivery_error(Acceptance::Uncertain);
        }
        if matches!(fault, Some(SimFault::LostResponse | SimFault::LateEffect)) {
            return delivery_error(Acceptance::Uncertain);
        }
        Ok(())
    }
}

/// The disk, as one process uses it.
pub(crate) struct SimDisk {
    pub(crate) world: Arc<SimWorld>,
    pub(crate) process: u64,
    pub(crate) fault: std::sync::Mutex<Option<SimFault>>,
}

fn disk_error() -> LedgerError {
    LedgerError::BatchAborted("the disk is full".to_owned())
}

#[async_trait]
impl FaultInjector for SimDisk {
    async fn before_transaction(&self) -> Result<(), LedgerError> {
        let fault = self
            .world
            .begin_operation(self.process, SimOperation::Commit, "")
            .await;
        *self.fault.lock().unwrap() = fault;
        if fault == Some(SimFault::Failure) {
            return Err(disk_error());
        }
        Ok(())
    }

    async fn after_transaction(&self) -> Result<(), LedgerError> {
        let fault = self.fault.lock().unwrap().take();
        self.world.end_operation(fault).await;
        if fault == Some(SimFault::LostResponse) {
            return Err(disk_error());
        }
        Ok(())
    }

    fn after_record(&self, computed: &KeyState, read: &KeyState) {
        self.world.compare_states(computed, read);
    }

    fn take_writer(&self) -> Option<IdleWriter> {
        self.world.take_writer()
    }

    fn keep_writer(&self, writer: IdleWriter) {
        self.world.keep_writer(writer);
    }
}

fn drift(kind: DriftKind, message: &str) -> Drift {
    Drift {
        kind,
        message: message.to_owned(),
    }
}
