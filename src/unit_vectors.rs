//! The vectors of images, collected for a product of matrices.

use ndarray::ArrayView2;
use susx_core::queries::Queries;
use susx_core::sus::{SupportError, unit};

use crate::image_vectors::ImageVectors;
use crate::pg::error::{Error, Result};

/// Unit vectors of images, row by row: all of them with a likeness vector, or none.
#[derive(Debug)]
pub struct UnitVectors {
    dimensions: usize,
    likeness_dimensions: Option<usize>,
    rows: usize,
    features: Vec<f32>,
    likeness: Vec<f32>,
}

impl UnitVectors {
    /// For images with embeddings of these dimensions and, unless that is `None`, likeness vectors of those.
    pub fn new(dimensions: usize, likeness_dimensions: Option<usize>) -> Self {
        UnitVectors { dimensions, likeness_dimensions, rows: 0, features: Vec::new(), likeness: Vec::new() }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Adds an image by vectors of the right dimensions. An error, and no change, if one of them has no direction.
    fn push(&mut self, image: &ImageVectors) -> Result<(), SupportError> {
        let embedding = unit(&image.embedding.0)?;
        let likeness = image.likeness.as_ref().filter(|_| self.likeness_dimensions.is_some());
        let likeness = likeness.map(|likeness| unit(&likeness.0)).transpose()?;
        self.features.extend(embedding);
        self.likeness.extend(likeness.into_iter().flatten());
        self.rows += 1;
        Ok(())
    }

    /// The images as queries.
    pub fn queries(&self) -> Result<Queries<'_>> {
        let matrix = |dimensions: usize, values| {
            ArrayView2::from_shape((self.rows, dimensions), values).map_err(Error::internal)
        };
        let queries = Queries::new(matrix(self.dimensions, &self.features)?);
        Ok(match self.likeness_dimensions {
            Some(dimensions) => queries.with_likeness(matrix(dimensions, &self.likeness)?),
            None => queries,
        })
    }

    pub fn clear(&mut self) {
        self.rows = 0;
        self.features.clear();
        self.likeness.clear();
    }
}

/// Unit vectors of images, some with a likeness vector and some without.
#[derive(Debug)]
pub struct MixedVectors {
    with_likeness: Option<UnitVectors>,
    without: UnitVectors,
}

/// Where [`MixedVectors`] keeps an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    WithLikeness,
    Without,
}

impl MixedVectors {
    /// Like [`UnitVectors::new`]. Without dimensions of likeness vectors, these are left out.
    pub fn new(dimensions: usize, likeness_dimensions: Option<usize>) -> Self {
        let with_likeness = likeness_dimensions.map(|found| UnitVectors::new(dimensions, Some(found)));
        MixedVectors { with_likeness, without: UnitVectors::new(dimensions, None) }
    }

    /// Adds an image, and returns where.
    pub fn push(&mut self, image: &ImageVectors) -> Result<Place, SupportError> {
        match &mut self.with_likeness {
            Some(rows) if image.likeness.is_some() => {
                rows.push(image)?;
                Ok(Place::WithLikeness)
            }
            _ => {
                self.without.push(image)?;
                Ok(Place::Without)
            }
        }
    }

    /// The images of either kind, in the order in which they were added.
    pub fn parts(&self) -> impl Iterator<Item = (Place, &UnitVectors)> {
        let with_likeness = self.with_likeness.iter().map(|rows| (Place::WithLikeness, rows));
        with_likeness.chain([(Place::Without, &self.without)])
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.parts().map(|(_, rows)| rows.len()).sum()
    }

    pub fn clear(&mut self) {
        self.without.clear();
        if let Some(rows) = &mut self.with_likeness {
            rows.clear();
        }
    }
}
