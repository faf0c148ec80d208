//! The U-Net: what is noise in the latents.

use std::borrow::Cow;

use half::f16;
use ndarray::{Array4, ArrayD, ArrayView3, ArrayView4, Axis, Ix4, IxDyn, s};
use ort::session::SessionInputValue;
use ort::value::{Tensor, TensorElementType};

use super::part::{FLOATS, Loading, Part};
use crate::clip::session_graph::{floats, read_floats};
use crate::clip::shapes::RowShape;
use crate::clip::{ClipError, Result};

const SAMPLE: &str = "sample";
const TIMESTEP: &str = "timestep";
const HIDDEN_STATES: &str = "encoder_hidden_states";

pub(super) struct Unet {
    part: Part,
    shape: RowShape,
    sample: Option<TensorElementType>,
    hidden_states: Option<TensorElementType>,
    timestep: TensorElementType,
    /// Extents of the timestep: none, or one.
    timestep_shape: Vec<usize>,
    /// The height and width of latents that the graph was exported for.
    pub size: (Option<usize>, Option<usize>),
    /// Dimensions of a token that the graph attends to, where it says so.
    pub width: Option<usize>,
    output: String,
}

impl Unet {
    pub fn load(loading: &Loading) -> Result<Unet> {
        let part = Part::open(loading, "unet", &loading.config.graphs.unet)?;
        part.refuse_other_inputs(&[SAMPLE, TIMESTEP, HIDDEN_STATES], "the U-Net of SD 1 and 2")?;
        let sample = part.input(SAMPLE, &FLOATS, &[4])?;
        let (rows, channels) = (sample.exported(0), sample.exported(1));
        let size = (sample.exported(2), sample.exported(3));
        let sample = sample.element;
        let wanted = loading.config.latent_channels;
        if let Some(found) = channels.filter(|&found| found != wanted) {
            return Err(part
                .wrong(format!("the graph takes latents of {found} channels, but the VAE's have {wanted}")));
        }
        let states = part.input(HIDDEN_STATES, &FLOATS, &[3])?;
        let (width, states) = (states.exported(2), states.element);
        let numbers = [TensorElementType::Int64, TensorElementType::Int32, TensorElementType::Float64];
        let timestep = part.input(TIMESTEP, &[&numbers[..], &FLOATS].concat(), &[0, 1])?;
        let timestep_shape = timestep.shape.iter().map(|_| timestep.exported(0).unwrap_or(1)).collect();
        let timestep = timestep.element.unwrap_or(TensorElementType::Int64);
        let output = part.output(&["out_sample"], 4)?;
        let shape = RowShape::new(loading.candidate, rows, 0, 1, 1);
        Ok(Unet { part, shape, sample, hidden_states: states, timestep, timestep_shape, size, width, output })
    }

    pub fn part(&self) -> &Part {
        &self.part
    }

    /// What the U-Net makes of latents, rows × channels × height × width, at a level of noise.
    pub fn run(
        &self,
        latents: ArrayView4<f32>,
        timestep: f64,
        hidden_states: ArrayView3<f32>,
    ) -> Result<Array4<f32>> {
        let rows = latents.len_of(Axis(0));
        let mut parts = Vec::new();
        for piece in self.shape.pieces(rows) {
            if piece.filled == rows {
                return self.run_piece(latents, timestep, hidden_states);
            }
            let places: Vec<usize> = piece.places().iter().map(|place| piece.rows.start + place).collect();
            let (latents, states) =
                (latents.select(Axis(0), &places), hidden_states.select(Axis(0), &places));
            let part = self.run_piece(latents.view(), timestep, states.view())?;
            parts.push(part.slice_move(s![..piece.rows.len(), .., .., ..]));
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        ndarray::concatenate(Axis(0), &views).map_err(ClipError::inference)
    }

    fn run_piece(
        &self,
        latents: ArrayView4<f32>,
        timestep: f64,
        hidden_states: ArrayView3<f32>,
    ) -> Result<Array4<f32>> {
        let values = vec![
            (Cow::Borrowed(SAMPLE), floats(self.sample, latents)?),
            (Cow::Borrowed(TIMESTEP), self.timestep(timestep)?),
            (Cow::Borrowed(HIDDEN_STATES), floats(self.hidden_states, hidden_states)?),
        ];
        let prediction = self.part.graph.run(values, &self.output, |value| {
            read_floats::<Ix4>(value, &self.output, "rows, channels, height and width")
        })?;
        if prediction.dim() != latents.dim() {
            let (found, expected) = (prediction.dim(), latents.dim());
            return Err(ClipError::inference(format!("the U-Net gave {found:?} values for {expected:?}")));
        }
        Ok(prediction)
    }

    /// A level as the graph wants it. A graph of whole levels gets those between cut off, as by `diffusers`.
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
        value.map_err(ClipError::inference)
    }
}
