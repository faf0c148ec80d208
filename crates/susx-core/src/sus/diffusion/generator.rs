//! A loaded generator: its graphs, the truth about where they run, and a run from prompts to pictures.

use std::ops::ControlFlow;

use image::RgbImage;
use ndarray::{Array3, Array4, ArrayView3, Axis, Zip, concatenate, s};

use super::config::GeneratorConfig;
use super::error::{GenerateError, Result};
use super::noise;
use super::part::{Loading, Part};
use super::safety_checker::SafetyChecker;
use super::scheduler::Scheduler;
use super::settings::{Painting, Settings, StepDone};
use super::text_encoder::TextEncoder;
use super::unet::Unet;
use super::vae::VaeDecoder;
use crate::clip::capacity;
use crate::clip::choice::{Elsewhere, choose};
use crate::clip::profile::{Executed, ProfileFolder};
use crate::clip::provider::Candidate;
use crate::clip::{self, ClipError, OnnxRuntime, SessionOptions};

/// A generator, loaded. It can be used by several threads; their runs of one graph take turns.
///
/// It holds one copy of every graph's weights, and gives all memory back when it is dropped.
pub struct Generator {
    config: GeneratorConfig,
    sha256: [u8; 32],
    bytes: u64,
    graphs: Graphs,
    provider: &'static str,
    fallback_reason: Option<String>,
    elsewhere: Option<Elsewhere>,
}

/// What is loaded for one execution provider.
struct Graphs {
    text_encoder: TextEncoder,
    unet: Unet,
    vae_decoder: VaeDecoder,
    safety_checker: Option<SafetyChecker>,
}

impl Generator {
    /// Loads the generator and runs each graph once on little, on anything but the CPU twice.
    ///
    /// The execution providers of `options` are tried in order, as by
    /// [`ClipModel::load`](crate::clip::ClipModel::load). `options.batch_size` has no effect.
    pub fn load(
        runtime: &OnnxRuntime,
        config: GeneratorConfig,
        options: &SessionOptions,
    ) -> Result<Generator> {
        let bytes = config.bytes()?;
        capacity::check(&config.dir, bytes)?;
        let sha256 = config.sha256()?;
        let choice = choose(&options.candidates(), |candidate| {
            // Whatever runs without another provider runs on the CPU.
            let folder = match candidate {
                Candidate::Cpu => None,
                _ => Some(
                    ProfileFolder::new(options.profile_folder(&config.name))
                        .map_err(|reason| ClipError::Provider { provider: candidate.name(), reason })?,
                ),
            };
            let profile = folder.as_ref();
            let graphs = Graphs::load(&Loading { runtime, config: &config, options, candidate, profile })?;
            graphs.probe(&config)?;
            if profile.is_none() {
                return Ok((graphs, Vec::new()));
            }
            // The first run's times are those of loading kernels and searching for algorithms.
            graphs.probe(&config)?;
            let executed = graphs.executed()?;
            Ok((graphs, executed))
        })?;
        Ok(Generator {
            config,
            sha256,
            bytes,
            graphs: choice.value,
            provider: choice.candidate.name(),
            fallback_reason: choice.passed_over,
            elsewhere: choice.elsewhere,
        })
    }

    /// The generator's directory, as it was read.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Name of the generator.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Digest of the generator's files, taken when it was loaded.
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Size of the graphs and weights on disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The execution provider that the generator runs on, by ONNX Runtime's name.
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// Why the providers that come before this one are not used; `None` if this is the first choice.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// What other providers run of the generator; `None` if it runs on [`provider`](Self::provider) as a whole.
    pub fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref()
    }

    /// Paints pictures, all of them step by step together; the results are in the order of `paintings`.
    ///
    /// `on_step` is called before each run of the U-Net, and before each picture is decoded. When it breaks,
    /// nothing more is run, and the result is [`GenerateError::Cancelled`]. A picture that the safety checker
    /// blocks, or that has values that are not finite, is an error of its own and costs the others nothing.
    ///
    /// A batch of n takes the memory of n pictures in the U-Net, with guidance of 2n; decoding and the
    /// safety checker take one picture at a time.
    pub fn generate(
        &self,
        paintings: &[Painting],
        settings: &Settings,
        on_step: &mut dyn FnMut(StepDone) -> ControlFlow<()>,
    ) -> Result<Vec<Result<RgbImage>>> {
        let size = settings.check(&self.config)?;
        if paintings.is_empty() {
            return Ok(Vec::new());
        }
        let mut scheduler = Scheduler::new(&self.config.scheduler, settings.steps)
            .map_err(|reason| GenerateError::Setting { name: "steps", reason })?;
        let of = scheduler.timesteps().len();
        let mut report = |done| match on_step(StepDone { done, of }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GenerateError::Cancelled),
        };
        let mut latents = self.noise(paintings, size)?;
        latents *= scheduler.init_noise_sigma();
        let is_guided = settings.is_guided();
        let hidden_states = self.graphs.hidden_states(paintings, is_guided)?;
        for run in 0..of {
            report(run)?;
            let scale = scheduler.input_scale(run);
            let input = match is_guided {
                // The negative prompts first, as in the hidden states.
                true => {
                    concatenate(Axis(0), &[latents.view(), latents.view()]).map_err(ClipError::inference)?
                        * scale
                }
                false => &latents * scale,
            };
            let timestep = scheduler.timesteps()[run];
            let prediction = self.graphs.unet.run(input.view(), timestep, hidden_states.view())?;
            let prediction = match is_guided {
                true => guided(prediction, settings.guidance_scale),
                false => prediction,
            };
            scheduler.step(run, prediction, &mut latents);
        }
        let mut pictures = Vec::with_capacity(paintings.len());
        for latents in latents.axis_iter(Axis(0)) {
            report(of)?;
            pictures.push(match self.graphs.picture(latents) {
                Err(error @ (GenerateError::Blocked | GenerateError::NotFinite)) => Err(error),
                other => Ok(other?),
            });
        }
        Ok(pictures)
    }

    /// The noise of each painting: paintings × channels × height × width, in latents.
    fn noise(&self, paintings: &[Painting], (height, width): (u32, u32)) -> Result<Array4<f32>> {
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
        let shape = (paintings.len(), self.config.latent_channels, rows, columns);
        let count = shape.1 * rows * columns;
        let values = paintings.iter().flat_map(|painting| noise::normal(painting.seed, count)).collect();
        Ok(Array4::from_shape_vec(shape, values).map_err(ClipError::inference)?)
    }
}

/// Classifier-free guidance (arXiv 2207.12598): away from the first half of the rows, which are of the
/// negative prompts, and beyond the second half.
fn guided(prediction: Array4<f32>, guidance_scale: f32) -> Array4<f32> {
    let rows = prediction.len_of(Axis(0)) / 2;
    let positive = prediction.slice(s![rows.., .., .., ..]);
    let mut guided = prediction.slice(s![..rows, .., .., ..]).to_owned();
    Zip::from(&mut guided)
        .and(positive)
        .for_each(|negative, &positive| *negative += guidance_scale * (positive - *negative));
    guided
}

/// Latents along one side in a probe run: as few as every U-Net can halve three times.
const PROBE_SIDE: usize = 8;

impl Graphs {
    fn load(loading: &Loading) -> clip::Result<Graphs> {
        Ok(Graphs {
            text_encoder: TextEncoder::load(loading)?,
            unet: Unet::load(loading)?,
            vae_decoder: VaeDecoder::load(loading)?,
            safety_checker: SafetyChecker::load(loading)?,
        })
    }

    /// The height and width of latents that the graphs were exported for; where they take any, as given.
    fn size(&self, height: usize, width: usize) -> (usize, usize) {
        let (unet, vae) = (self.unet.size, self.vae_decoder.size);
        (unet.0.or(vae.0).unwrap_or(height), unet.1.or(vae.1).unwrap_or(width))
    }

    /// Runs each graph once, which shows whether they fit each other.
    fn probe(&self, config: &GeneratorConfig) -> clip::Result<()> {
        let hidden_states = self.text_encoder.hidden_states(&[""])?;
        let dimensions = hidden_states.len_of(Axis(2));
        if let Some(width) = self.unet.width.filter(|&width| width != dimensions) {
            let reason =
                format!("the graph attends to {width} dimensions, but the text encoder gives {dimensions}");
            return Err(self.unet.part().wrong(reason));
        }
        let (rows, columns) = self.size(PROBE_SIDE, PROBE_SIDE);
        let latents = Array4::zeros((1, config.latent_channels, rows, columns));
        let prediction = self
            .unet
            .run(latents.view(), 0.0, hidden_states.view())
            .map_err(|error| self.unet.part().wrong(error))?;
        match self.picture(prediction.index_axis(Axis(0), 0)) {
            // What a probe gives is no picture; it was made and looked at, and that is enough.
            Ok(_) | Err(GenerateError::Blocked | GenerateError::NotFinite) => Ok(()),
            Err(GenerateError::Model(error)) => Err(error),
            Err(other) => Err(ClipError::inference(other)),
        }
    }

    /// What the last run of each graph executed, by its profile, which ends.
    fn executed(&self) -> clip::Result<Vec<Executed>> {
        let parts = [self.text_encoder.part(), self.unet.part(), self.vae_decoder.part()];
        let checker = self.safety_checker.as_ref().map(SafetyChecker::part);
        parts.into_iter().chain(checker).map(Part::executed).collect()
    }

    /// The hidden states of the negative prompts, where there is guidance, and then those of the prompts.
    fn hidden_states(&self, paintings: &[Painting], is_guided: bool) -> clip::Result<Array3<f32>> {
        let negative = paintings.iter().filter(|_| is_guided).map(|painting| &painting.negative_prompt);
        let prompts = paintings.iter().map(|painting| &painting.prompt);
        let texts: Vec<&str> = negative.chain(prompts).map(String::as_str).collect();
        self.text_encoder.hidden_states(&texts)
    }

    /// The picture of latents, channels × height × width, if it may be shown.
    fn picture(&self, latents: ArrayView3<f32>) -> Result<RgbImage> {
        let picture = self.vae_decoder.decode(latents)?;
        match &self.safety_checker {
            Some(checker) if checker.blocks(&picture)? => Err(GenerateError::Blocked),
            _ => Ok(picture),
        }
    }
}
