//! `CALL susx.generate_support_set(...)`: support images that a generator makes of the prompts (SuS-SD).
//!
//! A call says which images there are to be: of every category, which prompts, with which seeds, made how.
//! Those that are there it leaves, the missing ones it makes, and other generated ones it deletes. So a call
//! that was interrupted is continued by the same call, and one that asks for something else replaces what an
//! earlier one has made.
//!
//! It is a procedure because that takes hours on some machines: what is made is committed, at least with
//! every category, and between the commits, where the time goes, the call holds no lock and no snapshot.

mod plan;
mod tally;

use std::time::{Duration, Instant};

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::sus::unit;
use susx_server::protocol::Picture;

use self::plan::{Category, Plan};
use self::tally::Tally;
use crate::blame::is_of_the_input;
use crate::embedder::Embedder;
use crate::inference::client::{self, Stream};
use crate::limits;
use crate::pg::catalog::generated::{self, Made, NewImage};
use crate::pg::catalog::{classifier as catalog, prevent_command_in_read_only};
use crate::pg::error::{Error, Result};
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::pictures::{AHEAD, Manner};
use crate::prompting::Prompting;

/// What is made is written when there are so many images, or so many bytes, or after such a time, and when a
/// category is complete.
const MOST_IMAGES: usize = 64;
const MOST_BYTES: usize = 16 << 20;
const LONGEST: Duration = Duration::from_secs(10);

/// Makes the classifier's support set out of its prompts by a generator, with a COMMIT per category at least.
#[pg_extern(sql = r#"
CREATE PROCEDURE susx.generate_support_set(
    classifier regclass,
    generator text DEFAULT NULL,
    per_class integer DEFAULT 16,
    prompting text DEFAULT 'photo',
    guidance_scale double precision DEFAULT 9.5,
    steps integer DEFAULT 85,
    seed bigint DEFAULT 0,
    keep_images boolean DEFAULT false,
    negative_prompt text DEFAULT NULL
) LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::too_many_arguments)]
fn generate_support_set(
    _version: SameVersion,
    classifier: Option<RegClass>,
    generator: Option<&str>,
    per_class: Option<i32>,
    prompting: Option<&str>,
    guidance_scale: Option<f64>,
    steps: Option<i32>,
    seed: Option<i64>,
    keep_images: Option<bool>,
    negative_prompt: Option<&str>,
    call: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    let classifier = Error::required(classifier, "classifier")?;
    let per_class = limits::count(Error::required(per_class, "per_class")?, "per_class", limits::PER_CLASS)?;
    let prompting = Prompting::named(Error::required(prompting, "prompting")?)?;
    let manner = Manner::new(guidance_scale, steps, negative_prompt)?;
    let seed = Error::required(seed, "seed")?;
    let keep_images = Error::required(keep_images, "keep_images")?;
    // Arguments are PostgreSQL's, and need not outlive a transaction.
    let generator = generator.map(str::to_owned);
    prevent_command_in_read_only(c"susx.generate_support_set");
    let procedure = Procedure::enter(call, "susx.generate_support_set")?;
    let call = Call { procedure, classifier, per_class, prompting, manner, seed, keep_images };
    Ok(call.generate(generator.as_deref())?)
}

/// What a call is to do.
#[derive(Debug)]
struct Call {
    procedure: Procedure,
    classifier: RegClass,
    per_class: usize,
    prompting: Prompting,
    manner: Manner,
    seed: i64,
    keep_images: bool,
}

/// Images of one category that are not written yet.
#[derive(Debug)]
struct Unwritten {
    /// By their places.
    images: Vec<(usize, Vec<u8>)>,
    bytes: usize,
    since: Instant,
}

impl Call {
    fn generate(&self, generator: Option<&str>) -> Result<()> {
        let mut progress = Progress::start(Command::GenerateSupportSet, self.classifier);
        let embedder = self.procedure.transaction(|| {
            self.classifier.open_for_replacing()?;
            Embedder::of(self.classifier)
        })?;
        // Loads it, which may take a while.
        let generator = client::describe_generator(generator)?.name;
        let plan = self.procedure.transaction(|| Plan::make(self, embedder, generator))?;
        let steps = u64::from(self.manner.steps);
        progress.phase(Phase::Generating, Some(plan.missing() as u64 * steps));
        let mut stream = Stream::<Picture>::new(Some(plan.generator()));
        let mut ahead = plan
            .categories
            .iter()
            .flat_map(|category| category.missing().map(move |place| (category, place)));
        let mut tally = Tally::default();
        for category in &plan.categories {
            let mut unwritten = Unwritten::new();
            for place in category.missing() {
                while stream.pending() < AHEAD
                    && let Some((category, place)) = ahead.next()
                {
                    let wanted = plan.image(category, place)?;
                    stream.submit(vec![self.manner.picture(&wanted.made.prompt, wanted.seed)])?;
                }
                while !stream.is_ready() {
                    stream.wait()?;
                    let (answered, under_way) = stream.progress();
                    progress.reach((tally.answered() + answered as u64) * steps + under_way, 0);
                }
                match stream.next()?.and_then(|answers| answers.into_iter().next()) {
                    Some(Ok(image)) => {
                        tally.made += 1;
                        unwritten.push(place, image.into_vec());
                    }
                    Some(Err(failure)) if is_of_the_input(&failure) => {
                        tally.fail(&category.name, failure);
                        progress.advance(0, 1);
                    }
                    Some(Err(failure)) => return Err(Error::Server(failure)),
                    None => return Err(Error::Internal("the inference process gave no answer".to_owned())),
                }
                if unwritten.is_due() {
                    self.write(&plan, category, unwritten, false)?;
                    unwritten = Unwritten::new();
                }
            }
            self.write(&plan, category, unwritten, true)?;
        }
        self.procedure.transaction(|| {
            let names: Vec<&str> = plan.categories.iter().map(|category| category.name.as_str()).collect();
            self.open(&plan)?;
            generated::delete_other_categories(self.classifier, &names)?;
            tally.report(&self.classifier.name()?, &plan);
            Ok(())
        })
    }

    /// Embeds images and writes them. With the last ones of a category those go that are not wanted any more.
    fn write(&self, plan: &Plan, category: &Category, unwritten: Unwritten, is_complete: bool) -> Result<()> {
        if unwritten.images.is_empty() && !(is_complete && category.has_others) {
            return Ok(());
        }
        let files: Vec<&[u8]> = unwritten.images.iter().map(|(_, image)| image.as_slice()).collect();
        let embeddings = if files.is_empty() {
            Vec::new()
        } else {
            plan.embedder.images(&files, |_, failure| Error::Server(failure))?
        };
        let mut images = Vec::with_capacity(files.len());
        for ((place, image), embedding) in unwritten.images.into_iter().zip(embeddings) {
            let wanted = plan.image(category, place)?;
            let similarity = wanted.embedding.map(|prompt| similarity(prompt, &embedding.0)).transpose()?;
            let image = Some(image).filter(|_| self.keep_images);
            images.push(NewImage { made: wanted.made, image, similarity, embedding });
        }
        self.procedure.transaction(|| {
            self.open(plan)?;
            if !catalog::has_category(self.classifier, &category.name)? {
                return Err(Error::ClassifierChanged(self.classifier.name()?));
            }
            if !images.is_empty() {
                generated::insert(self.classifier, &category.name, images)?;
            }
            if is_complete {
                let wanted = |place| plan.image(category, place).map(|wanted| wanted.made);
                let wanted = category.places().map(wanted).collect::<Result<Vec<Made>>>()?;
                generated::delete_others(self.classifier, &category.name, wanted, self.keep_images)?;
            }
            Ok(())
        })
    }

    /// The classifier as it is now: an error if it is not the same any more.
    fn open(&self, plan: &Plan) -> Result<()> {
        let changed = || Error::ClassifierChanged(plan.classifier.clone());
        match self.classifier.open_for_replacing() {
            Err(Error::NoRelation(_)) => return Err(changed()),
            other => other?,
        }
        match catalog::settings(self.classifier)?.model.as_deref() {
            Some(model) if model == plan.embedder.model() => Ok(()),
            _ => Err(changed()),
        }
    }
}

impl Unwritten {
    fn new() -> Self {
        Unwritten { images: Vec::new(), bytes: 0, since: Instant::now() }
    }

    fn push(&mut self, place: usize, image: Vec<u8>) {
        self.bytes += image.len();
        self.images.push((place, image));
    }

    fn is_due(&self) -> bool {
        let is_due = self.images.len() >= MOST_IMAGES || self.bytes >= MOST_BYTES;
        !self.images.is_empty() && (is_due || self.since.elapsed() >= LONGEST)
    }
}

/// The cosine of an image to its prompt.
fn similarity(prompt: &[f32], image: &[f32]) -> Result<f32> {
    let unit = |vector: &[f32], what: &str| {
        unit(vector).map_err(|source| Error::Vector { what: what.to_owned(), source })
    };
    let (prompt, image) = (unit(prompt, "a prompt")?, unit(image, "a generated image")?);
    Ok(prompt.iter().zip(&image).map(|(a, b)| a * b).sum())
}
