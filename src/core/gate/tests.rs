use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn limit(pause: Option<u64>) -> Closing {
    Closing {
        cause: GateCause::RateLimit,
        pause: pause.map(Duration::from_secs),
        jitter: 0.0,
    }
}

/// Returns a gate that closed at 0 for this many seconds.
fn closed(seconds: u64) -> Gate {
    let mut gate = Gate::default();
    let pass = gate.enter(at(0)).unwrap();
    gate.close(pass, limit(Some(seconds)), at(0));
    gate
}

fn succeed_all(gate: &mut Gate, count: usize) {
    let passes: Vec<_> = (0..count).map(|_| gate.enter(at(100)).unwrap()).collect();
    assert_eq!(gate.enter(at(100)), None, "no more than {count}");
    for pass in passes {
        gate.succeed(pass);
    }
}

#[test]
fn open_gate_has_no_limit() {
    let mut gate = Gate::default();
    for _ in 0..1_000 {
        assert!(gate.enter(at(0)).is_some());
    }
    assert_eq!(gate.free(at(0)), None);
}

#[test]
fn closed_gate_lets_one_request_pass_after_its_pause() {
    let mut gate = closed(100);
    assert_eq!(gate.closed_until(), Some(at(100)));
    assert_eq!(gate.enter(at(99)), None);
    assert!(!gate.is_idle(at(99)));
    assert!(gate.is_idle(at(100)));
    assert!(gate.enter(at(100)).is_some());
    assert_eq!(gate.enter(at(1_000)), None);
    assert!(!gate.is_idle(at(1_000)), "the probe is on its way");
}

#[test]
fn successes_open_the_gate_for_one_two_and_four_requests() {
    let mut gate = closed(100);
    succeed_all(&mut gate, 1);
    for width in [1, 2, 4, 8] {
        succeed_all(&mut gate, width);
    }
    assert!(!gate.is_open(), "somebody may still wait");
    gate.open();
    assert!(gate.enter(at(100)).is_some() && gate.is_open());
}

#[test]
fn a_probe_without_an_outcome_makes_room_for_another() {
    let mut gate = closed(100);
    let pass = gate.enter(at(100)).unwrap();
    gate.release(pass);
    assert_eq!(gate.free(at(100)), Some(1));
}

#[test]
fn each_failed_probe_lengthens_the_pause() {
    let mut gate = Gate::default();
    let mut now = at(0);
    for seconds in [2, 5, 15, 30, 60, 300, 300] {
        let pass = gate.enter(now).unwrap();
        gate.close(pass, limit(None), now);
        let until = time::after(now, Duration::from_secs(seconds));
        assert_eq!(gate.closed_until(), Some(until));
        now = until;
    }
    let pass = gate.enter(now).unwrap();
    gate.succeed(pass);
    let pass = gate.enter(now).unwrap();
    gate.close(pass, limit(None), now);
    let until = time::after(now, Duration::from_secs(2));
    assert_eq!(gate.closed_until(), Some(until), "after a success");
}

#[test]
fn requests_that_passed_before_only_lengthen_the_pause() {
    let mut gate = Gate::default();
    let passes: Vec<_> = (0..5).map(|_| gate.enter(at(0)).unwrap()).collect();
    gate.close(passes[0], limit(Some(50)), at(1));
    gate.close(passes[1], limit(Some(10)), at(2));
    assert_eq!(gate.closed_until(), Some(at(51)), "not shorter");
    gate.close(passes[2], limit(Some(60)), at(2));
    assert_eq!(gate.closed_until(), Some(at(62)));
    gate.succeed(passes[3]);
    assert_eq!(gate.closed_until(), Some(at(62)), "it proves nothing");
    gate.release(passes[4]);
    assert_eq!(gate.free(at(62)), Some(1));
    let probe = gate.enter(at(62)).unwrap();
    gate.close(probe, limit(None), at(62));
    assert_eq!(gate.closed_until(), Some(at(67)), "the second failure");
}

#[test]
fn a_late_refusal_closes_a_gate_that_was_opened_meanwhile() {
    let mut gate = Gate::default();
    let first = gate.enter(at(0)).unwrap();
    let late = gate.enter(at(0)).unwrap();
    gate.close(first, limit(Some(10)), at(1));
    let probe = gate.enter(at(11)).unwrap();
    gate.succeed(probe);
    let earlier = gate.enter(at(11)).unwrap();
    gate.close(late, limit(Some(50)), at(12));
    assert_eq!(gate.closed_until(), Some(at(62)));
    gate.succeed(earlier);
    assert_eq!(gate.closed_until(), Some(at(62)), "it was sent before");
    assert_eq!(gate.free(at(62)), Some(1));
}

#[test]
fn jitter_only_lengthens_the_pause() {
    for (jitter, seconds) in [(-1.0, 100), (0.0, 100), (0.5, 105), (1.0, 110), (2.0, 110)] {
        let mut gate = Gate::default();
        let pass = gate.enter(at(0)).unwrap();
        let closing = Closing {
            jitter,
            ..limit(Some(100))
        };
        gate.close(pass, closing, at(0));
        assert_eq!(gate.closed_until(), Some(at(seconds)), "{jitter}");
    }
}

#[test]
fn what_a_person_asks_for_passes_and_opens_the_gate() {
    let mut gate = closed(100);
    for seconds in 10..20 {
        let pass = gate.bypass();
        gate.close(pass, limit(None), at(seconds));
        assert_eq!(gate.closed_until(), Some(at(100)), "the probe is not moved");
    }
    let pass = gate.bypass();
    gate.close(pass, limit(Some(200)), at(10));
    assert_eq!(gate.closed_until(), Some(at(210)));
    let pass = gate.bypass();
    gate.succeed(pass);
    assert_eq!(gate.free(at(11)), Some(1));
}

#[test]
fn a_gate_that_opened_by_itself_closes_for_longer() {
    let mut gate = closed(0);
    gate.open();
    let pass = gate.enter(at(50)).unwrap();
    gate.close(pass, limit(None), at(50));
    assert_eq!(gate.closed_until(), Some(at(55)));
}

#[test]
fn a_pause_ends_with_the_clock_by_which_it_was_planned() {
    let mut gate = closed(100);
    gate.end_pause(at(-1_000));
    assert!(gate.is_idle(at(-1_000)));
}
