//! Several labels per image: each category is judged independently.
//!
//! Two readings measure how much an image shows a category: the cosine with its name, and the cosine with the mean of
//! its support images, its look. [`Reading`] makes the cosines comparable between images and between categories. A
//! logistic regression of both readings gives the probability. It is fitted to pictures whose tags are known because
//! they are made up: the normalised sums of up to four support images of different categories.
//!
//! A category with fewer than two support images has no look, and its name speaks for it. Where fewer than two
//! categories have a support image, all that is left is how far a name stands out among the names. The threshold is
//! then half of how far each of four equally clear things stands out among names that are otherwise all the same.

mod logistic;
mod looks;
mod pictures;
mod reading;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, concatenate};

use crate::interrupt;
use crate::linalg::{product, row_product};
use crate::queries::Queries;
use crate::sus::SupportSet;
use logistic::Logistic;
use looks::Looks;
use pictures::Pictures;
use reading::Reading;

/// Things in a made-up picture, at most.
const MOST_THINGS: usize = 4;
/// Slope of the logistic function for names alone: CLIP's two sets would have 2 and 4, the default model 1.2.
const SLOPE_OF_NAMES: f64 = 3.0;

/// A category that an image shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tag {
    /// Index of the category.
    pub category: usize,
    /// How likely the image is to show it, 0 to 1, regardless of what else it shows.
    pub probability: f32,
}

/// The judge of which categories an image shows.
#[derive(Debug)]
pub(super) struct Tagger {
    /// Unit rows: the names of the categories, then the negatives; D × d.
    names: Array2<f32>,
    /// Number of categories, C.
    categories: usize,
    of_names: Reading,
    /// `None` if fewer than two categories have a look.
    of_looks: Option<(Looks, Reading)>,
    logistic: Logistic,
}

/// What the two readings say of images, N × C each.
struct Readings {
    names: Array2<f64>,
    /// `None` if it is as that of the names.
    looks: Option<Array2<f64>>,
}

impl Tagger {
    /// With the names, the negatives and the support images of a support set, which are compared by its likeness vectors.
    pub fn fit(support_set: &SupportSet) -> Self {
        let names = concatenate![Axis(0), support_set.zeroshot_weights(), support_set.negatives()];
        let categories = support_set.categories().len();
        let shown: Vec<usize> = (0..categories).filter(|&c| !support_set.rows(c).is_empty()).collect();
        if shown.len() < 2 {
            let logistic = of_names_alone(names.nrows());
            let of_names = Reading::of_names_alone(categories);
            return Tagger { names, categories, of_names, of_looks: None, logistic };
        }
        let rows = support_set.sample();
        let of_row: Vec<usize> = rows.iter().map(|&row| support_set.category_of(row)).collect();
        let features = support_set.features().select(Axis(0), &rows);
        let of_names = Reading::fit(product(features.view(), names.view()), &of_row, categories);
        let looks = Looks::of(support_set);
        let of_looks = (looks.len() > 1).then(|| {
            let own: Vec<Vec<usize>> = rows.iter().map(|&row| vec![row]).collect();
            let likeness = support_set.likeness().select(Axis(0), &rows);
            let reading =
                Reading::fit(looks.cosines(likeness.view(), &own, support_set), &of_row, looks.len());
            (looks, reading)
        });
        let mut tagger = Tagger { names, categories, of_names, of_looks, logistic: Logistic::default() };
        let pictures = Pictures::of(support_set, &shown);
        let readings = tagger.readings(pictures.queries(), Some((&pictures.members, support_set)));
        tagger.logistic = Logistic::fit(&readings.names, readings.looks.as_ref(), &pictures.shows);
        tagger
    }

    /// The tags of each image that are at least as likely as `min_probability`, most likely first.
    pub fn tags(&self, queries: Queries, min_probability: f32) -> Vec<Vec<Tag>> {
        let odds = self.log_odds(queries);
        odds.rows().into_iter().map(|odds| keep(odds, min_probability)).collect()
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        let looks = self.of_looks.as_ref().map_or(0, |(looks, reading)| looks.size() + reading.size());
        self.names.len() * size_of::<f32>() + self.of_names.size() + looks
    }

    /// The logarithms of the odds that images show the categories, N × C.
    fn log_odds(&self, queries: Queries) -> Array2<f64> {
        interrupt::check();
        let Readings { names, looks } = self.readings(queries, None);
        self.logistic.log_odds(names, looks.as_ref())
    }

    /// `members`: the support rows that each image is made of, which must not count for themselves.
    fn readings(&self, queries: Queries, members: Option<(&[Vec<usize>], &SupportSet)>) -> Readings {
        let mut names = self.of_names.read(row_product(queries.features(), self.names.view()));
        names.slice_collapse(ndarray::s![.., ..self.categories]);
        let looks = self.of_looks.as_ref().map(|(looks, reading)| {
            let cosines = match members {
                Some((members, support_set)) => looks.cosines(queries.likeness(), members, support_set),
                None => row_product(queries.likeness(), looks.vectors()),
            };
            looks.spread(reading.read(cosines), names.view())
        });
        Readings { names, looks }
    }
}

/// The logistic function of how far one of this many names stands out.
fn of_names_alone(names: usize) -> Logistic {
    let all = names as f64;
    // The only name there is cannot stand out: its odds are those of classify, which is always sure of it.
    if names < 2 {
        return Logistic::certain();
    }
    let things = (all / 2.0).min(MOST_THINGS as f64);
    let threshold = ((all - 1.0) * (all - things) / (all * things)).sqrt() / 2.0;
    Logistic::of_names(SLOPE_OF_NAMES, threshold)
}

/// The categories whose odds (C) make them at least as likely as that, most likely first.
fn keep(odds: ArrayView1<f64>, min_probability: f32) -> Vec<Tag> {
    let likely = |(_, odds): &(usize, f64)| probability(*odds) >= min_probability;
    let mut kept: Vec<(usize, f64)> = odds.iter().copied().enumerate().filter(likely).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1));
    kept.into_iter().map(|(category, odds)| Tag { category, probability: probability(odds) }).collect()
}

fn probability(odds: f64) -> f32 {
    (1.0 / (1.0 + (-odds).exp())) as f32
}

/// A row divided by its length; zeros stay zeros.
fn unit_row(row: &mut ndarray::ArrayViewMut1<f32>) {
    let norm = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.mapv_inplace(|x| (f64::from(x) / norm) as f32);
    }
}

/// All rows of a matrix divided by their lengths.
fn unit_rows(mut matrix: Array2<f32>) -> Array2<f32> {
    for mut row in matrix.rows_mut() {
        unit_row(&mut row);
    }
    matrix
}

/// The sums of groups of rows.
fn sums(matrix: ArrayView2<f32>, groups: &[Vec<usize>]) -> Array2<f32> {
    let mut sums = Array2::zeros((groups.len(), matrix.ncols()));
    for (group, mut sum) in groups.iter().zip(sums.rows_mut()) {
        interrupt::check();
        for &row in group {
            sum += &matrix.row(row);
        }
    }
    sums
}
