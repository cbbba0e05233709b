//! The operator, who prunes the ledger while the daemon works.

use std::path::Path;
use std::sync::Arc;

use rekeyd::core::change::OperatorNote;
use rekeyd::core::time;
use rekeyd::ledger::{Archive, Ledger, LedgerReader, MIN_PRUNABLE_AGE, PruneBatch};
use rekeyd::platform::clock::Clock as _;
use tokio::task::JoinHandle;

use crate::world::SimWorld;

/// A prune beside the engine. It ends with the process.
pub(super) struct PruneTask(JoinHandle<()>);

impl Drop for PruneTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PruneTask {
    pub(super) fn start(world: &Arc<SimWorld>, ledger: Ledger) -> Self {
        let world = Arc::clone(world);
        Self(tokio::spawn(async move {
            prune(&world, ledger).await;
        }))
    }
}

async fn prune(world: &SimWorld, ledger: Ledger) {
    // A world lasts hours: the operator prunes what ended a moment ago, as if a month had
    // passed.
    let before = world.now();
    let at = time::after(before, MIN_PRUNABLE_AGE);
    let Some(archive) = make_archive(world, before, at) else {
        return;
    };
    world.log_trace(format!("the operator prunes {}", archive.rotations.len()));
    let batch = PruneBatch {
        archive: archive.stamp,
        rotations: archive.rotations,
        operator: OperatorNote {
            reason: None,
            by: "operator".to_owned(),
        },
    };
    // A fault of the disk is no violation: the operator repeats the command.
    if let Ok(pruned) = ledger.prune(batch, at).await {
        world.log_trace(format!("{} are pruned", pruned.rotations));
        world.check_live_credentials_known();
    }
}

fn make_archive(world: &SimWorld, before: jiff::Timestamp, at: jiff::Timestamp) -> Option<Archive> {
    let reader = LedgerReader::open(&world.ledger_path()).ok()?;
    let made = reader.snapshot().ok()?.make_archive(before, at).ok()??;
    made.read_back(Path::new("/simulated.archive")).ok()
}
