//! The pass over the query, which keeps candidates for every reason.

use std::collections::HashMap;
use std::rc::Rc;

use susx_core::classifier::{Answer, Ranked};
use susx_core::method::Method;
use susx_core::queries::Queries;
use susx_core::sus::Distinct;

use super::best::{Best, Candidate};
use super::labels::Labels;
use crate::fitted::Fitted;
use crate::pg::any::AnyValue;
use crate::pg::catalog::keyed_query::KeyedQuery;
use crate::pg::error::Result;
use crate::pg::message::warn;
use crate::pg::progress::Progress;
use crate::query_vectors::{QueryVectors, VectorRow};
use crate::unit_vectors::{MixedVectors, Place};

/// Below this chance of being of any category a row may show something else, unless the classifier's `reject` is higher.
const LITTLE_KNOWN: f32 = 0.5;

/// What one pass over the query has found.
pub struct Scan {
    fitted: Rc<Fitted>,
    method: Method,
    /// The names of the categories, which candidates share.
    names: Vec<Rc<str>>,
    /// Their places among the categories.
    pub place: HashMap<Rc<str>, usize>,
    /// Compares rows with the labelled support images, by embeddings and by likeness vectors.
    by_embedding: Distinct,
    by_likeness: Distinct,
    pub least_sure: Best,
    pub disagree: Best,
    pub unlisted: Best,
    /// Rows whose label differs from the classifier's answer.
    pub label_differs: Best,
    pub labels: Labels,
}

/// A row whose vectors are among those that are classified.
struct Placed {
    number: u64,
    key: Option<AnyValue>,
    label: Option<String>,
}

impl Scan {
    /// Reads and classifies all rows. Keeps `most` candidates for each reason.
    pub fn run(fitted: Rc<Fitted>, query: KeyedQuery, most: usize, progress: &mut Progress) -> Result<Self> {
        let method = fitted.method(None)?;
        let classifier = &fitted.classifier;
        let names: Vec<Rc<str>> = classifier.categories().iter().map(|name| name.as_str().into()).collect();
        let place = names.iter().enumerate().map(|(i, name)| (Rc::clone(name), i)).collect();
        let best = || Best::new(most);
        let mut scan = Scan {
            method,
            place,
            by_embedding: Distinct::automatic(classifier.support_set(), false),
            by_likeness: Distinct::automatic(classifier.support_set(), true),
            labels: Labels::new(names.len()),
            names,
            least_sure: best(),
            disagree: best(),
            unlisted: best(),
            label_differs: best(),
            fitted: Rc::clone(&fitted),
        };
        let has_labels = query.has_labels();
        let mut rows = QueryVectors::new(fitted, query)?;
        let (mut number, mut unreadable) = (0, 0);
        while let Some(batch) = rows.next()? {
            let (total, failed) = (batch.len() as u64, scan.look_at(batch, number, has_labels)?);
            number += total;
            unreadable += failed;
            progress.advance(total, failed);
        }
        if unreadable > 0 {
            warn(format!(
                "susx: {unreadable} rows of the query were left out, because they could not be classified; \
                 susx.classify_rows shows why"
            ));
        }
        Ok(scan)
    }

    /// Classifies a batch, after `before` rows. Returns the number of rows that cannot be.
    fn look_at(&mut self, batch: Vec<VectorRow>, before: u64, has_labels: bool) -> Result<u64> {
        let classifier = &self.fitted.classifier;
        let mut vectors = MixedVectors::new(classifier.dimensions(), classifier.likeness_dimensions());
        let (mut with_likeness, mut without, mut failed) = (Vec::new(), Vec::new(), 0);
        for (number, VectorRow { key, label, image }) in (before + 1..).zip(batch) {
            let Some(image) = image else { continue };
            match image.ok().and_then(|image| vectors.push(&image).ok()) {
                Some(Place::WithLikeness) => with_likeness.push(Placed { number, key, label }),
                Some(Place::Without) => without.push(Placed { number, key, label }),
                None => failed += 1,
            }
        }
        for (place, vectors) in vectors.parts() {
            let placed = std::mem::take(match place {
                Place::WithLikeness => &mut with_likeness,
                Place::Without => &mut without,
            });
            let (queries, most) = (vectors.queries()?, self.fitted.classifier.max_queries());
            let mut placed = placed.into_iter();
            for queries in queries.chunks(most) {
                let rows = placed.by_ref().take(queries.len()).collect();
                self.classify(queries, rows, has_labels);
            }
        }
        Ok(failed)
    }

    fn classify(&mut self, queries: Queries, rows: Vec<Placed>, has_labels: bool) {
        let fitted = Rc::clone(&self.fitted);
        let classifier = &fitted.classifier;
        // The probability of a label takes those of all categories.
        let k = if has_labels { self.names.len() } else { 2 };
        let answers = classifier.answers(queries, self.method, k);
        let by_names = match self.method {
            Method::ZeroShot => Vec::new(),
            _ => classifier.rank(queries, Method::ZeroShot, 1),
        };
        let vectors = queries.likeness();
        for (i, (row, answer)) in rows.into_iter().zip(answers).enumerate() {
            let by_name = by_names.get(i).and_then(|ranked| ranked.first());
            let vector: Vec<f32> = vectors.row(i).to_vec();
            self.judge(row, &answer, by_name, &vector, queries.has_likeness());
        }
    }

    /// Makes a row a candidate for every reason that applies to it.
    fn judge(
        &mut self,
        row: Placed,
        answer: &Answer,
        by_name: Option<&Ranked>,
        vector: &[f32],
        has_likeness: bool,
    ) {
        let Some(best) = answer.ranked.first() else { return };
        let label = row.label.as_deref().map(|label| match self.place.get_key_value(label) {
            Some((name, &category)) => (Rc::clone(name), Some(category)),
            None => (Rc::from(label), None),
        });
        let labelled = label.as_ref().and_then(|(_, category)| *category);
        let of = |category: usize| answer.ranked.iter().find(|ranked| ranked.category == category);
        let own = labelled.and_then(of).map_or(0.0, |ranked| ranked.probability);
        if let Some(category) = labelled {
            self.labels.count(category, own);
        }
        if let Some((name, _)) = &label {
            self.labels.keep(row.number, &row.key, name, vector);
        }
        let is_rejected = self.fitted.classifier.rejects(answer.known);
        let (category, probability) = match &label {
            Some((name, _)) => (Some(Rc::clone(name)), own),
            None if is_rejected => (None, answer.known),
            None => (Some(Rc::clone(&self.names[best.category])), best.probability),
        };
        let candidate = |suggested: Option<usize>, priority| Candidate {
            row: row.number,
            key: row.key.clone(),
            category: category.clone(),
            probability,
            suggestion: suggested.map(|category| Rc::clone(&self.names[category])),
            priority,
            alike: None,
            vector: vector.into(),
        };
        let margin = best.probability - own;
        if labelled.is_some_and(|label| label != best.category) && self.label_differs.has_room(margin) {
            self.label_differs.push(candidate(Some(best.category), margin));
        }
        // Images that a user has labelled, and their near-duplicates, need no second look.
        let distinct = if has_likeness { &self.by_likeness } else { &self.by_embedding };
        let is_known = std::cell::OnceCell::new();
        let is_new = || !*is_known.get_or_init(|| distinct.is_labelled(vector));
        let limit = self.fitted.settings.params.reject.max(LITTLE_KNOWN);
        let unknown = 1.0 - answer.known;
        if answer.known < limit && self.unlisted.has_room(unknown) && is_new() {
            self.unlisted.push(candidate(None, unknown));
        }
        if is_rejected {
            return;
        }
        let shown = labelled.unwrap_or(best.category);
        let other = answer.ranked.iter().map(|ranked| ranked.category).find(|&category| category != shown);
        let unsure = 1.0 - best.probability;
        if self.least_sure.has_room(unsure) && is_new() {
            self.least_sure.push(candidate(other, unsure));
        }
        if let Some(by_name) = by_name.filter(|by_name| by_name.category != best.category) {
            let both = best.probability.min(by_name.probability);
            let suggested = if by_name.category == shown { best.category } else { by_name.category };
            if self.disagree.has_room(both) && is_new() {
                self.disagree.push(candidate(Some(suggested), both));
            }
        }
    }
}
