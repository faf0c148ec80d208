//! `scheduler/scheduler_config.json`: by which noise levels and which rule a picture is made of noise.
//!
//! Understood are the files of four classes of `diffusers`. A field that is left out has the default of its
//! class, as when `diffusers` reads the file. A field that would change the pictures and that we do not
//! know is an error: guessing would give pictures that are subtly wrong.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// The rules for a step that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerKind {
    /// `PNDMScheduler` without Runge-Kutta steps: pseudo linear multistep (arXiv 2202.09778), SD 1.4's own.
    Pndm,
    /// `DDIMScheduler` with eta 0 (arXiv 2010.02502).
    Ddim,
    /// `EulerDiscreteScheduler` without churn (algorithm 2 of arXiv 2206.00364).
    Euler,
    /// `DPMSolverMultistepScheduler` of algorithm `dpmsolver++`, order 1 or 2 (arXiv 2211.01095).
    DpmSolver,
}

/// What is written in `_class_name`.
impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SchedulerKind::Pndm => "PNDMScheduler",
            SchedulerKind::Ddim => "DDIMScheduler",
            SchedulerKind::Euler => "EulerDiscreteScheduler",
            SchedulerKind::DpmSolver => "DPMSolverMultistepScheduler",
        })
    }
}

/// What the U-Net predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// The noise in the latents.
    Epsilon,
    /// The velocity √ᾱ · noise − √(1 − ᾱ) · picture (arXiv 2202.00512).
    Velocity,
    /// The latents without noise.
    Sample,
}

/// How the steps are spread over the levels of the training (table 2 of arXiv 2305.08891).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// From the first level to the last, both included.
    Linspace,
    /// The first level of each part; `steps_offset` is added.
    Leading,
    /// The last level of each part.
    Trailing,
}

/// How the variance of the noise grows in training.
#[derive(Clone, Debug, PartialEq)]
pub enum Betas {
    /// Evenly.
    Linear { start: f64, end: f64 },
    /// Its square root grows evenly: latent diffusion's own.
    ScaledLinear { start: f64, end: f64 },
    /// As listed.
    Trained(Vec<f64>),
}

/// The checked content of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// The rule.
    pub kind: SchedulerKind,
    /// Levels of noise in training, T.
    pub train_timesteps: usize,
    /// Their variances.
    pub betas: Betas,
    /// What the U-Net predicts.
    pub prediction: Prediction,
    /// Which levels are used.
    pub spacing: Spacing,
    /// Added to every level under [`Spacing::Leading`].
    pub steps_offset: usize,
    /// The last level is without any noise (DDIM, PNDM).
    pub set_alpha_to_one: bool,
    /// The picture that a step predicts is clamped to ± this (DDIM).
    pub clip_sample: Option<f32>,
    /// The betas are moved so that the last level is nothing but noise (algorithm 1 of arXiv 2305.08891).
    pub zero_snr: bool,
    /// The levels are those of Karras et al. (equation 5 of arXiv 2206.00364), for Euler and DPM-Solver.
    pub karras: bool,
    /// The last sigma is that of the first level rather than 0 (Euler, DPM-Solver).
    pub final_sigma_min: bool,
    /// Order of DPM-Solver, 1 or 2.
    pub solver_order: usize,
    /// DPM-Solver's second order is Heun's rather than the midpoint rule.
    pub heun: bool,
    /// The last of few steps of DPM-Solver is of first order.
    pub lower_order_final: bool,
    /// The last step of DPM-Solver is always of first order.
    pub euler_at_final: bool,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "_class_name")]
    class_name: Option<String>,
    num_train_timesteps: Option<usize>,
    beta_start: Option<f64>,
    beta_end: Option<f64>,
    beta_schedule: Option<String>,
    trained_betas: Option<Vec<f64>>,
    prediction_type: Option<String>,
    timestep_spacing: Option<String>,
    steps_offset: Option<usize>,
    set_alpha_to_one: Option<bool>,
    clip_sample: Option<bool>,
    clip_sample_range: Option<f32>,
    rescale_betas_zero_snr: Option<bool>,
    use_karras_sigmas: Option<bool>,
    final_sigmas_type: Option<String>,
    solver_order: Option<usize>,
    solver_type: Option<String>,
    lower_order_final: Option<bool>,
    euler_at_final: Option<bool>,
}

/// Levels of training: more than any model has, few enough for an array.
const MOST_TIMESTEPS: usize = 100_000;

impl SchedulerConfig {
    /// Reads the text of the file. The error is a sentence about what is wrong with it.
    pub fn from_json(text: &str) -> Result<SchedulerConfig, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let file: File = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        use SchedulerKind::{Ddim, DpmSolver, Euler, Pndm};
        let kind = match file.class_name.as_deref() {
            Some("PNDMScheduler") => Pndm,
            Some("DDIMScheduler") => Ddim,
            Some("EulerDiscreteScheduler") => Euler,
            Some("DPMSolverMultistepScheduler") => DpmSolver,
            Some(other) => {
                return Err(format!(
                    "\"_class_name\" is {other:?}: expected {Pndm}, {Ddim}, {Euler} or {DpmSolver}"
                ));
            }
            None => return Err("\"_class_name\" is missing".into()),
        };
        refuse_others(kind, &value)?;

        let train_timesteps = file.num_train_timesteps.unwrap_or(1000);
        if !(2..=MOST_TIMESTEPS).contains(&train_timesteps) {
            return Err(format!(
                "\"num_train_timesteps\" is {train_timesteps}: expected 2 to {MOST_TIMESTEPS}"
            ));
        }
        let spacing = match file.timestep_spacing.as_deref() {
            Some("linspace") => Spacing::Linspace,
            Some("leading") => Spacing::Leading,
            Some("trailing") => Spacing::Trailing,
            None if matches!(kind, Pndm | Ddim) => Spacing::Leading,
            None => Spacing::Linspace,
            Some(other) => {
                return Err(unknown("timestep_spacing", other, "\"linspace\", \"leading\" or \"trailing\""));
            }
        };
        let steps_offset = file.steps_offset.unwrap_or(0);
        if steps_offset >= train_timesteps {
            return Err(format!("\"steps_offset\" is {steps_offset}: expected less than {train_timesteps}"));
        }
        let prediction = match file.prediction_type.as_deref() {
            None | Some("epsilon") => Prediction::Epsilon,
            Some("v_prediction") => Prediction::Velocity,
            Some("sample") if kind != Pndm => Prediction::Sample,
            Some(other) => {
                return Err(unknown("prediction_type", other, "\"epsilon\" or \"v_prediction\""));
            }
        };
        let zero_snr = file.rescale_betas_zero_snr.unwrap_or(false) && kind != Pndm;
        if zero_snr && kind == Ddim && prediction == Prediction::Epsilon {
            return Err("\"rescale_betas_zero_snr\" is true: where there is nothing but noise, \
                        a prediction of \"epsilon\" tells nothing of the picture"
                .into());
        }
        let clip = file.clip_sample.unwrap_or(true) && kind == Ddim;
        let solver_order = file.solver_order.unwrap_or(2);
        if kind == DpmSolver && !(1..=2).contains(&solver_order) {
            return Err(format!("\"solver_order\" is {solver_order}: expected 1 or 2"));
        }
        Ok(SchedulerConfig {
            kind,
            train_timesteps,
            betas: betas(&file, train_timesteps)?,
            prediction,
            spacing,
            steps_offset,
            set_alpha_to_one: file.set_alpha_to_one.unwrap_or(kind == Ddim),
            clip_sample: clip.then(|| file.clip_sample_range.unwrap_or(1.0)),
            zero_snr,
            karras: file.use_karras_sigmas.unwrap_or(false) && matches!(kind, Euler | DpmSolver),
            final_sigma_min: match file.final_sigmas_type.as_deref() {
                None | Some("zero") => false,
                Some("sigma_min") => true,
                Some(other) => return Err(unknown("final_sigmas_type", other, "\"zero\" or \"sigma_min\"")),
            },
            solver_order,
            heun: match file.solver_type.as_deref() {
                None | Some("midpoint") => false,
                Some("heun") => true,
                // What diffusers makes of these values of other classes.
                Some("logrho" | "bh1" | "bh2") => false,
                Some(other) => return Err(unknown("solver_type", other, "\"midpoint\" or \"heun\"")),
            },
            lower_order_final: file.lower_order_final.unwrap_or(true),
            euler_at_final: file.euler_at_final.unwrap_or(false),
        })
    }
}

fn unknown(field: &str, found: &str, expected: &str) -> String {
    format!("\"{field}\" is {found:?}: expected {expected}")
}

/// What a class knows beyond our fields, with the only value for which we do the same.
fn refuse_others(kind: SchedulerKind, file: &Value) -> Result<(), String> {
    use SchedulerKind::{Ddim, DpmSolver, Euler, Pndm};
    let yes = Value::from(true);
    let no = Value::from(false);
    let others: &[(&[SchedulerKind], &str, Value, bool)] = &[
        (&[Pndm], "skip_prk_steps", yes, true),
        (&[Ddim, DpmSolver], "thresholding", no.clone(), false),
        (&[Euler], "interpolation_type", "linear".into(), false),
        (&[Euler], "timestep_type", "discrete".into(), false),
        (&[Euler], "sigma_min", Value::Null, false),
        (&[Euler], "sigma_max", Value::Null, false),
        (&[Euler, DpmSolver], "use_exponential_sigmas", no.clone(), false),
        (&[Euler, DpmSolver], "use_beta_sigmas", no.clone(), false),
        (&[DpmSolver], "use_lu_lambdas", no.clone(), false),
        (&[DpmSolver], "use_flow_sigmas", no, false),
        (&[DpmSolver], "algorithm_type", "dpmsolver++".into(), false),
        (&[DpmSolver], "variance_type", Value::Null, false),
    ];
    for (kinds, field, known, is_required) in others {
        let found = file.get(field);
        let differs = match found {
            Some(found) => found != known,
            None => *is_required,
        };
        if kinds.contains(&kind) && differs {
            let found = found.map_or("missing".to_owned(), Value::to_string);
            return Err(format!("\"{field}\" is {found}: of a {kind} only {known} is supported"));
        }
    }
    Ok(())
}

fn betas(file: &File, train_timesteps: usize) -> Result<Betas, String> {
    let is_variance = |beta: f64| 0.0 < beta && beta < 1.0;
    if let Some(trained) = &file.trained_betas {
        if trained.len() != train_timesteps || !trained.iter().all(|&beta| is_variance(beta)) {
            return Err(format!(
                "\"trained_betas\" has {} numbers: expected {train_timesteps} between 0 and 1",
                trained.len()
            ));
        }
        return Ok(Betas::Trained(trained.clone()));
    }
    let (start, end) = (file.beta_start.unwrap_or(1e-4), file.beta_end.unwrap_or(0.02));
    if !is_variance(start) || !is_variance(end) || start > end {
        return Err(format!(
            "\"beta_start\" and \"beta_end\" are {start} and {end}: expected 0 < beta_start ≤ beta_end < 1"
        ));
    }
    match file.beta_schedule.as_deref() {
        None | Some("linear") => Ok(Betas::Linear { start, end }),
        Some("scaled_linear") => Ok(Betas::ScaledLinear { start, end }),
        Some(other) => Err(unknown("beta_schedule", other, "\"scaled_linear\" or \"linear\"")),
    }
}
