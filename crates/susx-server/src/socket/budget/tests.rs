use super::*;
use std::thread;

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn room_comes_back() {
    let budget = Budget::new(1000);
    let holder = Holdings::default();
    let first = budget.take(700, &holder, || false);
    assert!(budget.take(100, &holder, || true).is_none());
    drop(first);
    let all = budget.take(100_000, &holder, || true);
    assert!(all.is_some(), "a request larger than the budget runs alone");
    assert!(budget.take(100, &holder, || true).is_none());
}

#[test]
fn a_full_budget_lets_a_small_request_of_another_connection_in() {
    let budget = Budget::new(1000);
    let (bulk, single) = (Holdings::default(), Holdings::default());
    let _shares = [budget.take(700, &bulk, || false), budget.take(7, &single, || true)];
    assert_eq!(bulk.0.load(Ordering::Acquire), 1);
    assert_eq!(single.0.load(Ordering::Acquire), 1);
    // But not a second one, nor a large one, nor one of the connection that fills the budget.
    for (bytes, holder) in [(51, &single), (100, &Holdings::default()), (51, &bulk)] {
        assert!(budget.take(bytes, holder, || true).is_none(), "{bytes}");
    }
    // And what is kept for small requests is bounded too.
    let many: Vec<_> = (0..40).map(|_| budget.take(7, &Holdings::default(), || true)).collect();
    assert_eq!(many.iter().flatten().count(), 250 / 7 - 1);
}

#[test]
fn a_greeting_waits_for_nothing() {
    let budget = Budget::new(10_000);
    // Full to the last byte, and somebody else waits.
    let bulk = budget.take(7_500, &Holdings::default(), || false);
    let quick: Vec<_> = (0..100).map(|_| budget.take(78, &Holdings::default(), || true)).collect();
    assert!(bulk.is_some() && budget.take(78, &Holdings::default(), || true).is_none());
    let holder = Holdings::default();
    let greeting = budget.admit(FREE_BYTES, &holder, || true);
    assert!(greeting.is_some());
    assert_eq!(budget.used(), 7_500 + 78 * quick.iter().flatten().count());
    // One at a time, and nothing longer.
    assert!(budget.admit(1, &holder, || true).is_none());
    assert!(budget.admit(FREE_BYTES + 1, &Holdings::default(), || true).is_none());
    drop(greeting);
    assert!(budget.admit(1, &holder, || true).is_some());
}

#[test]
fn a_reply_takes_the_place_of_its_request() {
    let budget = Budget::new(1000);
    let mut share = budget.take(700, &Holdings::default(), || false);
    share.iter_mut().for_each(|share| share.resize(10));
    assert_eq!(budget.used(), 10);
    // One that is longer than its request, and than what there is, is counted in full.
    share.iter_mut().for_each(|share| share.resize(5000));
    assert_eq!(budget.used(), 5000);
    assert!(budget.take(600, &Holdings::default(), || true).is_none());
    drop(share);
    assert_eq!(budget.used(), 0);
}

#[test]
fn who_came_first_goes_first() {
    let budget = Budget::new(1000);
    let half = budget.take(400, &Holdings::default(), || false);
    thread::scope(|scope| {
        let large = scope.spawn(|| budget.take(750, &Holdings::default(), || false).is_some());
        wait_until(|| half.as_ref().is_some_and(Reservation::has_waiters));
        // There is room for this one, but not its turn.
        assert!(budget.take(300, &Holdings::default(), || true).is_none());
        drop(half);
        assert_eq!(large.join().ok(), Some(true));
    });
    assert!(budget.take(300, &Holdings::default(), || true).is_some());
}

#[test]
fn who_leaves_the_line_holds_nobody_up() {
    let budget = Budget::new(1000);
    let half = budget.take(400, &Holdings::default(), || false);
    let gone = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let large =
            scope.spawn(|| budget.take(750, &Holdings::default(), || gone.load(Ordering::Acquire)).is_none());
        wait_until(|| half.as_ref().is_some_and(Reservation::has_waiters));
        gone.store(true, Ordering::Release);
        assert_eq!(large.join().ok(), Some(true));
        assert!(budget.take(300, &Holdings::default(), || true).is_some());
    });
}
