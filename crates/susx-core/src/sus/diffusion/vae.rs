//! The VAE's decoder: from latents to pixels.

use std::borrow::Cow;

use image::RgbImage;
use ndarray::{Array4, ArrayView3, Axis, Ix4};
use ort::value::TensorElementType;

use super::error::Result;
use super::part::{FLOATS, Loading, Part};
use super::picture;
use crate::clip::session_graph::{floats, read_floats};
use crate::clip::{self, ClipError};

const LATENTS: &str = "latent_sample";

pub(super) struct VaeDecoder {
    part: Part,
    element: Option<TensorElementType>,
    /// The height and width of latents that the graph was exported for.
    pub size: (Option<usize>, Option<usize>),
    /// Latents of one run: a single one, but where the graph was exported for more.
    rows: usize,
    /// What the latents of the U-Net are divided by.
    scaling_factor: f32,
    /// Pixels along one side of a latent.
    scale: usize,
    output: String,
}

impl VaeDecoder {
    pub fn load(loading: &Loading) -> clip::Result<VaeDecoder> {
        let part = Part::open(loading, "vae_decoder", &loading.config.graphs.vae_decoder)?;
        part.refuse_other_inputs(&[LATENTS], "a VAE's decoder")?;
        let latents = part.input(LATENTS, &FLOATS, &[4])?;
        let (element, rows) = (latents.element, latents.exported(0).unwrap_or(1));
        let size = (latents.exported(2), latents.exported(3));
        let wanted = loading.config.latent_channels;
        if let Some(found) = latents.exported(1).filter(|&found| found != wanted) {
            let reason = format!(
                "the graph takes latents of {found} channels, but \"latent_channels\" of vae_decoder/config.json is {wanted}"
            );
            return Err(part.wrong(reason));
        }
        let output = part.output(&["sample"], 4)?;
        let scaling_factor = loading.config.scaling_factor;
        let scale = loading.config.vae_scale_factor() as usize;
        Ok(VaeDecoder { part, element, size, rows, scaling_factor, scale, output })
    }

    pub fn part(&self) -> &Part {
        &self.part
    }

    /// The picture of latents, channels × height × width. One at a time: at its end the decoder has so many
    /// values of every pixel that pictures together would take several times the memory of the U-Net.
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
            return Err(self.part.wrong(reason).into());
        }
        picture::rgb(decoded.index_axis(Axis(0), 0))
    }

    fn run(&self, latents: &Array4<f32>) -> clip::Result<Array4<f32>> {
        let values = vec![(Cow::Borrowed(LATENTS), floats(self.element, latents.view())?)];
        let decoded = self.part.graph.run(values, &self.output, |value| {
            read_floats::<Ix4>(value, &self.output, "rows, channels, height and width")
        })?;
        match decoded.len_of(Axis(0)) == latents.len_of(Axis(0)) {
            true => Ok(decoded),
            false => {
                let (found, expected) = (decoded.dim(), latents.dim());
                Err(ClipError::inference(format!("the VAE's decoder gave {found:?} values for {expected:?}")))
            }
        }
    }
}
