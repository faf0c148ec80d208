//! The VAE's decoder: from latents to pixels.

use std::borrow::Cow;

use image::RgbImage;
use ndarray::{Array4, ArrayView3, Axis, Ix4};
use ort::value::TensorElementType;

use susx_core::onnx::{self, Concurrency, OnnxError, floats, read_floats};

use super::component::{Component, FLOATS, LoadContext};
use super::error::Result;
use super::pixels;

const LATENTS: &str = "latent_sample";

pub(super) struct VaeDecoder {
    pub component: Component,
    element: Option<TensorElementType>,
    /// The height and width of latents that the graph was exported for.
    pub size: (Option<usize>, Option<usize>),
    /// Batch size of a run: 1, unless the graph was exported for more.
    rows: usize,
    /// Divisor of the U-Net's latents.
    scaling_factor: f32,
    /// Pixels along one side of a latent.
    scale: usize,
    output: String,
}

impl VaeDecoder {
    pub fn load(context: &LoadContext) -> onnx::Result<VaeDecoder> {
        let component = Component::load(context, "vae_decoder", &context.config.graphs.vae_decoder)?;
        component.refuse_other_inputs(&[LATENTS], "a VAE's decoder")?;
        let latents = component.input(LATENTS, &FLOATS, &[4])?;
        let (element, rows) = (latents.element, latents.exported_size(0).unwrap_or(1));
        let size = (latents.exported_size(2), latents.exported_size(3));
        let wanted = context.config.latent_channels;
        if let Some(found) = latents.exported_size(1).filter(|&found| found != wanted) {
            let reason = format!(
                "the graph takes latents of {found} channels, but \"latent_channels\" of vae_decoder/config.json is {wanted}"
            );
            return Err(component.error(reason));
        }
        let output = component.output("sample", 4)?;
        let scaling_factor = context.config.scaling_factor;
        let scale = context.config.vae_scale_factor() as usize;
        Ok(VaeDecoder { component, element, size, rows, scaling_factor, scale, output })
    }

    /// Decodes latents, channels × height × width, to an image.
    ///
    /// Images are decoded one at a time: the last layers of the decoder have so many values per pixel that a batch would
    /// need several times the memory of the U-Net.
    pub fn decode(&self, latents: ArrayView3<f32>) -> Result<RgbImage> {
        let latents = latents.mapv(|value| value / self.scaling_factor).insert_axis(Axis(0));
        let latents = match self.rows {
            1 => latents,
            rows => latents.select(Axis(0), &vec![0; rows]),
        };
        let decoded = self.run(&latents)?;
        let (_, _, height, width) = latents.dim();
        let (_, _, rows, columns) = decoded.dim();
        if (rows, columns) != (height * self.scale, width * self.scale) {
            let reason = format!(
                "{height} × {width} latents became {rows} × {columns} pixels, but by \"block_out_channels\" of \
                 vae_decoder/config.json they are {} × {}",
                height * self.scale,
                width * self.scale
            );
            return Err(self.component.error(reason).into());
        }
        pixels::rgb(decoded.index_axis(Axis(0), 0))
    }

    fn run(&self, latents: &Array4<f32>) -> onnx::Result<Array4<f32>> {
        let values = vec![(Cow::Borrowed(LATENTS), floats(self.element, latents.view())?)];
        let read = |value: &_| read_floats::<Ix4>(value, &self.output, "rows, channels, height and width");
        let decoded = self.component.graph.run(Concurrency::Serial, values, &self.output, read)?;
        match decoded.len_of(Axis(0)) == latents.len_of(Axis(0)) {
            true => Ok(decoded),
            false => {
                let (found, expected) = (decoded.dim(), latents.dim());
                Err(OnnxError::inference(format!(
                    "the VAE's decoder returned {found:?} values for {expected:?}"
                )))
            }
        }
    }
}
