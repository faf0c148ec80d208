//! Whether probabilities are correct.

mod bins;
mod temperature;

pub use bins::{Bin, Calibration};
pub use temperature::TemperatureFit;
