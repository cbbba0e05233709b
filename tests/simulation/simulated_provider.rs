//! The simulated provider keeps the same contract as the real one.

use std::sync::Arc;

use rekeyd::core::active_credential::ActiveCredential;
use rekeyd::core::secret::Secret;

use crate::provider::SimProvider;
use crate::world::{BOOTSTRAP_SECRET, FaultPlan, SimWorld};
use crate::{provider_contract, runner, scenario};

async fn provider_under_test() -> (Arc<SimWorld>, SimProvider) {
    let world = SimWorld::new(scenario::small(), FaultPlan::none(), false);
    runner::create_ledger(&world);
    let active_credential = ActiveCredential::new();
    active_credential.set(Secret::new(BOOTSTRAP_SECRET.to_owned()));
    let provider = SimProvider {
        world: Arc::clone(&world),
        process: 0,
        active_credential,
    };
    (world, provider)
}

provider_contract::every_obligation!(tokio::test(start_paused = true), provider_under_test());
