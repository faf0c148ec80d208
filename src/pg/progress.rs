//! How far a long call has come: for every session in `susx.stat_progress`, for its own as a NOTICE.
//!
//! PostgreSQL has a place for that in each backend's entry of its status array, which it uses for VACUUM,
//! CREATE INDEX and the like, and clears when a transaction fails. Ours have a command number that none of
//! PostgreSQL's views shows, so no shared memory of our own is needed.

use std::time::{Duration, Instant};

use pgrx::{notice, pg_sys};

use super::guc;
use super::regclass::RegClass;

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
    /// A timestamptz.
    Started,
}

/// The calls that say how far they have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    EmbedTable,
    ClassifyRows,
    BuildSupportSet,
    Tune,
}

impl Command {
    pub const ALL: [Command; 4] =
        [Command::EmbedTable, Command::ClassifyRows, Command::BuildSupportSet, Command::Tune];

    /// The name of the SQL function.
    pub fn name(self) -> &'static str {
        match self {
            Command::EmbedTable => "embed_table",
            Command::ClassifyRows => "classify_rows",
            Command::BuildSupportSet => "build_support_set",
            Command::Tune => "tune",
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
}

impl Phase {
    pub const ALL: [Phase; 6] = [
        Phase::Preparing,
        Phase::Embedding,
        Phase::Classifying,
        Phase::Reading,
        Phase::Searching,
        Phase::Writing,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Phase::Preparing => "preparing",
            Phase::Embedding => "embedding",
            Phase::Classifying => "classifying",
            Phase::Reading => "reading",
            Phase::Searching => "searching",
            Phase::Writing => "writing",
        }
    }
}

/// A call's own account of its work.
#[derive(Debug)]
pub struct Progress {
    command: Command,
    relation: RegClass,
    phase: Phase,
    /// When the call began, for everybody; when the phase did, for the rate.
    started: i64,
    since: Instant,
    done: u64,
    total: Option<u64>,
    failed: u64,
    last_notice: Instant,
}

impl Progress {
    /// Begins the account of a call that works on a relation: the table, or the classifier.
    pub fn start(command: Command, relation: RegClass) -> Self {
        let now = Instant::now();
        // SAFETY: reads the clock.
        let started = unsafe { pg_sys::GetCurrentTimestamp() };
        let progress = Progress {
            command,
            relation,
            phase: Phase::Preparing,
            started,
            since: now,
            done: 0,
            total: None,
            failed: 0,
            last_notice: now,
        };
        progress.publish();
        progress
    }

    /// Begins a phase, of so many steps where that is known.
    pub fn phase(&mut self, phase: Phase, total: Option<u64>) {
        self.phase = phase;
        self.total = total;
        self.done = 0;
        self.since = Instant::now();
        self.publish();
    }

    /// So many more steps of the phase are done, of which so many have failed.
    pub fn advance(&mut self, done: u64, failed: u64) {
        self.done += done;
        self.failed += failed;
        self.publish();
        let interval = guc::progress_interval();
        if interval.is_some_and(|interval| self.last_notice.elapsed() >= interval) {
            self.last_notice = Instant::now();
            notice!("{}", self.sentence());
        }
    }

    /// Steps done in this phase.
    pub fn done(&self) -> u64 {
        self.done
    }

    fn publish(&self) {
        // SAFETY: this backend's own entry, NULL before it has one. The first parameter that is written
        // says that the others are ours.
        unsafe {
            let Some(entry) = pg_sys::MyBEEntry.as_ref() else { return };
            match entry.st_progress_command {
                SUSX => {}
                pg_sys::ProgressCommandType::PROGRESS_COMMAND_INVALID => {
                    pg_sys::pgstat_progress_start_command(SUSX, self.relation.0);
                }
                // We are part of a COPY or CREATE INDEX, whose own account stands there.
                _ => return,
            }
            let set = |param: Param, value: i64| pg_sys::pgstat_progress_update_param(param as i32, value);
            set(Param::Command, self.command as i64);
            set(Param::Phase, self.phase as i64);
            set(Param::Done, self.done.cast_signed());
            set(Param::Total, self.total.map_or(-1, u64::cast_signed));
            set(Param::Failed, self.failed.cast_signed());
            set(Param::Started, self.started);
        }
    }

    /// `susx.embed_table: embedding, 1200 of 40000 (130 per second, 5 min left), 3 failed`
    fn sentence(&self) -> String {
        let seconds = self.since.elapsed().as_secs_f64();
        let rate = self.done as f64 / seconds.max(1e-3);
        let mut sentence = format!("susx.{}: {}, {}", self.command.name(), self.phase.name(), self.done);
        if let Some(total) = self.total {
            sentence += &format!(" of {total}");
        }
        sentence += &format!(" ({rate:.0} per second");
        if let Some(left) = self.total.and_then(|total| total.checked_sub(self.done)).filter(|_| rate > 0.0) {
            sentence += &format!(", {} left", about(Duration::from_secs_f64(left as f64 / rate)));
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

/// A time as one says it: `40 s`, `5 min`, `3 h 20 min`.
fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}
