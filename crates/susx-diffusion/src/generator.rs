//! A loaded generator: its graphs, the execution provider that really runs them, and a run from prompts to images.

use std::ops::ControlFlow;

use image::RgbImage;
use ndarray::{Array3, Array4, ArrayView3, Axis, Zip, concatenate, s};

use susx_core::onnx::{
    GraphProfile, OnnxError, OnnxRuntime, PartialFallback, SessionOptions, capacity, select,
};

use super::component::{Component, LoadContext};
use super::config::GeneratorConfig;
use super::error::{GenerateError, Result};
use super::noise;
use super::safety_checker::SafetyChecker;
use super::scheduler::Scheduler;
use super::settings::{ImageInput, Progress, Settings};
use super::text_encoder::TextEncoder;
use super::unet::Unet;
use super::vae::VaeDecoder;

/// A loaded generator. Threads can share it; their runs of one graph take turns.
///
/// It holds one copy of every graph's weights, and releases all memory on drop.
pub struct Generator {
    config: GeneratorConfig,
    sha256: [u8; 32],
    bytes: u64,
    graphs: Graphs,
    provider: &'static str,
    fallback_reason: Option<String>,
    partial_fallback: Option<PartialFallback>,
}

/// The graphs, loaded on one execution provider.
struct Graphs {
    text_encoder: TextEncoder,
    unet: Unet,
    vae_decoder: VaeDecoder,
    safety_checker: Option<SafetyChecker>,
}

impl Generator {
    /// Loads the generator and probes it: runs each graph once on small inputs, on anything but the CPU twice.
    ///
    /// Tries the execution providers of `options` in order, as
    /// [`ClipModel::load`](susx_core::clip::ClipModel::load) does. `options.batch_size` has no effect.
    ///
    /// Fails if the files do not fit into memory, contradict each other, or run on no provider.
    pub fn load(
        runtime: &OnnxRuntime,
        config: GeneratorConfig,
        options: &SessionOptions,
    ) -> Result<Generator> {
        let bytes = config.bytes()?;
        capacity::check(&config.dir, bytes)?;
        let sha256 = config.sha256()?;
        let selection = select(&options.candidates(), |candidate| {
            let folder = options.profile_folder(candidate, &config.name)?;
            let profile = folder.as_ref();
            let context = LoadContext { runtime, config: &config, options, candidate, profile };
            let graphs = Graphs::load(&context)?;
            graphs.probe(&config)?;
            if profile.is_none() {
                return Ok::<_, GenerateError>((graphs, Vec::new()));
            }
            // The times of the first run include loading kernels and searching for algorithms.
            graphs.probe(&config)?;
            let profiles = graphs.end_profiles()?;
            Ok((graphs, profiles))
        })?;
        Ok(Generator {
            config,
            sha256,
            bytes,
            graphs: selection.value,
            provider: selection.candidate.name(),
            fallback_reason: selection.fallback_reason,
            partial_fallback: selection.partial_fallback,
        })
    }

    /// The configuration that the generator was loaded with.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Name of the generator.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// SHA-256 of the generator's files when it was loaded; see [`GeneratorConfig::sha256`].
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Size of the graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// ONNX Runtime's name of the execution provider that the generator runs on, such as `CPUExecutionProvider`.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Why the providers before this one are not used; `None` if it is the first that was tried.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// Operations that other providers run; `None` if [`provider`](Self::provider) runs the whole generator.
    pub fn partial_fallback(&self) -> Option<&PartialFallback> {
        self.partial_fallback.as_ref()
    }

    /// Generates images, all of them together step by step. The results are in the order of `inputs`.
    ///
    /// `on_step` is called before each run of the U-Net, and before each image is decoded. If it breaks, nothing
    /// more is run, and the error is [`GenerateError::Cancelled`]. An image that the safety checker blocks, or that
    /// has values that are not finite, fails alone and does not affect the others.
    ///
    /// A batch of n needs memory for n images in the U-Net, or for 2n with guidance. Decoding and the safety checker
    /// handle one image at a time.
    pub fn generate(
        &self,
        inputs: &[ImageInput],
        settings: &Settings,
        on_step: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Vec<Result<RgbImage>>> {
        let size = settings.check(&self.config)?;
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let mut scheduler = Scheduler::new(&self.config.scheduler, settings.steps)
            .map_err(|reason| GenerateError::Setting { name: "steps", reason })?;
        let total = scheduler.timesteps().len();
        let mut report = |done| match on_step(Progress { done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GenerateError::Cancelled),
        };
        let mut latents = self.noise(inputs, size, 0)?;
        latents *= scheduler.init_noise_sigma();
        // A U-Net that takes the guidance scale has learned what the negative prompt is for.
        let is_guided = settings.is_guided() && !self.graphs.unet.takes_guidance();
        let hidden_states = self.graphs.hidden_states(inputs, is_guided)?;
        for run in 0..total {
            report(run)?;
            let scale = scheduler.input_scale(run);
            let input = match is_guided {
                // The negative prompts come first, as in the hidden states.
                true => {
                    concatenate(Axis(0), &[latents.view(), latents.view()]).map_err(OnnxError::inference)?
                        * scale
                }
                false => &latents * scale,
            };
            let timestep = scheduler.timesteps()[run];
            let mut prediction = self.graphs.unet.run(
                input.view(),
                timestep,
                hidden_states.view(),
                settings.guidance_scale,
            )?;
            if is_guided {
                prediction = guided(prediction, settings.guidance_scale);
            }
            scheduler.step(run, prediction, &mut latents);
            let deviation = scheduler.noise_after(run);
            if deviation > 0.0 {
                latents.scaled_add(deviation, &self.noise(inputs, size, run as u64 + 1)?);
            }
        }
        let mut images = Vec::with_capacity(inputs.len());
        for latents in latents.axis_iter(Axis(0)) {
            report(total)?;
            images.push(match self.graphs.image(latents) {
                Err(error @ (GenerateError::Blocked | GenerateError::NotFinite)) => Err(error),
                other => Ok(other?),
            });
        }
        Ok(images)
    }

    /// The [`noise`] of each input for a step: inputs × channels × height × width of the latents.
    fn noise(&self, inputs: &[ImageInput], (height, width): (u32, u32), step: u64) -> Result<Array4<f32>> {
        let scale = self.config.vae_scale_factor();
        let (rows, columns) = ((height / scale) as usize, (width / scale) as usize);
        let fixed = self.graphs.size(rows, columns);
        for (name, wanted, found) in [("height", rows, fixed.0), ("width", columns, fixed.1)] {
            if wanted != found {
                let scale = scale as usize;
                let reason = format!(
                    "the generator's graphs were exported for {} pixels, not {}",
                    found * scale,
                    wanted * scale
                );
                return Err(GenerateError::Setting { name, reason });
            }
        }
        let shape = (inputs.len(), self.config.latent_channels, rows, columns);
        let count = shape.1 * rows * columns;
        let values = inputs.iter().flat_map(|input| noise::normal(input.seed, step, count)).collect();
        Ok(Array4::from_shape_vec(shape, values).map_err(OnnxError::inference)?)
    }
}

/// Classifier-free guidance (arXiv 2207.12598). The first half of the rows belongs to the negative prompts, the second
/// half to the prompts: moves from the former to the latter and beyond.
fn guided(prediction: Array4<f32>, guidance_scale: f32) -> Array4<f32> {
    let rows = prediction.len_of(Axis(0)) / 2;
    let positive = prediction.slice(s![rows.., .., .., ..]);
    let mut guided = prediction.slice(s![..rows, .., .., ..]).to_owned();
    Zip::from(&mut guided)
        .and(positive)
        .for_each(|negative, &positive| *negative += guidance_scale * (positive - *negative));
    guided
}

/// Height and width of the latents in a probe run, the least that every U-Net can halve three times.
const PROBE_SIDE: usize = 8;

impl Graphs {
    fn load(context: &LoadContext) -> Result<Graphs> {
        Ok(Graphs {
            text_encoder: TextEncoder::load(context)?,
            unet: Unet::load(context)?,
            vae_decoder: VaeDecoder::load(context)?,
            safety_checker: SafetyChecker::load(context)?,
        })
    }

    /// The height and width of latents that the graphs were exported for; the given ones where they take any.
    fn size(&self, height: usize, width: usize) -> (usize, usize) {
        let (unet, vae) = (self.unet.size, self.vae_decoder.size);
        (unet.0.or(vae.0).unwrap_or(height), unet.1.or(vae.1).unwrap_or(width))
    }

    /// Runs each graph once, to check that the graphs fit each other.
    fn probe(&self, config: &GeneratorConfig) -> Result<()> {
        let hidden_states = self.text_encoder.hidden_states(&[""])?;
        let dimensions = hidden_states.len_of(Axis(2));
        if let Some(width) = self.unet.width.filter(|&width| width != dimensions) {
            let reason =
                format!("the graph attends to {width} dimensions, but the text encoder gives {dimensions}");
            return Err(self.unet.component.error(reason).into());
        }
        let (rows, columns) = self.size(PROBE_SIDE, PROBE_SIDE);
        let latents = Array4::zeros((1, config.latent_channels, rows, columns));
        let prediction = self
            .unet
            .run(latents.view(), 0.0, hidden_states.view(), 1.0)
            .map_err(|error| self.unet.component.error(error))?;
        match self.image(prediction.index_axis(Axis(0), 0)) {
            // The image of a probe is meaningless. It is enough that every graph ran.
            Ok(_) | Err(GenerateError::Blocked | GenerateError::NotFinite) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends profiling and returns the profile of the last run of each graph.
    fn end_profiles(&self) -> Result<Vec<GraphProfile>> {
        let components = [&self.text_encoder.component, &self.unet.component, &self.vae_decoder.component];
        let checker = self.safety_checker.as_ref().map(|checker| &checker.component);
        let end = |component: &Component| Ok(component.end_profile()?);
        components.into_iter().chain(checker).map(end).collect()
    }

    /// The hidden states of the negative prompts if there is guidance, then those of the prompts.
    fn hidden_states(&self, inputs: &[ImageInput], is_guided: bool) -> Result<Array3<f32>> {
        let negative = inputs.iter().filter(|_| is_guided).map(|input| &input.negative_prompt);
        let prompts = inputs.iter().map(|input| &input.prompt);
        let texts: Vec<&str> = negative.chain(prompts).map(String::as_str).collect();
        self.text_encoder.hidden_states(&texts)
    }

    /// Decodes latents, channels × height × width, and asks the safety checker.
    fn image(&self, latents: ArrayView3<f32>) -> Result<RgbImage> {
        let image = self.vae_decoder.decode(latents)?;
        match &self.safety_checker {
            Some(checker) if checker.blocks(&image)? => Err(GenerateError::Blocked),
            _ => Ok(image),
        }
    }
}
