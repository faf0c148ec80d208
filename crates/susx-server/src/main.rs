//! See the library's documentation.

use std::process::ExitCode;

use clap::Parser;
use susx_server::settings::Settings;

fn main() -> ExitCode {
    // Standard error is PostgreSQL's log.
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).format_timestamp(None).init();
    match susx_server::listen::run(Settings::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}
