//! What label a row has to have.

use std::collections::VecDeque;
use std::rc::Rc;

use susx_core::classifier::{Answer, Ranked};
use susx_core::digest::Digest;
use susx_core::method::Method;
use susx_core::queries::Queries;
use susx_core::sus::unit;

use crate::batches::RELABELLED_TOGETHER;
use crate::fitted::{self, Fitted};
use crate::image_vectors::ImageVectors;
use crate::pg::catalog::classifier::Settings;
use crate::pg::catalog::errors::RowFailure;
use crate::pg::catalog::label_table::{LabelRow, Record};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::regclass::RegClass;
use crate::pg::types::{EMPTY_ARRAY, array_text};
use crate::unit_vectors::{MixedVectors, Place};

/// A classifier as a transaction sees it, and how it labels.
#[derive(Debug)]
pub struct Labeller {
    fitted: Rc<Fitted>,
    kind: Kind,
    /// A digest of everything that decides the labels.
    pub state: [u8; 32],
}

/// What a row gets.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Its best category, by a method.
    Label(Method),
    /// All categories that it shows, as the text of an array.
    Tags,
}

/// What to do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Somebody else wrote its label.
    Corrected,
    UpToDate,
    /// It has no embedding. `is_stale`: it still has what susx wrote when it had one.
    Unembedded {
        is_stale: bool,
    },
    ToLabel,
}

/// The answer to a row: what the classifier says of it, or why it cannot be classified.
pub type RowAnswer = Result<Label, RowFailure>;

/// A category, unless the row is rejected, and how likely it is; or tags.
#[derive(Clone, Debug)]
pub struct Label {
    /// What is written to the column of labels.
    pub text: Option<String>,
    pub probability: Option<f64>,
    /// `None` unless it was asked for.
    pub known: Option<f64>,
}

impl Labeller {
    /// The classifier as the running transaction sees it. `gives_tags`: whether the column takes several labels per row.
    pub fn get(classifier: RegClass, method: Option<&str>, gives_tags: bool) -> Result<Self> {
        let fitted = fitted::get(classifier)?;
        let (kind, state) = match (gives_tags, method) {
            (true, None) => (Kind::Tags, fitted.state_of_tags()),
            (true, Some(_)) => {
                return Err(Error::argument("tags have no method")
                    .with_hint("Omit method, or use a column of type text, which holds one label per row."));
            }
            (false, method) => {
                let method = fitted.method(method)?;
                (Kind::Label(method), fitted.state(method))
            }
        };
        Ok(Labeller { fitted, kind, state })
    }

    /// Whether what was written says that a row shows none of the categories.
    pub fn is_none(&self, label: Option<&str>) -> bool {
        match self.kind {
            Kind::Label(_) => label.is_none(),
            Kind::Tags => label.is_none_or(|tags| tags == EMPTY_ARRAY),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.fitted.settings
    }

    /// Whether queries are compared by likeness vectors, if they have one.
    pub fn uses_likeness(&self) -> bool {
        self.fitted.classifier.likeness_dimensions().is_some()
    }

    /// A digest of what decides the label of a row; `None` without an embedding.
    pub fn version(&self, row: &LabelRow) -> Option<i64> {
        let embedding = row.embedding.as_ref()?;
        let likeness = row.likeness.as_ref().filter(|_| self.uses_likeness());
        let digest = Digest::of("susx row").bytes(self.state).numbers(&embedding.0);
        Some(likeness.map_or(digest.clone(), |likeness| digest.numbers(&likeness.0)).finish_short())
    }

    /// What to do with a row that has this version and this record. `has_numbers`: whether the caller wants the
    /// probabilities of labels, and the probabilities that rows are of any category.
    pub fn status(
        &self,
        row: &LabelRow,
        version: Option<i64>,
        record: Option<&Record>,
        has_numbers: (bool, bool),
    ) -> Status {
        // What susx wrote last, if the row still has it.
        let written = record.filter(|record| record.label == row.label);
        if row.label.is_some() && written.is_none() || written.is_some_and(|record| record.is_corrected) {
            return Status::Corrected;
        }
        let Some(version) = version else {
            let has_values = row.label.is_some() || row.probability.is_some() || row.known.is_some();
            return Status::Unembedded {
                is_stale: written.is_some_and(|it| it.version.is_some()) && has_values,
            };
        };
        let lacks_numbers = has_numbers.0 && row.label.is_some() && row.probability.is_none()
            || has_numbers.1 && row.known.is_none() && self.is_classifiable(row);
        match written {
            Some(record) if record.version == Some(version) && !lacks_numbers => Status::UpToDate,
            _ => Status::ToLabel,
        }
    }

    /// Whether the row's vectors have a direction and the classifier's dimensions.
    pub fn is_classifiable(&self, row: &LabelRow) -> bool {
        let Some(image) = vectors(row) else { return false };
        let likeness = image.likeness.as_ref().filter(|_| self.uses_likeness());
        self.fitted.check(&image).is_ok()
            && unit(&image.embedding.0).is_ok()
            && likeness.is_none_or(|likeness| unit(&likeness.0).is_ok())
    }

    /// The labels of rows with embeddings, by one matrix product for many. `has_numbers`, as for
    /// [`status`](Self::status): what nobody wants is computed only where the label depends on it.
    pub fn labels(&self, rows: &[&LabelRow], has_numbers: (bool, bool)) -> Result<Vec<RowAnswer>> {
        let mut answers = Vec::with_capacity(rows.len());
        let classifier = &self.fitted.classifier;
        let mut vectors = MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions());
        for part in rows.chunks(RELABELLED_TOGETHER) {
            vectors.clear();
            let places: Vec<Result<Place, RowFailure>> =
                part.iter().map(|row| self.place(row, &mut vectors)).collect();
            let (mut with_likeness, mut without) = (VecDeque::new(), VecDeque::new());
            for (place, vectors) in vectors.parts().filter(|(_, vectors)| vectors.len() > 0) {
                let found = self.answers(vectors.queries()?, has_numbers);
                match place {
                    Place::WithLikeness => with_likeness.extend(found),
                    Place::Without => without.extend(found),
                }
            }
            for place in places {
                answers.push(match place {
                    Err(failure) => Err(failure),
                    Ok(place) => {
                        let found = match place {
                            Place::WithLikeness => with_likeness.pop_front(),
                            Place::Without => without.pop_front(),
                        };
                        let found = found.ok_or_else(|| Error::internal("a row has no answer"))?;
                        Ok(found)
                    }
                });
            }
        }
        Ok(answers)
    }

    /// Adds a row to those that are classified, and returns where it is; else why it cannot be.
    fn place(&self, row: &LabelRow, rows: &mut MixedVectors) -> Result<Place, RowFailure> {
        let image = vectors(row).ok_or_else(|| failure(&Error::internal("a row has no embedding")))?;
        self.fitted.check(&image).map_err(|error| failure(&error))?;
        rows.push(&image)
            .map_err(|error| RowFailure { sqlstate: error.sqlstate(), message: error.to_string() })
    }

    fn answers(&self, queries: Queries, (wants_probability, wants_known): (bool, bool)) -> Vec<Label> {
        let classifier = &self.fitted.classifier;
        let method = match self.kind {
            Kind::Label(method) => method,
            Kind::Tags => return self.tags(queries, wants_known),
        };
        let label = |best: Option<&Ranked>, known: Option<f32>| Label {
            text: best.map(|best| classifier.categories()[best.category].clone()),
            probability: best.map(|best| f64::from(best.probability)),
            known: known.map(f64::from),
        };
        if !wants_probability && !wants_known {
            let text = |category: usize| classifier.categories()[category].clone();
            let label = |best: Option<usize>| Label { text: best.map(text), probability: None, known: None };
            return classifier.best(queries, method).into_iter().map(label).collect();
        }
        if !wants_known {
            let found = classifier.accepted(queries, method, 1).into_iter();
            return found
                .map(|ranked| label(ranked.as_ref().and_then(|ranked| ranked.first()), None))
                .collect();
        }
        let found = classifier.answers(queries, method, 1).into_iter();
        found
            .map(|Answer { ranked, known }| {
                label(ranked.first().filter(|_| !classifier.rejects(known)), Some(known))
            })
            .collect()
    }

    fn tags(&self, queries: Queries, wants_known: bool) -> Vec<Label> {
        let classifier = &self.fitted.classifier;
        let known = if wants_known { classifier.known(queries) } else { Vec::new() };
        let tags = classifier.tags(queries, classifier.tag_threshold()).into_iter().enumerate();
        tags.map(|(row, tags)| {
            let names = tags.iter().map(|tag| classifier.categories()[tag.category].clone()).collect();
            let known = known.get(row).copied().map(f64::from);
            Label { text: Some(array_text(names)), probability: None, known }
        })
        .collect()
    }
}

fn vectors(row: &LabelRow) -> Option<ImageVectors> {
    Some(ImageVectors { embedding: row.embedding.clone()?, likeness: row.likeness.clone() })
}

fn failure(error: &Error) -> RowFailure {
    RowFailure { sqlstate: error.sqlstate(), message: error.to_string() }
}
