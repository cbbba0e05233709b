//! Schedules in a time zone whose rules change on this host while the engine runs.

use jiff::tz::TimeZone;

use crate::core::schedule::Schedule;
use crate::engine::tests::HOUR;
use crate::engine::tests::fake::{Fakes, key};
use crate::engine::tests::rotation_changes::current;
use crate::engine::{Engine, RunMode};

const BERLIN: &str = "Europe/Berlin";

/// Returns the zone of Berlin with the rules of another one.
fn berlin_as(rules: &str) -> TimeZone {
    let file = std::path::Path::new("/usr/share/zoneinfo").join(rules);
    TimeZone::tzif(BERLIN, &std::fs::read(file).unwrap()).unwrap()
}

/// Returns how far the next firing is from now.
fn hours_until_next(fakes: &Fakes, engine: &Engine) -> i64 {
    let managed = &engine.configured[&key()];
    let timetable = &managed.policy.timetable;
    let next = timetable.firings_from(fakes.now()).next_after(fakes.now());
    next.unwrap().duration_since(fakes.now()).as_hours()
}

#[tokio::test]
async fn schedule_follows_the_newer_rules_of_its_zone() {
    let fakes = Fakes::new(&[("key_1", "label-1")]);
    fakes.write_ledger(vec![(key(), current(1))]).await;
    let managed = fakes.managed_key(key(), |policy| {
        let zone = berlin_as(BERLIN);
        policy.timetable = Schedule::parse("0 12 * * *", zone).unwrap().into();
    });
    let mut engine = fakes.open_engine(vec![managed], RunMode::Daemon).await;
    fakes.run_for(&mut engine, HOUR).await;
    assert_eq!(
        engine.zone_names().into_iter().collect::<Vec<_>>(),
        [BERLIN]
    );
    let before = hours_until_next(&fakes, &engine);
    // The same rules, no rules and those of another zone change nothing.
    let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
    for zones in [vec![berlin_as(BERLIN)], Vec::new(), vec![tokyo]] {
        assert!(engine.replace_zones(&zones).is_empty());
        assert_eq!(hours_until_next(&fakes, &engine), before);
    }
    let names = engine.replace_zones(&[berlin_as("Asia/Tokyo")]);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), [BERLIN]);
    assert_ne!(hours_until_next(&fakes, &engine), before);
    let sequence = |engine: &Engine| engine.state(&key()).unwrap().sequence;
    let former = sequence(&engine);
    // It rotates by the new rules.
    fakes.run_for(&mut engine, HOUR * 25).await;
    assert!(fakes.place_of(sequence(&engine)) > fakes.place_of(former));
    let zone = engine.configured[&key()].policy.timetable.zone().clone();
    assert_eq!(zone, berlin_as("Asia/Tokyo"));
}
