//! TIP-X's terms against `tests/golden/tip_x`, which NumPy computed in float64.

use std::path::Path;
use std::sync::Arc;

use ndarray::{Array1, Array2, Array3, Axis};
use ndarray_npy::{ReadableElement, read_npy};
use susx_core::classifier::ClassifierParams;
use susx_core::method::tip_x::TipX;
use susx_core::sus::{SupportError, SupportSetBuilder};

use crate::literal::{largest_difference, valid};

fn golden<T: ReadableElement, D: ndarray::Dimension>(name: &str) -> ndarray::Array<T, D> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tip_x");
    read_npy(folder.join(name).with_extension("npy")).unwrap()
}

#[test]
fn every_term_is_numpys() -> Result<(), SupportError> {
    let (prompts, support): (Array2<f32>, Array2<f32>) = (golden("prompts"), golden("support"));
    let queries: Array2<f32> = golden("queries");
    let labels: Array1<i64> = golden("labels");
    let mut builder = SupportSetBuilder::new(prompts.ncols());
    for (category, prompt) in prompts.rows().into_iter().enumerate() {
        let name = category.to_string();
        builder.push_prompt(&name, &prompt.to_vec())?;
        for (id, image) in support.rows().into_iter().enumerate() {
            if labels[id] == category as i64 {
                builder.push_image(&name, id as i64, &image.to_vec())?;
            }
        }
    }
    let support_set = Arc::new(builder.finish()?);

    let expected: [Array3<f64>; 3] = [golden("zero_shot"), golden("cache"), golden("kl")];
    let parameters: Array2<f64> = golden("parameters");
    assert!(parameters.nrows() >= 3);
    for (place, row) in parameters.rows().into_iter().enumerate() {
        let [alpha, beta, gamma, temperature, logit_scale] = std::array::from_fn(|i| row[i] as f32);
        let start = ClassifierParams::START;
        let params = ClassifierParams { alpha, beta, gamma, temperature, logit_scale, ..start };
        let terms = TipX::fit(support_set.clone(), valid(params)).terms(queries.view());
        let found = [Some(terms.zero_shot), terms.cache, terms.kl];
        for ((name, found), expected) in ["zero-shot", "cache", "KL"].iter().zip(found).zip(&expected) {
            let expected = expected.index_axis(Axis(0), place).to_owned();
            let difference = found.map_or(f64::NAN, |found| largest_difference(&found, &expected));
            assert!(difference < 1e-3, "{name} term, {params:?}: {difference}");
        }
    }
    Ok(())
}
