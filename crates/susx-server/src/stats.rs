//! The process's counters, for `susx.stat_server`.
//!
//! Counting takes one lock per batch and one per request, both of which run for milliseconds, and one atomic addition
//! per input. There is one set of counters for the process: [`server`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::protocol::{self, Failure, LastError};

/// Window of the rates in seconds, including the current second.
const RATE_SECONDS: u64 = 10;
/// Latency quantiles cover the current period and the one before.
const LATENCY_PERIOD: Duration = Duration::from_secs(60);
/// Significant digits of recorded latencies: 123 ms is shown as 123 or 124 ms.
const LATENCY_DIGITS: u8 = 2;
/// Upper bound of recorded latencies in microseconds: one hour. Longer ones count as this.
const LONGEST_LATENCY: u64 = 3_600_000_000;
/// Buckets of the batch size histogram: 1, 2, 3 to 4, ... inputs; the last one, 4,097 and more, is beyond the largest
/// susx.batch_size.
const BATCH_BUCKETS: usize = 14;

/// The kind of inputs in a batch.
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

/// Counts of one second. `number` is the second's distance from the process's start; it is stored at `number` modulo
/// [`RATE_SECONDS`].
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    images: u64,
    texts: u64,
    steps: u64,
}

/// Keeps a gauge incremented until dropped.
#[derive(Debug)]
pub struct CountGuard(&'static AtomicU64);

/// The counters of this process.
pub fn server() -> &'static Stats {
    static SERVER: LazyLock<Stats> = LazyLock::new(Stats::new);
    &SERVER
}

/// Counts a connected session until the guard is dropped.
pub fn connection() -> CountGuard {
    CountGuard::new(&server().connections)
}

/// Counts a waiting input until the guard is dropped.
pub fn input() -> CountGuard {
    CountGuard::new(&server().queue_inputs)
}

impl CountGuard {
    fn new(count: &'static AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        CountGuard(count)
    }
}

impl Drop for CountGuard {
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
        counts.record_error(answers);
    }

    /// Counts generated images by their answers.
    pub fn generated<T>(&self, answers: &[Result<T, Failure>]) {
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        let mut counts = self.lock();
        counts.generated += answers.len() as u64 - failed;
        counts.failed += failed;
        counts.record_error(answers);
    }

    /// Counts denoising steps, each of one image.
    pub fn denoised(&self, steps: u64) {
        self.lock().second(self.began.elapsed()).steps += steps;
    }

    /// Counts a batch that failed as a whole.
    pub fn lost_batch(&self, inputs: usize, message: &str) {
        self.lock().count_batch(inputs);
        self.failed(inputs, message);
    }

    /// Counts `inputs` failed inputs that were in no batch and records the error; `inputs` is 0 for an error that is
    /// not about inputs.
    pub fn failed(&self, inputs: usize, message: &str) {
        let mut counts = self.lock();
        counts.failed += inputs as u64;
        counts.last_error = Some((message.to_owned(), SystemTime::now()));
    }

    /// Records the latency of a request.
    pub fn replied(&self, latency: Duration) {
        self.lock().latencies.record(self.began.elapsed(), latency);
    }

    /// The statistics as sent to backends. The caller fills in the fields that it knows: restarts, models and queue
    /// bytes.
    pub fn report(&self) -> protocol::Stats {
        let uptime = self.began.elapsed();
        let mut counts = self.lock();
        let [images_per_second, texts_per_second, steps_per_second] = counts.rates(uptime);
        let recent = counts.latencies.recent(uptime);
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
                .map(|(message, at)| LastError { message: message.clone(), at: microseconds(*at) }),
            ..protocol::Stats::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are valid after every statement, so a panic elsewhere does not spoil them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Records the last error of these answers.
    fn record_error<T>(&mut self, answers: &[Result<T, Failure>]) {
        if let Some(failure) = answers.iter().filter_map(|answer| answer.as_ref().err()).next_back() {
            self.last_error = Some((failure.message.clone(), SystemTime::now()));
        }
    }

    fn count_batch(&mut self, inputs: usize) {
        self.batches += 1;
        // The exponent of the next power of two: 1, 2, 3 to 4, 5 to 8, ...
        let bucket = inputs.next_power_of_two().trailing_zeros() as usize;
        self.batch_sizes[bucket.min(BATCH_BUCKETS - 1)] += 1;
    }

    /// The counts of the second at this uptime.
    fn second(&mut self, uptime: Duration) -> &mut Second {
        let number = uptime.as_secs();
        let second = &mut self.seconds[(number % RATE_SECONDS) as usize];
        if second.number != number {
            *second = Second { number, ..Second::default() };
        }
        second
    }

    /// Images, texts and denoising steps per second.
    fn rates(&self, uptime: Duration) -> [f64; 3] {
        let now = uptime.as_secs();
        let recent = self.seconds.iter().filter(|second| second.number + RATE_SECONDS > now);
        let sums = recent.fold([0; 3], |[images, texts, steps], second| {
            [images + second.images, texts + second.texts, steps + second.steps]
        });
        let whole = (RATE_SECONDS - 1).min(now);
        // At least 1, so that rates are not inflated during the first second.
        let seconds = (whole as f64 + uptime.as_secs_f64().fract()).max(1.0);
        sums.map(|sum| sum as f64 / seconds)
    }
}

/// Latencies of the current period and of the one before.
#[derive(Debug, Default)]
struct Latencies {
    period: u64,
    current: Option<Histogram<u32>>,
    last: Option<Histogram<u32>>,
}

impl Latencies {
    fn record(&mut self, uptime: Duration, latency: Duration) {
        self.rotate(uptime);
        if self.current.is_none() {
            // Fails only for invalid bounds, and these are valid.
            self.current = Histogram::new_with_bounds(1, LONGEST_LATENCY, LATENCY_DIGITS).ok();
        }
        if let Some(current) = &mut self.current {
            current.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        }
    }

    fn recent(&mut self, uptime: Duration) -> Option<Histogram<u32>> {
        self.rotate(uptime);
        match (self.current.clone(), &self.last) {
            (Some(mut recent), Some(last)) => recent.add(last).ok().map(|()| recent),
            (recent, last) => recent.or_else(|| last.clone()),
        }
    }

    fn rotate(&mut self, uptime: Duration) {
        let period = uptime.as_secs() / LATENCY_PERIOD.as_secs();
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
