//! The program `susx-server`; see the library's documentation.

use std::fs;
use std::io::Write;
use std::panic;
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use susx_server::command_line::Tool;
use susx_server::log_lines::{self, Level};
use susx_server::settings::Settings;

fn main() -> ExitCode {
    if let Some(tool) = Tool::from_command_line() {
        return tool.run();
    }
    log_to_stderr();
    prefer_as_oom_victim();
    lower_cpu_priority();
    match susx_server::socket::listen::run(Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to standard error, which the supervisor copies to PostgreSQL's log. The log's own settings filter the
/// messages, so everything down to debug level is sent.
fn log_to_stderr() {
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
    // One line instead of several. Most panics are caught and cost one batch or one image.
    panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let place = panic.location().map(|place| format!(" at {place}")).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("for an unknown reason");
        log::error!("thread \"{}\" panicked{place}: {message}", thread.name().unwrap_or("?"));
    }));
}

/// Makes this process the kernel's first choice when memory runs out. It is restarted at once and calls are repeated,
/// whereas a killed backend would restart all of PostgreSQL.
fn prefer_as_oom_victim() {
    const HIGHEST: &str = "1000";
    if let Err(error) = fs::write("/proc/self/oom_score_adj", HIGHEST) {
        log::debug!("cannot raise the process's OOM score: {error}");
    }
}

/// Lowers the priority: a bulk job may use all cores for hours, and queries and cancel requests should not wait for
/// it.
fn lower_cpu_priority() {
    const NICENESS: i32 = 5;
    if let Err(error) = rustix::process::nice(NICENESS) {
        log::debug!("cannot lower the process's priority: {error}");
    }
}
