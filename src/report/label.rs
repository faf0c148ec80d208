//! Labels the rows of a report's query, and keeps those that may be shown.

use std::rc::Rc;

use susx_core::classifier::Ranked;
use susx_core::evaluate::Evaluation;
use susx_core::method::Method;
use susx_report::{Answer, Collector, Picture};

use super::shrink::{Row, shrink};
use crate::batches::{LABELLED_BYTES, LABELLED_ROWS};
use crate::category_index::CategoryIndex;
use crate::fitted::Fitted;
use crate::image_stream::ImageStream;
use crate::image_vectors::ImageVectors;
use crate::limits;
use crate::pg::catalog::report_query::ReportRow;
use crate::pg::error::{Error, Result};
use crate::pg::image::{Image, StoredImage};
use crate::pg::progress::Progress;
use crate::unit_vectors::{MixedVectors, Place};

/// Bytes of kept images above which thumbnails take their place.
const KEPT_BYTES: usize = 64 << 20;
/// A kept image of fewer bytes stays as it is: it is small, or stored out of line.
const SMALL: usize = 16 << 10;

/// What a row shows: `None` if that is not known, `Some(None)` for none of the categories.
type Truth = Option<Option<usize>>;

/// Rows collected until there are enough for a batch.
pub struct Labelling<'a> {
    fitted: &'a Fitted,
    method: Method,
    /// Size of thumbnails in pixels.
    size: u32,
    categories: CategoryIndex<'a>,
    collector: Collector<StoredImage>,
    vectors: MixedVectors,
    with_likeness: Vec<(Row, Truth)>,
    without: Vec<(Row, Truth)>,
    /// Rows whose images are not embedded yet.
    images: Vec<(Row, Truth, Image)>,
    image_bytes: usize,
    /// Bytes of the images that have come since the kept ones were last looked at.
    unchecked_bytes: usize,
    progress: &'a mut Progress,
    done: u64,
    failed: u64,
}

impl<'a> Labelling<'a> {
    pub fn new(
        fitted: &'a Fitted,
        method: Method,
        size: u32,
        collector: Collector<StoredImage>,
        progress: &'a mut Progress,
    ) -> Self {
        let classifier = &fitted.classifier;
        Labelling {
            fitted,
            method,
            size,
            categories: CategoryIndex::new(&fitted.name, classifier.categories()),
            collector,
            vectors: MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions()),
            with_likeness: Vec::new(),
            without: Vec::new(),
            images: Vec::new(),
            image_bytes: 0,
            unchecked_bytes: 0,
            progress,
            done: 0,
            failed: 0,
        }
    }

    /// Adds a row of the query.
    pub fn push(&mut self, row: ReportRow) -> Result<()> {
        let ReportRow { number, key, image, embedding, likeness, truth } = row;
        let truth = truth.map(|name| name.map(|name| self.categories.of(name)).transpose()).transpose();
        let truth = truth.map_err(|error| Error::from(error).in_row(number))?;
        self.done += 1;
        let file = match (&embedding, &image) {
            // Only a row without an embedding is embedded.
            (None, Some(image)) => Some(image.read()),
            _ => None,
        };
        self.unchecked_bytes += image.as_ref().map_or(0, StoredImage::size);
        let picture = image.map_or(Picture::None, Picture::Original);
        let row = Row::new(number, key.as_deref(), picture, Vec::new());
        match (embedding, file) {
            (Some(embedding), _) => self.add(row, truth, &ImageVectors { embedding, likeness }),
            (None, Some(file)) if self.fitted.settings.model.is_some() => {
                self.image_bytes += file.size();
                self.images.push((row, truth, file));
            }
            (None, Some(_)) => {
                self.refuse(
                    &row,
                    truth,
                    "its embedding is NULL, and the classifier has no model to embed the image",
                );
            }
            (None, None) => {
                self.failed += 1;
                self.collector.empty(truth);
            }
        }
        let rows = self.vectors.len() + self.images.len();
        if rows >= LABELLED_ROWS || self.image_bytes >= LABELLED_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Labels what has been collected, and returns what was kept of all rows.
    pub fn finish(mut self) -> Result<Collector<StoredImage>> {
        self.flush()?;
        Ok(self.collector)
    }

    fn add(&mut self, row: Row, truth: Truth, image: &ImageVectors) {
        if let Err(error) = self.fitted.check(image) {
            return self.refuse(&row, truth, &error.to_string());
        }
        match self.vectors.push(image) {
            Ok(Place::WithLikeness) => self.with_likeness.push((row, truth)),
            Ok(Place::Without) => self.without.push((row, truth)),
            Err(error) => self.refuse(&row, truth, &error.to_string()),
        }
    }

    fn refuse(&mut self, row: &Row, truth: Truth, reason: &str) {
        self.failed += 1;
        self.collector.unreadable(row.key.as_deref(), reason, truth);
    }

    fn flush(&mut self) -> Result<()> {
        self.embed_images()?;
        let classifier = &self.fitted.classifier;
        for (place, vectors) in self.vectors.parts() {
            let rows = match place {
                Place::WithLikeness => &mut self.with_likeness,
                Place::Without => &mut self.without,
            };
            let queries = vectors.queries()?;
            let answers = classifier.answers(queries, self.method, Evaluation::TOP);
            let features = queries.features();
            for (((mut row, truth), answer), vector) in rows.drain(..).zip(answers).zip(features.rows()) {
                row.embedding = vector.to_vec();
                let pair = |ranked: &Ranked| (ranked.category, ranked.probability);
                let ranked: Vec<_> = answer.ranked.iter().map(pair).collect();
                let is_rejected = classifier.rejects(answer.known);
                let answer = Answer { ranked: &ranked, known: answer.known, is_rejected, truth };
                self.collector.classified(row, answer);
            }
        }
        self.vectors.clear();
        self.limit_memory()?;
        self.progress.advance(std::mem::take(&mut self.done), std::mem::take(&mut self.failed));
        Ok(())
    }

    fn embed_images(&mut self) -> Result<()> {
        if self.images.is_empty() {
            return Ok(());
        }
        let images = std::mem::take(&mut self.images);
        self.image_bytes = 0;
        let (rows, files): (Vec<_>, Vec<_>) =
            images.into_iter().map(|(row, truth, file)| ((row, truth), file)).unzip();
        let model = self.fitted.model()?;
        let answers = ImageStream::of(&model, self.fitted.likeness_model().as_ref()).run(files)?;
        for ((row, truth), answer) in rows.into_iter().zip(answers) {
            match answer {
                Ok(image) => self.add(row, truth, &image),
                Err(failure) if failure.kind.is_of_input() => self.refuse(&row, truth, &failure.message),
                // A failure of the model or the process, and not of this image.
                Err(failure) => return Err(Error::from(failure).in_row(row.row)),
            }
        }
        Ok(())
    }

    /// Makes thumbnails of the images that are kept if these take much memory, as do images that the query has
    /// computed: it is not yet known which of them will be shown.
    fn limit_memory(&mut self) -> Result<()> {
        if self.unchecked_bytes < KEPT_BYTES / 2 {
            return Ok(());
        }
        self.unchecked_bytes = 0;
        let sizes = |collector: &Collector<StoredImage>| {
            let mut seen = std::collections::HashSet::new();
            let rows = collector.kept().filter(|row| seen.insert(Rc::as_ptr(row)));
            rows.map(|row| match &*row.picture.borrow() {
                Picture::Original(image) => image.size(),
                Picture::Thumbnail(file) => file.len(),
                _ => 0,
            })
            .sum::<usize>()
        };
        if sizes(&self.collector) < KEPT_BYTES {
            return Ok(());
        }
        let is_large =
            |row: &Rc<Row>| matches!(&*row.picture.borrow(), Picture::Original(it) if it.size() > SMALL);
        let large: Vec<Rc<Row>> = self.collector.kept().filter(|row| is_large(row)).map(Rc::clone).collect();
        shrink(large.into_iter(), self.size, |_| ())?;
        let found = sizes(&self.collector);
        limits::check_bytes("the size of the images that a report keeps", limits::REPORT_BYTES, found)
    }
}
