//! Which images the classifier should have, and which of them are missing.

use std::collections::{HashMap, HashSet};

use pgrx::check_for_interrupts;
use susx_core::sus::{Recipe, fill_templates, image_seed, in_random_order};

use super::GenerateCall;
use crate::embedder::Embedder;
use crate::generation::GenerationParams;
use crate::limits;
use crate::pg::catalog::classifier as catalog;
use crate::pg::catalog::generated::{self, GenerationKey};
use crate::pg::error::{Error, Result};
use crate::prompting::Prompting;

/// The paper's prompt, for categories whose prompts have no text.
const TEMPLATE: &str = "a photo of a {}.";

/// The images of all categories, as the call found them when it began.
#[derive(Debug)]
pub struct Plan {
    /// The name of the classifier.
    pub classifier: String,
    pub embedder: Embedder,
    pub categories: Vec<Category>,
    common: CommonParams,
    /// Categories that have no prompts for the call's prompting.
    pub without_prompts: Vec<String>,
}

/// What all images have in common.
#[derive(Debug)]
struct CommonParams {
    generator: String,
    seed: i64,
    params: GenerationParams,
}

/// The images of one category. Each image's key is computed when it is needed, since there may be many.
#[derive(Debug)]
pub struct Category {
    pub name: String,
    /// The images use these in turn.
    prompts: Vec<Prompt>,
    /// Whether each of the images exists.
    exists: Vec<bool>,
    /// Whether the category has generated images that the plan does not have.
    pub has_others: bool,
}

/// An image that the classifier should have.
#[derive(Debug)]
pub struct PlannedImage<'a> {
    pub key: GenerationKey,
    pub seed: i64,
    /// The prompt's embedding, if the classifier has one.
    pub embedding: Option<&'a [f32]>,
}

/// The generated images that a category has.
#[derive(Debug, Default)]
struct ExistingImages {
    rows: usize,
    /// Keys of the images that can be kept.
    keys: HashSet<GenerationKey>,
}

/// A prompt's text and its embedding.
type Prompt = (String, Option<Vec<f32>>);

impl Plan {
    pub fn make(call: &GenerateCall, embedder: Embedder, generator: String) -> Result<Plan> {
        let classifier = call.classifier;
        classifier.open_for_replacing()?;
        let mut prompts = prompts(call)?;
        let mut existing: HashMap<String, ExistingImages> = HashMap::new();
        generated::read(classifier, call.kept(&embedder), |category, key, is_complete| {
            let existing = existing.entry(category).or_default();
            existing.rows += 1;
            if is_complete {
                existing.keys.insert(key);
            }
            Ok(())
        })?;
        let common = CommonParams { generator, seed: call.seed, params: call.params.clone() };
        let (mut categories, mut without_prompts) = (Vec::new(), Vec::new());
        for name in catalog::categories(classifier)? {
            match prompts.remove(&name) {
                Some(prompts) => {
                    let existing = existing.remove(&name).unwrap_or_default();
                    categories.push(Category::new(call, &common, name, prompts, &existing)?);
                }
                None => without_prompts.push(name),
            }
        }
        if categories.is_empty() {
            return Err(call.prompting.no_prompts());
        }
        let wanted = categories.len().saturating_mul(call.per_class);
        limits::check("the number of categories, times per_class,", limits::GENERATED, wanted)?;
        Ok(Plan { classifier: classifier.name()?, embedder, categories, common, without_prompts })
    }

    pub fn generator(&self) -> &str {
        &self.common.generator
    }

    /// The number of images that the classifier should have.
    pub fn planned(&self) -> usize {
        self.categories.iter().map(|category| category.exists.len()).sum()
    }

    /// The number of images that are missing.
    pub fn missing(&self) -> usize {
        self.categories.iter().map(|category| category.missing().count()).sum()
    }

    /// The image of a category with that index.
    pub fn image<'a>(&self, category: &'a Category, index: usize) -> Result<PlannedImage<'a>> {
        category.image(&self.common, index)
    }
}

impl Category {
    fn new(
        call: &GenerateCall,
        common: &CommonParams,
        name: String,
        prompts: Vec<Prompt>,
        existing: &ExistingImages,
    ) -> Result<Category> {
        let longest = prompts.iter().map(|(text, _)| text.len()).max().unwrap_or(0);
        let bytes = call.per_class.saturating_mul(longest + common.params.negative_prompt.len());
        limits::check_bytes("the prompts of a category's images together", limits::PROMPT_BYTES, bytes)?;
        let mut category = Category { name, prompts, exists: Vec::new(), has_others: false };
        let mut kept = 0;
        for index in 0..call.per_class {
            check_for_interrupts!();
            // No key is computed for a category without any image.
            let exists = existing.rows > 0 && existing.keys.contains(&category.image(common, index)?.key);
            category.exists.push(exists);
            kept += usize::from(exists);
        }
        category.has_others = kept < existing.rows;
        Ok(category)
    }

    /// The indices of the images that are missing, from 0.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.indices().filter(|&index| !self.exists[index])
    }

    /// The indices of all images, from 0.
    pub fn indices(&self) -> std::ops::Range<usize> {
        0..self.exists.len()
    }

    fn image(&self, common: &CommonParams, index: usize) -> Result<PlannedImage<'_>> {
        let seed = image_seed(common.seed, &self.name, index as u64);
        let recipe = Recipe {
            generator: &common.generator,
            seed,
            steps: common.params.steps,
            guidance_scale: common.params.guidance_scale,
            negative_prompt: &common.params.negative_prompt,
        };
        let recipe = recipe.to_json().map_err(Error::internal)?;
        // Every category of a plan has at least one prompt.
        let (prompt, embedding) = &self.prompts[index % self.prompts.len()];
        let key = GenerationKey { prompt: prompt.clone(), recipe };
        Ok(PlannedImage { key, seed, embedding: embedding.as_deref() })
    }
}

/// The prompts of every category that has any, in the order in which they are used.
fn prompts(call: &GenerateCall) -> Result<HashMap<String, Vec<Prompt>>> {
    let mut prompts: HashMap<String, Vec<Prompt>> = HashMap::new();
    catalog::read_prompts(call.classifier, call.prompting.origins(), |category, text, embedding| {
        let text = text.filter(|text| !text.trim().is_empty());
        let text = match (text, call.prompting) {
            (Some(text), _) => text,
            // The classifier was created from vectors.
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
                let index: HashMap<&str, usize> =
                    order.iter().enumerate().map(|(index, text)| (text.as_str(), index)).collect();
                sentences.sort_by_cached_key(|(text, _)| index.get(text.as_str()).copied());
                sentences.dedup_by(|(one, _), (two, _)| one == two);
            }
        }
    }
    Ok(prompts)
}

fn photo(category: &str) -> Result<String> {
    let prompts = fill_templates(&[TEMPLATE], category)?;
    prompts.into_iter().next().ok_or_else(|| Error::internal("a template made no prompt"))
}
