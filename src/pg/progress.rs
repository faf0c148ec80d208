//! How far a long call has come: for every session in `susx.stat_progress`, for its own as a NOTICE.
//!
//! PostgreSQL has a place for that in each backend's entry of its status array, which it uses for VACUUM,
//! CREATE INDEX and the like, and clears when a transaction fails. Ours have a command number that none of
//! PostgreSQL's views shows, so no shared memory of our own is needed.
//!
//! There is one entry, but calls may be nested, in that a query that one reads calls another, and they may
//! take turns, as cursors do. The outermost call that is at work has the entry, and the others are silent.

mod sessions;

use std::cell::Cell;
use std::time::Instant;

use pgrx::pg_sys;

use super::guc;
use super::message::note;
use super::regclass::RegClass;
pub use sessions::{Session, sessions};

/// The number of all our commands: "SuSX".
const SUSX: pg_sys::ProgressCommandType::Type = 0x5375_5358;

/// What stands in which parameter of the entry.
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub enum Param {
    Command,
    Phase,
    Done,
    /// Negative: not known.
    Total,
    Failed,
    /// When the call began, a timestamptz.
    Started,
    /// When its phase began, likewise.
    PhaseStarted,
}

/// The calls that say how far they have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    EmbedTable,
    ClassifyRows,
    BuildSupportSet,
    Tune,
    Evaluate,
    ConfusionMatrix,
    GenerateSupportSet,
    GenerateImages,
}

impl Command {
    pub const ALL: [Command; 8] = [
        Command::EmbedTable,
        Command::ClassifyRows,
        Command::BuildSupportSet,
        Command::Tune,
        Command::Evaluate,
        Command::ConfusionMatrix,
        Command::GenerateSupportSet,
        Command::GenerateImages,
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
            Command::GenerateSupportSet => "generate_support_set",
            Command::GenerateImages => "generate_images",
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
    /// Generating images; its steps are the denoising steps of each.
    Generating,
}

impl Phase {
    pub const ALL: [Phase; 7] = [
        Phase::Preparing,
        Phase::Embedding,
        Phase::Classifying,
        Phase::Reading,
        Phase::Searching,
        Phase::Writing,
        Phase::Generating,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Embedding => "embedding",
            Phase::Classifying => "classifying",
            Phase::Reading => "reading",
            Phase::Searching => "searching",
            Phase::Writing => "writing",
            Phase::Generating => "generating",
        }
    }
}

/// What [`WORKING`] and [`WRITER`] know an account by; 0 is none.
type Id = u64;

thread_local! {
    /// The outermost call that is at work.
    static WORKING: Cell<Id> = const { Cell::new(0) };
    /// Whose account stands in the entry, if it is one of ours.
    static WRITER: Cell<Id> = const { Cell::new(0) };
    static LAST_ID: Cell<Id> = const { Cell::new(0) };
}

/// A call's own account of its work.
#[derive(Debug)]
pub struct Progress {
    id: Id,
    command: Command,
    relation: RegClass,
    phase: Phase,
    /// When the call began and when the phase did, for everybody; when the phase did, for the rate.
    started: i64,
    phase_started: i64,
    since: Instant,
    done: u64,
    total: Option<u64>,
    failed: u64,
    last_notice: Instant,
}

impl Progress {
    /// Begins the account of a call that works on a relation: the table, or the classifier. One that works
    /// on none has an invalid one.
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
            since: now,
            done: 0,
            total: None,
            failed: 0,
            last_notice: now,
        };
        progress.resume();
        progress
    }

    /// Begins a phase, of so many steps where that is known.
    pub fn phase(&mut self, phase: Phase, total: Option<u64>) {
        self.phase = phase;
        self.total = total;
        self.done = 0;
        self.since = Instant::now();
        self.phase_started = timestamp();
        self.publish();
    }

    /// So many more steps of the phase are done, of which so many have failed.
    pub fn advance(&mut self, done: u64, failed: u64) {
        self.reach(self.done + done, failed);
    }

    /// So many steps of the phase are done by now, which may be fewer than were thought; so many more have
    /// failed.
    pub fn reach(&mut self, done: u64, failed: u64) {
        self.done = done;
        self.failed += failed;
        self.publish();
        let interval = guc::progress_interval();
        if self.is_heard() && interval.is_some_and(|interval| self.last_notice.elapsed() >= interval) {
            self.last_notice = Instant::now();
            note(self.sentence());
        }
    }

    /// The call returns to its caller, to be called again: until then other calls may have the entry.
    pub fn pause(&self) {
        if WORKING.get() == self.id {
            WORKING.set(0);
        }
    }

    /// The call is at work again.
    pub fn resume(&self) {
        if WORKING.get() == 0 {
            WORKING.set(self.id);
        }
        self.publish();
    }

    /// Whether this is the outermost call, whose account is shown.
    fn is_heard(&self) -> bool {
        WORKING.get() == self.id
    }

    fn publish(&self) {
        if !self.is_heard() {
            return;
        }
        let parameters = [
            (Param::Command, self.command as i64),
            (Param::Phase, self.phase as i64),
            (Param::Done, self.done.cast_signed()),
            (Param::Total, self.expected().map_or(-1, u64::cast_signed)),
            (Param::Failed, self.failed.cast_signed()),
            (Param::Started, self.started),
            (Param::PhaseStarted, self.phase_started),
        ];
        let (places, values) =
            (parameters.map(|(param, _)| param as i32), parameters.map(|(_, value)| value));
        // SAFETY: this backend's own entry, NULL before it has one; the arrays have the length that is said.
        unsafe {
            let Some(entry) = pg_sys::MyBEEntry.as_ref() else { return };
            match entry.st_progress_command {
                SUSX if WRITER.get() == self.id => {}
                SUSX | pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID => {
                    pg_sys::pgstat_progress_start_command(SUSX, self.relation.0);
                    WRITER.set(self.id);
                }
                // We are part of a COPY or CREATE INDEX, whose own account stands there.
                _ => return,
            }
            // All at once, so that nobody sees the steps of one phase with the number of another.
            pg_sys::pgstat_progress_update_multi_param(places.len() as i32, places.as_ptr(), values.as_ptr());
        }
    }

    /// The number of steps, unless there have been more than were expected.
    fn expected(&self) -> Option<u64> {
        self.total.filter(|&total| total >= self.done)
    }

    /// `susx.embed_table: embedding, 1200 of 40000 (130 per second, 5 min left), 3 failed`
    fn sentence(&self) -> String {
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-3);
        let mut sentence = format!("susx.{}: {}, {}", self.command.name(), self.phase.name(), self.done);
        if let Some(total) = self.expected() {
            sentence += &format!(" of {total}");
        }
        let digits = if rate < 10.0 { 1 } else { 0 };
        sentence += &format!(" ({rate:.digits$} per second");
        if let Some(total) = self.expected().filter(|_| rate > 0.0) {
            let left = (total - self.done) as f64 / rate;
            sentence += &format!(", {} left", about(left));
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
        // After an ERROR PostgreSQL has cleared the entry, or will.
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

fn timestamp() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}

/// A time in seconds as one says it: `40 s`, `5 min`, `3 h 20 min`.
fn about(seconds: f64) -> String {
    // A number that is too large becomes the largest.
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0 | 1) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
