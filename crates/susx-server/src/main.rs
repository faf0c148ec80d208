//! See the library's documentation.

use std::fs;
use std::io::Write;
use std::panic;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use susx_server::log_lines::{self, Level};
use susx_server::settings::Settings;

fn main() -> ExitCode {
    log_to_the_supervisor();
    be_the_first_victim();
    let_the_database_go_first();
    match susx_server::socket::listen::run(Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Standard error goes to PostgreSQL's log, which also decides what is worth keeping: of our own
/// messages all but the finest are sent.
fn log_to_the_supervisor() {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .filter_module("susx_server", log::LevelFilter::Debug)
        .filter_module("susx_core", log::LevelFilter::Debug)
        .format(|out, record| {
            let level = match record.level() {
                log::Level::Error => Level::Error,
                log::Level::Warn => Level::Warn,
                log::Level::Info => Level::Info,
                log::Level::Debug => Level::Debug,
                log::Level::Trace => Level::Trace,
            };
            out.write_all(log_lines::format(level, &record.args().to_string()).as_bytes())
        })
        .init();
    // One line instead of several; those that are caught cost one batch or one image.
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("for an unknown reason");
        log::error!("thread \"{}\" panicked{place}: {message}", thread.name().unwrap_or("?"));
    }));
}

/// Where the machine runs out of memory, this process is the one to kill: it is started again at once,
/// and calls are repeated, while a killed backend would restart all of PostgreSQL.
fn be_the_first_victim() {
    const MOST: &str = "1000";
    if let Err(error) = fs::write("/proc/self/oom_score_adj", MOST) {
        log::debug!("cannot become the kernel's first victim when memory is short: {error}");
    }
}

/// All cores are busy with a bulk job for hours; a session that has a cancel to act on, or a query to
/// answer, should not stand in line with it.
fn let_the_database_go_first() {
    const NICENESS: i32 = 5;
    if let Err(error) = rustix::process::nice(NICENESS) {
        log::debug!("cannot lower the priority: {error}");
    }
}
