//! Which images there are to be, and which of them are missing.

use std::collections::{HashMap, HashSet};

use susx_core::sus::{Recipe, fill_templates, image_seed, in_random_order};

use super::Call;
use crate::embedder::Embedder;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::generated::{self, Made};
use crate::pg::error::{Error, Result};
use crate::prompting::Prompting;

/// The prompt of a category whose own prompts have no text: the paper's.
const TEMPLATE: &str = "a photo of a {}.";

/// What a call has found out at its beginning.
#[derive(Debug)]
pub struct Plan {
    /// Name of the classifier.
    pub classifier: String,
    pub embedder: Embedder,
    /// Name of the generator.
    pub generator: String,
    pub categories: Vec<Category>,
    /// Categories for which there are no prompts.
    pub without: Vec<String>,
}

/// The images of one category.
#[derive(Debug)]
pub struct Category {
    pub name: String,
    pub wanted: Vec<Wanted>,
    /// Whether it has generated images that are not wanted.
    pub has_others: bool,
}

/// An image that there is to be.
#[derive(Debug)]
pub struct Wanted {
    pub made: Made,
    pub seed: i64,
    /// That of the prompt, where the classifier has it.
    pub embedding: Option<Vec<f32>>,
    pub is_there: bool,
}

/// The generated images that a category has.
#[derive(Debug, Default)]
struct There {
    rows: usize,
    /// How those were made that are as they should be.
    made: HashSet<Made>,
}

/// A prompt's text and its embedding.
type Prompt = (String, Option<Vec<f32>>);

impl Plan {
    pub fn make(call: &Call, embedder: Embedder, generator: String) -> Result<Plan> {
        let classifier = call.classifier;
        classifier.open_for_replacing()?;
        let mut prompts = prompts(call)?;
        let mut there: HashMap<String, There> = HashMap::new();
        generated::read(classifier, |category, made, has_picture| {
            let there = there.entry(category).or_default();
            there.rows += 1;
            if has_picture || !call.keep_images {
                there.made.insert(made);
            }
            Ok(())
        })?;
        let (mut categories, mut without) = (Vec::new(), Vec::new());
        for name in catalog::categories(classifier)? {
            match prompts.remove(&name) {
                Some(prompts) => {
                    let there = there.remove(&name).unwrap_or_default();
                    categories.push(Category::new(call, &generator, name, prompts, &there)?);
                }
                None => without.push(name),
            }
        }
        if categories.is_empty() {
            return Err(call.prompting.none());
        }
        Ok(Plan { classifier: classifier.name()?, embedder, generator, categories, without })
    }

    /// How many images are missing.
    pub fn missing(&self) -> usize {
        self.categories.iter().map(|category| category.missing().count()).sum()
    }
}

impl Category {
    /// All prompts take their turns.
    fn new(
        call: &Call,
        generator: &str,
        name: String,
        prompts: Vec<Prompt>,
        there: &There,
    ) -> Result<Category> {
        let mut wanted = Vec::with_capacity(call.per_class);
        for (index, (prompt, embedding)) in (0..call.per_class as u64).zip(prompts.iter().cycle()) {
            let seed = image_seed(call.seed, &name, index);
            let recipe = Recipe {
                generator,
                seed,
                steps: call.manner.steps,
                guidance_scale: call.manner.guidance_scale,
                negative_prompt: &call.manner.negative_prompt,
            };
            let recipe = recipe.to_json().map_err(Error::internal)?;
            let made = Made { prompt: prompt.clone(), recipe };
            let is_there = there.made.contains(&made);
            wanted.push(Wanted { made, seed, embedding: embedding.clone(), is_there });
        }
        let kept = wanted.iter().filter(|wanted| wanted.is_there).count();
        Ok(Category { name, wanted, has_others: kept < there.rows })
    }

    pub fn missing(&self) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().filter(|wanted| !wanted.is_there)
    }
}

/// The prompts of every category that has some, in the order in which they are used.
fn prompts(call: &Call) -> Result<HashMap<String, Vec<Prompt>>> {
    let mut prompts: HashMap<String, Vec<Prompt>> = HashMap::new();
    catalog::read_prompts(call.classifier, call.prompting.origins(), |category, text, embedding| {
        let text = text.filter(|text| !text.trim().is_empty());
        let text = match (text, call.prompting) {
            (Some(text), _) => text,
            // A classifier that was made of vectors.
            (None, Prompting::Photo) => photo(category)?,
            (None, Prompting::Cupl) => return Ok(()),
        };
        prompts.entry(category.to_owned()).or_default().push((text, Some(embedding.0)));
        Ok(())
    })?;
    match call.prompting {
        Prompting::Photo => {
            for category in catalog::categories(call.classifier)? {
                if !prompts.contains_key(&category) {
                    prompts.insert(category.clone(), vec![(photo(&category)?, None)]);
                }
            }
        }
        Prompting::Cupl => {
            for (category, sentences) in &mut prompts {
                let texts = sentences.iter().map(|(text, _)| text.clone()).collect();
                let mut order: Vec<String> = in_random_order(call.seed, category, texts);
                order.dedup();
                let place = |text: &String| order.iter().position(|other| other == text);
                sentences.sort_by_cached_key(|(text, _)| place(text));
                sentences.dedup_by(|(one, _), (two, _)| one == two);
            }
        }
    }
    Ok(prompts)
}

fn photo(category: &str) -> Result<String> {
    let prompts = fill_templates(&[TEMPLATE], category)?;
    prompts.into_iter().next().ok_or_else(|| Error::Internal("a template made no prompt".to_owned()))
}
