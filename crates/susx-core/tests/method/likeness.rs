//! Likeness vectors. tests/test_likeness_labels.py has the formula in float64.

use ndarray::Array2;
use susx_core::classifier::{Classifier, ClassifierParams};
use susx_core::method::Method;
use susx_core::method::likeness::{Likeness, LikenessGridSearch};
use susx_core::queries::Queries;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Numbers, valid};

const DIMENSIONS: usize = 20;
const LIKENESS: usize = 12;
const CATEGORIES: usize = 6;
const PARAMS: ClassifierParams = ClassifierParams { logit_scale: 15.0, ..ClassifierParams::START };

/// Images of six categories, with the vectors of both encoders.
struct Images {
    names: Vec<Vec<f32>>,
    /// Category, embedding, likeness.
    images: Vec<(usize, Vec<f32>, Vec<f32>)>,
}

impl Images {
    fn new(seed: u64, per_category: usize) -> Self {
        let mut numbers = Numbers(seed);
        let names: Vec<Vec<f32>> = (0..CATEGORIES).map(|_| numbers.vector(DIMENSIONS)).collect();
        let centres: Vec<Vec<f32>> = (0..CATEGORIES).map(|_| numbers.vector(LIKENESS)).collect();
        let image = |i: usize| {
            let c = i % CATEGORIES;
            (c, numbers.around(&names[c], 1.5), numbers.around(&centres[c], 0.6))
        };
        let images = (0..CATEGORIES * per_category).map(image).collect();
        Images { names, images }
    }

    /// The images of these numbers as a support set; `has_likeness` says which have a likeness vector.
    fn support_set(
        &self,
        rows: impl Iterator<Item = usize>,
        has_likeness: impl Fn(usize) -> bool,
    ) -> Result<SupportSet, SupportError> {
        let mut builder = SupportSetBuilder::new(DIMENSIONS);
        for (c, name) in self.names.iter().enumerate() {
            builder.push_prompt(&format!("c{c}"), name)?;
        }
        for i in rows {
            let (c, embedding, likeness) = &self.images[i];
            builder.push_unlabelled_image(&format!("c{c}"), i as i64, embedding)?;
            if has_likeness(i) {
                builder.push_likeness(likeness)?;
            }
        }
        builder.finish()
    }

    /// Unit embeddings and likeness vectors of all images, and their categories.
    fn queries(&self) -> (Array2<f32>, Array2<f32>, Vec<usize>) {
        let rows = self.images.len();
        let mut embeddings = Array2::from_shape_fn((rows, DIMENSIONS), |(i, j)| self.images[i].1[j]);
        let mut likeness = Array2::from_shape_fn((rows, LIKENESS), |(i, j)| self.images[i].2[j]);
        for mut row in embeddings.rows_mut().into_iter().chain(likeness.rows_mut()) {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        (embeddings, likeness, self.images.iter().map(|image| image.0).collect())
    }
}

#[test]
fn without_likeness_nothing_changes() -> Result<(), SupportError> {
    let images = Images::new(5, 8);
    let (embeddings, likeness, _) = images.queries();
    let queries = Queries::new(embeddings.view());
    let both = queries.with_likeness(likeness.view());
    let every = || (0..images.images.len()).step_by(2);
    let plain = Classifier::fit(images.support_set(every(), |_| false)?, valid(PARAMS));
    let paired = Classifier::fit(images.support_set(every(), |_| true)?, valid(PARAMS));
    // If one image lacks it, none has it.
    let partly = Classifier::fit(images.support_set(every(), |i| i > 0)?, valid(PARAMS));
    assert_eq!((plain.likeness_dimensions(), paired.likeness_dimensions()), (None, Some(LIKENESS)));
    assert_eq!(partly.likeness_dimensions(), None);
    assert_eq!((plain.default_method(), paired.default_method()), (Method::GatedTipX, Method::Likeness));
    for method in Method::ALL {
        let expected = plain.logits(queries, method);
        assert_eq!(paired.logits(queries, method), expected, "{method}");
        assert_eq!(partly.logits(both, method), expected, "{method}");
        let changes = paired.logits(both, method) != expected;
        assert_eq!(changes, method != Method::ZeroShot, "{method}");
    }
    Ok(())
}

#[test]
fn rows_are_ranked_as_they_are_alone() -> Result<(), SupportError> {
    let images = Images::new(9, 30);
    let (embeddings, likeness, _) = images.queries();
    let queries = Queries::new(embeddings.view()).with_likeness(likeness.view());
    let set = images.support_set((0..images.images.len()).step_by(3), |_| true)?;
    let classifier = Classifier::fit(set, valid(PARAMS));
    for method in Method::ALL {
        let together = classifier.rank(queries, method, 3);
        for (row, ranked) in together.iter().enumerate() {
            let alone = classifier.rank(queries.rows(row..row + 1), method, 3);
            assert_eq!(ranked, &alone[0], "{method}");
        }
    }
    Ok(())
}

#[test]
fn it_is_worth_more_than_the_names() -> Result<(), SupportError> {
    let images = Images::new(11, 30);
    let (embeddings, likeness, truth) = images.queries();
    let queries = Queries::new(embeddings.view()).with_likeness(likeness.view());
    let classifier = Classifier::fit(images.support_set((0..180).step_by(2), |_| true)?, valid(PARAMS));
    let right = |method| {
        let ranked = classifier.rank(queries, method, 1);
        ranked.iter().zip(&truth).filter(|(ranked, truth)| ranked[0].category == **truth).count()
    };
    let (names, likeness) = (right(Method::ZeroShot), right(Method::Likeness));
    assert!(likeness > names + 5, "{likeness} of 180, the names {names}");
    for explanation in classifier.explain(queries.rows(0..1), Method::Likeness, 3, 2) {
        let names: Vec<&str> = explanation.terms.iter().map(|&(name, _)| name).collect();
        assert_eq!(names, Method::Likeness.terms());
    }
    Ok(())
}

#[test]
fn an_encoder_that_tells_nothing_is_ignored() -> Result<(), SupportError> {
    let mut images = Images::new(13, 30);
    let mut numbers = Numbers(77);
    for image in &mut images.images {
        image.2 = numbers.vector(LIKENESS);
    }
    let (embeddings, likeness, _) = images.queries();
    let queries = Queries::new(embeddings.view()).with_likeness(likeness.view());
    let classifier = Classifier::fit(images.support_set((0..180).step_by(2), |_| true)?, valid(PARAMS));
    let (names, found) =
        (classifier.rank(queries, Method::ZeroShot, 1), classifier.rank(queries, Method::Likeness, 1));
    let others = names.iter().zip(&found).filter(|(a, b)| a[0].category != b[0].category).count();
    assert!(others <= 9, "{others} of 180 labels are others than the names'");
    Ok(())
}

/// The search counts what the method itself labels correctly.
#[test]
fn every_lambda_is_counted() -> Result<(), SupportError> {
    let images = Images::new(21, 20);
    let (embeddings, likeness, truth) = images.queries();
    let queries = Queries::new(embeddings.view()).with_likeness(likeness.view());
    let rows = |i: &usize| i % CATEGORIES < 4 || *i == 5;
    let set = images.support_set((0..80).filter(rows), |_| true)?;
    let fitted = valid(ClassifierParams { lambda: 1.0, ..PARAMS });
    let fit = Likeness::fit(set.clone(), fitted);
    let mut search = LikenessGridSearch::new(&fit, fitted, LikenessGridSearch::standard());
    for (block, truth) in queries.chunks(50).zip(truth.chunks(50)) {
        search.add(block, truth);
    }
    let counts: Vec<(f32, u32)> = search.counts().collect();
    for &(lambda, count) in &counts {
        let classifier = Classifier::fit(set.clone(), valid(ClassifierParams { lambda, ..PARAMS }));
        let ranked = classifier.rank(queries, Method::Likeness, 1);
        let right = ranked.iter().zip(&truth).filter(|(ranked, truth)| ranked[0].category == **truth);
        assert_eq!(right.count(), count as usize, "lambda {lambda}");
    }
    let best = search.best().unwrap();
    assert!(counts.iter().all(|&(_, count)| count <= best.likeness) && best.rows == 120);
    Ok(())
}
