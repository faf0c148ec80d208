//! Tells the tests which fixtures exist: ONNX Runtime, models, generators and reference data, none of which are part of
//! the repository. A test whose fixture has no variable set counts as ignored.

/// The `cfg` condition of a fixture, and the variables that must all be set for it.
const FIXTURES: [(&str, &[&str]); 5] = [
    ("test_onnxruntime", &["SUSX_TEST_ONNXRUNTIME"]),
    ("test_models", &["SUSX_TEST_ONNXRUNTIME", "SUSX_TEST_MODELS"]),
    ("test_generators", &["SUSX_TEST_ONNXRUNTIME", "SUSX_TEST_GENERATORS"]),
    ("test_libheif", &["SUSX_TEST_LIBHEIF"]),
    ("test_shared", &["SUSX_TEST_SHARED"]),
];

fn main() {
    for (condition, variables) in FIXTURES {
        println!("cargo::rustc-check-cfg=cfg({condition})");
        for variable in variables {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        if variables.iter().all(|variable| std::env::var_os(variable).is_some()) {
            println!("cargo::rustc-cfg={condition}");
        }
    }
}
