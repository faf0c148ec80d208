//! The library's side of `make bench`: a program that stays alive, so that its measurements can alternate
//! with those of the references in bench/.
//!
//! One command per line on stdin and one answer per line on stdout, both JSON. Matrices go through .npy
//! files. An answer holds `seconds`, one number per repetition, or `error`. One thread.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use ndarray_npy::{ReadNpyExt, WriteNpyExt};
use serde::{Deserialize, Serialize};
use susx_core::classifier::{Classifier, ClassifierParams, ValidParams};
use susx_core::method::Method;
use susx_core::method::tip_x::{TipX, TipXGrid, TipXGridSearch};
use susx_core::queries::Queries;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Queries that tuning looks at together, as `susx.tune` does.
const BLOCK: usize = 256;

#[derive(Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
enum Command {
    /// Fits the classifier `name` from prompts.npy (C x d), support.npy (M x d) and labels.npy (M), and a file of the
    /// support images' likeness vectors (M x e) if there is one.
    Fit { name: String, folder: PathBuf, params: ClassifierParams, likeness: Option<PathBuf> },
    /// Fits the classifier `name` from `rows` random images that it generates; see [`Random`]. With `folder`, they and
    /// `queries` more are also written there, for `fit` and the references.
    Generate {
        name: String,
        categories: usize,
        rows: usize,
        dimensions: usize,
        queries: usize,
        seed: u64,
        params: ClassifierParams,
        folder: Option<PathBuf>,
    },
    /// All logits (N x C) of a file of unit queries (N x d) at once, with a file of their likeness vectors (N x e) if there is
    /// one.
    Logits {
        name: String,
        queries: PathBuf,
        likeness: Option<PathBuf>,
        method: Method,
        repetitions: usize,
        output: Option<PathBuf>,
    },
    /// The best category of each query: N indices, -1 for a query that is rejected. With `one_by_one`, each query is the only
    /// one of its call, as SQL asks row by row.
    Labels {
        name: String,
        queries: PathBuf,
        method: Method,
        one_by_one: bool,
        repetitions: usize,
        output: Option<PathBuf>,
    },
    /// The settings of a grid that are right on most queries, whose categories are in the file `labels` (N).
    Tune { name: String, queries: PathBuf, labels: PathBuf, repetitions: usize },
    /// Frees a classifier.
    Drop { name: String },
}

#[derive(Default, Serialize)]
struct Answer {
    seconds: Vec<f64>,
    /// `a` and `b` of a classifier that was fitted; none without its KL term.
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity_scale: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tuned: Option<Tuned>,
}

#[derive(Serialize)]
struct Failed {
    error: String,
}

/// What a grid search found.
#[derive(Serialize)]
struct Tuned {
    alpha: f64,
    beta: f64,
    gamma: f64,
    /// The share of queries that are right, 0 to 1.
    accuracy: f64,
    /// How many settings were compared.
    triples: usize,
}

#[derive(Default)]
struct Program {
    classifiers: HashMap<String, Fitted>,
}

struct Fitted {
    classifier: Classifier,
    support_set: Arc<SupportSet>,
    params: ValidParams,
}

impl Fitted {
    /// The fit of TIP-X alone, which a classifier does not show.
    fn tip_x(&self) -> TipX {
        TipX::fit(Arc::clone(&self.support_set), self.params)
    }
}

fn main() -> Result<()> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        eprintln!("commands are read from stdin, one JSON object per line: run `make bench` instead");
        return Ok(());
    }
    let mut program = Program::default();
    for line in stdin.lock().lines() {
        let answer = serde_json::from_str(&line?).map_err(Into::into).and_then(|c| program.answer(c));
        let answer = match answer {
            Ok(answer) => serde_json::to_string(&answer)?,
            Err(error) => serde_json::to_string(&Failed { error: error.to_string() })?,
        };
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{answer}")?;
        stdout.flush()?;
    }
    Ok(())
}

impl Program {
    fn answer(&mut self, command: Command) -> Result<Answer> {
        match command {
            Command::Fit { name, folder, params, likeness } => {
                self.fit(name, read_support_set(&folder, likeness.as_deref())?, params)
            }
            Command::Generate { name, categories, rows, dimensions, queries, seed, params, folder } => {
                let mut random = Random::new(seed, categories, dimensions);
                let support_set = random.support_set(rows, folder.as_deref())?;
                if let Some(folder) = folder {
                    let queries = random.images(queries);
                    queries.write_npy(File::create(folder.join("queries.npy"))?)?;
                }
                self.fit(name, support_set, params)
            }
            Command::Logits { name, queries, likeness, method, repetitions, output } => {
                let (classifier, features) = (self.classifier(&name)?, read(&queries)?);
                let likeness = likeness.as_deref().map(read).transpose()?;
                let mut queries = Queries::new(features.view());
                if let Some(likeness) = &likeness {
                    queries = queries.with_likeness(likeness.view());
                }
                let (seconds, logits) =
                    repeat(repetitions, || black_box(classifier.logits(black_box(queries), method)));
                if let (Some(path), Some(logits)) = (output, logits) {
                    logits.write_npy(File::create(path)?)?;
                }
                Ok(Answer { seconds, ..Answer::default() })
            }
            Command::Labels { name, queries, method, one_by_one, repetitions, output } => {
                let (classifier, queries) = (self.classifier(&name)?, read(&queries)?);
                let together = if one_by_one { 1 } else { queries.nrows().max(1) };
                let (seconds, labels) = repeat(repetitions, || {
                    black_box(labels(classifier, black_box(queries.view()), method, together))
                });
                if let (Some(path), Some(labels)) = (output, labels) {
                    labels.write_npy(File::create(path)?)?;
                }
                Ok(Answer { seconds, ..Answer::default() })
            }
            Command::Tune { name, queries, labels, repetitions } => {
                let tip_x = self.fitted(&name)?.tip_x();
                let queries = read(&queries)?;
                let labels = Array1::<i64>::read_npy(File::open(labels)?)?;
                let (seconds, tuned) = repeat(repetitions, || tune(&tip_x, queries.view(), labels.view()));
                Ok(Answer { seconds, tuned: tuned.transpose()?, ..Answer::default() })
            }
            Command::Drop { name } => {
                self.classifiers.remove(&name);
                Ok(Answer::default())
            }
        }
    }

    fn fit(&mut self, name: String, support_set: SupportSet, params: ClassifierParams) -> Result<Answer> {
        let params = params.check()?;
        let support_set = Arc::new(support_set);
        let start = Instant::now();
        let classifier = Classifier::fit(Arc::clone(&support_set), params);
        let seconds = vec![start.elapsed().as_secs_f64()];
        let fitted = Fitted { classifier, support_set, params };
        let affinity_scale = fitted.tip_x().affinity_scale().map(|scale| (scale.a, scale.b));
        self.classifiers.insert(name, fitted);
        Ok(Answer { seconds, affinity_scale, ..Answer::default() })
    }

    fn classifier(&self, name: &str) -> Result<&Classifier> {
        Ok(&self.fitted(name)?.classifier)
    }

    fn fitted(&self, name: &str) -> Result<&Fitted> {
        self.classifiers.get(name).ok_or_else(|| format!("there is no classifier {name}").into())
    }
}

/// The best categories, of so many queries together.
fn labels(classifier: &Classifier, queries: ArrayView2<f32>, method: Method, together: usize) -> Array1<i64> {
    let parts = queries.axis_chunks_iter(Axis(0), together);
    let best = parts.flat_map(|part| classifier.best(part, method));
    best.map(|category| category.map_or(-1, |c| c as i64)).collect()
}

/// The whole grid.
fn tune(tip_x: &TipX, queries: ArrayView2<f32>, labels: ArrayView1<i64>) -> Result<Tuned> {
    let truth = labels.iter().map(|&label| usize::try_from(label));
    let truth = truth.collect::<std::result::Result<Vec<_>, _>>()?;
    let mut search = TipXGridSearch::new(TipXGrid::published());
    for (queries, truth) in queries.axis_chunks_iter(Axis(0), BLOCK).zip(truth.chunks(BLOCK)) {
        search.add(&tip_x.parts(queries), truth);
    }
    let best = search.best().ok_or("there is no query")?;
    Ok(Tuned {
        alpha: best.alpha.into(),
        beta: best.beta.into(),
        gamma: best.gamma.into(),
        accuracy: f64::from(best.tip_x) / f64::from(best.rows),
        triples: search.counts().count(),
    })
}

/// Seconds of every repetition, and the last one's result.
fn repeat<T>(repetitions: usize, mut call: impl FnMut() -> T) -> (Vec<f64>, Option<T>) {
    let mut result = None;
    let seconds = (0..repetitions)
        .map(|_| {
            drop(result.take());
            let start = Instant::now();
            result = Some(call());
            start.elapsed().as_secs_f64()
        })
        .collect();
    (seconds, result)
}

fn read(path: &Path) -> Result<Array2<f32>> {
    Ok(Array2::read_npy(File::open(path)?)?)
}

fn read_support_set(folder: &Path, likeness: Option<&Path>) -> Result<SupportSet> {
    let prompts = read(&folder.join("prompts.npy"))?;
    let images = read(&folder.join("support.npy"))?;
    let labels = Array1::<i64>::read_npy(File::open(folder.join("labels.npy"))?)?;
    let likeness = likeness.map(read).transpose()?;
    let mut builder = with_prompts(prompts.view())?;
    for (row, (image, &label)) in images.rows().into_iter().zip(&labels).enumerate() {
        push_image(&mut builder, usize::try_from(label)?, &image.to_vec())?;
        if let Some(likeness) = &likeness {
            builder.push_likeness(&likeness.row(row).to_vec())?;
        }
    }
    Ok(builder.finish()?)
}

fn with_prompts(prompts: ArrayView2<f32>) -> Result<SupportSetBuilder> {
    let mut builder = SupportSetBuilder::new(prompts.ncols());
    for (c, prompt) in prompts.rows().into_iter().enumerate() {
        builder.push_prompt(&category_name(c), &prompt.to_vec())?;
    }
    Ok(builder)
}

fn push_image(
    builder: &mut SupportSetBuilder,
    category: usize,
    image: &[f32],
) -> std::result::Result<(), SupportError> {
    builder.push_image(&category_name(category), 0, image)
}

fn category_name(category: usize) -> String {
    format!("c{category:04}")
}

/// Prompts near one direction and images near their prompt, drawn on the spot where files would be too large.
/// A xorshift generator: many numbers are needed, not good ones.
struct Random {
    state: u64,
    /// Unit rows, C x d.
    prompts: Array2<f32>,
}

impl Random {
    fn new(seed: u64, categories: usize, dimensions: usize) -> Self {
        let mut random =
            Random { state: seed.max(1), prompts: Array2::zeros((categories.max(1), dimensions)) };
        let direction: Vec<f32> = (0..dimensions).map(|_| random.number()).collect();
        for c in 0..categories {
            let prompt = random.near(&direction, 0.6);
            random.prompts.row_mut(c).assign(&Array1::from(prompt));
        }
        random
    }

    /// Between -1 and 1.
    fn number(&mut self) -> f32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// A unit vector; `spread` is how far from `centre`, relative to its length of about sqrt(d / 3).
    fn near(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        let mut vector: Vec<f32> = centre.iter().map(|x| x + spread * self.number()).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= norm);
        vector
    }

    /// One image of a category, d.
    fn image(&mut self, category: usize) -> Vec<f32> {
        let scale = (self.prompts.ncols() as f32 / 3.0).sqrt();
        let prompt: Vec<f32> = self.prompts.row(category).iter().map(|x| x * scale).collect();
        self.near(&prompt, 1.0)
    }

    /// Images of the categories in turn, N x d.
    fn images(&mut self, count: usize) -> Array2<f32> {
        let mut images = Array2::zeros((count, self.prompts.ncols()));
        for i in 0..count {
            let image = self.image(i % self.prompts.nrows());
            images.row_mut(i).assign(&Array1::from(image));
        }
        images
    }

    /// A support set of `rows` images, and its files.
    fn support_set(&mut self, rows: usize, folder: Option<&Path>) -> Result<SupportSet> {
        let mut builder = with_prompts(self.prompts.view())?;
        let categories = self.prompts.nrows();
        let Some(folder) = folder else {
            for i in 0..rows {
                let category = i * categories / rows;
                let image = self.image(category);
                push_image(&mut builder, category, &image)?;
            }
            return Ok(builder.finish()?);
        };
        let labels: Array1<i64> = (0..rows).map(|i| (i * categories / rows) as i64).collect();
        let mut images = Array2::zeros((rows, self.prompts.ncols()));
        for i in 0..rows {
            let image = self.image(i * categories / rows);
            images.row_mut(i).assign(&Array1::from(image));
        }
        self.prompts.write_npy(File::create(folder.join("prompts.npy"))?)?;
        images.write_npy(File::create(folder.join("support.npy"))?)?;
        labels.write_npy(File::create(folder.join("labels.npy"))?)?;
        read_support_set(folder, None)
    }
}
