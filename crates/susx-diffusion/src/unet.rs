//! The U-Net, which predicts the noise in latents.

use std::borrow::Cow;

use half::f16;
use ndarray::{Array2, Array4, ArrayD, ArrayView3, ArrayView4, Axis, Ix4, IxDyn, s};
use ort::session::SessionInputValue;
use ort::value::{Tensor, TensorElementType};

use susx_core::onnx::{Concurrency, OnnxError, Result, RowShape, floats, read_floats};

use super::component::{Component, FLOATS, LoadContext};

const SAMPLE: &str = "sample";
const TIMESTEP: &str = "timestep";
const HIDDEN_STATES: &str = "encoder_hidden_states";
/// The embedding of the guidance scale, which a latent consistency model was distilled with (arXiv 2310.04378).
const GUIDANCE: &str = "timestep_cond";

pub(super) struct Unet {
    pub component: Component,
    shape: RowShape,
    sample: Option<TensorElementType>,
    hidden_states: Option<TensorElementType>,
    timestep: TensorElementType,
    /// Shape of the timestep: no axis, or one.
    timestep_shape: Vec<usize>,
    /// The input of the guidance scale, if the graph has one.
    guidance: Option<GuidanceInput>,
    /// The height and width of latents that the graph was exported for.
    pub size: (Option<usize>, Option<usize>),
    /// Dimensions of a token's hidden state, if the graph states them.
    pub width: Option<usize>,
    output: String,
}

struct GuidanceInput {
    element: Option<TensorElementType>,
    width: usize,
}

impl Unet {
    pub fn load(context: &LoadContext) -> Result<Unet> {
        let component = Component::load(context, "unet", &context.config.graphs.unet)?;
        component
            .refuse_other_inputs(&[SAMPLE, TIMESTEP, HIDDEN_STATES, GUIDANCE], "the U-Net of SD 1 and 2")?;
        let sample = component.input(SAMPLE, &FLOATS, &[4])?;
        let (rows, channels) = (sample.exported_size(0), sample.exported_size(1));
        let size = (sample.exported_size(2), sample.exported_size(3));
        let sample = sample.element;
        let wanted = context.config.latent_channels;
        if let Some(found) = channels.filter(|&found| found != wanted) {
            let reason = format!("the graph takes latents of {found} channels, but the VAE's have {wanted}");
            return Err(component.error(reason));
        }
        let states = component.input(HIDDEN_STATES, &FLOATS, &[3])?;
        let (width, states) = (states.exported_size(2), states.element);
        let numbers = [TensorElementType::Int64, TensorElementType::Int32, TensorElementType::Float64];
        let timestep = component.input(TIMESTEP, &[&numbers[..], &FLOATS].concat(), &[0, 1])?;
        let timestep_shape = timestep.shape.iter().map(|_| timestep.exported_size(0).unwrap_or(1)).collect();
        let timestep = timestep.element.unwrap_or(TensorElementType::Int64);
        let guidance = guidance_input(&component, context.config.guidance_width)?;
        let output = component.output("out_sample", 4)?;
        let shape = RowShape::new(context.candidate, rows, 0);
        Ok(Unet {
            component,
            shape,
            sample,
            hidden_states: states,
            timestep,
            timestep_shape,
            guidance,
            size,
            width,
            output,
        })
    }

    /// Whether the graph takes the guidance scale as an input, and then needs no negative prompt.
    pub fn takes_guidance(&self) -> bool {
        self.guidance.is_some()
    }

    /// The prediction for latents, rows × channels × height × width, at the noise level `timestep`. `guidance_scale` has
    /// an effect only if the graph takes it.
    pub fn run(
        &self,
        latents: ArrayView4<f32>,
        timestep: f64,
        hidden_states: ArrayView3<f32>,
        guidance_scale: f32,
    ) -> Result<Array4<f32>> {
        let rows = latents.len_of(Axis(0));
        let mut parts = Vec::new();
        for piece in self.shape.pieces(rows) {
            if piece.padded == rows {
                return self.run_piece(latents, timestep, hidden_states, guidance_scale);
            }
            let batch_rows = piece.batch_rows();
            let (latents, states) =
                (latents.select(Axis(0), &batch_rows), hidden_states.select(Axis(0), &batch_rows));
            let part = self.run_piece(latents.view(), timestep, states.view(), guidance_scale)?;
            parts.push(part.slice_move(s![..piece.rows.len(), .., .., ..]));
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        ndarray::concatenate(Axis(0), &views).map_err(OnnxError::inference)
    }

    fn run_piece(
        &self,
        latents: ArrayView4<f32>,
        timestep: f64,
        hidden_states: ArrayView3<f32>,
        guidance_scale: f32,
    ) -> Result<Array4<f32>> {
        let mut values = vec![
            (Cow::Borrowed(SAMPLE), floats(self.sample, latents)?),
            (Cow::Borrowed(TIMESTEP), self.timestep(timestep)?),
            (Cow::Borrowed(HIDDEN_STATES), floats(self.hidden_states, hidden_states)?),
        ];
        // Lives as long as the values.
        let embeddings;
        if let Some(GuidanceInput { element, width }) = self.guidance {
            let embedding = guidance_embedding(guidance_scale, width);
            let rows = latents.len_of(Axis(0));
            embeddings = Array2::from_shape_fn((rows, width), |(_, column)| embedding[column]);
            values.push((Cow::Borrowed(GUIDANCE), floats(element, embeddings.view())?));
        }
        let read = |value: &_| read_floats::<Ix4>(value, &self.output, "rows, channels, height and width");
        let prediction = self.component.graph.run(Concurrency::Serial, values, &self.output, read)?;
        if prediction.dim() != latents.dim() {
            let (found, expected) = (prediction.dim(), latents.dim());
            return Err(OnnxError::inference(format!(
                "the U-Net returned {found:?} values for {expected:?}"
            )));
        }
        Ok(prediction)
    }

    /// The timestep in the graph's element type. An integer type truncates fractional timesteps, as `diffusers` does.
    fn timestep(&self, timestep: f64) -> Result<SessionInputValue<'static>> {
        fn tensor<T: ort::value::PrimitiveTensorElementType + Clone + std::fmt::Debug + 'static>(
            shape: &[usize],
            value: T,
        ) -> ort::Result<SessionInputValue<'static>> {
            Tensor::from_array(ArrayD::from_elem(IxDyn(shape), value)).map(Into::into)
        }
        let shape = &self.timestep_shape;
        let value = match self.timestep {
            TensorElementType::Int32 => tensor(shape, timestep as i32),
            TensorElementType::Float16 => tensor(shape, f16::from_f64(timestep)),
            TensorElementType::Float32 => tensor(shape, timestep as f32),
            TensorElementType::Float64 => tensor(shape, timestep),
            _ => tensor(shape, timestep as i64),
        };
        value.map_err(OnnxError::inference)
    }
}

/// The input of the guidance scale. `stated` is the length of its embedding by `unet/config.json`.
fn guidance_input(component: &Component, stated: Option<usize>) -> Result<Option<GuidanceInput>> {
    if !component.graph.inputs.iter().any(|port| port.name == GUIDANCE) {
        return Ok(None);
    }
    let port = component.input(GUIDANCE, &FLOATS, &[2])?;
    let width = port.exported_size(1).or(stated).filter(|width| (4..=MAX_GUIDANCE_WIDTH).contains(width));
    let width = width.ok_or_else(|| {
        component.error(format!(
            "the length of the input {GUIDANCE:?} is unknown: expected 4 to {MAX_GUIDANCE_WIDTH} as its second axis, \
             or as \"time_cond_proj_dim\" of unet/config.json"
        ))
    })?;
    Ok(Some(GuidanceInput { element: port.element, width }))
}

/// Limit of the guidance embedding's length. Released models have 256.
const MAX_GUIDANCE_WIDTH: usize = 65_536;

/// The sinusoidal embedding of a guidance scale: sines, then cosines, and 0 at the end of an odd length. Rounds to single
/// precision where `diffusers` does, because the angles are large.
fn guidance_embedding(guidance_scale: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    let value = (guidance_scale - 1.0) * 1000.0;
    let rate = -(10_000f64.ln() / (half - 1) as f64) as f32;
    let angle = |i: usize| f64::from(value * libm::expf(i as f32 * rate));
    let sines = (0..half).map(|i| libm::sin(angle(i)) as f32);
    let cosines = (0..half).map(|i| libm::cos(angle(i)) as f32);
    sines.chain(cosines).chain(std::iter::once(0.0)).take(width).collect()
}
