//! Progress of long calls: for all sessions in `susx.stat_progress`, and for the caller in a NOTICE.
//!
//! Each backend's entry in PostgreSQL's status array has fields for the progress of commands such as VACUUM and CREATE
//! INDEX. PostgreSQL clears them when a transaction fails. susx uses these fields with a command number that no view of
//! PostgreSQL shows, so it does not need its own shared memory.
//!
//! A backend has only one entry. But calls may be nested, when the query of one calls another, and they may take turns,
//! with cursors. Then only the outermost call at work reports its progress.

mod sessions;

use std::cell::Cell;
use std::time::Instant;

use pgrx::pg_sys;

use super::guc;
use super::message::note;
use super::regclass::RegClass;
pub use sessions::{Session, sessions};

/// Command number of all calls of susx: "SuSX" in ASCII.
const SUSX: pg_sys::ProgressCommandType::Type = 0x5375_5358;

/// Indices of the entry's parameters.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Param {
    Command,
    Phase,
    Done,
    /// Negative if not known.
    Total,
    Failed,
    /// Start of the call, a timestamptz.
    Started,
    /// Start of the phase, a timestamptz.
    PhaseStarted,
}

/// Calls that report their progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    EmbedTable,
    ClassifyRows,
    BuildSupportSet,
    Tune,
    Evaluate,
    ConfusionMatrix,
    Calibration,
    GenerateSupportSet,
    GenerateImages,
    Duplicates,
    ReviewQueue,
    LabelTable,
    Report,
}

impl Command {
    pub const ALL: [Command; 13] = [
        Command::EmbedTable,
        Command::ClassifyRows,
        Command::BuildSupportSet,
        Command::Tune,
        Command::Evaluate,
        Command::ConfusionMatrix,
        Command::Calibration,
        Command::GenerateSupportSet,
        Command::GenerateImages,
        Command::Duplicates,
        Command::ReviewQueue,
        Command::LabelTable,
        Command::Report,
    ];

    /// The name of the SQL function.
    pub fn name(self) -> &'static str {
        match self {
            Command::EmbedTable => "embed_table",
            Command::ClassifyRows => "classify_rows",
            Command::BuildSupportSet => "build_support_set",
            Command::Tune => "tune",
            Command::Evaluate => "evaluate",
            Command::ConfusionMatrix => "confusion_matrix",
            Command::Calibration => "calibration",
            Command::GenerateSupportSet => "generate_support_set",
            Command::GenerateImages => "generate_images",
            Command::Duplicates => "duplicates",
            Command::ReviewQueue => "review_queue",
            Command::LabelTable => "label_table",
            Command::Report => "report",
        }
    }
}

/// What a call is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Counting the rows or loading the classifier.
    Preparing,
    /// Embedding images.
    Embedding,
    /// Classifying rows.
    Classifying,
    /// Reading the pool, or the labelled images.
    Reading,
    /// Trying settings.
    Searching,
    /// Writing what was found.
    Writing,
    /// Generating images; the steps of this phase are the denoising steps of all images.
    Generating,
    /// Making thumbnails.
    Shrinking,
}

impl Phase {
    pub const ALL: [Phase; 8] = [
        Phase::Preparing,
        Phase::Embedding,
        Phase::Classifying,
        Phase::Reading,
        Phase::Searching,
        Phase::Writing,
        Phase::Generating,
        Phase::Shrinking,
    ];

    /// The name in `susx.stat_progress`.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Embedding => "embedding",
            Phase::Classifying => "classifying",
            Phase::Reading => "reading",
            Phase::Searching => "searching",
            Phase::Writing => "writing",
            Phase::Generating => "generating",
            Phase::Shrinking => "making thumbnails",
        }
    }
}

/// Identifies a [`Progress`] in this process; 0 is none.
type Id = u64;

thread_local! {
    /// The outermost call at work.
    static OUTERMOST: Cell<Id> = const { Cell::new(0) };
    /// The call whose progress is in the entry.
    static WRITER: Cell<Id> = const { Cell::new(0) };
    static LAST_ID: Cell<Id> = const { Cell::new(0) };
}

/// Progress of one call.
#[derive(Debug)]
pub struct Progress {
    id: Id,
    command: Command,
    relation: RegClass,
    phase: Phase,
    /// Start of the call, a timestamptz.
    started: i64,
    /// Start of the phase, a timestamptz.
    phase_started: i64,
    /// Start of the phase by a monotonic clock, for the rate in notices.
    phase_since: Instant,
    done: u64,
    total: Option<u64>,
    failed: u64,
    last_notice: Instant,
}

impl Progress {
    /// Starts to report the progress of a call. `relation` is its table or classifier, or an invalid one if it has
    /// none.
    pub fn start(command: Command, relation: RegClass) -> Self {
        let (now, started) = (Instant::now(), timestamp());
        LAST_ID.set(LAST_ID.get() + 1);
        let progress = Progress {
            id: LAST_ID.get(),
            command,
            relation,
            phase: Phase::Preparing,
            started,
            phase_started: started,
            phase_since: now,
            done: 0,
            total: None,
            failed: 0,
            last_notice: now,
        };
        progress.resume();
        progress
    }

    /// Begins a phase of `total` steps; `None` if their number is not known.
    pub fn phase(&mut self, phase: Phase, total: Option<u64>) {
        self.phase = phase;
        self.total = total;
        self.done = 0;
        self.phase_since = Instant::now();
        self.phase_started = timestamp();
        self.publish();
    }

    /// Adds `done` steps to the phase, of which `failed` have failed.
    pub fn advance(&mut self, done: u64, failed: u64) {
        self.reach(self.done + done, failed);
    }

    /// Sets the number of steps done in the phase, which may be fewer than before, and adds `failed` failures.
    pub fn reach(&mut self, done: u64, failed: u64) {
        self.done = done;
        self.failed += failed;
        self.publish();
        let interval = guc::progress_interval();
        if self.is_outermost() && interval.is_some_and(|interval| self.last_notice.elapsed() >= interval) {
            self.last_notice = Instant::now();
            note(self.sentence());
        }
    }

    /// Called when the function returns to its caller between rows: until [`resume`](Self::resume), other calls may
    /// report their progress.
    pub fn pause(&self) {
        if OUTERMOST.get() == self.id {
            OUTERMOST.set(0);
        }
    }

    /// Called when the function is at work again.
    pub fn resume(&self) {
        if OUTERMOST.get() == 0 {
            OUTERMOST.set(self.id);
        }
        self.publish();
    }

    /// Whether this is the outermost call at work, whose progress is shown.
    fn is_outermost(&self) -> bool {
        OUTERMOST.get() == self.id
    }

    fn publish(&self) {
        if !self.is_outermost() {
            return;
        }
        let parameters = [
            (Param::Command, self.command as i64),
            (Param::Phase, self.phase as i64),
            (Param::Done, self.done.cast_signed()),
            (Param::Total, self.known_total().map_or(-1, u64::cast_signed)),
            (Param::Failed, self.failed.cast_signed()),
            (Param::Started, self.started),
            (Param::PhaseStarted, self.phase_started),
        ];
        let (indices, values) =
            (parameters.map(|(param, _)| param as i32), parameters.map(|(_, value)| value));
        // SAFETY: this backend's own entry, or NULL before it has one. The arrays have the given length.
        unsafe {
            let Some(entry) = pg_sys::MyBEEntry.as_ref() else { return };
            match entry.st_progress_command {
                SUSX if WRITER.get() == self.id => {}
                SUSX | pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID => {
                    pg_sys::pgstat_progress_start_command(SUSX, self.relation.0);
                    WRITER.set(self.id);
                }
                // The call is part of a COPY or CREATE INDEX, which reports its own progress.
                _ => return,
            }
            // All at once, so that no session sees the steps of one phase with the total of another.
            pg_sys::pgstat_progress_update_multi_param(
                indices.len() as i32,
                indices.as_ptr(),
                values.as_ptr(),
            );
        }
    }

    /// The total number of steps; `None` if it is not known or was exceeded.
    fn known_total(&self) -> Option<u64> {
        self.total.filter(|&total| total >= self.done)
    }

    /// `susx.embed_table: embedding, 1200 of 40000 (130 per second, 5 min left), 3 failed`
    fn sentence(&self) -> String {
        let seconds = self.phase_since.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-3);
        let mut sentence = format!("susx.{}: {}, {}", self.command.name(), self.phase.name(), self.done);
        if let Some(total) = self.known_total() {
            sentence += &format!(" of {total}");
        }
        let digits = if rate < 10.0 { 1 } else { 0 };
        sentence += &format!(" ({rate:.digits$} per second");
        if let Some(total) = self.known_total().filter(|_| rate > 0.0) {
            let left = (total - self.done) as f64 / rate;
            sentence += &format!(", {} left", rough_duration(left));
        }
        sentence += ")";
        if self.failed > 0 {
            sentence += &format!(", {} failed", self.failed);
        }
        sentence
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.pause();
        if WRITER.get() != self.id {
            return;
        }
        WRITER.set(0);
        // After an ERROR, PostgreSQL clears the entry.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: as in `publish`.
        unsafe {
            if pg_sys::MyBEEntry.as_ref().is_some_and(|entry| entry.st_progress_command == SUSX) {
                pg_sys::pgstat_progress_end_command();
            }
        }
    }
}

/// The current time, a timestamptz.
pub fn timestamp() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// A duration in words: `40 s`, `5 min`, `3 h 20 min`.
fn rough_duration(seconds: f64) -> String {
    // The conversion saturates.
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0 | 1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
