//! The threshold between two groups of numbers (Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9, 1979).

/// Collects numbers from 0 to 1 and finds the threshold that divides them best. Memory does not grow with their count.
#[derive(Clone, Debug)]
pub struct Otsu {
    /// The numbers from `(i - 1)/STEPS` to below `i/STEPS`, as they lie between two candidates.
    cells: Vec<Cell>,
}

/// Numbers between two candidates.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    n: u64,
    sum: f64,
    squares: f64,
}

/// The candidates are 1 to 99 hundredths.
const STEPS: usize = 100;

/// Candidate number `step`.
fn candidate(step: usize) -> f32 {
    step as f32 / STEPS as f32
}

impl Default for Otsu {
    fn default() -> Self {
        Otsu { cells: vec![Cell::default(); STEPS] }
    }
}

impl Otsu {
    /// Adds a number. Numbers outside 0 to 1 count as the nearest inside.
    pub fn record(&mut self, number: f32) {
        let number = number.clamp(0.0, 1.0);
        // The product may be rounded across a candidate. A number is below a candidate exactly if `<` says so: that is
        // how the threshold will be used.
        let mut step = ((number * STEPS as f32) as usize).min(STEPS - 1);
        while step + 1 < STEPS && number >= candidate(step + 1) {
            step += 1;
        }
        while step > 0 && number < candidate(step) {
            step -= 1;
        }
        if let Some(cell) = self.cells.get_mut(step) {
            cell.n += 1;
            cell.sum += f64::from(number);
            cell.squares += f64::from(number).powi(2);
        }
    }

    /// The threshold, 0.01 to 0.99, with the smallest variance within the numbers below it and within the others, the
    /// middle of several; and the share of the variance that it explains, 0 to 1: the variance between the two groups
    /// divided by that of all numbers. `None` without numbers. Where all numbers lie on one side of every threshold,
    /// nothing can be divided, and the lowest is returned.
    pub fn best(&self) -> Option<(f32, f64)> {
        let total = self.cells.iter().fold(Cell::default(), |total, cell| total.and(*cell));
        if total.n == 0 {
            return None;
        }
        let (mut below, mut best, mut last) = (Cell::default(), (0.0, 1), 1);
        for (step, cell) in (1..STEPS).zip(&self.cells) {
            below = below.and(*cell);
            let between = below.variance_from(total);
            if between > best.0 {
                best = (between, step);
                last = step;
            } else if between == best.0 && cell.n == 0 && last + 1 == step {
                // No number lies between the two thresholds.
                last = step;
            }
        }
        let variance = total.n as f64 * total.squares - total.sum * total.sum;
        let explained = if variance > 0.0 { (best.0 / variance).min(1.0) } else { 0.0 };
        let middle = if best.0 > 0.0 { (best.1 + last) / 2 } else { 1 };
        Some((candidate(middle), explained))
    }
}

impl Cell {
    fn and(self, other: Cell) -> Cell {
        Cell { n: self.n + other.n, sum: self.sum + other.sum, squares: self.squares + other.squares }
    }

    /// The variance between these numbers and the rest of `total`, times the square of the total count. The variance
    /// within both is smallest where this is largest, since their sum is fixed.
    fn variance_from(self, total: Cell) -> f64 {
        let (rest, rest_sum) = (total.n - self.n, total.sum - self.sum);
        if self.n == 0 || rest == 0 {
            return 0.0;
        }
        let (low, high) = (self.n as f64, rest as f64);
        low * high * (rest_sum / high - self.sum / low).powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(numbers: &[f32]) -> Option<f32> {
        let mut otsu = Otsu::default();
        numbers.iter().for_each(|&number| otsu.record(number));
        otsu.best().map(|(threshold, _)| threshold)
    }

    /// The definition, read literally.
    fn literal(numbers: &[f32]) -> f32 {
        let within = |numbers: &[f64]| -> f64 {
            let mean = numbers.iter().sum::<f64>() / numbers.len().max(1) as f64;
            numbers.iter().map(|x| (x - mean).powi(2)).sum()
        };
        let cost = |step: usize| {
            let (below, above): (Vec<f32>, Vec<f32>) = numbers.iter().partition(|&&x| x < candidate(step));
            let wide = |numbers: Vec<f32>| -> Vec<f64> { numbers.into_iter().map(f64::from).collect() };
            within(&wide(below)) + within(&wide(above))
        };
        let costs: Vec<f64> = (1..STEPS).map(cost).collect();
        let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
        let first = costs.iter().position(|&cost| cost < least + 1e-9).unwrap_or(0) + 1;
        let same = costs[first - 1..].iter().take_while(|&&cost| cost < least + 1e-9).count();
        candidate(first + (same - 1) / 2)
    }

    #[test]
    fn it_is_the_definition() {
        // Pseudo-random numbers in two heaps of different sizes and widths.
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        for (low, high) in [(40, 200), (200, 40), (5, 5), (1, 300)] {
            let mut numbers: Vec<f32> = (0..low).map(|_| 0.3 * random()).collect();
            numbers.extend((0..high).map(|_| 0.6 + 0.4 * random()));
            assert_eq!(threshold(&numbers), Some(literal(&numbers)), "{low} and {high}");
        }
    }

    #[test]
    fn the_middle_of_equal_thresholds() {
        assert_eq!(threshold(&[0.1, 0.1, 0.9]), Some(0.5));
        assert_eq!(threshold(&[0.0, 1.0]), Some(0.5));
    }

    #[test]
    fn the_share_of_the_variance() {
        let explained = |numbers: &[f32]| {
            let mut otsu = Otsu::default();
            numbers.iter().for_each(|&number| otsu.record(number));
            otsu.best().map_or(f64::NAN, |(_, explained)| explained)
        };
        assert!((explained(&[0.0, 0.0, 1.0]) - 1.0).abs() < 1e-9);
        assert_eq!(explained(&[0.5, 0.5]), 0.0);
        // Evenly spread, two halves explain three quarters.
        let even: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        assert!((explained(&even) - 0.75).abs() < 1e-3);
    }

    #[test]
    fn a_number_on_a_candidate_is_not_below_it() {
        for step in 1..STEPS {
            let mut otsu = Otsu::default();
            otsu.record(candidate(step));
            assert_eq!(otsu.cells[step].n, 1, "{step}");
        }
    }

    #[test]
    fn nothing_to_divide() {
        assert_eq!(threshold(&[]), None);
        assert_eq!(threshold(&[0.5; 7]), Some(0.01));
    }
}
