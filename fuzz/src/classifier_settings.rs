use arbitrary::{Result, Unstructured};
use ndarray::Array2;
use susx_core::classifier::{Classifier, Method};
use susx_core::sus::{SupportSet, SupportSetBuilder, unit};
use susx_core::{gda, tip_x};

/// The settings of a classifier, a support set and a query: settings that are refused, or an answer whose
/// probabilities are some.
pub fn classifier_settings(data: &[u8]) {
    // Too few bytes for all of it are no input.
    let _ = run(&mut Unstructured::new(data));
}

fn run(u: &mut Unstructured) -> Result<()> {
    let method: &str = u.arbitrary()?;
    let method = method.parse().unwrap_or(*u.choose(&Method::ALL)?);
    let tip_x = tip_x::Params {
        alpha: u.arbitrary()?,
        beta: u.arbitrary()?,
        gamma: u.arbitrary()?,
        temperature: u.arbitrary()?,
        logit_scale: u.arbitrary()?,
    };
    let gda = gda::Params { lambda: u.arbitrary()?, ridge: u.arbitrary()? };
    let (Ok(tip_x), Ok(gda)) = (tip_x.check(), gda.check()) else { return Ok(()) };

    let dimensions = u.int_in_range(1..=5)?;
    let Some(support_set) = support_set(u, dimensions)? else { return Ok(()) };
    let Ok(query) = unit(&vector(u, dimensions)?) else { return Ok(()) };
    let query = Array2::from_shape_vec((1, dimensions), query).expect("one row");
    let categories = support_set.categories().len();
    let classifier = Classifier::fit(support_set, tip_x, gda);
    let ranked = classifier.rank(query.view(), method, categories);
    assert_eq!(ranked[0].len(), categories);
    let sum: f64 = ranked[0].iter().map(|answer| f64::from(answer.probability)).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{tip_x:?} {gda:?} {method}: {ranked:?}");
    assert!(ranked[0].iter().all(|answer| answer.score.is_finite() && answer.probability >= 0.0));
    Ok(())
}

/// Up to 4 categories and 8 images; `None` if it is refused.
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
