use super::*;
use std::thread;

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn dropped_reservations_free_their_memory() {
    let budget = Budget::new(1000);
    let held = ReservationCount::default();
    let first = budget.take(700, &held, || false);
    assert!(budget.take(100, &held, || true).is_none());
    drop(first);
    let all = budget.take(100_000, &held, || true);
    assert!(all.is_some(), "a request larger than the budget runs alone");
    assert!(budget.take(100, &held, || true).is_none());
}

#[test]
fn a_full_budget_lets_a_small_request_of_another_connection_in() {
    let budget = Budget::new(1000);
    let (bulk, single) = (ReservationCount::default(), ReservationCount::default());
    let _shares = [budget.take(700, &bulk, || false), budget.take(7, &single, || true)];
    assert_eq!(bulk.0.load(Ordering::Acquire), 1);
    assert_eq!(single.0.load(Ordering::Acquire), 1);
    // But neither a second one, nor a large one, nor one of the connection that fills the budget.
    for (bytes, held) in [(51, &single), (100, &ReservationCount::default()), (51, &bulk)] {
        assert!(budget.take(bytes, held, || true).is_none(), "{bytes}");
    }
    // The part that is kept for small requests is bounded, too.
    let many: Vec<_> = (0..40).map(|_| budget.take(7, &ReservationCount::default(), || true)).collect();
    assert_eq!(many.iter().flatten().count(), 250 / 7 - 1);
}

#[test]
fn a_greeting_is_admitted_at_once() {
    let budget = Budget::new(10_000);
    // The bulk pool is full, and the quick pool takes no further request.
    let bulk = budget.take(7_500, &ReservationCount::default(), || false);
    let quick: Vec<_> = (0..100).map(|_| budget.take(78, &ReservationCount::default(), || true)).collect();
    assert!(bulk.is_some() && budget.take(78, &ReservationCount::default(), || true).is_none());
    let held = ReservationCount::default();
    let greeting = budget.admit(FREE_BYTES, &held, || true);
    assert!(greeting.is_some());
    assert_eq!(budget.used(), 7_500 + 78 * quick.iter().flatten().count());
    // Only one at a time, and no longer message.
    assert!(budget.admit(1, &held, || true).is_none());
    assert!(budget.admit(FREE_BYTES + 1, &ReservationCount::default(), || true).is_none());
    drop(greeting);
    assert!(budget.admit(1, &held, || true).is_some());
}

#[test]
fn a_reservation_can_be_resized() {
    let budget = Budget::new(1000);
    let mut reservation = budget.take(700, &ReservationCount::default(), || false);
    reservation.iter_mut().for_each(|reservation| reservation.resize(10));
    assert_eq!(budget.used(), 10);
    // A size beyond the limit is counted in full.
    reservation.iter_mut().for_each(|reservation| reservation.resize(5000));
    assert_eq!(budget.used(), 5000);
    assert!(budget.take(600, &ReservationCount::default(), || true).is_none());
    drop(reservation);
    assert_eq!(budget.used(), 0);
}

#[test]
fn requests_are_admitted_in_order_of_arrival() {
    let budget = Budget::new(1000);
    let half = budget.take(400, &ReservationCount::default(), || false);
    thread::scope(|scope| {
        let large = scope.spawn(|| budget.take(750, &ReservationCount::default(), || false).is_some());
        wait_until(|| half.as_ref().is_some_and(Reservation::has_waiters));
        // This one would fit, but the large one was first.
        assert!(budget.take(300, &ReservationCount::default(), || true).is_none());
        drop(half);
        assert_eq!(large.join().ok(), Some(true));
    });
    assert!(budget.take(300, &ReservationCount::default(), || true).is_some());
}

#[test]
fn a_disconnected_waiter_blocks_no_one() {
    let budget = Budget::new(1000);
    let half = budget.take(400, &ReservationCount::default(), || false);
    let disconnected = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let large = scope.spawn(|| {
            budget.take(750, &ReservationCount::default(), || disconnected.load(Ordering::Acquire)).is_none()
        });
        wait_until(|| half.as_ref().is_some_and(Reservation::has_waiters));
        disconnected.store(true, Ordering::Release);
        assert_eq!(large.join().ok(), Some(true));
        assert!(budget.take(300, &ReservationCount::default(), || true).is_some());
    });
}
