//! What the process has done and is doing, for `susx.stat_server`.
//!
//! Counting costs a lock per batch and one per request, both of which take milliseconds; what is counted
//! for every input is a single atomic addition. The counters are the process's, so there is one set of
//! them: [`server`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::protocol::{self, ErrorSeen, Failure};

/// Rates are over this many seconds, the current one included.
const RATE_SECONDS: u64 = 10;
/// Latencies are of this long, and of as long before it.
const LATENCY_PERIOD: Duration = Duration::from_secs(60);
/// Two digits: p95 of 123 ms is shown as 123 or 124 ms.
const LATENCY_DIGITS: u8 = 2;
/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST_LATENCY: u64 = 3_600_000_000;
/// 1, 2, 3 to 4, ... inputs; the last one is of 4,097 and more, beyond susx.batch_size.
const BATCH_BUCKETS: usize = 14;

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputKind {
    Images,
    Texts,
}

/// The counters of a process.
#[derive(Debug)]
pub struct Stats {
    started: SystemTime,
    began: Instant,
    connections: AtomicU64,
    queue_inputs: AtomicU64,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    images: u64,
    texts: u64,
    generated: u64,
    failed: u64,
    batches: u64,
    batch_sizes: [u64; BATCH_BUCKETS],
    seconds: [Second; RATE_SECONDS as usize],
    latencies: Latencies,
    last_error: Option<(String, SystemTime)>,
}

/// What was done in one second of the process's life; its place is its number modulo their count.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    images: u64,
    texts: u64,
    steps: u64,
}

/// One more, as long as it lives.
#[derive(Debug)]
pub struct Present(&'static AtomicU64);

/// The counters of this process.
pub fn server() -> &'static Stats {
    static SERVER: LazyLock<Stats> = LazyLock::new(Stats::new);
    &SERVER
}

/// A session that uses the process.
pub fn connection() -> Present {
    Present::new(&server().connections)
}

/// An input that has arrived, until it is answered or dropped.
pub fn input() -> Present {
    Present::new(&server().queue_inputs)
}

impl Present {
    fn new(count: &'static AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Present(count)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stats {
    fn new() -> Self {
        Stats {
            started: SystemTime::now(),
            began: Instant::now(),
            connections: AtomicU64::new(0),
            queue_inputs: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    /// Counts a batch by its answers.
    pub fn batch<T>(&self, kind: InputKind, answers: &[Result<T, Failure>]) {
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        let embedded = answers.len() as u64 - failed;
        let mut counts = self.lock();
        counts.count_batch(answers.len());
        counts.failed += failed;
        let second = counts.second(self.began.elapsed());
        match kind {
            InputKind::Images => second.images += embedded,
            InputKind::Texts => second.texts += embedded,
        }
        match kind {
            InputKind::Images => counts.images += embedded,
            InputKind::Texts => counts.texts += embedded,
        }
        counts.note(answers);
    }

    /// Counts images that a generator was asked for by their answers.
    pub fn generated<T>(&self, answers: &[Result<T, Failure>]) {
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        let mut counts = self.lock();
        counts.generated += answers.len() as u64 - failed;
        counts.failed += failed;
        counts.note(answers);
    }

    /// Counts denoising steps, each of one image.
    pub fn denoised(&self, steps: u64) {
        self.lock().second(self.began.elapsed()).steps += steps;
    }

    /// Counts a batch that nobody got an answer from.
    pub fn lost_batch(&self, inputs: usize, message: &str) {
        self.lock().count_batch(inputs);
        self.failed(inputs, message);
    }

    /// Counts inputs that got an error without being in any batch; 0 of them where the error is about
    /// something else.
    pub fn failed(&self, inputs: usize, message: &str) {
        let mut counts = self.lock();
        counts.failed += inputs as u64;
        counts.last_error = Some((message.to_owned(), SystemTime::now()));
    }

    /// Counts a request that is being replied to.
    pub fn replied(&self, latency: Duration) {
        self.lock().latencies.record(self.began.elapsed(), latency);
    }

    /// What a session gets to see; what others know is filled in by them.
    pub fn report(&self) -> protocol::Stats {
        let up = self.began.elapsed();
        let mut counts = self.lock();
        let [images_per_second, texts_per_second, steps_per_second] = counts.rates(up);
        let recent = counts.latencies.recent(up);
        let quantile = |q| Some(recent.as_ref()?.value_at_quantile(q) as f64 / 1000.0);
        protocol::Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: microseconds(self.started),
            connections: self.connections.load(Ordering::Relaxed),
            queue_inputs: self.queue_inputs.load(Ordering::Relaxed),
            images: counts.images,
            texts: counts.texts,
            generated: counts.generated,
            failed: counts.failed,
            batches: counts.batches,
            images_per_second,
            texts_per_second,
            steps_per_second,
            batch_sizes: counts.batch_sizes.to_vec(),
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            last_error: counts
                .last_error
                .as_ref()
                .map(|(message, at)| ErrorSeen { message: message.clone(), at: microseconds(*at) }),
            ..protocol::Stats::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are valid whatever panicked meanwhile.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Keeps the last error of these answers.
    fn note<T>(&mut self, answers: &[Result<T, Failure>]) {
        if let Some(failure) = answers.iter().filter_map(|answer| answer.as_ref().err()).next_back() {
            self.last_error = Some((failure.message.clone(), SystemTime::now()));
        }
    }

    fn count_batch(&mut self, inputs: usize) {
        self.batches += 1;
        // 1, 2, 3 to 4, 5 to 8: the power of two that is not below it.
        let bucket = inputs.next_power_of_two().trailing_zeros() as usize;
        self.batch_sizes[bucket.min(BATCH_BUCKETS - 1)] += 1;
    }

    /// The count of the second that is so far into the process's life.
    fn second(&mut self, up: Duration) -> &mut Second {
        let number = up.as_secs();
        let second = &mut self.seconds[(number % RATE_SECONDS) as usize];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }

    /// Images, texts and denoising steps per second.
    fn rates(&self, up: Duration) -> [f64; 3] {
        let now = up.as_secs();
        let recent = self.seconds.iter().filter(|second| second.number + RATE_SECONDS > now);
        let sums = recent.fold([0; 3], |[images, texts, steps], second| {
            [images + second.images, texts + second.texts, steps + second.steps]
        });
        let whole = (RATE_SECONDS - 1).min(now);
        // In its first second no process seems faster than it is.
        let seconds = (whole as f64 + up.as_secs_f64().fract()).max(1.0);
        sums.map(|sum| sum as f64 / seconds)
    }
}

/// Latencies of this period and of the one before.
#[derive(Debug, Default)]
struct Latencies {
    period: u64,
    current: Option<Histogram<u32>>,
    last: Option<Histogram<u32>>,
}

impl Latencies {
    fn record(&mut self, up: Duration, latency: Duration) {
        self.turn(up);
        if self.current.is_none() {
            // These bounds are right: then there is one.
            self.current = Histogram::new_with_bounds(1, LONGEST_LATENCY, LATENCY_DIGITS).ok();
        }
        if let Some(current) = &mut self.current {
            current.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn recent(&mut self, up: Duration) -> Option<Histogram<u32>> {
        self.turn(up);
        match (self.current.clone(), &self.last) {
            (Some(mut recent), Some(last)) => recent.add(last).ok().map(|()| recent),
            (recent, last) => recent.or_else(|| last.clone()),
        }
    }

    fn turn(&mut self, up: Duration) {
        let period = up.as_secs() / LATENCY_PERIOD.as_secs();
        if period != self.period {
            self.last = self.current.take().filter(|_| period == self.period + 1);
            self.period = period;
        }
    }
}

fn microseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
