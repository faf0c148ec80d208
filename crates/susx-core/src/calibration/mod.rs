//! Whether probabilities come true.

mod bins;
mod temperature;

pub use bins::{Bin, Calibration};
pub use temperature::TemperatureFit;
