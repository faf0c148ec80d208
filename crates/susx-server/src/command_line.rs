//! What the program does by its first argument: it serves PostgreSQL, unless it is the name of a tool.

use std::process::ExitCode;

use clap::Parser;

use crate::check;
#[cfg(feature = "fetch")]
use crate::fetch;

/// The tools for administrators, which are run in a shell.
#[derive(Debug, Parser)]
#[command(name = "susx-server", version)]
pub enum Tool {
    #[cfg(feature = "fetch")]
    Fetch(fetch::Arguments),
    Check(check::Arguments),
}

impl Tool {
    /// The tool that the command line names; `None` if the process is to serve. Ends the process if the tool's arguments
    /// are wrong, or if they ask for help.
    pub fn from_command_line() -> Option<Tool> {
        let first = std::env::args_os().nth(1)?;
        let is_tool = ["fetch", "check", "help"].iter().any(|name| first == *name);
        if cfg!(not(feature = "fetch")) && first == "fetch" {
            eprintln!("error: this susx-server was built without the feature \"fetch\"");
            std::process::exit(2);
        }
        is_tool.then(Tool::parse)
    }

    /// Runs the tool.
    pub fn run(self) -> ExitCode {
        match self {
            #[cfg(feature = "fetch")]
            Tool::Fetch(arguments) => fetch::run(&arguments),
            Tool::Check(arguments) => check::run(&arguments),
        }
    }
}
