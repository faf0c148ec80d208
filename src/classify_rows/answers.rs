//! The rows of a query, read, embedded where need be, and classified in batches.

use std::collections::VecDeque;
use std::rc::Rc;

use ndarray::ArrayView2;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use susx_core::classifier::Ranked;
use susx_core::method::Method;
use susx_core::sus::unit;

use crate::blame::is_of_the_input;
use crate::fitted::Fitted;
use crate::inference::client::{Embedding, Stream};
use crate::pg::any::AnyValue;
use crate::pg::catalog::keyed::KeyedQuery;
use crate::pg::catalog::labelled::{Input, Kind};
use crate::pg::error::{Error, Result};
use crate::pg::image::Image;
use crate::pg::progress::Progress;

/// Rows of the first batch, so that the first answers come soon; each batch has twice as many as the
/// last, up to the most that pay.
const FIRST_BATCH: usize = 32;
const MOST_EMBEDDINGS: usize = 256;
const MOST_IMAGES: usize = 128;
/// Bytes of images and keys of one batch, unless a single row has more.
const BATCH_BYTES: usize = 8 << 20;
/// Batches of images that are on their way.
const AHEAD: usize = 3;

/// Key, rank, category, score, probability and error.
pub type Row = (Option<AnyValue>, Option<i32>, Option<String>, Option<f32>, Option<f32>, Option<String>);

/// The answers to all rows, worked out batch by batch.
pub struct Answers {
    fitted: Rc<Fitted>,
    method: Method,
    k: usize,
    query: KeyedQuery,
    has_more: bool,
    rows_read: u64,
    /// Rows of the next batch.
    next_batch: usize,
    /// Read, but not classified.
    batches: VecDeque<Batch>,
    /// What embeds the images of these batches.
    stream: Option<Stream<Image>>,
    /// Classified, but not returned.
    ready: VecDeque<(Option<AnyValue>, Outcome)>,
    /// What is left of the answer that is being returned.
    current: std::vec::IntoIter<Row>,
    progress: Progress,
}

/// Consecutive rows of the query.
#[derive(Debug)]
struct Batch {
    /// Number of the first, counted from 1.
    first: u64,
    rows: Vec<(Option<AnyValue>, Content)>,
}

#[derive(Debug)]
enum Content {
    Null,
    /// It is with the stream.
    Image,
    Embedding(Vec<f32>),
}

#[derive(Debug)]
enum Outcome {
    Null,
    Ranked(Vec<Ranked>),
    Failed(String),
}

impl Iterator for Answers {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        match self.next_row() {
            Ok(row) => row,
            Err(error) => Err(ErrorReport::from(error)).unwrap_or_report(),
        }
    }
}

impl Answers {
    /// Errors if the query gives images and the classifier has no model.
    pub fn new(
        fitted: Rc<Fitted>,
        method: Method,
        k: usize,
        query: KeyedQuery,
        progress: Progress,
    ) -> Result<Self> {
        let stream = match query.kind() {
            Kind::Embedding => None,
            Kind::Image => Some(Stream::of(&fitted.model()?)),
        };
        Ok(Answers {
            fitted,
            method,
            k,
            query,
            has_more: true,
            rows_read: 0,
            next_batch: FIRST_BATCH,
            batches: VecDeque::new(),
            stream,
            ready: VecDeque::new(),
            current: Vec::new().into_iter(),
            progress,
        })
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.current.next() {
                return Ok(Some(row));
            }
            if self.ready.is_empty() && !self.work()? {
                return Ok(None);
            }
            if let Some((key, outcome)) = self.ready.pop_front() {
                self.current = self.rows(key, outcome).into_iter();
                // The caller takes the rows away at its own pace.
                self.poll()?;
            }
        }
    }

    /// Classifies the next batch; false if there is none.
    fn work(&mut self) -> Result<bool> {
        self.progress.resume();
        let ahead = if self.stream.is_some() { AHEAD } else { 1 };
        while self.has_more && self.batches.len() < ahead {
            self.read_batch()?;
        }
        let Some(batch) = self.batches.pop_front() else { return Ok(false) };
        let answers = match &mut self.stream {
            Some(stream) => stream.next().map_err(|error| at_row(batch.first, error))?.unwrap_or_default(),
            None => Vec::new(),
        };
        self.classify(batch, answers)?;
        self.progress.pause();
        Ok(true)
    }

    /// Reads a batch and puts its images on their way.
    fn read_batch(&mut self) -> Result<()> {
        let most = if self.stream.is_some() { MOST_IMAGES } else { MOST_EMBEDDINGS };
        let wanted = self.next_batch.min(most);
        self.next_batch = wanted * 2;
        let (mut rows, mut images, mut bytes) = (Vec::with_capacity(wanted), Vec::new(), 0);
        while rows.len() < wanted && bytes < BATCH_BYTES {
            // Images, which may be large, come one by one.
            let portion = if self.stream.is_some() { 1 } else { wanted };
            let found = self.query.fetch(portion, |row| {
                bytes += row.key.as_ref().map_or(0, AnyValue::size);
                let content = match row.input {
                    None => Content::Null,
                    Some(Input::Embedding(embedding)) => Content::Embedding(embedding.0),
                    Some(Input::Image(image)) => {
                        bytes += image.size();
                        images.push(image);
                        Content::Image
                    }
                };
                rows.push((row.key, content));
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
            if let Some(stream) = &mut self.stream {
                stream.submit(images).map_err(|error| at_row(first, error))?;
            }
            self.batches.push_back(Batch { first, rows });
        }
        Ok(())
    }

    /// Lets the server have what it can take.
    fn poll(&mut self) -> Result<()> {
        let first = self.batches.front().map_or(self.rows_read + 1, |batch| batch.first);
        match &mut self.stream {
            Some(stream) => stream.poll().map_err(|error| at_row(first, error)),
            None => Ok(()),
        }
    }

    /// Makes the answers to a batch ready, by one matrix product. `embeddings` are those of its images.
    fn classify(&mut self, batch: Batch, embeddings: Vec<Embedding>) -> Result<()> {
        let total = batch.rows.len();
        let mut embeddings = embeddings.into_iter();
        let mut features = Vec::new();
        let mut outcomes = Vec::with_capacity(total);
        for (number, (key, content)) in (batch.first..).zip(batch.rows) {
            let outcome = match content {
                Content::Null => Some(Outcome::Null),
                Content::Embedding(embedding) => self.feature(&embedding, &mut features),
                Content::Image => match embeddings.next() {
                    Some(Ok(embedding)) => {
                        self.check_dimensions(&embedding).map_err(|error| at_row(number, error))?;
                        self.feature(&embedding, &mut features)
                    }
                    Some(Err(failure)) if is_of_the_input(&failure) => Some(Outcome::Failed(failure.message)),
                    Some(Err(failure)) => return Err(at_row(number, Error::Server(failure))),
                    None => {
                        return Err(Error::Internal("an image was given no answer".to_owned()));
                    }
                },
            };
            outcomes.push((key, outcome));
        }
        let shape = (
            features.len() / self.fitted.classifier.dimensions().max(1),
            self.fitted.classifier.dimensions(),
        );
        let features = ArrayView2::from_shape(shape, &features).map_err(Error::internal)?;
        let mut ranked = self.fitted.classifier.rank(features, self.method, self.k).into_iter();
        let mut failed = 0;
        for (key, outcome) in outcomes {
            let outcome = outcome.or_else(|| ranked.next().map(Outcome::Ranked)).unwrap_or(Outcome::Null);
            failed += u64::from(matches!(outcome, Outcome::Failed(_)));
            self.ready.push_back((key, outcome));
        }
        self.progress.advance(total as u64, failed);
        Ok(())
    }

    /// Appends an embedding to unit features; the outcome if there is no more to do about it.
    fn feature(&self, embedding: &[f32], features: &mut Vec<f32>) -> Option<Outcome> {
        let feature = match self.check_dimensions(embedding) {
            Ok(()) => unit(embedding).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match feature {
            Ok(feature) => {
                features.extend(feature);
                None
            }
            Err(reason) => Some(Outcome::Failed(reason)),
        }
    }

    fn check_dimensions(&self, embedding: &[f32]) -> Result<()> {
        let (expected, found) = (self.fitted.classifier.dimensions(), embedding.len());
        if expected == found {
            return Ok(());
        }
        Err(Error::Dimensions { classifier: self.fitted.name.clone(), expected, found })
    }

    fn rows(&self, key: Option<AnyValue>, outcome: Outcome) -> Vec<Row> {
        match outcome {
            Outcome::Null => vec![(key, None, None, None, None, None)],
            Outcome::Failed(reason) => vec![(key, None, None, None, None, Some(reason))],
            Outcome::Ranked(ranked) => {
                let categories = self.fitted.classifier.categories();
                let row = |(rank, Ranked { category, score, probability }): (i32, Ranked)| {
                    let name = categories[category].clone();
                    (key.clone(), Some(rank), Some(name), Some(score), Some(probability), None)
                };
                (1..).zip(ranked).map(row).collect()
            }
        }
    }
}

fn at_row(row: u64, error: Error) -> Error {
    Error::Row { row, source: Box::new(error) }
}
