//! The rows of a query, which are read, embedded where they are images, and classified in batches.

use std::collections::VecDeque;
use std::rc::Rc;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use susx_core::classifier::{Answer, Ranked};
use susx_core::method::Method;

use crate::fitted::Fitted;
use crate::pg::any::AnyValue;
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::Result;
use crate::pg::progress::Progress;
use crate::query_vectors::{QueryVectors, VectorRow};
use crate::unit_vectors::{MixedVectors, Place};

/// Key, rank, category, score, probability, the probability that it shows any category, and error.
pub type ClassifiedRow =
    (Option<AnyValue>, Option<i32>, Option<String>, Option<f32>, Option<f32>, Option<f32>, Option<String>);

/// The categories of all rows of a query, as an iterator that works batch by batch.
pub struct ClassificationStream {
    fitted: Rc<Fitted>,
    method: Method,
    k: usize,
    rows: QueryVectors,
    /// Rows that have been classified, but not returned.
    ready: VecDeque<(Option<AnyValue>, Outcome)>,
    /// Categories of the current row that have not been returned.
    current: std::vec::IntoIter<ClassifiedRow>,
    progress: Progress,
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
        let rows = QueryVectors::new(Rc::clone(&fitted), query)?;
        let (ready, current) = (VecDeque::new(), Vec::new().into_iter());
        Ok(ClassificationStream { fitted, method, k, rows, ready, current, progress })
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
                self.current = self.rows_of(key, outcome).into_iter();
                // The caller may take rows slowly, and the inference process should not wait for it.
                self.rows.poll()?;
            }
        }
    }

    /// Classifies the next batch; false if there is none.
    fn classify_next_batch(&mut self) -> Result<bool> {
        self.progress.resume();
        let Some(batch) = self.rows.next()? else { return Ok(false) };
        self.classify(batch)?;
        self.progress.pause();
        Ok(true)
    }

    /// Classifies a batch by one matrix product.
    fn classify(&mut self, batch: Vec<VectorRow>) -> Result<()> {
        let total = batch.len();
        let classifier = &self.fitted.classifier;
        let mut vectors = MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions());
        let mut outcomes = Vec::with_capacity(total);
        for VectorRow { key, image, .. } in batch {
            let outcome = match image {
                None => Err(Outcome::Null),
                Some(Ok(image)) => vectors.push(&image).map_err(|error| Outcome::Failed(error.to_string())),
                Some(Err(reason)) => Err(Outcome::Failed(reason)),
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

    fn rows_of(&self, key: Option<AnyValue>, outcome: Outcome) -> Vec<ClassifiedRow> {
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
