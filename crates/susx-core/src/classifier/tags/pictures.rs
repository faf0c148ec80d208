//! Made-up pictures of several things: the normalised sums of support images.

use ndarray::Array2;

use super::{MOST_THINGS, sums, unit_rows};
use crate::queries::Queries;
use crate::sus::SupportSet;

/// Pictures, as long as there are not too many categories.
const PICTURES: usize = 1000;
/// Fewest pictures.
const FEWEST: usize = 64;
/// Pictures times categories, at most.
const CELLS: usize = 1 << 20;

/// Pictures that show one to four things each.
#[derive(Debug)]
pub struct Pictures {
    features: Array2<f32>,
    likeness: Option<Array2<f32>>,
    /// The support rows of each.
    pub members: Vec<Vec<usize>>,
    /// The categories that each shows.
    pub shows: Vec<Vec<usize>>,
}

impl Pictures {
    /// `shown`: the categories with support images, two or more. The same support set always gives the same pictures.
    pub fn of(support_set: &SupportSet, shown: &[usize]) -> Self {
        let count = (CELLS / support_set.categories().len().max(1)).clamp(FEWEST, PICTURES);
        let most = MOST_THINGS.min(shown.len());
        let mut numbers = Numbers(1);
        let (mut members, mut shows) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for picture in 0..count {
            let things = 1 + picture % most;
            let mut categories: Vec<usize> = Vec::with_capacity(things);
            while categories.len() < things {
                let category = shown[numbers.below(shown.len())];
                if !categories.contains(&category) {
                    categories.push(category);
                }
            }
            let row = |&category: &usize| {
                let rows = support_set.rows(category);
                rows.start + numbers.below(rows.len())
            };
            members.push(categories.iter().map(row).collect::<Vec<_>>());
            shows.push(categories);
        }
        let of = |matrix| unit_rows(sums(matrix, &members));
        let features = of(support_set.features());
        let likeness = support_set.has_likeness().then(|| of(support_set.likeness()));
        Pictures { features, likeness, members, shows }
    }

    /// The pictures, as images to tag.
    pub fn queries(&self) -> Queries<'_> {
        let queries = Queries::new(self.features.view());
        match &self.likeness {
            Some(likeness) => queries.with_likeness(likeness.view()),
            None => queries,
        }
    }
}

/// Pseudo-random numbers: Knuth's linear congruential generator.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count.max(1)
    }
}
