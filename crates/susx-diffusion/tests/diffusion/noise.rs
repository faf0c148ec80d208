//! The noise of a seed, compared with another implementation of its description.

use susx_diffusion::noise::normal;

use crate::{golden, numbers};

#[test]
fn it_is_as_described() {
    let golden = golden("noise.json");
    let seeds = golden.as_object().unwrap();
    assert_eq!(seeds.len(), 8);
    for (name, expected) in seeds {
        // "seed", or "seed, step".
        let (seed, step) = name.split_once(", ").unwrap_or((name, "0"));
        let expected = numbers(expected);
        let found = normal(seed.parse().unwrap(), step.parse().unwrap(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            // The other implementation uses its machine's logarithms and sines, so the last digit may differ.
            assert!((f64::from(*found) - expected).abs() <= 2e-7 * expected.abs().max(0.1), "seed {name}");
        }
    }
}

/// Bit by bit, because a seed must always give the same image.
#[test]
fn it_stays_the_same() {
    let bits: Vec<u32> = normal(42, 0, 4).iter().map(|number| number.to_bits()).collect();
    assert_eq!(bits, [0xbeb5_c3cf, 0xbfa2_f4e8, 0x3efd_7f93, 0x3f2e_76e1]);
}

#[test]
fn it_is_normal() {
    let numbers = normal(7, 0, 100_001);
    assert_eq!(numbers.len(), 100_001);
    // A shorter sequence is a prefix of a longer one.
    assert_eq!(normal(7, 0, 9), numbers[..9]);
    let moment = |power: i32| {
        numbers.iter().map(|&number| f64::from(number).powi(power)).sum::<f64>() / numbers.len() as f64
    };
    for (power, expected, deviation) in
        [(1, 0.0, 1.0), (2, 1.0, 2f64.sqrt()), (3, 0.0, 15f64.sqrt()), (4, 3.0, 96f64.sqrt())]
    {
        let found = moment(power);
        // Four standard deviations of the mean.
        let limit = 4.0 * deviation / (numbers.len() as f64).sqrt();
        assert!((found - expected).abs() < limit, "moment {power}: {found}");
    }
}
