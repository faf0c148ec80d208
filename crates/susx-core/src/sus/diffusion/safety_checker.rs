//! The safety checker that comes with a generator: whether a picture may be shown.

use std::borrow::Cow;

use image::RgbImage;
use ndarray::{Array4, ArrayView, Dimension};
use ort::value::{DynValue, TensorElementType};

use super::part::{FLOATS, Loading, Part};
use crate::clip::session_graph::floats;
use crate::clip::{ClipError, PreprocessScratch, Preprocessor, Result};

const PREPROCESSED: &str = "clip_input";
const PICTURES: &str = "images";
const VERDICT: &str = "has_nsfw_concepts";

pub(super) struct SafetyChecker {
    part: Part,
    preprocessor: Preprocessor,
    preprocessed: Option<TensorElementType>,
    /// The graph may also want the picture itself, which it would blacken.
    pictures: Option<Option<TensorElementType>>,
}

impl SafetyChecker {
    /// `None` if the generator has none.
    pub fn load(loading: &Loading) -> Result<Option<SafetyChecker>> {
        let config = loading.config;
        let (Some(path), Some(preprocessor)) = (&config.graphs.safety_checker, &config.safety_preprocessor)
        else {
            return Ok(None);
        };
        let part = Part::open(loading, "safety_checker", path)?;
        part.refuse_other_inputs(&[PREPROCESSED, PICTURES], "a safety checker")?;
        let input = part.input(PREPROCESSED, &FLOATS, &[4])?;
        let (_, height, width) = preprocessor.shape();
        if input.exported(2).is_some_and(|rows| rows != height)
            || input.exported(3).is_some_and(|columns| columns != width)
        {
            let reason = format!(
                "the graph takes pictures of shape {:?}, but feature_extractor/preprocessor_config.json makes {height} × {width}",
                input.shape
            );
            return Err(part.wrong(reason));
        }
        let preprocessed = input.element;
        let wants_pictures = part.graph.inputs.len() == 2;
        let pictures = wants_pictures.then(|| part.input(PICTURES, &FLOATS, &[4])).transpose()?;
        let pictures = pictures.map(|port| port.element);
        if !part.graph.outputs.iter().any(|port| port.name == VERDICT) {
            return Err(part.wrong(format!("the graph has no output {VERDICT:?}")));
        }
        Ok(Some(SafetyChecker { preprocessor: preprocessor.clone(), part, preprocessed, pictures }))
    }

    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Whether the picture is to be blocked.
    pub fn blocks(&self, picture: &RgbImage) -> Result<bool> {
        let mut pixel_values = Array4::zeros({
            let (channels, height, width) = self.preprocessor.shape();
            (1, channels, height, width)
        });
        if let Some(out) = pixel_values.as_slice_mut() {
            self.preprocessor.pixel_values_into(picture, &mut PreprocessScratch::default(), out)?;
        }
        let (width, height) = picture.dimensions();
        let whole = Array4::from_shape_fn((1, height as usize, width as usize, 3), |(_, y, x, channel)| {
            f32::from(picture.get_pixel(x as u32, y as u32)[channel]) / 255.0
        });
        let mut values = vec![(Cow::Borrowed(PREPROCESSED), floats(self.preprocessed, pixel_values.view())?)];
        if let Some(element) = self.pictures {
            values.push((Cow::Borrowed(PICTURES), floats(element, whole.view())?));
        }
        self.part.graph.run(values, VERDICT, verdict)
    }
}

/// Exports give a truth value for each picture, or a number.
fn verdict(value: &DynValue) -> Result<bool> {
    let is_any = match value.data_type() {
        TensorElementType::Bool => {
            value.try_extract_array::<bool>().map(|array| any(array, |&blocked| blocked))
        }
        TensorElementType::Int64 => {
            value.try_extract_array::<i64>().map(|array| any(array, |&blocked| blocked != 0))
        }
        TensorElementType::Float32 => {
            value.try_extract_array::<f32>().map(|array| any(array, |&blocked| blocked != 0.0))
        }
        other => {
            return Err(ClipError::inference(format!(
                "the output {VERDICT:?} has elements of type {other}, expected bool"
            )));
        }
    };
    is_any.map_err(ClipError::inference)
}

fn any<T, D: Dimension>(array: ArrayView<T, D>, is_blocked: impl Fn(&T) -> bool) -> bool {
    array.iter().any(is_blocked)
}
