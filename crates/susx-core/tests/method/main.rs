//! The method against its formulas, read literally and in float64.

// A test fails by panicking. clippy.toml allows that in tests, but not in their helpers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod explain;
mod formula;
mod gated_tip_x;
mod gda;
mod gda_literal;
mod golden;
mod interrupt;
mod known;
mod likeness;
mod literal;
mod properties;
mod rank;
mod tags;
mod tune;
