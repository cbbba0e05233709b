//! What cannot be seen from outside: notices that do not stand in the ledger,
//! and a ledger that does not take them.

use super::*;
use crate::core::audience::Listener;
use crate::core::notice::NotifierId;
use crate::engine::chance::NoChance;
use crate::engine::post::Recorded;

struct Counting(std::sync::atomic::AtomicU64);

impl Chance for Counting {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoChance> {
        let next = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        bytes.copy_from_slice(&next.to_be_bytes());
        Ok(())
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_400_000 + seconds).unwrap()
}

fn watch() -> (Watch, Counting) {
    let listener = Listener {
        id: NotifierId::new("command:/bin/page".to_owned()),
        on: BTreeSet::from(Occasion::DEFAULT),
        keys: None,
    };
    let audience = Arc::new(Audience::new(vec![listener]));
    let watch = Watch::new(audience, BTreeMap::new(), at(0));
    (watch, Counting(std::sync::atomic::AtomicU64::new(0)))
}

fn hold(watch: &mut Watch, chance: &Counting, condition: Condition, seconds: i64) {
    let held = [(condition, "something is wrong".to_owned())];
    watch.conditions(&held, chance, at(seconds));
}

#[test]
fn a_ledger_that_cannot_be_written_is_told_past_it_and_once_in_a_process() {
    let (mut watch, chance) = watch();
    let posted = watch.post.posted();
    let direct = || {
        let posted = posted.borrow();
        let states = posted.direct.iter().map(|(notice, _)| notice.state);
        states.collect::<Vec<_>>()
    };
    hold(&mut watch, &chance, Condition::Ledger, 0);
    assert_eq!(watch.next_at(), Some(at(30)));
    hold(&mut watch, &chance, Condition::Ledger, 30);
    hold(&mut watch, &chance, Condition::Ledger, 60);
    assert_eq!(direct(), [State::Begun]);
    watch.conditions(&[], &chance, at(90));
    assert_eq!(direct(), [State::Begun, State::Over]);
    for seconds in [100, 200, 300] {
        hold(&mut watch, &chance, Condition::Ledger, seconds);
    }
    assert_eq!(watch.next_at(), None, "nothing is waited for");
    watch.conditions(&[], &chance, at(400));
    assert_eq!(direct(), [State::Begun, State::Over]);
    assert_eq!(watch.post.take_unrecorded(), []);
}

#[test]
fn what_could_not_be_recorded_is_recorded_later_as_it_was() {
    let (mut watch, chance) = watch();
    hold(&mut watch, &chance, Condition::Provider, 0);
    hold(&mut watch, &chance, Condition::Provider, 30);
    let first = watch.post.take_unrecorded();
    assert_eq!(first.len(), 1);
    watch.conditions(&[], &chance, at(40));
    assert_eq!(
        watch.post.take_unrecorded(),
        [],
        "one commit after the other"
    );
    watch.post.recorded(Recorded::Failed);
    let both = watch.post.take_unrecorded();
    assert_eq!(both[0], first[0], "with the same id");
    assert_eq!(both[1].notice.state, State::Over);
    watch.post.recorded(Recorded::Done);
    assert_eq!(watch.post.posted().borrow().written, 2);
    assert_eq!(watch.post.take_unrecorded(), []);
}

#[test]
fn what_an_earlier_process_told_is_over_when_this_one_has_asked() {
    let (before, chance) = watch();
    let told = BTreeMap::from([(Cause::of_all(Matter::Provider), at(-100))]);
    let mut watch = Watch::new(Arc::clone(&before.audience), told, at(0));
    watch.conditions(&[], &chance, at(1));
    assert_eq!(watch.post.take_unrecorded(), []);
    watch.confirm();
    watch.conditions(&[], &chance, at(2));
    let tellings = watch.post.take_unrecorded();
    assert_eq!(tellings[0].notice.state, State::Over);
    assert_eq!(tellings[0].notice.since, at(-100));
}
