//! Reads `scheduler/scheduler_config.json`.
//!
//! The files of six classes of `diffusers` are supported. A field that is left out has the default of its class, as
//! when `diffusers` reads the file. An unsupported value that would change the images is an error, because ignoring it
//! would give images that are subtly wrong.

use serde::Deserialize;
use serde_json::Value;
use susx_core::onnx::python_json;

use super::config::{Betas, Prediction, SchedulerConfig, SchedulerKind, Spacing};

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
    original_inference_steps: Option<usize>,
    timestep_scaling: Option<f64>,
}

/// Limit of the noise levels: more than any model has, few enough for an array.
const MAX_TIMESTEPS: usize = 100_000;

const SPACINGS: [(&str, Spacing); 3] =
    [("linspace", Spacing::Linspace), ("leading", Spacing::Leading), ("trailing", Spacing::Trailing)];
const PREDICTIONS: [(&str, Prediction); 2] =
    [("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::Velocity)];
const FINAL_SIGMAS: [(&str, bool); 2] = [("zero", false), ("sigma_min", true)];
const SOLVER_TYPES: [(&str, bool); 2] = [("midpoint", false), ("heun", true)];
/// Solver types of other classes, which `diffusers` reads as the default.
const FOREIGN_SOLVER_TYPES: [&str; 3] = ["logrho", "bh1", "bh2"];
/// The betas of a schedule from its first and last variance.
type Schedule = fn(f64, f64) -> Betas;
const BETA_SCHEDULES: [(&str, Schedule); 2] = [
    ("scaled_linear", |start, end| Betas::ScaledLinear { start, end }),
    ("linear", |start, end| Betas::Linear { start, end }),
];

impl SchedulerConfig {
    /// Reads the text of a `scheduler_config.json`. The error is a sentence about what is wrong with it.
    pub fn from_json(text: &str) -> Result<SchedulerConfig, String> {
        use SchedulerKind::{Ddim, DpmSolver, Euler, Lcm, Pndm};
        let value: Value = python_json::parse(text).map_err(|error| error.to_string())?;
        let file: File = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        let kind = file.kind()?;
        refuse_unsupported(kind, &value)?;
        let train_timesteps = file.num_train_timesteps.unwrap_or(1000);
        let steps_offset = file.steps_offset.unwrap_or(0);
        let solver_order = file.solver_order.unwrap_or(2);
        file.check_numbers(kind, train_timesteps, steps_offset, solver_order)?;
        let (prediction, zero_snr) = file.prediction(kind)?;
        let spacing = if matches!(kind, Pndm | Ddim | Lcm) { Spacing::Leading } else { Spacing::Linspace };
        let clips = match kind {
            Ddim => file.clip_sample.unwrap_or(true),
            Lcm => file.clip_sample.unwrap_or(false),
            _ => false,
        };
        let has_final_sigma = matches!(kind, Euler | DpmSolver);
        let solver_type = file.solver_type.as_deref().filter(|name| !FOREIGN_SOLVER_TYPES.contains(name));
        Ok(SchedulerConfig {
            kind,
            train_timesteps,
            betas: file.betas(kind, train_timesteps)?,
            prediction,
            spacing: one_of("timestep_spacing", file.timestep_spacing.as_deref(), &SPACINGS)?
                .unwrap_or(spacing),
            steps_offset,
            set_alpha_to_one: file.set_alpha_to_one.unwrap_or(kind == Ddim),
            clip_sample: clips.then(|| file.clip_sample_range.unwrap_or(1.0)),
            zero_snr,
            karras: file.use_karras_sigmas.unwrap_or(false) && matches!(kind, Euler | DpmSolver),
            final_sigma_min: one_of("final_sigmas_type", file.final_sigmas_type.as_deref(), &FINAL_SIGMAS)?
                .unwrap_or(false)
                && has_final_sigma,
            solver_order,
            heun: one_of("solver_type", solver_type, &SOLVER_TYPES)?.unwrap_or(false),
            lower_order_final: file.lower_order_final.unwrap_or(true),
            euler_at_final: file.euler_at_final.unwrap_or(false),
            original_steps: file.original_steps(),
            timestep_scaling: file.timestep_scaling(),
        })
    }
}

impl File {
    fn kind(&self) -> Result<SchedulerKind, String> {
        let Some(class) = &self.class_name else { return Err("\"_class_name\" is missing".into()) };
        let known = SchedulerKind::CLASSES.iter().find(|(name, _)| name == class);
        known.map(|&(_, kind)| kind).ok_or_else(|| {
            let names = list(&SchedulerKind::CLASSES.map(|(name, _)| name));
            format!("\"_class_name\" is {class:?}: expected {names}")
        })
    }

    fn check_numbers(
        &self,
        kind: SchedulerKind,
        train_timesteps: usize,
        steps_offset: usize,
        solver_order: usize,
    ) -> Result<(), String> {
        if !(2..=MAX_TIMESTEPS).contains(&train_timesteps) {
            return Err(format!(
                "\"num_train_timesteps\" is {train_timesteps}: expected 2 to {MAX_TIMESTEPS}"
            ));
        }
        if steps_offset >= train_timesteps {
            return Err(format!("\"steps_offset\" is {steps_offset}: expected less than {train_timesteps}"));
        }
        if kind == SchedulerKind::DpmSolver && !(1..=2).contains(&solver_order) {
            return Err(format!("\"solver_order\" is {solver_order}: expected 1 or 2"));
        }
        if kind == SchedulerKind::Lcm {
            let original = self.original_steps();
            if !(1..=train_timesteps).contains(&original) {
                return Err(format!(
                    "\"original_inference_steps\" is {original}: expected 1 to {train_timesteps}"
                ));
            }
            let scaling = self.timestep_scaling();
            if !(scaling.is_finite() && scaling > 0.0) {
                return Err(format!("\"timestep_scaling\" is {scaling}: expected a positive number"));
            }
        }
        Ok(())
    }

    fn original_steps(&self) -> usize {
        self.original_inference_steps.unwrap_or(50)
    }

    fn timestep_scaling(&self) -> f64 {
        self.timestep_scaling.unwrap_or(10.0)
    }

    /// The prediction, and whether the signal-to-noise ratio of the last level is zero.
    fn prediction(&self, kind: SchedulerKind) -> Result<(Prediction, bool), String> {
        let prediction = match self.prediction_type.as_deref() {
            Some("sample") if !matches!(kind, SchedulerKind::Pndm | SchedulerKind::EulerAncestral) => {
                Prediction::Sample
            }
            other => one_of("prediction_type", other, &PREDICTIONS)?.unwrap_or(Prediction::Epsilon),
        };
        let divides_by_signal = matches!(kind, SchedulerKind::Ddim | SchedulerKind::Lcm);
        let zero_snr = self.rescale_betas_zero_snr.unwrap_or(false) && kind != SchedulerKind::Pndm;
        if zero_snr && divides_by_signal && prediction == Prediction::Epsilon {
            return Err("\"rescale_betas_zero_snr\" is true: at a level of pure noise, \
                        a prediction of \"epsilon\" says nothing about the image"
                .into());
        }
        Ok((prediction, zero_snr))
    }

    fn betas(&self, kind: SchedulerKind, train_timesteps: usize) -> Result<Betas, String> {
        let is_variance = |beta: f64| 0.0 < beta && beta < 1.0;
        if let Some(trained) = &self.trained_betas {
            if trained.len() != train_timesteps || !trained.iter().all(|&beta| is_variance(beta)) {
                return Err(format!(
                    "\"trained_betas\" has {} numbers: expected {train_timesteps} between 0 and 1",
                    trained.len()
                ));
            }
            return Ok(Betas::Trained(trained.clone()));
        }
        let (start, end) = match kind {
            SchedulerKind::Lcm => (0.00085, 0.012),
            _ => (1e-4, 0.02),
        };
        let (start, end) = (self.beta_start.unwrap_or(start), self.beta_end.unwrap_or(end));
        if !is_variance(start) || !is_variance(end) || start > end {
            return Err(format!(
                "\"beta_start\" and \"beta_end\" are {start} and {end}: expected 0 < beta_start ≤ beta_end < 1"
            ));
        }
        let default = if kind == SchedulerKind::Lcm { "scaled_linear" } else { "linear" };
        let name = self.beta_schedule.as_deref().unwrap_or(default);
        let schedule = one_of("beta_schedule", Some(name), &BETA_SCHEDULES)?;
        Ok(schedule.map_or(Betas::Linear { start, end }, |betas| betas(start, end)))
    }
}

/// The meaning of the value that `field` has by a table of values; `None` if it is left out.
fn one_of<T: Copy>(field: &str, value: Option<&str>, table: &[(&str, T)]) -> Result<Option<T>, String> {
    let Some(value) = value else { return Ok(None) };
    match table.iter().find(|(name, _)| *name == value) {
        Some(&(_, meaning)) => Ok(Some(meaning)),
        None => {
            let names: Vec<String> = table.iter().map(|(name, _)| format!("{name:?}")).collect();
            Err(format!("\"{field}\" is {value:?}: expected {}", list(&names)))
        }
    }
}

/// The items as an English list: "a, b or c".
fn list<S: AsRef<str>>(items: &[S]) -> String {
    let items: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match items.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        other => other.join(", "),
    }
}

/// Rejects values of other fields that would change the images. The table has for each field the classes that know it,
/// the only supported value, and whether that value is not the default of the class.
fn refuse_unsupported(kind: SchedulerKind, file: &Value) -> Result<(), String> {
    use SchedulerKind::{Ddim, DpmSolver, Euler, Lcm, Pndm};
    let yes = Value::from(true);
    let no = Value::from(false);
    let others: &[(&[SchedulerKind], &str, Value, bool)] = &[
        (&[Pndm], "skip_prk_steps", yes, true),
        (&[Ddim, DpmSolver, Lcm], "thresholding", no.clone(), false),
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
        // -Infinity, which is read as null, clips nothing.
        (&[DpmSolver], "lambda_min_clipped", Value::Null, false),
    ];
    for (kinds, field, supported, is_required) in others {
        let found = file.get(field);
        let differs = match found {
            Some(found) => found != supported,
            None => *is_required,
        };
        if kinds.contains(&kind) && differs {
            let found = found.map_or("missing".to_owned(), Value::to_string);
            return Err(format!("\"{field}\" is {found}: of a {kind} only {supported} is supported"));
        }
    }
    Ok(())
}
