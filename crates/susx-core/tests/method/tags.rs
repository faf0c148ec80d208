//! Several labels per image. That the probabilities are the formula's is tested in SQL, against NumPy: tests/test_tags.py.

use ndarray::{Array2, Axis};
use susx_core::classifier::{Classifier, ClassifierParams, Tag};
use susx_core::queries::Queries;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

use crate::literal::{Numbers, valid};

const DIMENSIONS: usize = 64;

/// Names around one direction, as CLIP's are, and support images around their names.
fn set(categories: usize, per_class: usize, has_likeness: bool) -> Result<SupportSet, SupportError> {
    let mut numbers = Numbers(3);
    let centre = numbers.vector(DIMENSIONS);
    let mut builder = SupportSetBuilder::new(DIMENSIONS);
    for c in 0..categories {
        let (name, category) = (numbers.around(&centre, 0.5), format!("category {c}"));
        builder.push_prompt(&category, &name)?;
        let seen = numbers.vector(20);
        for image in 0..per_class {
            let image = (c * per_class + image) as i64;
            builder.push_image(&category, image, &numbers.around(&name, 0.5))?;
            if has_likeness {
                builder.push_likeness(&numbers.around(&seen, 0.5))?;
            }
        }
    }
    builder.finish()
}

fn rows(count: usize, dimensions: usize) -> Array2<f32> {
    let mut numbers = Numbers(8);
    let mut rows = Array2::from_shape_fn((count, dimensions), |_| numbers.next());
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    rows
}

fn of_rows<'a>(features: &'a Array2<f32>, likeness: Option<&'a Array2<f32>>) -> Queries<'a> {
    let queries = Queries::new(features.view());
    likeness.map_or(queries, |likeness| queries.with_likeness(likeness.view()))
}

fn categories(tags: &[Tag]) -> Vec<usize> {
    tags.iter().map(|tag| tag.category).collect()
}

#[test]
fn a_row_has_the_same_tags_alone_and_in_a_batch() -> Result<(), SupportError> {
    for (per_class, has_likeness) in [(0, false), (1, false), (5, false), (5, true)] {
        let fitted = Classifier::fit(set(12, per_class, has_likeness)?, valid(ClassifierParams::START));
        let (features, seen) = (rows(200, DIMENSIONS), rows(200, 20));
        let likeness = has_likeness.then_some(&seen);
        let all = fitted.tags(of_rows(&features, likeness), 0.0);
        for tags in &all {
            assert_eq!(tags.len(), 12);
            assert!(tags.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
            assert!(tags.iter().all(|tag| (0.0..=1.0).contains(&tag.probability)));
        }
        // At each of these thresholds, a last bit could go either way for some row.
        for min in all.iter().step_by(20).map(|tags| tags[1].probability) {
            for (row, together) in fitted.tags(of_rows(&features, likeness), min).iter().enumerate() {
                let (features, seen) = (features.select(Axis(0), &[row]), seen.select(Axis(0), &[row]));
                let alone = fitted.tags(of_rows(&features, has_likeness.then_some(&seen)), min);
                assert_eq!(&alone[0], together, "row {row} at {min}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_picture_of_two_things_has_both_tags() -> Result<(), SupportError> {
    let set = set(12, 5, false)?;
    let features = set.features();
    let mut pictures = Array2::zeros((11, DIMENSIONS));
    for (c, mut picture) in pictures.rows_mut().into_iter().enumerate() {
        for category in [c, c + 1] {
            picture += &features.row(set.rows(category).start);
        }
        let norm = picture.dot(&picture).sqrt();
        picture /= norm;
    }
    let fitted = Classifier::fit(set, valid(ClassifierParams::START));
    for (c, tags) in fitted.tags(pictures.view(), 0.5).iter().enumerate() {
        // They come first; the noise may look like something else, too.
        let mut found = categories(&tags[..2]);
        found.sort_unstable();
        assert_eq!(found, [c, c + 1]);
    }
    Ok(())
}

#[test]
fn likeness_vectors_count_where_there_are_any() -> Result<(), SupportError> {
    let fitted = Classifier::fit(set(12, 5, true)?, valid(ClassifierParams::START));
    let plain = Classifier::fit(set(12, 5, true)?.without_likeness(), valid(ClassifierParams::START));
    let (features, seen) = (rows(20, DIMENSIONS), rows(20, 20));
    let without = fitted.tags(of_rows(&features, None), 0.0);
    assert_eq!(without, plain.tags(of_rows(&features, Some(&seen)), 0.0));
    assert_ne!(without, fitted.tags(of_rows(&features, Some(&seen)), 0.0));
    Ok(())
}

#[test]
fn the_threshold_is_no_part_of_the_digest_of_labels() -> Result<(), SupportError> {
    let params = ClassifierParams { tag_threshold: 0.25, ..ClassifierParams::START };
    let fits = [params, ClassifierParams::START]
        .map(|params| set(3, 2, false).map(|set| Classifier::fit(set, valid(params))));
    let [one, other] = fits;
    assert_eq!(one?.digest(), other?.digest());
    Ok(())
}
