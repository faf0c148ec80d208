//! Images generated from any texts.

use std::collections::VecDeque;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use susx_server::protocol::ImageRequest;

use crate::arrays::elements;
use crate::batches::GENERATE_AHEAD;
use crate::generation::GenerationParams;
use crate::inference::client::{self, Stream};
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;

/// Number, PNG file and error of one element of an array.
type GeneratedRow = (i32, Option<Vec<u8>>, Option<String>);

/// Images that a generator makes from texts, as PNG files. A prompt that fails costs its own row, not the call. The
/// initial noise of element `ord` is that of the seed `seed` + `ord` - 1. Rows are returned as they are made.
#[pg_extern(stable, parallel_restricted, cost = 100000000)]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
fn generate_images(
    _version: SameVersion,
    prompts: Option<Array<'_, &str>>,
    generator: default!(Option<&str>, "NULL"),
    guidance_scale: default!(Option<f64>, "9.5"),
    steps: default!(Option<i32>, "85"),
    seed: default!(Option<i64>, "0"),
    negative_prompt: default!(Option<&str>, "NULL"),
    width: default!(Option<i32>, "NULL"),
    height: default!(Option<i32>, "NULL"),
) -> Result<
    TableIterator<'static, (name!(ord, i32), name!(image, Option<Vec<u8>>), name!(error, Option<String>))>,
    ErrorReport,
> {
    let seed = Error::required(seed, "seed")?;
    let pixels = |side: Option<i32>, name| {
        let side = side.map(|side| limits::count(side, name, limits::SIDE)).transpose()?;
        Ok::<_, Error>(side.and_then(|side| u32::try_from(side).ok()))
    };
    let params = GenerationParams {
        width: pixels(width, "width")?,
        height: pixels(height, "height")?,
        ..GenerationParams::new(guidance_scale, steps, negative_prompt)?
    };
    let prompts = elements(prompts.as_ref(), "prompts")?;
    Ok(TableIterator::new(GeneratedImages::new(&prompts, generator, params, seed)?))
}

/// The images of a call, in the order of their prompts.
struct GeneratedImages {
    /// Prompts whose row has not been returned.
    prompts: VecDeque<Option<String>>,
    params: GenerationParams,
    /// The seed of the first of them.
    seed: i64,
    /// How many of them have been submitted, or skipped as NULL.
    submitted: usize,
    ord: i32,
    stream: Stream<ImageRequest<'static>>,
    /// Denoising steps of one image.
    steps: u64,
    /// Images that were returned.
    done: u64,
    progress: Progress,
}

impl GeneratedImages {
    fn new(
        prompts: &[Option<&str>],
        generator: Option<&str>,
        params: GenerationParams,
        seed: i64,
    ) -> Result<Self> {
        let mut bytes = 0;
        for (index, prompt) in prompts.iter().enumerate() {
            limits::check_element("prompts", index, prompt.unwrap_or_default())?;
            bytes += prompt.map_or(0, str::len);
        }
        limits::check_bytes("all prompts together", limits::PROMPT_BYTES, bytes)?;
        let mut progress = Progress::start(Command::GenerateImages, RegClass(pg_sys::Oid::INVALID));
        let count = prompts.iter().flatten().count() as u64;
        let steps = u64::from(params.steps);
        let stream = Stream::new(generator);
        if count > 0 {
            // Loads the generator, so that the progress of images does not include it.
            client::describe_generator(generator)?;
        }
        progress.phase(Phase::Generating, Some(count * steps));
        let prompts = prompts.iter().map(|prompt| prompt.map(str::to_owned)).collect();
        let mut images =
            GeneratedImages { prompts, params, seed, submitted: 0, ord: 0, stream, steps, done: 0, progress };
        images.read_ahead()?;
        images.progress.pause();
        Ok(images)
    }

    /// Submits prompts until enough are ahead.
    fn read_ahead(&mut self) -> Result<()> {
        while self.stream.pending() < GENERATE_AHEAD {
            let Some(prompt) = self.prompts.get(self.submitted) else { break };
            if let Some(prompt) = prompt {
                let seed = self.seed.wrapping_add_unsigned(self.submitted as u64);
                self.stream.submit(vec![self.params.request(prompt, seed)])?;
            }
            self.submitted += 1;
        }
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<GeneratedRow>> {
        self.read_ahead()?;
        let Some(prompt) = self.prompts.pop_front() else { return Ok(None) };
        self.submitted -= 1;
        self.seed = self.seed.wrapping_add(1);
        self.ord += 1;
        if prompt.is_none() {
            return Ok(Some((self.ord, None, None)));
        }
        while !self.stream.is_ready() {
            self.stream.wait()?;
            let (answered, steps) = self.stream.progress();
            self.progress.reach((self.done + answered as u64) * self.steps + steps, 0);
        }
        let answer = self.stream.next()?.and_then(|answers| answers.into_iter().next());
        self.done += 1;
        match answer {
            Some(Ok(image)) => Ok(Some((self.ord, Some(image.into_vec()), None))),
            Some(Err(failure)) if failure.kind.is_of_input() => {
                self.progress.advance(0, 1);
                Ok(Some((self.ord, None, Some(failure.message))))
            }
            Some(Err(failure)) => Err(failure.into()),
            None => Err(Error::internal("the inference process did not answer")),
        }
    }
}

impl Iterator for GeneratedImages {
    type Item = GeneratedRow;

    fn next(&mut self) -> Option<GeneratedRow> {
        self.progress.resume();
        let row = self.next_row();
        self.progress.pause();
        match row {
            Ok(row) => row,
            Err(error) => Err(ErrorReport::from(error)).unwrap_or_report(),
        }
    }
}
