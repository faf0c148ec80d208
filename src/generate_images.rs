//! Images from any text.

use std::collections::VecDeque;

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use susx_server::protocol::Picture;

use crate::arrays::elements;
use crate::blame::is_of_the_input;
use crate::inference::client::{self, Stream};
use crate::limits;
use crate::pg::error::{Error, Result};
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::pictures::{AHEAD, Manner};

/// Number, PNG file and error of one element of an array.
type Row = (i32, Option<Vec<u8>>, Option<String>);

/// Images that a generator makes of texts, as PNG files: a prompt of which it makes none costs one error, not
/// the call. The image of element `ord` begins with the noise of the seed `seed` + `ord` - 1. Rows come as
/// they are made.
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
    let manner = Manner {
        width: pixels(width, "width")?,
        height: pixels(height, "height")?,
        ..Manner::new(guidance_scale, steps, negative_prompt)?
    };
    let prompts = elements(prompts.as_ref(), "prompts")?;
    Ok(TableIterator::new(Images::new(&prompts, generator, manner, seed)?))
}

/// The images that are being made, in the order of their prompts.
struct Images {
    /// Those that are left.
    prompts: VecDeque<Option<String>>,
    manner: Manner,
    /// Of the first that is left.
    seed: i64,
    /// How many of those that are left are on their way, or NULL before one that is.
    submitted: usize,
    ord: i32,
    stream: Stream<Picture<'static>>,
    steps: u64,
    /// Images that were returned.
    done: u64,
    progress: Progress,
}

impl Images {
    fn new(prompts: &[Option<&str>], generator: Option<&str>, manner: Manner, seed: i64) -> Result<Self> {
        let mut bytes = 0;
        for (place, prompt) in prompts.iter().enumerate() {
            limits::check_element("prompts", place, prompt.unwrap_or_default())?;
            bytes += prompt.map_or(0, str::len);
        }
        limits::check_bytes("all prompts together", limits::PROMPT_BYTES, bytes)?;
        let mut progress = Progress::start(Command::GenerateImages, RegClass(pg_sys::Oid::INVALID));
        let count = prompts.iter().flatten().count() as u64;
        let steps = u64::from(manner.steps);
        let stream = Stream::new(generator);
        if count > 0 {
            // Loads it: that is not a part of the time that an image takes.
            client::describe_generator(generator)?;
        }
        progress.phase(Phase::Generating, Some(count * steps));
        let prompts = prompts.iter().map(|prompt| prompt.map(str::to_owned)).collect();
        let mut images =
            Images { prompts, manner, seed, submitted: 0, ord: 0, stream, steps, done: 0, progress };
        images.read_ahead()?;
        images.progress.pause();
        Ok(images)
    }

    /// Puts prompts on their way, as many as there should be.
    fn read_ahead(&mut self) -> Result<()> {
        while self.stream.pending() < AHEAD {
            let Some(prompt) = self.prompts.get(self.submitted) else { break };
            if let Some(prompt) = prompt {
                let seed = self.seed.wrapping_add_unsigned(self.submitted as u64);
                self.stream.submit(vec![self.manner.picture(prompt, seed)])?;
            }
            self.submitted += 1;
        }
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<Row>> {
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
            Some(Err(failure)) if is_of_the_input(&failure) => {
                self.progress.advance(0, 1);
                Ok(Some((self.ord, None, Some(failure.message))))
            }
            Some(Err(failure)) => Err(Error::Server(failure)),
            None => Err(Error::Internal("the inference process gave no answer".to_owned())),
        }
    }
}

impl Iterator for Images {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.progress.resume();
        let row = self.next_row();
        self.progress.pause();
        match row {
            Ok(row) => row,
            Err(error) => Err(ErrorReport::from(error)).unwrap_or_report(),
        }
    }
}
