//! `CALL susx.generate_support_set(...)`: support images that a generator makes from the prompts (SuS-SD).
//!
//! A call's arguments determine which images the classifier should have: from which prompts, with which seeds and
//! parameters. The call keeps the images that exist, generates those that are missing, and deletes other generated
//! ones. So the same call continues after an interruption, and a call with other arguments replaces the images of an
//! earlier one.
//!
//! It is a procedure because generating takes hours on some machines: images are committed at least once per category.
//! Between the commits, where most of the time goes, the call holds no lock and no snapshot.

mod plan;
mod report;

use std::time::Instant;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::sus::unit;
use susx_server::protocol::{Failure, ImageRequest};

use self::plan::{Category, Plan};
use self::report::Report;
use crate::batches::{GENERATE_AHEAD, GENERATED_BYTES, GENERATED_ROWS, GENERATED_TIME};
use crate::embedder::Embedder;
use crate::generation::GenerationParams;
use crate::image_vectors::ImageVectors;
use crate::inference::client::{self, Stream};
use crate::limits;
use crate::pg::catalog::generated::{self, GeneratedImage, GenerationKey, Kept};
use crate::pg::catalog::{classifier as catalog, prevent_command_in_read_only};
use crate::pg::error::{Error, Result, SqlError};
use crate::pg::job::{Job, Work};
use crate::pg::procedure::Procedure;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::prompting::Prompting;

/// Generates the classifier's support set from its prompts, with at least one COMMIT per category.
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
    let params = GenerationParams::new(guidance_scale, steps, negative_prompt)?;
    let seed = Error::required(seed, "seed")?;
    let keep_images = Error::required(keep_images, "keep_images")?;
    // Copied, because PostgreSQL may free an argument with the first transaction.
    let generator = generator.map(str::to_owned);
    prevent_command_in_read_only(c"susx.generate_support_set");
    let procedure = Procedure::enter(call, "susx.generate_support_set")?;
    let call = GenerateCall { procedure, classifier, per_class, prompting, params, seed, keep_images };
    Ok(call.generate(generator.as_deref())?)
}

/// The classifier was changed or dropped during the call.
#[derive(Debug, thiserror::Error)]
#[error("classifier \"{0}\" was changed or dropped while images were generated for it")]
struct ClassifierChanged(String);

impl SqlError for ClassifierChanged {
    fn sqlstate(&self) -> PgSqlErrorCode {
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
    }

    fn hint(&self) -> Option<String> {
        Some("What was committed is kept: call susx.generate_support_set again for the rest.".to_owned())
    }
}

/// A call and its arguments.
#[derive(Debug)]
struct GenerateCall {
    procedure: Procedure,
    classifier: RegClass,
    per_class: usize,
    prompting: Prompting,
    params: GenerationParams,
    seed: i64,
    keep_images: bool,
}

/// Images of one category that are not written yet.
#[derive(Debug)]
struct UnwrittenImages {
    /// PNG files with the images' indices in the category.
    images: Vec<(usize, Vec<u8>)>,
    bytes: usize,
    since: Instant,
}

impl GenerateCall {
    fn generate(&self, generator: Option<&str>) -> Result<()> {
        let mut progress = Progress::start(Command::GenerateSupportSet, self.classifier);
        // Its end is that of the call. A second call then finds the images of the first.
        let _job = self.procedure.transaction(|| self.job())?.begin(&self.procedure)?;
        let embedder = self.procedure.transaction(|| {
            self.classifier.open_for_replacing()?;
            Embedder::of_new_images(self.classifier)
        })?;
        // Loads the generator, which may take a while.
        let generator = client::describe_generator(generator)?.name;
        let plan = self.procedure.transaction(|| Plan::make(self, embedder, generator))?;
        let steps = u64::from(self.params.steps);
        progress.phase(Phase::Generating, Some(plan.missing() as u64 * steps));
        let report = self.generate_missing(&plan, &mut progress)?;
        self.procedure.transaction(|| {
            let names: Vec<&str> = plan.categories.iter().map(|category| category.name.as_str()).collect();
            self.open(&plan)?;
            generated::delete_other_categories(self.classifier, &names)?;
            report.send(&self.classifier.name()?, &plan);
            Ok(())
        })
    }

    fn job(&self) -> Result<Job> {
        self.classifier.open_for_replacing()?;
        Job::new(Work::Generating, self.classifier, "", &[])
    }

    /// Generates and writes all missing images, category by category.
    fn generate_missing(&self, plan: &Plan, progress: &mut Progress) -> Result<Report> {
        let mut stream = Stream::<ImageRequest>::new(Some(plan.generator()));
        let mut ahead = plan
            .categories
            .iter()
            .flat_map(|category| category.missing().map(move |index| (category, index)));
        let mut report = Report::default();
        for category in &plan.categories {
            let mut unwritten = UnwrittenImages::new();
            for index in category.missing() {
                while stream.pending() < GENERATE_AHEAD
                    && let Some((category, index)) = ahead.next()
                {
                    let wanted = plan.image(category, index)?;
                    stream.submit(vec![self.params.request(&wanted.key.prompt, wanted.seed)])?;
                }
                match self.next_image(&mut stream, &report, progress)? {
                    Ok(image) => {
                        report.generated += 1;
                        unwritten.push(index, image);
                    }
                    Err(failure) => {
                        report.fail(&category.name, failure);
                        progress.advance(0, 1);
                    }
                }
                if unwritten.should_be_written() {
                    self.write(plan, category, unwritten, false)?;
                    unwritten = UnwrittenImages::new();
                }
            }
            self.write(plan, category, unwritten, true)?;
        }
        Ok(report)
    }

    /// Waits for the next image, and shows the progress while it waits. `Err` is a failure of this image alone.
    fn next_image(
        &self,
        stream: &mut Stream<ImageRequest<'static>>,
        report: &Report,
        progress: &mut Progress,
    ) -> Result<Result<Vec<u8>, Failure>> {
        let steps = u64::from(self.params.steps);
        while !stream.is_ready() {
            stream.wait()?;
            let (answered, steps_done) = stream.progress();
            progress.reach((report.answered() + answered as u64) * steps + steps_done, 0);
        }
        match stream.next()?.and_then(|answers| answers.into_iter().next()) {
            Some(Ok(image)) => Ok(Ok(image.into_vec())),
            Some(Err(failure)) if failure.kind.is_of_input() => Ok(Err(failure)),
            Some(Err(failure)) => Err(failure.into()),
            None => Err(Error::internal("the inference process did not answer")),
        }
    }

    /// Embeds images and writes them. Once a category is complete, also deletes those of its generated images that the
    /// plan does not have.
    fn write(
        &self,
        plan: &Plan,
        category: &Category,
        unwritten: UnwrittenImages,
        is_complete: bool,
    ) -> Result<()> {
        if unwritten.images.is_empty() && !(is_complete && category.has_others) {
            return Ok(());
        }
        let images = self.embed(plan, category, unwritten)?;
        let kept = self.kept(&plan.embedder);
        self.procedure.transaction(|| {
            self.open(plan)?;
            if !catalog::has_category(self.classifier, &category.name)? {
                return Err(ClassifierChanged(self.classifier.name()?).into());
            }
            if !images.is_empty() {
                generated::insert(self.classifier, &category.name, images, kept)?;
            }
            if is_complete {
                let key = |index| plan.image(category, index).map(|wanted| wanted.key);
                let keys = category.indices().map(key).collect::<Result<Vec<GenerationKey>>>()?;
                generated::delete_others(self.classifier, &category.name, keys, kept)?;
            }
            Ok(())
        })
    }

    fn embed(
        &self,
        plan: &Plan,
        category: &Category,
        unwritten: UnwrittenImages,
    ) -> Result<Vec<GeneratedImage>> {
        let files: Vec<&[u8]> = unwritten.images.iter().map(|(_, image)| image.as_slice()).collect();
        let vectors = if files.is_empty() {
            Vec::new()
        } else {
            plan.embedder.images(&files, |_, failure| Error::from(failure))?
        };
        let mut images = Vec::with_capacity(files.len());
        for ((index, image), vectors) in unwritten.images.into_iter().zip(vectors) {
            let ImageVectors { embedding, likeness } = vectors;
            let wanted = plan.image(category, index)?;
            let similarity = wanted.embedding.map(|prompt| similarity(prompt, &embedding.0)).transpose()?;
            let image = Some(image).filter(|_| self.keep_images);
            images.push(GeneratedImage { key: wanted.key, image, similarity, embedding, likeness });
        }
        Ok(images)
    }

    /// What every image is to have.
    fn kept(&self, embedder: &Embedder) -> Kept {
        Kept { files: self.keep_images, likeness: embedder.has_likeness() }
    }

    /// Checks the classifier in a new transaction. An error if it was dropped or has other models now.
    fn open(&self, plan: &Plan) -> Result<()> {
        let changed = || ClassifierChanged(plan.classifier.clone()).into();
        match self.classifier.open_for_replacing() {
            Err(error) if error.is_undefined_table() => return Err(changed()),
            other => other?,
        }
        if plan.embedder.is_of(&catalog::settings(self.classifier)?) { Ok(()) } else { Err(changed()) }
    }
}

impl UnwrittenImages {
    fn new() -> Self {
        UnwrittenImages { images: Vec::new(), bytes: 0, since: Instant::now() }
    }

    fn push(&mut self, index: usize, image: Vec<u8>) {
        self.bytes += image.len();
        self.images.push((index, image));
    }

    fn should_be_written(&self) -> bool {
        let is_full = self.images.len() >= GENERATED_ROWS || self.bytes >= GENERATED_BYTES;
        !self.images.is_empty() && (is_full || self.since.elapsed() >= GENERATED_TIME)
    }
}

/// The cosine of a prompt's and an image's embedding.
fn similarity(prompt: &[f32], image: &[f32]) -> Result<f32> {
    let unit = |vector: &[f32], what: &str| unit(vector).map_err(|error| Error::from(error).within(what));
    let (prompt, image) = (unit(prompt, "a prompt")?, unit(image, "a generated image")?);
    Ok(prompt.iter().zip(&image).map(|(a, b)| a * b).sum())
}
