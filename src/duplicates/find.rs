//! The search for pairs of near-duplicates.

use std::collections::HashMap;

use ndarray::ArrayView2;
use susx_core::duplicates::{Links, cosine, is_duplicate};
use susx_core::sus::{MOST_NUMBERS, SupportError, unit};

use crate::limits;
use crate::pg::catalog::keyed_vectors::{KeyedVector, KeyedVectors};
use crate::pg::catalog::vector_index::{IndexScan, with_long_scans};
use crate::pg::error::{Error, Result};
use crate::pg::message::warn;
use crate::pg::progress::{Phase, Progress};

/// With at least this many images, an index is used if there is one. Fewer are compared with each other sooner.
const LARGE: usize = 50_000;
/// Images that the index is first asked for; four times as many each time that all of them are near-duplicates.
const NEIGHBOURS: usize = 16;

/// How to find near-duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Compares every image with every other.
    EveryPair,
    /// Asks the index for the nearest images of each, where there is one.
    Index,
    /// Asks the index where there is one and the images are many.
    BySize,
}

/// Unit vectors, one after the other.
#[derive(Debug)]
pub struct Vectors {
    dimensions: usize,
    elements: Vec<f32>,
}

impl Vectors {
    pub fn row(&self, row: usize) -> &[f32] {
        &self.elements[row * self.dimensions..][..self.dimensions]
    }

    fn view(&self) -> Result<ArrayView2<'_, f32>> {
        let rows = self.elements.len() / self.dimensions.max(1);
        ArrayView2::from_shape((rows, self.dimensions), &self.elements).map_err(Error::internal)
    }
}

/// The images of a table and the links between them.
#[derive(Debug)]
pub struct Found {
    pub keys: Vec<String>,
    pub vectors: Vectors,
    pub links: Links,
}

/// Reads a table and finds the near-duplicates in it. An error if its vectors take too much memory, or are not all of the
/// same dimensions.
pub fn find(images: &KeyedVectors, threshold: f32, method: Method, progress: &mut Progress) -> Result<Found> {
    let (keys, vectors) = read(images, progress)?;
    let links = Links::new(u32::try_from(keys.len()).map_err(Error::internal)?);
    let mut found = Found { keys, vectors, links };
    let is_indexed = match method {
        Method::EveryPair => false,
        Method::Index => images.operator().is_some(),
        Method::BySize => images.operator().is_some() && found.keys.len() >= LARGE,
    };
    progress.phase(Phase::Searching, Some(found.keys.len() as u64));
    if is_indexed {
        let scan = |scan| ask_index(images, &mut found, threshold, scan, progress);
        if with_long_scans(images.operator(), scan)? {
            return Ok(found);
        }
        found.links = Links::new(found.keys.len() as u32);
        progress.phase(Phase::Searching, Some(found.keys.len() as u64));
    }
    for start in (0..found.keys.len()).step_by(Links::step()) {
        found.links.compare(found.vectors.view()?, start, threshold);
        progress.advance(Links::step().min(found.keys.len() - start) as u64, 0);
    }
    Ok(found)
}

/// The keys and the vectors of all images that have a direction.
fn read(images: &KeyedVectors, progress: &mut Progress) -> Result<(Vec<String>, Vectors)> {
    let count = images.count()?;
    progress.phase(Phase::Reading, Some(count));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut vectors = Vectors { dimensions: 0, elements: Vec::new() };
    let (mut keys, mut zeros) = (Vec::new(), 0);
    images.read(|KeyedVector { key, embedding, .. }| {
        let found = embedding.0.len();
        if vectors.dimensions == 0 {
            let what = "the number of elements of all embeddings, images times dimensions,";
            limits::check(what, MOST_NUMBERS, count.saturating_mul(found))?;
            vectors.dimensions = found;
            vectors.elements.reserve_exact(count * found);
        }
        let within = |error| Error::from(error).within(format_args!("image {key} of the pool"));
        if found != vectors.dimensions {
            return Err(within(SupportError::Dimensions { expected: vectors.dimensions, found }));
        }
        match unit(&embedding.0) {
            Ok(unit) => {
                vectors.elements.extend(unit);
                keys.push(key);
            }
            Err(_) => zeros += 1,
        }
        if (keys.len() + zeros).is_multiple_of(Links::step()) {
            progress.advance(Links::step() as u64, 0);
        }
        Ok(())
    })?;
    if zeros > 0 {
        warn(format!("susx: {zeros} images of the pool have an all-zero embedding and were left out"));
    }
    Ok((keys, vectors))
}

/// Links every image with those of its nearest in the index that are near-duplicates. False if the scans of the index end
/// too soon to tell.
fn ask_index(
    images: &KeyedVectors,
    found: &mut Found,
    threshold: f32,
    scan: IndexScan,
    progress: &mut Progress,
) -> Result<bool> {
    let Found { keys, vectors, links } = found;
    let mut place: HashMap<&str, usize> = HashMap::with_capacity(keys.len());
    for (image, key) in keys.iter().enumerate() {
        if place.insert(key, image).is_some() {
            return Err(Error::argument(format!("two images of the pool have the key {key}"))
                .with_hint("Name a unique column with key_column => '…'."));
        }
    }
    for image in 0..keys.len() {
        let vector = vectors.row(image);
        let mut limit = NEIGHBOURS;
        loop {
            let (mut rows, mut same) = (0, Vec::new());
            images.nearest(vector, limit, |other| {
                rows += 1;
                // One whose embedding is of zeros has no place.
                let Some(&other) = place.get(other.key.as_str()) else { return Ok(()) };
                if is_duplicate(cosine(vector, vectors.row(other)), threshold) {
                    same.push(other);
                }
                Ok(())
            })?;
            if same.len() == limit {
                limit = limit.saturating_mul(4);
                continue;
            }
            if rows < limit.min(keys.len()) && scan == IndexScan::Limited {
                return Ok(false);
            }
            same.retain(|&other| other != image);
            links.note(image, &same);
            break;
        }
        if image % Links::step() == Links::step() - 1 {
            progress.advance(Links::step() as u64, 0);
        }
    }
    Ok(true)
}
