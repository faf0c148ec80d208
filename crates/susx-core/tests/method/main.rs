//! The method against its formulas, read literally and in float64.

mod explain;
mod formula;
mod gda;
mod gda_literal;
mod golden;
mod interrupt;
mod literal;
mod properties;
mod rank;
mod tune;
