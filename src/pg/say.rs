//! Notices and warnings, which hold names and texts of users: what a client and the log show of them is escaped.

macro_rules! notice {
    ($($argument:tt)*) => {
        pgrx::notice!("{}", susx_server::log_lines::escape(&format!($($argument)*)))
    };
}

macro_rules! warning {
    ($($argument:tt)*) => {
        pgrx::warning!("{}", susx_server::log_lines::escape(&format!($($argument)*)))
    };
}

pub(crate) use {notice, warning};
