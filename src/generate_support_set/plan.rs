//! Which images there are to be, and which of them are missing.

use std::collections::{HashMap, HashSet};

use pgrx::check_for_interrupts;
use susx_core::sus::{Recipe, fill_templates, image_seed, in_random_order};

use super::Call;
use crate::embedder::Embedder;
use crate::limits;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::generated::{self, Made};
use crate::pg::error::{Error, Result};
use crate::pictures::Manner;
use crate::prompting::Prompting;

/// The prompt of a category whose own prompts have no text: the paper's.
const TEMPLATE: &str = "a photo of a {}.";

/// What a call has found out at its beginning.
#[derive(Debug)]
pub struct Plan {
    /// Name of the classifier.
    pub classifier: String,
    pub embedder: Embedder,
    pub categories: Vec<Category>,
    how: How,
    /// Categories for which there are no prompts.
    pub without: Vec<String>,
}

/// How all images are made.
#[derive(Debug)]
struct How {
    generator: String,
    seed: i64,
    manner: Manner,
}

/// The images of one category. They are many and follow from little: each is worked out when it is needed.
#[derive(Debug)]
pub struct Category {
    pub name: String,
    /// They take turns.
    prompts: Vec<Prompt>,
    /// Of every image that there is to be.
    is_there: Vec<bool>,
    /// Whether it has generated images that are not wanted.
    pub has_others: bool,
}

/// An image that there is to be.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub made: Made,
    pub seed: i64,
    /// That of the prompt, where the classifier has it.
    pub embedding: Option<&'a [f32]>,
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
        let how = How { generator, seed: call.seed, manner: call.manner.clone() };
        let (mut categories, mut without) = (Vec::new(), Vec::new());
        for name in catalog::categories(classifier)? {
            match prompts.remove(&name) {
                Some(prompts) => {
                    let there = there.remove(&name).unwrap_or_default();
                    categories.push(Category::new(call, &how, name, prompts, &there)?);
                }
                None => without.push(name),
            }
        }
        if categories.is_empty() {
            return Err(call.prompting.none());
        }
        let wanted = categories.len().saturating_mul(call.per_class);
        limits::check("the number of categories, times per_class,", limits::GENERATED, wanted)?;
        Ok(Plan { classifier: classifier.name()?, embedder, categories, how, without })
    }

    pub fn generator(&self) -> &str {
        &self.how.generator
    }

    /// How many images there are to be.
    pub fn wanted(&self) -> usize {
        self.categories.iter().map(|category| category.is_there.len()).sum()
    }

    /// How many images are missing.
    pub fn missing(&self) -> usize {
        self.categories.iter().map(|category| category.missing().count()).sum()
    }

    /// An image of a category.
    pub fn image<'a>(&self, category: &'a Category, place: usize) -> Result<Wanted<'a>> {
        category.image(&self.how, place)
    }
}

impl Category {
    fn new(call: &Call, how: &How, name: String, prompts: Vec<Prompt>, there: &There) -> Result<Category> {
        let longest = prompts.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let bytes = call.per_class.saturating_mul(longest + how.manner.negative_prompt.len());
        limits::check_bytes("the prompts of a category's images together", limits::PROMPT_BYTES, bytes)?;
        let mut category = Category { name, prompts, is_there: Vec::new(), has_others: false };
        let mut kept = 0;
        for place in 0..call.per_class {
            check_for_interrupts!();
            // Where there is none, none of these is.
            let is_there = there.rows > 0 && there.made.contains(&category.image(how, place)?.made);
            category.is_there.push(is_there);
            kept += usize::from(is_there);
        }
        category.has_others = kept < there.rows;
        Ok(category)
    }

    /// The places of the images that are missing, from 0.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        (0..self.is_there.len()).filter(|&place| !self.is_there[place])
    }

    /// The places of all images.
    pub fn places(&self) -> std::ops::Range<usize> {
        0..self.is_there.len()
    }

    fn image(&self, how: &How, place: usize) -> Result<Wanted<'_>> {
        let seed = image_seed(how.seed, &self.name, place as u64);
        let recipe = Recipe {
            generator: &how.generator,
            seed,
            steps: how.manner.steps,
            guidance_scale: how.manner.guidance_scale,
            negative_prompt: &how.manner.negative_prompt,
        };
        let recipe = recipe.to_json().map_err(Error::internal)?;
        // A category has some.
        let (prompt, embedding) = &self.prompts[place % self.prompts.len()];
        Ok(Wanted { made: Made { prompt: prompt.clone(), recipe }, seed, embedding: embedding.as_deref() })
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
                check_for_interrupts!();
                let texts = sentences.iter().map(|(text, _)| text.clone()).collect();
                let mut order: Vec<String> = in_random_order(call.seed, category, texts);
                order.dedup();
                let place: HashMap<&str, usize> =
                    order.iter().enumerate().map(|(place, text)| (text.as_str(), place)).collect();
                sentences.sort_by_cached_key(|(text, _)| place.get(text.as_str()).copied());
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
