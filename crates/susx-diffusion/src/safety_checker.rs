//! The safety checker of a generator: whether an image may be shown.

use std::borrow::Cow;

use image::RgbImage;
use ndarray::{Array4, ArrayView, Dimension};
use ort::value::{DynValue, TensorElementType};

use susx_core::clip::{PreprocessScratch, Preprocessor};
use susx_core::onnx::{self, Concurrency, OnnxError, floats};

use super::component::{Component, FLOATS, LoadContext};
use super::error::Result;

const PREPROCESSED: &str = "clip_input";
const IMAGES: &str = "images";
const VERDICT: &str = "has_nsfw_concepts";

pub(super) struct SafetyChecker {
    pub component: Component,
    preprocessor: Preprocessor,
    preprocessed: Option<TensorElementType>,
    /// Element type of the input for the image itself, which exports have in order to black it out; `None` if there is
    /// no such input.
    image: Option<Option<TensorElementType>>,
}

impl SafetyChecker {
    /// `None` if the generator has none.
    pub fn load(context: &LoadContext) -> Result<Option<SafetyChecker>> {
        let config = context.config;
        let (Some(path), Some(preprocessor)) = (&config.graphs.safety_checker, &config.safety_preprocessor)
        else {
            return Ok(None);
        };
        let component = Component::load(context, "safety_checker", path)?;
        component.refuse_other_inputs(&[PREPROCESSED, IMAGES], "a safety checker")?;
        let input = component.input(PREPROCESSED, &FLOATS, &[4])?;
        let (_, height, width) = preprocessor.shape();
        if input.exported_size(2).is_some_and(|rows| rows != height)
            || input.exported_size(3).is_some_and(|columns| columns != width)
        {
            let reason = format!(
                "the graph takes images of shape {:?}, but feature_extractor/preprocessor_config.json makes {height} × {width}",
                input.shape
            );
            return Err(component.error(reason).into());
        }
        let preprocessed = input.element;
        let takes_image = component.graph.inputs.len() == 2;
        let image = takes_image.then(|| component.input(IMAGES, &FLOATS, &[4])).transpose()?;
        let image = image.map(|port| port.element);
        if !component.graph.outputs.iter().any(|port| port.name == VERDICT) {
            return Err(component.error(format!("the graph has no output {VERDICT:?}")).into());
        }
        Ok(Some(SafetyChecker { preprocessor: preprocessor.clone(), component, preprocessed, image }))
    }

    /// Whether the image must not be shown.
    pub fn blocks(&self, image: &RgbImage) -> Result<bool> {
        let mut pixel_values = Array4::zeros({
            let (channels, height, width) = self.preprocessor.shape();
            (1, channels, height, width)
        });
        if let Some(out) = pixel_values.as_slice_mut() {
            self.preprocessor.pixel_values_into(image, &mut PreprocessScratch::default(), out)?;
        }
        let (width, height) = image.dimensions();
        let whole = Array4::from_shape_fn((1, height as usize, width as usize, 3), |(_, y, x, channel)| {
            f32::from(image.get_pixel(x as u32, y as u32)[channel]) / 255.0
        });
        let mut values = vec![(Cow::Borrowed(PREPROCESSED), floats(self.preprocessed, pixel_values.view())?)];
        if let Some(element) = self.image {
            values.push((Cow::Borrowed(IMAGES), floats(element, whole.view())?));
        }
        Ok(self.component.graph.run(Concurrency::Serial, values, VERDICT, verdict)?)
    }
}

/// Exports give a boolean or a number for each image.
fn verdict(value: &DynValue) -> onnx::Result<bool> {
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
            return Err(OnnxError::inference(format!(
                "the output {VERDICT:?} has elements of type {other}, expected bool"
            )));
        }
    };
    is_any.map_err(OnnxError::inference)
}

fn any<T, D: Dimension>(array: ArrayView<T, D>, is_blocked: impl Fn(&T) -> bool) -> bool {
    array.iter().any(is_blocked)
}
