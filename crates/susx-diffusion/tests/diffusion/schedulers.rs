//! Timesteps, sigmas and the latents after every step, compared with the schedulers of `diffusers`.

use ndarray::Array4;
use susx_diffusion::scheduler::{Scheduler, SchedulerConfig, SchedulerKind};

use crate::{golden, numbers};

/// Limit of the difference, relative for large numbers.
const TOLERANCE: f64 = 1e-4;

/// The latents of `make_golden.py`, and its substitute for a U-Net.
const LATENTS: [f64; 4] = [-2.5, -0.4, 0.2, 1.3];
/// What follows a step whose scheduler adds noise is this times the number of the step, from 1.
const NOISE: [f64; 4] = [0.3, -1.1, 0.8, -0.2];

fn predict(scaled: f32, timestep: f64) -> f32 {
    let scaled = f64::from(scaled);
    (0.8 * (2.0 * scaled + 0.01 * timestep).sin() + 0.1 * scaled) as f32
}

fn compare(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?}, expected {expected:?}");
    for (found_one, expected_one) in found.iter().zip(expected) {
        let difference = (found_one - expected_one).abs();
        assert!(
            difference <= TOLERANCE * expected_one.abs().max(1.0),
            "{what}: {found:?}, expected {expected:?}"
        );
    }
}

#[test]
fn every_step_is_that_of_diffusers() {
    let cases = golden("schedulers.json");
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 100, "{}", cases.len());
    for case in cases {
        let steps = case["steps"].as_u64().unwrap() as usize;
        let name = format!("{} in {steps} steps", case["config"]);
        let config = SchedulerConfig::from_json(&case["config"].to_string()).unwrap();
        let mut scheduler = Scheduler::new(&config, steps).unwrap();
        compare(&name, scheduler.timesteps(), &numbers(&case["timesteps"]));
        compare(&name, &scheduler.levels().sigmas, &numbers(&case["sigmas"]));
        let alphas = &scheduler.levels().alphas_cumprod;
        let last = alphas.len() - 1;
        let some = [0, 1, alphas.len() / 2, last - 1, last].map(|level| alphas[level]);
        compare(&name, &some, &numbers(&case["alphas_cumprod"]));
        let sigma = scheduler.init_noise_sigma();
        compare(&name, &[f64::from(sigma)], &[case["init_noise_sigma"].as_f64().unwrap()]);

        let latents = LATENTS.map(|value| (value * f64::from(sigma)) as f32);
        let mut latents = Array4::from_shape_vec((1, 1, 2, 2), latents.to_vec()).unwrap();
        let timesteps = scheduler.timesteps().to_vec();
        for ((run, &timestep), expected) in
            timesteps.iter().enumerate().zip(case["after"].as_array().unwrap())
        {
            let scale = scheduler.input_scale(run);
            let prediction = latents.mapv(|latent| predict(latent * scale, timestep));
            scheduler.step(run, prediction, &mut latents);
            let deviation = f64::from(scheduler.noise_after(run));
            let noise = NOISE.map(|value| (deviation * value * (run + 1) as f64) as f32);
            latents += &Array4::from_shape_vec((1, 1, 2, 2), noise.to_vec()).unwrap();
            let found: Vec<f64> = latents.iter().map(|&latent| f64::from(latent)).collect();
            compare(&format!("{name}, run {run}"), &found, &numbers(expected));
        }
    }
}

/// A scheduler's file of Stable Diffusion with these fields changed.
fn read(fields: &str) -> Result<SchedulerConfig, String> {
    let mut file = serde_json::json!({
        "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "skip_prk_steps": true,
    });
    let fields: serde_json::Map<_, _> = serde_json::from_str(fields).unwrap();
    file.as_object_mut().unwrap().extend(fields);
    SchedulerConfig::from_json(&file.to_string())
}

/// `diffusers` saves a DPM-Solver with such a number.
#[test]
fn a_limit_that_is_none_is_read() {
    let file = |limit| {
        format!(
            r#"{{"_class_name": "DPMSolverMultistepScheduler", "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "lambda_min_clipped": {limit}}}"#
        )
    };
    let read = |limit| SchedulerConfig::from_json(&file(limit));
    assert_eq!(read("-Infinity").unwrap(), read("null").unwrap());
    assert!(read("-5.1").unwrap_err().contains(r#""lambda_min_clipped" is -5.1"#));
}

#[test]
fn what_is_not_known_is_refused() {
    assert!(read("{}").is_ok());
    for (fields, reason) in [
        (r#"{"_class_name": "DDPMScheduler"}"#, r#""DDPMScheduler": expected PNDMScheduler, DDIMScheduler,"#),
        (r#"{"_class_name": "LCMScheduler", "thresholding": true}"#, "\"thresholding\" is true"),
        (r#"{"_class_name": "LCMScheduler", "rescale_betas_zero_snr": true}"#, "rescale_betas_zero_snr"),
        (
            r#"{"_class_name": "LCMScheduler", "original_inference_steps": 1001}"#,
            "\"original_inference_steps\" is 1001: expected 1 to 1000",
        ),
        (r#"{"_class_name": "LCMScheduler", "timestep_scaling": 0}"#, "\"timestep_scaling\" is 0"),
        (
            r#"{"_class_name": "EulerAncestralDiscreteScheduler", "prediction_type": "sample"}"#,
            "expected \"epsilon\" or \"v_prediction\"",
        ),
        (r#"{"_class_name": null}"#, r#""_class_name" is missing"#),
        (r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": false}"#, "only true is supported"),
        (r#"{"timestep_spacing": "random"}"#, "expected \"linspace\", \"leading\" or \"trailing\""),
        (r#"{"beta_schedule": "squaredcos_cap_v2"}"#, "expected \"scaled_linear\" or \"linear\""),
        (r#"{"prediction_type": "flow"}"#, "expected \"epsilon\" or \"v_prediction\""),
        (r#"{"use_beta_sigmas": true}"#, "\"use_beta_sigmas\" is true"),
        (r#"{"timestep_type": "continuous"}"#, "only \"discrete\" is supported"),
        (r#"{"sigma_min": 0.002}"#, "\"sigma_min\" is 0.002"),
        (r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#, "\"thresholding\" is true"),
        (r#"{"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true}"#, "rescale_betas_zero_snr"),
        (
            r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}"#,
            "only \"dpmsolver++\" is supported",
        ),
        (
            r#"{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}"#,
            "\"solver_order\" is 3: expected 1 or 2",
        ),
        (r#"{"num_train_timesteps": 1}"#, "\"num_train_timesteps\" is 1"),
        (r#"{"beta_end": 1.5}"#, "1.5: expected 0 < beta_start ≤ beta_end < 1"),
        (r#"{"trained_betas": [0.1, 0.2]}"#, "\"trained_betas\" has 2 numbers: expected 1000"),
        (r#"{"steps_offset": 1000}"#, "\"steps_offset\" is 1000: expected less than 1000"),
        (r#"{"final_sigmas_type": "none"}"#, "final_sigmas_type"),
    ] {
        let error = read(fields).unwrap_err();
        assert!(error.contains(reason), "{fields}: {error}");
    }
}

#[test]
fn steps_are_as_many_as_there_are_levels() {
    let steps = |fields: &str, steps| Scheduler::new(&read(fields).unwrap(), steps).map(drop);
    assert_eq!(steps("{}", 0).unwrap_err(), "expected 1 to 1000, not 0");
    assert_eq!(steps("{}", 1001).unwrap_err(), "expected 1 to 1000, not 1001");
    let dpm = r#"{"_class_name": "DPMSolverMultistepScheduler"}"#;
    assert_eq!(steps(dpm, 1000).unwrap_err(), "expected 1 to 999, not 1000");
    let lcm = r#"{"_class_name": "LCMScheduler"}"#;
    assert_eq!(steps(lcm, 51).unwrap_err(), "expected 1 to 50, not 51");
    let offset = r#"{"timestep_spacing": "leading", "steps_offset": 1}"#;
    let error = steps(offset, 1000).unwrap_err();
    assert!(error.contains("begin at level 1000, but the last level of the model is 999"), "{error}");
    // No accepted number of steps makes the latents infinite or NaN.
    for (class, kind) in SchedulerKind::CLASSES {
        for spacing in ["leading", "trailing", "linspace"] {
            for steps in [1, 2, 3, 499, 500, 501, 600, 998, 999, 1000] {
                let fields = format!(r#"{{"_class_name": "{class}", "timestep_spacing": "{spacing}"}}"#);
                let Ok(mut scheduler) = Scheduler::new(&read(&fields).unwrap(), steps) else {
                    let most = match kind {
                        SchedulerKind::DpmSolver => 999,
                        SchedulerKind::Lcm => 50,
                        _ => 1000,
                    };
                    assert!(steps > most, "{fields}, {steps} steps");
                    continue;
                };
                let mut latents = Array4::from_elem((1, 1, 1, 1), 0.5);
                for run in 0..scheduler.timesteps().len() {
                    let prediction = latents.mapv(|latent: f32| (3.0 * latent).sin());
                    scheduler.step(run, prediction, &mut latents);
                    latents += scheduler.noise_after(run);
                    assert!(latents[[0, 0, 0, 0]].is_finite(), "{fields}, {steps} steps, run {run}");
                }
            }
        }
    }
}
