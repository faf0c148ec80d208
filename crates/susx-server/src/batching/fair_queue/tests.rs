use super::*;

const DELAY: Duration = Duration::from_millis(2);
const BATCHING: Batching = Batching { size: 4, delay: DELAY };

fn contents<T>(batch: Vec<Dequeued<T>>) -> Vec<T> {
    batch.into_iter().map(|dequeued| dequeued.item).collect()
}

fn contents_of<T>(batch: Option<Vec<Dequeued<T>>>) -> Vec<T> {
    contents(batch.unwrap_or_default())
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

    /// How long until the batch is closed.
    fn closes_in(&mut self) -> Option<Duration> {
        self.state.closes(BATCHING, self.now).map(|at| at.saturating_duration_since(self.now))
    }

    fn take(&mut self) -> Vec<&'static str> {
        assert_eq!(self.closes_in(), Some(Duration::ZERO));
        contents(self.state.take(BATCHING.size, 0, |_| 0))
    }

    /// Sends one, has it taken and answered.
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
    assert_eq!(contents_of(queue.take(4)), ["a1", "b1", "c1", "a2"]);
    queue.push(2, ["b2"]);
    assert_eq!(contents_of(queue.take(9)), ["c2", "a3", "b2", "a4"]);
}

#[test]
fn a_bulk_job_delays_others_by_the_batches_in_flight() {
    let queue = FairQueue::new(Batching { size: 32, delay: DELAY });
    queue.push(1, vec!["bulk"; 100_000]);
    // Two batches are in flight when a single input of another connection comes.
    let in_flight = [queue.take(32), queue.take(32)];
    queue.push(2, ["single"]);
    let next = contents_of(queue.take(32));
    assert!(next.contains(&"single"));
    assert_eq!(in_flight.iter().flatten().map(Vec::len).sum::<usize>() + next.len(), 3 * 32);
}

#[test]
fn heavy_inputs_make_small_batches() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["aaaaa", "aaaaa", "a"]);
    queue.push(2, ["b", "bb"]);
    let take = || contents_of(queue.take_weighing(9, 4, |text| text.len()));
    // One that is too heavy is alone, and others have their turn before its connection's next.
    assert_eq!(take(), ["aaaaa"]);
    assert_eq!(take(), ["b"]);
    assert_eq!(take(), ["aaaaa"]);
    assert_eq!(take(), ["bb", "a"]);
}

#[test]
fn a_closed_queue_is_emptied_and_ends() {
    let queue = FairQueue::new(BATCHING);
    queue.push(1, ["a1", "a2", "a3"]);
    assert_eq!(contents_of(queue.take(2)), ["a1", "a2"]);
    let waiting = FairQueue::<&str>::new(BATCHING);
    std::thread::scope(|scope| {
        queue.close();
        assert!(!queue.is_idle());
        assert_eq!(contents_of(queue.take(2)), ["a3"]);
        assert!(queue.take(2).is_none());
        queue.done([1, 1, 1]);
        assert!(queue.is_idle());
        // Who waits already ends too.
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
    assert_eq!(contents_of(queue.take(9)), ["b1"]);
    // What it had in flight is answered to nobody.
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
fn who_is_alone_never_waits() {
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
fn sessions_that_were_answered_together_are_waited_for() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2, 3]);
    simulation.pass(DELAY / 4);
    simulation.push(1, &["a"]);
    simulation.push(2, &["b"]);
    assert_eq!(simulation.closes_in(), Some(DELAY * 3 / 4));
    // The last of them is there: nothing is left to wait for.
    simulation.push(3, &["c"]);
    assert_eq!(simulation.take(), ["a", "b", "c"]);
}

#[test]
fn nobody_is_waited_for_longer_than_the_delay() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2]);
    simulation.push(3, &["in flight"]);
    simulation.state.take(1, 0, |_| 0);
    simulation.push(1, &["a"]);
    simulation.pass(DELAY / 2);
    // Another one is answered meanwhile: the oldest input does not wait for it once more.
    simulation.state.done([3], simulation.now);
    simulation.push(1, &["a"]);
    assert_eq!(simulation.closes_in(), Some(DELAY / 2));
    simulation.pass(DELAY / 2);
    assert_eq!(simulation.take(), ["a", "a"]);
    // And who did not come back is forgotten.
    simulation.pass(DELAY);
    simulation.state.done([1, 1], simulation.now);
    simulation.push(1, &["a"]);
    assert_eq!(simulation.take(), ["a"]);
}

#[test]
fn who_has_something_in_flight_is_not_waited_for() {
    let mut simulation = Simulation::new();
    simulation.round(&[1]);
    simulation.push(1, &["bulk"; 4]);
    assert_eq!(simulation.take().len(), 4);
    simulation.push(2, &["b"]);
    assert_eq!(simulation.take(), ["b"]);
}

#[test]
fn without_a_delay_nobody_waits() {
    let mut simulation = Simulation::new();
    simulation.round(&[1, 2]);
    simulation.push(1, &["a"]);
    let batching = Batching { delay: Duration::ZERO, ..BATCHING };
    assert_eq!(simulation.state.closes(batching, simulation.now), Some(simulation.now));
}

#[test]
fn take_waits_for_an_arrival_and_for_who_is_expected() {
    let queue = FairQueue::new(Batching { size: 4, delay: Duration::from_secs(60) });
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| contents_of(queue.take(2)));
        queue.push(1, ["a1"]);
        assert_eq!(taker.join().ok(), Some(vec!["a1"]));
    });
    queue.push(2, ["b1"]);
    queue.take(4);
    queue.done([1, 2]);
    // Without the rule the first push would be a batch of its own, without the second it would take a minute.
    queue.push(1, ["a2"]);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| contents_of(queue.take(4)));
        queue.push(2, ["b2"]);
        assert_eq!(taker.join().ok(), Some(vec!["a2", "b2"]));
    });
    // The same for one who goes away.
    queue.done([1, 2]);
    queue.push(1, ["a3"]);
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| contents_of(queue.take(4)));
        queue.forget(2);
        assert_eq!(taker.join().ok(), Some(vec!["a3"]));
    });
}
