//! What the support images of a category look like: their mean.

use ndarray::{Array2, ArrayView2, Axis};

use super::{sums, unit_row, unit_rows};
use crate::linalg::product;
use crate::sus::SupportSet;

/// The looks of those categories that have two support images or more.
#[derive(Debug)]
pub struct Looks {
    /// The categories, ascending.
    categories: Vec<usize>,
    /// The sum of each one's support rows.
    sums: Array2<f32>,
    /// The same, of unit length.
    vectors: Array2<f32>,
}

impl Looks {
    pub fn of(support_set: &SupportSet) -> Self {
        let all = 0..support_set.categories().len();
        let categories: Vec<usize> = all.filter(|&c| support_set.rows(c).len() > 1).collect();
        let rows: Vec<Vec<usize>> = categories.iter().map(|&c| support_set.rows(c).collect()).collect();
        let sums = sums(support_set.likeness(), &rows);
        Looks { categories, vectors: unit_rows(sums.clone()), sums }
    }

    /// The number of looks, L.
    pub fn len(&self) -> usize {
        self.categories.len()
    }

    /// L × e.
    pub fn vectors(&self) -> ArrayView2<'_, f32> {
        self.vectors.view()
    }

    /// The cosines of images (N × e) with the looks, N × L, where no support row counts for an image that is made of it.
    /// `members`: those rows of each image.
    pub fn cosines(
        &self,
        images: ArrayView2<f32>,
        members: &[Vec<usize>],
        support_set: &SupportSet,
    ) -> Array2<f32> {
        let mut cosines = product(images, self.vectors());
        let support = support_set.likeness();
        for ((image, members), mut cosines) in images.rows().into_iter().zip(members).zip(cosines.rows_mut())
        {
            for &row in members {
                let Ok(look) = self.categories.binary_search(&support_set.category_of(row)) else { continue };
                let mut others = &self.sums.row(look) - &support.row(row);
                unit_row(&mut others.view_mut());
                cosines[look] = image.dot(&others);
            }
        }
        cosines
    }

    /// What is said of the looks (N × L), by category (N × C); for a category without a look, what its name says.
    pub fn spread(&self, of_looks: Array2<f64>, of_names: ArrayView2<f64>) -> Array2<f64> {
        let mut all = of_names.to_owned();
        for (&category, column) in self.categories.iter().zip(of_looks.axis_iter(Axis(1))) {
            all.column_mut(category).assign(&column);
        }
        all
    }

    /// Size on the heap, in bytes.
    pub fn size(&self) -> usize {
        self.categories.len() * size_of::<usize>() + 2 * self.sums.len() * size_of::<f32>()
    }
}
