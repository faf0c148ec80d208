use super::*;

const DELAY: Duration = Duration::from_millis(2);
const BATCHING: Batching = Batching { size: 4, delay: DELAY };

fn items<T>(batch: Vec<Dequeued<T>>) -> Vec<T> {
    batch.into_iter().map(|dequeued| dequeued.item).collect()
}

fn items_of<T>(batch: Option<Vec<Dequeued<T>>>) -> Vec<T> {
    items(batch.unwrap_or_default())
}

/// A queue and a clock that only the test moves.
struct Simulation {
    state: State<&'static str>,
    now: Instant,
}

impl Simulation {
    fn new() -> Self {
        Simulation { state: State::new(), now: Instant::now() }
    }

    fn push(&mut self, id: ConnectionId, items: &[&'static str]) {
        self.state.push(id, items.iter().copied(), self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Time until the batch is closed.
    fn closes_in(&mut self) -> Option<Duration> {
        self.state.closes_at(BATCHING, self.now).map(|at| at.saturating_duration_since(self.now))
    }

    fn take(&mut self) -> Vec<&'static str> {
        assert_eq!(self.closes_in(), Some(Duration::ZERO));
        items(self.state.take(BATCHING.size, 0, |_| 0))
    }

    /// Sends, takes and answers one input per connection.
    fn round(&mut self, ids: &[ConnectionId]) {
        for &id in ids {
            self.push(id, &["x"]);
        }
        self.state.take(ids.len(), 0, |_| 0);
        self.state.done(ids.iter().copied(), self.now);
    }
}

#[test]
fn connections_take_turns() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["a1", "a2", "a3", "a4"]);
    queue.push(2, ["b1"]);
    queue.push(3, ["c1", "c2"]);
    assert_eq!(items_of(queue.take(4)), ["a1", "b1", "c1", "a2"]);
    queue.push(2, ["b2"]);
    assert_eq!(items_of(queue.take(9)), ["c2", "a3", "b2", "a4"]);
}

#[test]
fn a_bulk_job_delays_others_by_the_batches_in_flight() {
    let queue = FairQueue::new(Batching { size: 32, delay: DELAY });
    queue.push(1, vec!["bulk"; 100_000]);
    // Two batches are in flight when a single input of another connection arrives.
    let in_flight = [queue.take(32), queue.take(32)];
    queue.push(2, ["single"]);
    let next = items_of(queue.take(32));
    assert!(next.contains(&"single"));
    assert_eq!(in_flight.iter().flatten().map(Vec::len).sum::<usize>() + next.len(), 3 * 32);
}

#[test]
fn a_batch_is_limited_by_weight() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["aaaaa", "aaaaa", "a"]);
    queue.push(2, ["b", "bb"]);
    let take = || items_of(queue.take_weighted(9, 4, |text| text.len()));
    // An input that exceeds the limit is a batch of its own, and other connections come before its next one.
    assert_eq!(take(), ["aaaaa"]);
    assert_eq!(take(), ["b"]);
    assert_eq!(take(), ["aaaaa"]);
    assert_eq!(take(), ["bb", "a"]);
}

#[test]
fn a_closed_queue_is_drained() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["a1", "a2", "a3"]);
    assert_eq!(items_of(queue.take(2)), ["a1", "a2"]);
    let waiting = FairQueue::<&str>::new(BATCHING);
    std::thread::scope(|scope| {
        queue.close();
        assert!(!queue.is_idle());
        assert_eq!(items_of(queue.take(2)), ["a3"]);
        assert!(queue.take(2).is_none());
        queue.done([1, 1, 1]);
        assert!(queue.is_idle());
        // Threads that already wait return, too.
        let takers = [(); 2].map(|()| scope.spawn(|| waiting.take(2).is_none()));
        waiting.close();
        assert_eq!(takers.map(|taker| taker.join().ok()), [Some(true); 2]);
    });
}

#[test]
fn a_forgotten_connection_has_no_turn() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["a1", "a2"]);
    queue.push(2, ["b1"]);
    queue.forget(1);
    queue.forget(7);
    assert_eq!(items_of(queue.take(9)), ["b1"]);
    // Its inputs in flight are still marked as done.
    queue.done([1]);
}

#[test]
fn a_full_batch_is_closed_at_once() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2]);
    simulation.push(1, &["a", "a", "a"]);
    assert_eq!(simulation.closes_in(), Some(DELAY));
    simulation.push(1, &["a"]);
    assert_eq!(simulation.take().len(), 4);
}

#[test]
fn a_single_connection_never_waits() {
    let mut simulation = Simulation::new();
    assert_eq!(simulation.closes_in(), None);
    for _ in 0..3 {
        simulation.push(1, &["a"]);
        assert_eq!(simulation.take(), ["a"]);
        simulation.state.done([1], simulation.now);
        simulation.pass(DELAY / 10);
    }
}

#[test]
fn recently_answered_connections_are_expected() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2, 3]);
    simulation.pass(DELAY / 4);
    simulation.push(1, &["a"]);
    simulation.push(2, &["b"]);
    assert_eq!(simulation.closes_in(), Some(DELAY * 3 / 4));
    // All expected connections have sent an input.
    simulation.push(3, &["c"]);
    assert_eq!(simulation.take(), ["a", "b", "c"]);
}

#[test]
fn no_input_waits_longer_than_the_delay() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2]);
    simulation.push(3, &["in flight"]);
    simulation.state.take(1, 0, |_| 0);
    simulation.push(1, &["a"]);
    simulation.pass(DELAY / 2);
    // Another answer does not make the oldest input wait again.
    simulation.state.done([3], simulation.now);
    simulation.push(1, &["a"]);
    assert_eq!(simulation.closes_in(), Some(DELAY / 2));
    simulation.pass(DELAY / 2);
    assert_eq!(simulation.take(), ["a", "a"]);
    // A connection that sent nothing within the delay is not expected any more.
    simulation.pass(DELAY);
    simulation.state.done([1, 1], simulation.now);
    simulation.push(1, &["a"]);
    assert_eq!(simulation.take(), ["a"]);
}

#[test]
fn a_connection_with_inputs_in_flight_is_not_expected() {
    let mut simulation = Simulation::new();
    simulation.round(&[1]);
    simulation.push(1, &["bulk"; 4]);
    assert_eq!(simulation.take().len(), 4);
    simulation.push(2, &["b"]);
    assert_eq!(simulation.take(), ["b"]);
}

#[test]
fn without_a_delay_no_input_waits() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2]);
    simulation.push(1, &["a"]);
    let batching = Batching { delay: Duration::ZERO, ..BATCHING };
    assert_eq!(simulation.state.closes_at(batching, simulation.now), Some(simulation.now));
}

#[test]
fn take_waits_for_an_arrival_and_for_expected_connections() {
    let queue = FairQueue::new(Batching { size: 4, delay: Duration::from_secs(60) });
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| items_of(queue.take(2)));
        queue.push(1, ["a1"]);
        assert_eq!(taker.join().ok(), Some(vec!["a1"]));
    });
    queue.push(2, ["b1"]);
    queue.take(4);
    queue.done([1, 2]);
    // The first push waits for the second connection, and the second push ends the wait before the delay of a minute.
    queue.push(1, ["a2"]);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| items_of(queue.take(4)));
        queue.push(2, ["b2"]);
        assert_eq!(taker.join().ok(), Some(vec!["a2", "b2"]));
    });
    // A connection that is forgotten ends the wait, too.
    queue.done([1, 2]);
    queue.push(1, ["a3"]);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| items_of(queue.take(4)));
        queue.forget(2);
        assert_eq!(taker.join().ok(), Some(vec!["a3"]));
    });
}
