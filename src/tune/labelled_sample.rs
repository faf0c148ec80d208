//! Labelled images that `tune` keeps until the parameters are known.

use ndarray::{ArrayView1, ArrayView2, Axis};
use susx_core::calibration::{Calibration, TemperatureFit};
use susx_core::classifier::{Classifier, best_reject, top_k};
use susx_core::method::Method;
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
        let longest = dimensions.max(support_set.categories().len()).max(1);
        let most = (NUMBERS / longest).clamp(2, IMAGES);
        LabelledSample {
            of_categories: Spaced::new(dimensions, most),
            of_none: Spaced::new(dimensions, most),
        }
    }

    /// Adds unit features (n × d) and their true categories; `None` for an image of none.
    pub fn add(&mut self, features: ArrayView2<f32>, truth: &[Option<usize>]) {
        for (feature, &truth) in features.rows().into_iter().zip(truth) {
            match truth {
                Some(truth) => self.of_categories.add(feature, truth),
                None => self.of_none.add(feature, ()),
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
        let features = self.of_categories.features()?;
        let truth = &self.of_categories.truth;
        let mut fit = TemperatureFit::default();
        let mut logits = Vec::with_capacity(truth.len());
        let rows = classifier.max_queries();
        for (features, truth) in features.axis_chunks_iter(Axis(0), rows).zip(truth.chunks(rows)) {
            let found = classifier.calibrated_logits(features, method);
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
        let of_categories = classifier.known(self.of_categories.features()?);
        let of_none = classifier.known(self.of_none.features()?);
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
    dimensions: usize,
    most: usize,
    /// Unit features, row by row.
    features: Vec<f32>,
    truth: Vec<T>,
    /// Images that were seen, and of how many one is kept.
    seen: usize,
    every: usize,
}

impl<T: Copy> Spaced<T> {
    fn new(dimensions: usize, most: usize) -> Self {
        Spaced { dimensions, most, features: Vec::new(), truth: Vec::new(), seen: 0, every: 1 }
    }

    fn features(&self) -> Result<ArrayView2<'_, f32>> {
        ArrayView2::from_shape((self.truth.len(), self.dimensions), &self.features).map_err(Error::internal)
    }

    fn add(&mut self, feature: ArrayView1<f32>, truth: T) {
        if self.seen.is_multiple_of(self.every) {
            self.keep(feature, truth);
        }
        self.seen += 1;
    }

    fn keep(&mut self, feature: ArrayView1<f32>, truth: T) {
        if self.truth.len() == self.most {
            self.halve();
            if !self.seen.is_multiple_of(self.every) {
                return;
            }
        }
        self.features.extend(feature);
        self.truth.push(truth);
    }

    fn halve(&mut self) {
        self.every *= 2;
        let kept = self.truth.len().div_ceil(2);
        for i in 1..kept {
            self.truth[i] = self.truth[2 * i];
            let from = 2 * i * self.dimensions;
            self.features.copy_within(from..from + self.dimensions, i * self.dimensions);
        }
        self.truth.truncate(kept);
        self.features.truncate(kept * self.dimensions);
    }
}
