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
        Self::with(Lane::Absent)
    }

    fn with_lane() -> Self {
        Self::with(Lane::Free)
    }

    fn with(lane: Lane) -> Self {
        Simulation { state: State::new(lane), now: Instant::now() }
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
        items(self.state.take(BATCHING.size, 0, |_| 0, self.now))
    }

    fn take_single(&mut self) -> Option<&'static str> {
        self.state.take_single(self.now).map(|single| single.item)
    }

    /// Sends, takes and answers one input per connection.
    fn round(&mut self, ids: &[ConnectionId]) {
        for &id in ids {
            self.push(id, &["x"]);
        }
        self.state.take(ids.len(), 0, |_| 0, self.now);
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
    simulation.state.take(1, 0, |_| 0, simulation.now);
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

#[test]
fn the_lane_takes_what_batches_leave_to_it() {
    let mut simulation = Simulation::with_lane();
    simulation.push(1, &["bulk"; 20]);
    assert_eq!(simulation.take(), ["bulk"; 4]);
    simulation.push(2, &["b1", "b2"]);
    simulation.push(3, &["c"]);
    // The batches in flight have not ended, and the next one has no single input either.
    assert_eq!(simulation.take(), ["bulk"; 4]);
    assert_eq!(simulation.take_single(), Some("b1"));
    simulation.state.done_single(2, simulation.now);
    assert_eq!(simulation.take(), ["bulk"; 4]);
    // Connections take turns in the lane, too.
    assert_eq!(simulation.take_single(), Some("c"));
    simulation.state.done_single(3, simulation.now);
    assert_eq!(simulation.take_single(), Some("b2"));
    simulation.state.done_single(2, simulation.now);
    assert_eq!(simulation.take_single(), None);
}

#[test]
fn connections_with_few_inputs_share_batches() {
    let mut simulation = Simulation::with_lane();
    for id in 0..32 {
        simulation.push(id, &["single"]);
    }
    assert_eq!(simulation.take_single(), None);
    assert_eq!(simulation.take(), ["single"; 4]);
    simulation.push(100, &["few"; FEW_INPUTS]);
    assert_eq!(simulation.take_single(), None);
    simulation.push(100, &["many"]);
    assert_eq!(simulation.take_single(), Some("single"));
    // So many inputs do not wait for the lane: a batch takes one of each connection.
    assert_eq!(simulation.take(), ["single"; 4]);
}

#[test]
fn without_a_lane_batches_take_all_inputs() {
    let mut simulation = Simulation::new();
    simulation.push(1, &["bulk"; 20]);
    simulation.push(2, &["b"]);
    assert_eq!(simulation.take(), ["bulk", "b", "bulk", "bulk"]);
}

#[test]
fn batches_wait_for_the_lane_while_nothing_else_waits() {
    let mut simulation = Simulation::with_lane();
    simulation.push(1, &["bulk"; 8]);
    simulation.take();
    simulation.take();
    simulation.push(2, &["b1", "b2", "b3"]);
    // The free lane takes the first one at once.
    assert_eq!(simulation.closes_in(), None);
    assert_eq!(simulation.take_single(), Some("b1"));
    simulation.pass(LANE_PATIENCE / 2);
    assert_eq!(simulation.closes_in(), Some(LANE_PATIENCE / 2));
    // The lane takes too long, so a batch takes the others.
    simulation.pass(LANE_PATIENCE / 2);
    assert_eq!(simulation.take(), ["b2", "b3"]);
}

#[test]
fn a_lane_that_takes_too_long_gets_no_more_inputs_from_batches() {
    let mut simulation = Simulation::with_lane();
    simulation.push(1, &["bulk"; 20]);
    simulation.push(2, &["b1", "b2"]);
    assert_eq!(simulation.take_single(), Some("b1"));
    simulation.pass(LANE_PATIENCE);
    assert_eq!(simulation.take(), ["bulk", "b2", "bulk", "bulk"]);
    // It is as before once the lane is free.
    simulation.state.done_single(2, simulation.now);
    simulation.push(2, &["b3"]);
    assert_eq!(simulation.take(), ["bulk"; 4]);
    assert_eq!(simulation.take_single(), Some("b3"));
}

#[test]
fn the_end_of_a_bulk_job_ends_the_work_of_the_lane() {
    let mut simulation = Simulation::with_lane();
    simulation.push(1, &["bulk"; 8]);
    simulation.take();
    simulation.take();
    simulation.push(2, &["b"]);
    assert_eq!(simulation.closes_in(), None);
    simulation.state.done([1; 4], simulation.now);
    // The rest of the bulk job is not large.
    assert_eq!(simulation.take_single(), None);
    assert_eq!(simulation.take(), ["b"]);
}

#[test]
fn the_batches_of_a_forgotten_connection_still_delay_nobody() {
    let mut simulation = Simulation::with_lane();
    simulation.push(1, &["bulk"; 20]);
    simulation.take();
    simulation.take();
    assert!(simulation.state.forget(1).is_some());
    simulation.push(2, &["b1", "b2"]);
    assert_eq!(simulation.take_single(), Some("b1"));
    simulation.state.done_single(2, simulation.now);
    assert_eq!(simulation.closes_in(), None);
    simulation.state.done([1; 4], simulation.now);
    // Few inputs are still in flight.
    assert_eq!(simulation.take(), ["b2"]);
    simulation.state.done([1, 1, 1, 1, 2], simulation.now);
    assert_eq!(simulation.state.orphans, 0);
}

#[test]
fn a_closed_queue_leaves_nothing_to_the_lane() {
    let queue = FairQueue::with_lane(BATCHING);
    queue.push(1, vec!["bulk"; 5]);
    queue.push(2, ["b"]);
    queue.close();
    assert!(queue.take_single().is_none());
    assert_eq!(items_of(queue.take(9)), ["bulk", "b", "bulk", "bulk", "bulk", "bulk"]);
    assert!(queue.take(9).is_none());
}

#[test]
fn the_lane_waits_for_an_input() {
    let queue = FairQueue::with_lane(BATCHING);
    std::thread::scope(|scope| {
        let lane = scope.spawn(|| {
            let taken: Vec<_> = std::iter::from_fn(|| {
                let single = queue.take_single()?;
                queue.done_single(single.connection);
                Some(single.item)
            })
            .collect();
            taken
        });
        queue.push(1, vec!["bulk"; 8]);
        let bulk = queue.take(8);
        assert_eq!(bulk.map(|batch| batch.len()), Some(8));
        // Nobody takes it but the lane, and afterwards it is done.
        queue.push(2, ["b"]);
        while queue.lock().connections.get(&2).is_some_and(|connection| !connection.is_idle()) {
            std::thread::yield_now();
        }
        // A batch task that waits meanwhile gets the next one when the bulk job ends.
        queue.done([1; 8]);
        queue.push(2, ["c"]);
        assert_eq!(items_of(queue.take(8)), ["c"]);
        queue.close();
        assert_eq!(lane.join().ok(), Some(vec!["b"]));
    });
}
