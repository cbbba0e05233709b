//! Checks that the engine's view of itself is true.

use rekeyd::core::ids::KeyName;
use rekeyd::engine::Engine;
use rekeyd::platform::clock::Clock as _;

use crate::world::SimWorld;

/// Checks the engine's time, idleness and conditions; at any time.
pub(crate) fn check_engine_view(world: &SimWorld, engine: &Engine) {
    let now = world.now();
    world.check(
        engine.now() == now,
        "the engine's time is that of its clock",
    );
    let conditions = engine.active_conditions();
    let mut keys = world.scenario.keys.iter();
    let is_rotating = keys.any(|key| {
        let state = engine.state(&KeyName::new(key.name).unwrap());
        state.is_some_and(|state| state.open_rotation().is_some())
    });
    let is_busy = engine.active_tasks() > 0
        || engine.next_at().is_some_and(|at| at <= now)
        || is_rotating
        || !conditions.is_empty();
    world.check(!(is_busy && engine.is_idle()), "a busy engine is not idle");
    // The commands of an operator read the conditions from the ledger.
    if engine.active_tasks() == 0 && !conditions.is_empty() && !world.has_commit_fault() {
        let recorded = world.recorded_conditions();
        let is_recorded = conditions
            .iter()
            .all(|active| recorded.contains(active.condition.as_str()));
        world.check(is_recorded, "the ledger has each active condition");
    }
}

/// Checks that the engine has no work and no conditions in a converged world.
pub(super) fn check_idle_engine(world: &SimWorld, engine: &Engine) {
    let now = world.now();
    if engine.active_tasks() > 0 || engine.next_at().is_some_and(|at| at <= now) {
        return;
    }
    world.check(engine.is_idle(), "the engine is idle in a converged world");
    let mut keys = world.scenario.keys.iter();
    let is_pending = keys.any(|key| engine.has_pending_request(&KeyName::new(key.name).unwrap()));
    world.check(
        !is_pending,
        "an idle engine has no pending rotation request",
    );
    let is_clear = world.recorded_conditions().is_empty() || world.has_commit_fault();
    world.check(is_clear, "the ledger has no condition in a converged world");
}
