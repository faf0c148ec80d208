use arbitrary::{Result, Unstructured};
use ndarray::Array2;
use susx_core::classifier::{Classifier, ClassifierParams};
use susx_core::method::Method;
use susx_core::sus::{SupportSet, SupportSetBuilder, unit};

/// Parameters of a classifier, a support set and a query: either the parameters or the support set are rejected, or the
/// probabilities of the answer add up to 1.
pub fn classifier_settings(data: &[u8]) {
    // An input with too few bytes is ignored.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured) -> Result<()> {
    let method: &str = u.arbitrary()?;
    let method = method.parse().unwrap_or(*u.choose(&Method::ALL)?);
    let mut values = ClassifierParams::START.values();
    for value in &mut values {
        *value = u.arbitrary()?;
    }
    let Ok(params) = ClassifierParams::from_values(values).check() else { return Ok(()) };

    let dimensions = u.int_in_range(1..=5)?;
    let Some(support_set) = support_set(u, dimensions)? else { return Ok(()) };
    let Ok(query) = unit(&vector(u, dimensions)?) else { return Ok(()) };
    let query = Array2::from_shape_vec((1, dimensions), query).expect("one row");
    let categories = support_set.categories().len();
    let classifier = Classifier::fit(support_set, params);
    let ranked = classifier.rank(query.view(), method, categories);
    assert_eq!(ranked[0].len(), categories);
    let sum: f64 = ranked[0].iter().map(|answer| f64::from(answer.probability)).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{params:?} {method}: {ranked:?}");
    assert!(ranked[0].iter().all(|answer| answer.score.is_finite() && answer.probability >= 0.0));
    Ok(())
}

/// Up to 4 categories and 8 images; `None` if they are rejected.
fn support_set(u: &mut Unstructured, dimensions: usize) -> Result<Option<SupportSet>> {
    const NAMES: [&str; 4] = ["a", "b", "c", "d"];
    let mut builder = SupportSetBuilder::new(dimensions);
    let categories = u.int_in_range(1..=NAMES.len())?;
    for category in &NAMES[..categories] {
        if builder.push_prompt(category, &vector(u, dimensions)?).is_err() {
            return Ok(None);
        }
    }
    for id in 0..u.int_in_range(0..=8)? {
        let (category, image) = (u.choose(&NAMES[..categories])?, vector(u, dimensions)?);
        let pushed = match u.arbitrary()? {
            true => builder.push_image(category, id, &image),
            false => builder.push_unlabelled_image(category, id, &image),
        };
        if pushed.is_err() {
            return Ok(None);
        }
    }
    Ok(builder.finish().ok())
}

fn vector(u: &mut Unstructured, dimensions: usize) -> Result<Vec<f32>> {
    (0..dimensions).map(|_| u.arbitrary()).collect()
}
