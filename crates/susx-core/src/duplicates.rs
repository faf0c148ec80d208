//! Near-duplicates: images whose vectors point almost the same way.
//!
//! The groups are the connected components of the images whose cosine is at least a threshold. They depend on neither the
//! order of the images nor on which of them comes first, as the groups of a leader would.

use ndarray::{ArrayView2, Axis, s};

use crate::interrupt;
use crate::linalg::product;

/// The cosine at or above which two images are near-duplicates, unless the caller sets another: docs/defaults.md.
pub const THRESHOLD: f32 = 0.96;
/// In spaces with fewer dimensions than models have, cosines near 1 do not indicate the same picture.
pub const LEAST_DIMENSIONS: usize = 64;
/// How far rounding may move the cosine of two unit vectors. Copies have one of 1 to within this.
pub const ROUNDING: f32 = 1e-5;
/// Rows and columns of the part of the matrix of cosines that is in memory.
const ROWS: usize = 256;
const COLUMNS: usize = 2048;

/// Whether images of that cosine are near-duplicates.
pub fn is_duplicate(cosine: f32, threshold: f32) -> bool {
    cosine + ROUNDING >= threshold
}

/// The cosine of two unit vectors, if it is that of near-duplicates and tells them from other images.
pub fn duplicate_cosine(a: &[f32], b: &[f32]) -> Option<f32> {
    if a.len() != b.len() || a.len() < LEAST_DIMENSIONS {
        return None;
    }
    let cosine = cosine(a, b);
    is_duplicate(cosine, THRESHOLD).then_some(cosine)
}

/// The cosine of two unit vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Images, and which of them are near-duplicates.
#[derive(Debug)]
pub struct Links {
    /// Another image of the same group, closer to the one that stands for it.
    parent: Vec<u32>,
    /// The number of near-duplicates of each image.
    degree: Vec<u32>,
}

impl Links {
    /// `images` images, none of which are near-duplicates.
    pub fn new(images: u32) -> Self {
        Links { parent: (0..images).collect(), degree: vec![0; images as usize] }
    }

    /// Compares the images from `start` on, at most [`step`](Self::step) of them, with themselves and all that follow. The
    /// rows of `vectors` are of unit length.
    pub fn compare(&mut self, vectors: ArrayView2<f32>, start: usize, threshold: f32) {
        let end = vectors.nrows().min(start + ROWS);
        let rows = vectors.slice(s![start..end, ..]);
        let others = vectors.slice(s![start.., ..]);
        for (column, columns) in (start..).step_by(COLUMNS).zip(others.axis_chunks_iter(Axis(0), COLUMNS)) {
            let cosines = product(rows, columns);
            interrupt::check();
            for (a, cosines) in (start..).zip(cosines.rows()) {
                for (b, &cosine) in (column..).zip(cosines) {
                    if is_duplicate(cosine, threshold) && a < b {
                        self.link(a, b);
                    }
                }
            }
        }
    }

    /// How many images one call of [`compare`](Self::compare) compares with all.
    pub fn step() -> usize {
        ROWS
    }

    /// Notes that two images are near-duplicates. Each pair must be noted only once.
    fn link(&mut self, a: usize, b: usize) {
        self.degree[a] += 1;
        self.degree[b] += 1;
        self.join(a, b);
    }

    /// Notes the near-duplicates that were found of an image. Those of the others must be noted, too.
    pub fn note(&mut self, image: usize, duplicates: &[usize]) {
        self.degree[image] = duplicates.len() as u32;
        for &other in duplicates {
            self.join(image, other);
        }
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a as u32), self.root(b as u32));
        self.parent[a.max(b) as usize] = a.min(b);
    }

    /// The number of near-duplicates of an image.
    pub fn degree(&self, image: usize) -> u32 {
        self.degree[image]
    }

    fn root(&mut self, mut image: u32) -> u32 {
        loop {
            let parent = self.parent[image as usize];
            if parent == image {
                return image;
            }
            // Halving the path keeps all paths short.
            self.parent[image as usize] = self.parent[parent as usize];
            image = parent;
        }
    }

    /// The groups of two and more images, each in ascending order.
    pub fn groups(&mut self) -> Vec<Vec<usize>> {
        // An image's parent comes before it, and so does what stands for its group.
        let mut place = vec![u32::MAX; self.parent.len()];
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for image in 0..self.parent.len() {
            if image % ROWS == 0 {
                interrupt::check();
            }
            let root = self.root(image as u32) as usize;
            if root == image {
                continue;
            }
            if place[root] == u32::MAX {
                place[root] = groups.len() as u32;
                groups.push(vec![root]);
            }
            groups[place[root] as usize].push(image);
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn circle(degrees: &[f32]) -> Array2<f32> {
        Array2::from_shape_fn((degrees.len(), 2), |(i, j)| {
            let angle = degrees[i].to_radians();
            if j == 0 { angle.cos() } else { angle.sin() }
        })
    }

    #[test]
    fn a_chain_is_one_group() {
        let vectors = circle(&[0.0, 90.0, 10.0, 20.0, 91.0, 180.0]);
        let mut links = Links::new(6);
        links.compare(vectors.view(), 0, 12f32.to_radians().cos());
        assert_eq!(links.groups(), [vec![0, 2, 3], vec![1, 4]]);
        assert_eq!((0..6).map(|i| links.degree(i)).collect::<Vec<_>>(), [1, 1, 2, 1, 1, 0]);
    }

    /// More images than one block has rows or columns.
    #[test]
    fn blocks_miss_no_pair() {
        let count = COLUMNS + 2 * ROWS + 7;
        // The last three are copies of the first three; a degree is between all others.
        let vectors = Array2::from_shape_fn((count, 60), |(i, j)| {
            let i = i % (count - 3);
            if j == i / 52 || j == 59 - i % 52 % 8 { 1.0 + (i % 52) as f32 } else { (i % 52) as f32 / 40.0 }
        });
        let norms = vectors.map_axis(Axis(1), |row| row.dot(&row).sqrt()).insert_axis(Axis(1));
        let vectors = vectors / norms;
        let exact = vectors.dot(&vectors.t());
        let expected =
            (0..count).map(|a| (0..count).filter(|&b| a != b && exact[(a, b)] >= 0.97).count() as u32);
        let mut links = Links::new(count as u32);
        for start in (0..count).step_by(Links::step()) {
            links.compare(vectors.view(), start, 0.97);
        }
        let found = (0..count).map(|image| links.degree(image));
        let differences = found.zip(expected).filter(|(found, expected)| found != expected).count();
        // Rounding may decide a few.
        assert!(differences < count / 100, "{differences} of {count}");
        assert!(links.degree(0) > 0 && links.degree(count - 3) > 0);
    }

    #[test]
    fn a_cosine_is_the_sum_of_products() {
        for length in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f32> = (0..length).map(|i| (i % 7) as f32 - 3.0).collect();
            let b: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 1.0).collect();
            let expected: f32 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert_eq!(cosine(&a, &b), expected);
        }
    }

    #[test]
    fn in_few_dimensions_cosines_tell_nothing() {
        let vector = |length: usize| vec![1.0 / (length as f32).sqrt(); length];
        assert_eq!(duplicate_cosine(&vector(63), &vector(63)), None);
        assert_eq!(duplicate_cosine(&vector(65), &vector(64)), None);
        assert!(
            duplicate_cosine(&vector(64), &vector(64)).is_some_and(|cosine| (cosine - 1.0).abs() < ROUNDING)
        );
        let mut other = vec![0.0; 64];
        other[0] = 1.0;
        assert_eq!(duplicate_cosine(&vector(64), &other), None);
    }

    #[test]
    fn copies_are_duplicates_at_every_threshold() {
        let vectors = circle(&[33.0, 33.0, 34.0]);
        let mut links = Links::new(3);
        links.compare(vectors.view(), 0, 1.0);
        assert_eq!(links.groups(), [vec![0, 1]]);
    }
}
