//! Queries that are ranked together, each as if it were alone.

use ndarray::{Array2, Axis, concatenate};
use susx_core::classifier::{Classifier, ClassifierParams, Ranked, top_k};
use susx_core::method::Method;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Numbers, valid};

const PARAMS: ClassifierParams = ClassifierParams {
    alpha: 2.0,
    beta: 5.5,
    gamma: 0.5,
    temperature: 0.5,
    logit_scale: 30.0,
    ..ClassifierParams::START
};
const DIMENSIONS: usize = 96;
const CATEGORIES: usize = 12;

/// Categories with four support images each; the last has the same rows as the first.
fn support_set(numbers: &mut Numbers) -> Result<SupportSet, SupportError> {
    let mut builder = SupportSetBuilder::new(DIMENSIONS);
    let mut first: Option<(Vec<f32>, Vec<Vec<f32>>)> = None;
    for c in 0..CATEGORIES {
        let prompt = numbers.vector(DIMENSIONS);
        let images = (0..4).map(|_| numbers.around(&prompt, 0.9)).collect();
        let (prompt, images) = match &first {
            Some(first) if c == CATEGORIES - 1 => first.clone(),
            _ => (prompt, images),
        };
        first.get_or_insert((prompt.clone(), images.clone()));
        let name = format!("category {c}");
        builder.push_prompt(&name, &prompt)?;
        for image in images {
            builder.push_image(&name, 0, &image)?;
        }
    }
    builder.finish()
}

/// Random queries, and such as lie between two categories' names: there rounding decides.
fn queries(set: &SupportSet, numbers: &mut Numbers) -> Array2<f32> {
    let random = Array2::from_shape_fn((200, DIMENSIONS), |_| numbers.next());
    let names = set.zeroshot_weights();
    let between = Array2::from_shape_fn((200, DIMENSIONS), |(i, j)| {
        let (one, other) = (i % CATEGORIES, (i / CATEGORIES + 1 + i) % CATEGORIES);
        names[(one, j)] + names[(other, j)]
    });
    let mut queries = concatenate![Axis(0), random, between];
    for mut row in queries.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    queries
}

#[test]
fn a_query_is_ranked_as_if_it_were_alone() -> Result<(), SupportError> {
    let mut numbers = Numbers(7);
    let set = support_set(&mut numbers)?;
    let queries = queries(&set, &mut numbers);
    let fitted = Classifier::fit(set, valid(PARAMS));
    for method in Method::ALL {
        for k in [1, 2, 5, CATEGORIES, usize::MAX] {
            let together = fitted.rank(queries.view(), method, k);
            assert_eq!(together.len(), queries.nrows());
            for (query, found) in queries.axis_chunks_iter(Axis(0), 1).zip(together) {
                let alone = top_k(&fitted.logits(query, method).row(0).to_vec(), k, 1.0);
                let categories = |ranked: &[Ranked]| ranked.iter().map(|r| r.category).collect::<Vec<_>>();
                assert_eq!(categories(&found), categories(&alone), "{method} {k}");
                // The probabilities are not the softmax of the logits with every method.
                assert_eq!(found, fitted.rank(query, method, k)[0], "{method} {k}");
            }
        }
    }
    Ok(())
}

/// Whatever is asked of it, and however many rows are asked for together, to the last bit.
#[test]
fn a_query_has_one_answer() -> Result<(), SupportError> {
    let mut numbers = Numbers(9);
    let set = support_set(&mut numbers)?;
    let queries = queries(&set, &mut numbers);
    let fitted = Classifier::fit(set, valid(ClassifierParams { reject: 0.3, ..PARAMS }));
    for method in Method::ALL {
        let (logits, answers) =
            (fitted.calibrated_logits(queries.view(), method), fitted.answers(queries.view(), method, 4));
        for together in [1, 2, 3, 5, 33] {
            for (block, rows) in queries.axis_chunks_iter(Axis(0), together).enumerate() {
                let range = block * together..block * together + rows.nrows();
                assert_eq!(fitted.answers(rows, method, 4), answers[range.clone()], "{method} {together}");
                assert_eq!(fitted.calibrated_logits(rows, method), logits.slice(ndarray::s![range, ..]));
            }
        }
    }
    Ok(())
}

#[test]
fn no_query_and_no_rank() -> Result<(), SupportError> {
    let fitted = Classifier::fit(support_set(&mut Numbers(3))?, valid(PARAMS));
    assert!(fitted.rank(Array2::zeros((0, DIMENSIONS)).view(), Method::TipX, 3).is_empty());
    let unit = fitted.support_set().features().slice_move(ndarray::s![..2, ..]);
    assert_eq!(fitted.rank(unit, Method::TipX, 0), [vec![], vec![]]);
    Ok(())
}
