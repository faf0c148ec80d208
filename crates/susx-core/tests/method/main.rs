//! The method against its formulas, read literally and in float64.

mod explain;
mod formula;
mod literal;
mod properties;
mod rank;
mod tune;
