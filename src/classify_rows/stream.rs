//! The rows of a query, which are read, embedded where they are images, and classified in batches.

use std::collections::VecDeque;
use std::rc::Rc;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use susx_core::classifier::{Answer, Ranked};
use susx_core::method::Method;

use crate::batches::{
    CLASSIFIED_BYTES, CLASSIFIED_EMBEDDINGS, CLASSIFIED_IMAGES, CLASSIFIED_ROWS_AT_FIRST,
    CLASSIFY_AHEAD_BATCHES,
};
use crate::fitted::Fitted;
use crate::image_stream::{self, ImageStream};
use crate::image_vectors::ImageVectors;
use crate::pg::any::AnyValue;
use crate::pg::catalog::input::{InputKind, InputValue};
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::progress::Progress;
use crate::unit_vectors::{MixedVectors, Place};

/// Key, rank, category, score, probability, how likely the row is to be of any category, and error.
pub type ClassifiedRow =
    (Option<AnyValue>, Option<i32>, Option<String>, Option<f32>, Option<f32>, Option<f32>, Option<String>);

/// The categories of all rows of a query, as an iterator that works batch by batch.
pub struct ClassificationStream {
    fitted: Rc<Fitted>,
    method: Method,
    k: usize,
    query: KeyedQuery,
    has_more: bool,
    rows_read: u64,
    /// The size of the next batch, in rows.
    next_batch: usize,
    /// Batches that have been read, but not classified.
    batches: VecDeque<RowBatch>,
    /// Embeds the images of these batches; `None` if the query gives embeddings.
    embeddings: Option<ImageStream<Image>>,
    /// Rows that have been classified, but not returned.
    ready: VecDeque<(Option<AnyValue>, Outcome)>,
    /// Categories of the current row that have not been returned.
    current: std::vec::IntoIter<ClassifiedRow>,
    progress: Progress,
}

/// Consecutive rows of the query, with their keys.
#[derive(Debug)]
struct RowBatch {
    /// The number of the first row, counted from 1.
    first: u64,
    rows: Vec<(Option<AnyValue>, PendingInput)>,
}

/// The input of a row that has not been classified.
#[derive(Debug)]
enum PendingInput {
    Null,
    /// The next image of the embedding stream.
    Image,
    Vectors(ImageVectors),
}

/// What became of a row.
#[derive(Debug)]
enum Outcome {
    Null,
    Answered(Answer),
    Failed(String),
}

impl Iterator for ClassificationStream {
    type Item = ClassifiedRow;

    fn next(&mut self) -> Option<ClassifiedRow> {
        match self.next_row() {
            Ok(row) => row,
            Err(error) => Err(ErrorReport::from(error)).unwrap_or_report(),
        }
    }
}

impl ClassificationStream {
    /// An error if the query gives images and the classifier has no model.
    pub fn new(
        fitted: Rc<Fitted>,
        method: Method,
        k: usize,
        query: KeyedQuery,
        progress: Progress,
    ) -> Result<Self> {
        let embeddings = match query.kind() {
            InputKind::Embedding => None,
            InputKind::Image => Some(ImageStream::of(&fitted.model()?, fitted.likeness_model().as_ref())),
        };
        Ok(ClassificationStream {
            fitted,
            method,
            k,
            query,
            has_more: true,
            rows_read: 0,
            next_batch: CLASSIFIED_ROWS_AT_FIRST,
            batches: VecDeque::new(),
            embeddings,
            ready: VecDeque::new(),
            current: Vec::new().into_iter(),
            progress,
        })
    }

    fn next_row(&mut self) -> Result<Option<ClassifiedRow>> {
        loop {
            if let Some(row) = self.current.next() {
                return Ok(Some(row));
            }
            if self.ready.is_empty() && !self.classify_next_batch()? {
                return Ok(None);
            }
            if let Some((key, outcome)) = self.ready.pop_front() {
                self.current = self.rows(key, outcome).into_iter();
                // The caller may take rows slowly, and the inference process should not wait for it.
                self.poll()?;
            }
        }
    }

    /// Classifies the next batch; false if there is none.
    fn classify_next_batch(&mut self) -> Result<bool> {
        self.progress.resume();
        let ahead = if self.embeddings.is_some() { CLASSIFY_AHEAD_BATCHES } else { 1 };
        while self.has_more && self.batches.len() < ahead {
            self.read_batch()?;
        }
        let Some(batch) = self.batches.pop_front() else { return Ok(false) };
        let embeddings = match &mut self.embeddings {
            Some(stream) => stream.next().map_err(|error| error.in_row(batch.first))?.unwrap_or_default(),
            None => Vec::new(),
        };
        self.classify(batch, embeddings)?;
        self.progress.pause();
        Ok(true)
    }

    /// Reads a batch and submits its images.
    fn read_batch(&mut self) -> Result<()> {
        let most = if self.embeddings.is_some() { CLASSIFIED_IMAGES } else { CLASSIFIED_EMBEDDINGS };
        let wanted = self.next_batch.min(most);
        self.next_batch = wanted * 2;
        let (mut rows, mut images, mut bytes) = (Vec::with_capacity(wanted), Vec::new(), 0);
        while rows.len() < wanted && bytes < CLASSIFIED_BYTES {
            // Images, which may be large, are fetched one by one.
            let portion = if self.embeddings.is_some() { 1 } else { wanted };
            let found = self.query.fetch(portion, |row| {
                bytes += row.key.as_ref().map_or(0, AnyValue::size);
                let input = match row.input {
                    None => PendingInput::Null,
                    Some(InputValue::Embedding(embedding)) => {
                        PendingInput::Vectors(ImageVectors { embedding, likeness: row.likeness })
                    }
                    Some(InputValue::Image(image)) => {
                        bytes += image.size();
                        images.push(image);
                        PendingInput::Image
                    }
                };
                rows.push((row.key, input));
                Ok(())
            })?;
            if found < portion {
                self.has_more = false;
                break;
            }
            self.poll()?;
        }
        let first = self.rows_read + 1;
        self.rows_read += rows.len() as u64;
        if !rows.is_empty() {
            if let Some(stream) = &mut self.embeddings {
                // The error may be an answer to an earlier batch.
                let oldest = self.batches.front().map_or(first, |batch| batch.first);
                stream.submit(images).map_err(|error| error.in_row(oldest))?;
            }
            self.batches.push_back(RowBatch { first, rows });
        }
        Ok(())
    }

    /// Sends and receives what needs no waiting.
    fn poll(&mut self) -> Result<()> {
        let first = self.batches.front().map_or(self.rows_read + 1, |batch| batch.first);
        match &mut self.embeddings {
            Some(stream) => stream.poll().map_err(|error| error.in_row(first)),
            None => Ok(()),
        }
    }

    /// Classifies a batch by one matrix product. `embeddings` are those of its images.
    fn classify(&mut self, batch: RowBatch, embeddings: Vec<image_stream::Answer>) -> Result<()> {
        let total = batch.rows.len();
        let mut embeddings = embeddings.into_iter();
        let classifier = &self.fitted.classifier;
        let mut vectors = MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions());
        let mut outcomes = Vec::with_capacity(total);
        for (number, (key, input)) in (batch.first..).zip(batch.rows) {
            let outcome = match input {
                PendingInput::Null => Err(Outcome::Null),
                PendingInput::Vectors(image) => self.place(&image, &mut vectors),
                PendingInput::Image => match embeddings.next() {
                    Some(Ok(image)) => {
                        self.fitted.check(&image).map_err(|error| error.in_row(number))?;
                        self.place(&image, &mut vectors)
                    }
                    Some(Err(failure)) if failure.kind.is_of_input() => Err(Outcome::Failed(failure.message)),
                    Some(Err(failure)) => return Err(Error::from(failure).in_row(number)),
                    None => {
                        return Err(Error::internal("an image was given no answer"));
                    }
                },
            };
            outcomes.push((key, outcome));
        }
        let (mut with_likeness, mut without) = (VecDeque::new(), VecDeque::new());
        for (place, vectors) in vectors.parts() {
            let answers = classifier.answers(vectors.queries()?, self.method, self.k);
            match place {
                Place::WithLikeness => with_likeness.extend(answers),
                Place::Without => without.extend(answers),
            }
        }
        let mut failed = 0;
        for (key, outcome) in outcomes {
            let mut answer = |place| match place {
                Place::WithLikeness => with_likeness.pop_front(),
                Place::Without => without.pop_front(),
            };
            let outcome = match outcome {
                Ok(place) => answer(place).map_or(Outcome::Null, Outcome::Answered),
                Err(outcome) => outcome,
            };
            failed += u64::from(matches!(outcome, Outcome::Failed(_)));
            self.ready.push_back((key, outcome));
        }
        self.progress.advance(total as u64, failed);
        Ok(())
    }

    /// Adds an image to those that are classified, and returns where it is; else the outcome.
    fn place(&self, image: &ImageVectors, vectors: &mut MixedVectors) -> Result<Place, Outcome> {
        self.fitted.check(image).map_err(|error| Outcome::Failed(error.to_string()))?;
        let placed = vectors.push(image);
        placed.map_err(|error| Outcome::Failed(error.to_string()))
    }

    fn rows(&self, key: Option<AnyValue>, outcome: Outcome) -> Vec<ClassifiedRow> {
        match outcome {
            Outcome::Null => vec![(key, None, None, None, None, None, None)],
            Outcome::Failed(reason) => vec![(key, None, None, None, None, None, Some(reason))],
            Outcome::Answered(Answer { known, .. }) if self.fitted.classifier.rejects(known) => {
                let reject = self.fitted.settings.params.reject;
                let reason = format!("rejected: known {known:.4} is below {reject}");
                vec![(key, None, None, None, None, Some(known), Some(reason))]
            }
            Outcome::Answered(Answer { ranked, known }) => {
                let categories = self.fitted.classifier.categories();
                let row = |(rank, Ranked { category, score, probability }): (i32, Ranked)| {
                    let name = categories[category].clone();
                    (key.clone(), Some(rank), Some(name), Some(score), Some(probability), Some(known), None)
                };
                (1..).zip(ranked).map(row).collect()
            }
        }
    }
}
