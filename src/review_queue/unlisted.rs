//! Groups of rows that may be of a category that is not listed.

use ndarray::Array2;
use susx_core::duplicates::cosine;

use super::best::Candidate;
use crate::pg::wait;

/// A group with at least this many rows may be a category.
const FEWEST: usize = 3;
/// Rows that are grouped, the least known ones: every pair of them is compared.
const MOST: usize = 1000;

/// The rows in the middle of groups of alike rows, each with the key of the row that is most like it: the largest group
/// first. Two rows are alike if their cosine is nearer to the median cosine of a row and its nearest neighbour than to
/// the median cosine of any two rows.
pub fn groups(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.truncate(MOST);
    let count = candidates.len();
    if count < FEWEST {
        return Vec::new();
    }
    let cosines = cosines(&candidates);
    let nearest = (0..count).map(|a| (0..count).map(|b| cosines[(a, b)]).fold(-1.0, f32::max));
    let pairs = (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).map(|pair| cosines[pair]);
    let alike = (median(nearest.collect()) + median(pairs.collect())) / 2.0;
    let mut left: Vec<usize> = (0..count).collect();
    let mut found = Vec::new();
    loop {
        let is_member = |a: usize, b: usize| a == b || cosines[(a, b)] >= alike;
        let size = |&a: &usize| {
            wait::check();
            left.iter().filter(|&&b| is_member(a, b)).count()
        };
        // Of equally large groups, that of the row that is least known.
        let Some(middle) = left.iter().copied().rev().max_by_key(size) else { break };
        let group: Vec<usize> = left.iter().copied().filter(|&b| is_member(middle, b)).collect();
        if group.len() < FEWEST {
            break;
        }
        let nearest = |&a: &usize, &b: &usize| cosines[(middle, a)].total_cmp(&cosines[(middle, b)]);
        let other = group.iter().copied().filter(|&other| other != middle).max_by(nearest);
        let alike = other.and_then(|other| candidates[other].key.clone());
        found.push(Candidate { alike, ..candidates[middle].clone() });
        left.retain(|image| !group.contains(image));
    }
    found
}

/// The middle one of some numbers, at least one.
fn median(mut numbers: Vec<f32>) -> f32 {
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable_by(middle, f32::total_cmp).1
}

/// The cosines of all pairs; -1 of an image with itself, and of vectors of different lengths.
fn cosines(candidates: &[Candidate]) -> Array2<f32> {
    let count = candidates.len();
    Array2::from_shape_fn((count, count), |(a, b)| {
        if b == 0 {
            wait::check();
        }
        let (of_a, of_b) = (&candidates[a].vector, &candidates[b].vector);
        if a != b && of_a.len() == of_b.len() { cosine(of_a, of_b) } else { -1.0 }
    })
}
