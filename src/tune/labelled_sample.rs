//! Labelled images that `tune` keeps until the parameters are known.

use ndarray::ArrayView2;
use susx_core::calibration::{Calibration, TemperatureFit};
use susx_core::classifier::{Classifier, best_reject, top_k};
use susx_core::method::Method;
use susx_core::queries::Queries;
use susx_core::sus::SupportSet;

use crate::pg::catalog::classifier::Settings;
use crate::pg::error::{Error, Result};

/// Most images of either kind, and most numbers of their features or logits: 64 MB.
const IMAGES: usize = 20_000;
const NUMBERS: usize = 1 << 24;

/// Images of the categories and images of none of them, of either kind evenly spaced ones of those that a query has. They
/// are spaced apart from each other, so that no order of the query's rows leaves a kind out.
#[derive(Debug)]
pub struct LabelledSample {
    of_categories: Spaced<usize>,
    of_none: Spaced<()>,
}

impl LabelledSample {
    pub fn new(support_set: &SupportSet) -> Self {
        let dimensions = support_set.dimensions();
        let likeness = support_set.has_likeness().then(|| support_set.likeness().ncols());
        let longest = (dimensions + likeness.unwrap_or(0)).max(support_set.categories().len()).max(1);
        let most = (NUMBERS / longest).clamp(2, IMAGES);
        LabelledSample {
            of_categories: Spaced::new(dimensions, likeness, most),
            of_none: Spaced::new(dimensions, likeness, most),
        }
    }

    /// Adds images and their true categories; `None` for an image of none.
    pub fn add(&mut self, images: Queries, truth: &[Option<usize>]) {
        for (image, &truth) in images.chunks(1).zip(truth) {
            match truth {
                Some(truth) => self.of_categories.add(image, truth),
                None => self.of_none.add(image, ()),
            }
        }
    }

    /// Sets the temperature at which the method's probabilities fit the labels best. Returns the expected calibration
    /// error with the temperature that was set before, and with the new one; `None`, and no change, without images.
    pub fn calibrate(
        &self,
        settings: &mut Settings,
        support_set: &SupportSet,
        method: Method,
    ) -> Result<Option<(f64, f64)>> {
        let classifier = Classifier::fit(support_set.clone(), settings.params.check()?);
        let images = self.of_categories.queries()?;
        let truth = &self.of_categories.truth;
        let mut fit = TemperatureFit::default();
        let mut logits = Vec::with_capacity(truth.len());
        let rows = classifier.max_queries();
        for (images, truth) in images.chunks(rows).zip(truth.chunks(rows)) {
            let found = classifier.calibrated_logits(images, method);
            for (row, &truth) in found.rows().into_iter().zip(truth) {
                fit.add(&row.to_vec(), truth);
                logits.push(row.to_vec());
            }
        }
        let Some(temperature) = fit.best() else { return Ok(None) };
        let error = |temperature: f32| {
            let mut calibration = Calibration::new(Calibration::BINS);
            for (logits, &truth) in logits.iter().zip(truth) {
                if let Some(best) = top_k(logits, 1, temperature).first() {
                    calibration.record(best.probability, best.category == truth);
                }
            }
            calibration.error().unwrap_or(0.0)
        };
        let errors = (error(settings.params.probability_temperature), error(temperature));
        settings.params.probability_temperature = temperature;
        Ok(Some(errors))
    }

    /// Sets the threshold that tells the two kinds of images best, by the classifier with these settings; no change without
    /// images of both kinds.
    pub fn find_reject(&self, settings: &mut Settings, support_set: &SupportSet) -> Result<()> {
        if self.of_categories.truth.is_empty() || self.of_none.truth.is_empty() {
            return Ok(());
        }
        let classifier = Classifier::fit(support_set.clone(), settings.params.check()?);
        let of_categories = classifier.known(self.of_categories.queries()?);
        let of_none = classifier.known(self.of_none.queries()?);
        let of_categories = of_categories.into_iter().map(|known| (known, false));
        let of_none = of_none.into_iter().map(|known| (known, true));
        if let Some(reject) = best_reject(of_categories.chain(of_none)) {
            settings.params.reject = reject;
        }
        Ok(())
    }
}

/// Evenly spaced images, however many there are: every image at first, and every second one of those that are kept as
/// soon as they are too many.
#[derive(Debug)]
struct Spaced<T> {
    most: usize,
    features: Rows,
    likeness: Option<Rows>,
    truth: Vec<T>,
    /// Images that were seen, and of how many one is kept.
    seen: usize,
    every: usize,
}

/// Vectors of images, row by row.
#[derive(Debug)]
struct Rows {
    dimensions: usize,
    values: Vec<f32>,
}

impl Rows {
    fn new(dimensions: usize) -> Self {
        Rows { dimensions, values: Vec::new() }
    }

    fn matrix(&self, rows: usize) -> Result<ArrayView2<'_, f32>> {
        ArrayView2::from_shape((rows, self.dimensions), &self.values).map_err(Error::internal)
    }

    /// Keeps the rows with even numbers.
    fn halve(&mut self, kept: usize) {
        let dimensions = self.dimensions;
        for i in 1..kept {
            let from = 2 * i * dimensions;
            self.values.copy_within(from..from + dimensions, i * dimensions);
        }
        self.values.truncate(kept * dimensions);
    }
}

impl<T: Copy> Spaced<T> {
    fn new(dimensions: usize, likeness: Option<usize>, most: usize) -> Self {
        let (features, likeness) = (Rows::new(dimensions), likeness.map(Rows::new));
        Spaced { most, features, likeness, truth: Vec::new(), seen: 0, every: 1 }
    }

    fn queries(&self) -> Result<Queries<'_>> {
        let queries = Queries::new(self.features.matrix(self.truth.len())?);
        match &self.likeness {
            Some(likeness) => Ok(queries.with_likeness(likeness.matrix(self.truth.len())?)),
            None => Ok(queries),
        }
    }

    fn add(&mut self, image: Queries, truth: T) {
        if self.seen.is_multiple_of(self.every) {
            self.keep(image, truth);
        }
        self.seen += 1;
    }

    fn keep(&mut self, image: Queries, truth: T) {
        if self.truth.len() == self.most {
            self.halve();
            if !self.seen.is_multiple_of(self.every) {
                return;
            }
        }
        self.features.values.extend(image.features());
        if let Some(likeness) = &mut self.likeness {
            likeness.values.extend(image.likeness());
        }
        self.truth.push(truth);
    }

    fn halve(&mut self) {
        self.every *= 2;
        let kept = self.truth.len().div_ceil(2);
        for i in 1..kept {
            self.truth[i] = self.truth[2 * i];
        }
        self.truth.truncate(kept);
        self.features.halve(kept);
        if let Some(likeness) = &mut self.likeness {
            likeness.halve(kept);
        }
    }
}
