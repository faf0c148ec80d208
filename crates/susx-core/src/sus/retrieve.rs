//! SuS-LC (paper, section 3.1): retrieves a support set from a pool of unlabelled images.
//!
//! The candidates of a prompt are the images of the pool that are most similar to it. A category takes its support
//! images from its prompts in turn, the best candidates first, until it has enough. (The published code also searches
//! with every prompt, but then takes all images from the first.)
//!
//! By default, an image is a candidate only for the category whose zeroshot weight is nearest to it. This keeps, for
//! example, a dog from becoming the sixteenth image of `cat`. An image that is nearer to a negative than to every
//! category is a candidate for none.
//!
//! Of near-duplicates a category takes the best only, unless they are wanted: copies of a picture say no more than the
//! picture. Nor does it take a near-duplicate of an image that is labelled already. Of a chain of images, each a
//! near-duplicate of the next, those that are taken may depend on the order in which images are offered.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, s};

use super::SupportSet;
use super::distinct::{Distinct, ImageVector};
use crate::interrupt;
use crate::linalg::{block_rows, largest, row_product};

/// An image chosen for a category.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the category.
    pub category: usize,
    /// Index of the prompt that it is a candidate of.
    pub prompt: usize,
    /// The image's key in the pool.
    pub key: String,
    /// Cosine of the image to the prompt.
    pub similarity: f32,
}

/// A retrieval in progress. Images are offered in any order; the best candidates of each prompt are kept.
#[derive(Debug)]
pub struct Retrieval {
    zeroshot_weights: Array2<f32>,
    /// Unit rows, P × d.
    prompts: Array2<f32>,
    /// The category of each prompt, P.
    owner: Vec<usize>,
    /// The prompts of each category, C.
    prompts_of: Vec<Range<usize>>,
    per_class: usize,
    exclusive: bool,
    /// Names of other things, Q × d.
    negatives: Array2<f32>,
    /// For each prompt, at most `per_class` candidates; the top of the heap is the least similar.
    kept: Vec<BinaryHeap<KeptImage>>,
    /// `None` if near-duplicates are wanted.
    distinct: Option<Distinct>,
}

/// A candidate of a prompt. The greatest is the next to drop: ordered by falling similarity, then by key, so that the
/// result does not depend on the order of the offers.
#[derive(Debug, PartialEq)]
struct KeptImage {
    similarity: f32,
    key: String,
    /// Empty where near-duplicates are wanted.
    vector: ImageVector,
}

impl Eq for KeptImage {}

impl Ord for KeptImage {
    fn cmp(&self, other: &Self) -> Ordering {
        other.similarity.total_cmp(&self.similarity).then_with(|| self.key.cmp(&other.key))
    }
}

impl PartialOrd for KeptImage {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Retrieval {
    /// Starts a retrieval with unit prompt embeddings (P × d), sorted by category, and the category of each (`owner`, P).
    pub fn new(
        support_set: &SupportSet,
        prompts: Array2<f32>,
        owner: Vec<usize>,
        per_class: usize,
        exclusive: bool,
    ) -> Self {
        let kept = owner.iter().map(|_| BinaryHeap::new()).collect();
        let zeroshot_weights = support_set.zeroshot_weights().to_owned();
        let negatives = support_set.negatives().to_owned();
        let first = |category: usize| owner.partition_point(|&owner| owner < category);
        let prompts_of = (0..zeroshot_weights.nrows()).map(|c| first(c)..first(c + 1)).collect();
        Retrieval {
            zeroshot_weights,
            prompts,
            owner,
            prompts_of,
            per_class,
            exclusive,
            negatives,
            kept,
            distinct: None,
        }
    }

    /// The same, which passes over near-duplicates. All images are then offered with their vectors.
    pub fn distinct(self, distinct: Distinct) -> Self {
        Retrieval { distinct: Some(distinct), ..self }
    }

    /// The number of elements of the vectors that are kept. Candidates of several prompts, which share theirs, count each.
    pub fn kept_numbers(&self) -> usize {
        self.kept.iter().flatten().map(|image| image.vector.len()).sum()
    }

    /// The prompt embeddings, P × d.
    pub fn prompts(&self) -> ArrayView2<'_, f32> {
        self.prompts.view()
    }

    /// Offers images, given by their keys (N), unit features (N × d) and the vectors by which they are compared with each
    /// other (N, or none where near-duplicates are wanted), to every prompt.
    pub fn offer(&mut self, keys: &[String], features: ArrayView2<f32>, vectors: &[ImageVector]) {
        let columns = if self.exclusive { self.zeroshot_weights.nrows() } else { self.owner.len() };
        let most = block_rows(columns, usize::MAX);
        for start in (0..keys.len()).step_by(most) {
            let rows = start..(start + most).min(keys.len());
            let vectors = vectors.get(rows.clone()).unwrap_or_default();
            self.offer_block(&keys[rows.clone()], features.slice(s![rows, ..]), vectors);
        }
    }

    fn offer_block(&mut self, keys: &[String], features: ArrayView2<f32>, vectors: &[ImageVector]) {
        let is_negative = self.is_negative(features);
        let nearest = self.nearest(features);
        // An image that counts for one category is compared with the prompts of that alone, which may be few of very many.
        let similarities = (!self.exclusive).then(|| row_product(features, self.prompts.view()));
        for (row, key) in keys.iter().enumerate().filter(|&(row, _)| !is_negative[row]) {
            interrupt::check();
            let image = Image { key, vector: vectors.get(row), is_labelled: OnceCell::new() };
            if let Some(similarities) = &similarities {
                for (prompt, &similarity) in similarities.row(row).iter().enumerate() {
                    self.keep(prompt, &image, similarity);
                }
            } else {
                let own = self.prompts_of[nearest[row]].clone();
                let prompts = self.prompts.slice(s![own.clone(), ..]);
                let similarities = row_product(features.slice(s![row..=row, ..]), prompts);
                for (prompt, &similarity) in own.zip(&similarities) {
                    self.keep(prompt, &image, similarity);
                }
            }
        }
    }

    /// Offers images to one prompt, the most similar first, as an index returns them. Returns whether the prompt has
    /// enough candidates.
    pub fn offer_to(
        &mut self,
        prompt: usize,
        keys: &[String],
        features: ArrayView2<f32>,
        vectors: &[ImageVector],
    ) -> bool {
        let similarities = row_product(features, self.prompts.slice(s![prompt..=prompt, ..]));
        let nearest = self.nearest(features);
        let is_negative = self.is_negative(features);
        for (row, key) in keys.iter().enumerate().filter(|&(row, _)| !is_negative[row]) {
            interrupt::check();
            if !self.exclusive || self.owner[prompt] == nearest[row] {
                let image = Image { key, vector: vectors.get(row), is_labelled: OnceCell::new() };
                self.keep(prompt, &image, similarities[(row, 0)]);
            }
        }
        self.kept[prompt].len() >= self.per_class
    }

    /// Drops the candidates of a prompt.
    pub fn restart(&mut self, prompt: usize) {
        self.kept[prompt].clear();
    }

    /// Chooses the images of every category, in the order of the categories: from their prompts in turn, the most
    /// similar first.
    pub fn select(self) -> Vec<Candidate> {
        let categories = self.zeroshot_weights.nrows();
        let mut lists: Vec<Vec<(usize, std::vec::IntoIter<KeptImage>)>> =
            (0..categories).map(|_| Vec::new()).collect();
        for (prompt, (heap, &category)) in self.kept.into_iter().zip(&self.owner).enumerate() {
            interrupt::check();
            lists[category].push((prompt, heap.into_sorted_vec().into_iter()));
        }
        let is_same =
            |a: &[f32], b: &[f32]| self.distinct.as_ref().is_some_and(|distinct| distinct.is_same(a, b));
        let mut chosen = Vec::new();
        for (category, mut prompts) in lists.into_iter().enumerate() {
            let mut seen = HashSet::new();
            let mut taken: Vec<ImageVector> = Vec::new();
            let mut open = true;
            while open && seen.len() < self.per_class {
                interrupt::check();
                open = false;
                for (prompt, list) in &mut prompts {
                    // Skip images that another prompt has contributed, and near-duplicates of these.
                    let is_new = |image: &KeptImage| {
                        interrupt::check();
                        let mut taken = taken.iter();
                        !seen.contains(&image.key) && !taken.any(|vector| is_same(vector, &image.vector))
                    };
                    let next = list.find(is_new);
                    let Some(image) = next.filter(|_| seen.len() < self.per_class) else { continue };
                    open = true;
                    seen.insert(image.key.clone());
                    taken.push(image.vector);
                    let similarity = image.similarity;
                    chosen.push(Candidate { category, prompt: *prompt, key: image.key, similarity });
                }
            }
        }
        chosen
    }

    /// Whether each image is nearer to a negative than to every category.
    fn is_negative(&self, features: ArrayView2<f32>) -> Vec<bool> {
        if self.negatives.is_empty() {
            return vec![false; features.nrows()];
        }
        let nearest = |names: ArrayView2<f32>| -> Vec<f32> {
            row_product(features, names).rows().into_iter().map(largest).collect()
        };
        let of_categories = nearest(self.zeroshot_weights.view());
        nearest(self.negatives.view())
            .into_iter()
            .zip(of_categories)
            .map(|(other, own)| other > own)
            .collect()
    }

    /// The category that each image is most similar to; the first one in case of a tie.
    fn nearest(&self, features: ArrayView2<f32>) -> Vec<usize> {
        if !self.exclusive {
            return Vec::new();
        }
        let best = |row: ndarray::ArrayView1<f32>| {
            (0..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best })
        };
        let mut nearest = Vec::with_capacity(features.nrows());
        let most = block_rows(self.zeroshot_weights.nrows(), usize::MAX);
        for features in features.axis_chunks_iter(Axis(0), most) {
            let cosines = row_product(features, self.zeroshot_weights.view());
            nearest.extend(cosines.rows().into_iter().map(best));
        }
        nearest
    }

    /// Keeps an image as a candidate of a prompt, if it is one of the best that are not near-duplicates of each other.
    fn keep(&mut self, prompt: usize, image: &Image, similarity: f32) {
        let heap = &mut self.kept[prompt];
        if heap.len() >= self.per_class {
            match heap.peek() {
                Some(worst) if worst.similarity <= similarity => {}
                _ => return,
            }
        }
        let vector = image.vector.cloned().unwrap_or_default();
        let kept = KeptImage { similarity, key: image.key.to_owned(), vector };
        if let Some(distinct) = &self.distinct {
            let vector = &kept.vector;
            if *image.is_labelled.get_or_init(|| distinct.is_labelled(vector)) {
                return;
            }
            // The better one is the lesser one.
            let is_same = |other: &KeptImage| distinct.is_same(&other.vector, vector);
            if heap.iter().any(|other| *other < kept && is_same(other)) {
                return;
            }
            heap.retain(|other| !is_same(other));
        }
        heap.push(kept);
        if heap.len() > self.per_class {
            heap.pop();
        }
    }
}

/// An image that is offered.
struct Image<'a> {
    key: &'a str,
    vector: Option<&'a ImageVector>,
    /// Whether it is a near-duplicate of a labelled one, once that was asked.
    is_labelled: OnceCell<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sus::{SupportError, SupportSetBuilder, unit};
    use ndarray::arr2;

    fn two_categories() -> Result<SupportSet, SupportError> {
        let mut builder = SupportSetBuilder::new(2);
        builder.push_prompt("east", &[1.0, 0.0])?;
        builder.push_prompt("north", &[0.0, 1.0])?;
        builder.finish()
    }

    fn offer(retrieval: &mut Retrieval, pool: &[(&str, [f32; 2])]) -> Result<(), SupportError> {
        for (key, vector) in pool {
            let feature = unit(vector)?;
            let row = arr2(&[[feature[0], feature[1]]]);
            retrieval.offer(&[(*key).to_owned()], row.view(), &[feature.into()]);
        }
        Ok(())
    }

    fn keys(chosen: &[Candidate], category: usize) -> Vec<&str> {
        chosen.iter().filter(|c| c.category == category).map(|c| c.key.as_str()).collect()
    }

    const POOL: [(&str, [f32; 2]); 5] =
        [("e1", [5.0, 0.0]), ("ne", [3.0, 2.9]), ("n1", [0.0, 1.0]), ("e2", [9.0, 1.0]), ("e2b", [9.0, 1.0])];

    #[test]
    fn an_image_is_kept_for_the_category_it_is_nearest_to() -> Result<(), SupportError> {
        let set = two_categories()?;
        let new =
            |exclusive| Retrieval::new(&set, set.zeroshot_weights().to_owned(), vec![0, 1], 2, exclusive);
        let mut retrieval = new(true);
        offer(&mut retrieval, &POOL)?;
        let chosen = retrieval.select();
        assert_eq!(keys(&chosen, 0), ["e1", "e2"]);
        assert_eq!(keys(&chosen, 1), ["n1"]);

        let mut retrieval = new(false);
        offer(&mut retrieval, &POOL)?;
        assert_eq!(keys(&retrieval.select(), 1), ["n1", "ne"]);
        Ok(())
    }

    #[test]
    fn images_of_no_category_are_left_out() -> Result<(), SupportError> {
        let set = |negatives: &[[f32; 2]]| {
            let mut builder = SupportSetBuilder::new(2);
            builder.push_prompt("east", &[1.0, 0.0])?;
            builder.push_prompt("north", &[0.0, 1.0])?;
            negatives.iter().try_for_each(|negative| builder.push_negative(negative))?;
            builder.finish()
        };
        let pool = [("e1", [5.0, 0.0]), ("other", [5.0, -4.0]), ("n1", [0.0, 1.0])];
        let new =
            |set: &SupportSet| Retrieval::new(set, set.zeroshot_weights().to_owned(), vec![0, 1], 2, true);
        let mut all = new(&set(&[])?);
        offer(&mut all, &pool)?;
        assert_eq!(keys(&all.select(), 0), ["e1", "other"]);
        let mut known = new(&set(&[[1.0, -1.0]])?);
        offer(&mut known, &pool)?;
        let other = unit(&[5.0, -4.0])?;
        assert!(!known.offer_to(0, &["other".to_owned()], arr2(&[[other[0], other[1]]]).view(), &[]));
        let chosen = known.select();
        assert_eq!((keys(&chosen, 0), keys(&chosen, 1)), (vec!["e1"], vec!["n1"]));
        Ok(())
    }

    #[test]
    fn the_order_of_the_pool_does_not_matter() -> Result<(), SupportError> {
        let set = two_categories()?;
        let run = |pool: &[(&str, [f32; 2])]| -> Result<Vec<Candidate>, SupportError> {
            let mut retrieval = Retrieval::new(&set, set.zeroshot_weights().to_owned(), vec![0, 1], 2, true);
            offer(&mut retrieval, pool)?;
            Ok(retrieval.select())
        };
        let mut reversed = POOL;
        reversed.reverse();
        assert_eq!(run(&POOL)?, run(&reversed)?);
        Ok(())
    }

    #[test]
    fn prompts_take_turns_and_no_image_comes_twice() -> Result<(), SupportError> {
        let set = two_categories()?;
        let prompts = arr2(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]);
        let mut retrieval = Retrieval::new(&set, prompts, vec![0, 0, 1], 3, false);
        offer(&mut retrieval, &[("a", [1.0, 0.0]), ("b", [0.6, 0.8]), ("c", [0.9, 0.1]), ("d", [0.7, 0.7])])?;
        let chosen = retrieval.select();
        assert_eq!(keys(&chosen, 0), ["a", "b", "c"]);
        assert_eq!(chosen.iter().take(3).map(|c| c.prompt).collect::<Vec<_>>(), [0, 1, 0]);
        Ok(())
    }

    #[test]
    fn of_near_duplicates_the_best_is_taken() -> Result<(), SupportError> {
        let set = |labelled: &[[f32; 2]]| {
            let mut builder = SupportSetBuilder::new(2);
            builder.push_prompt("east", &[1.0, 0.0])?;
            builder.push_prompt("north", &[0.0, 1.0])?;
            labelled.iter().try_for_each(|image| builder.push_image("north", 1, image))?;
            builder.finish()
        };
        let pool = [
            ("a", [1.0, 0.2]),
            ("a copy", [1.0, 0.21]),
            ("far", [1.0, 0.7]),
            ("n", [0.0, 1.0]),
            ("best", [1.0, 0.15]),
            ("far copy", [1.0, 0.72]),
        ];
        let run = |set: &SupportSet, pool: &[(&str, [f32; 2])], per_class| {
            let prompts = set.zeroshot_weights().to_owned();
            let retrieval = Retrieval::new(set, prompts, vec![0, 1], per_class, true);
            let mut retrieval = retrieval.distinct(Distinct::new(set, 0.99, false));
            offer(&mut retrieval, pool)?;
            Ok::<_, SupportError>(retrieval.select())
        };
        let mut reversed = pool;
        reversed.reverse();
        for pool in [pool, reversed] {
            let chosen = run(&set(&[])?, &pool, 3)?;
            assert_eq!((keys(&chosen, 0), keys(&chosen, 1)), (vec!["best", "far"], vec!["n"]));
            // A labelled image counts, whatever its label.
            let chosen = run(&set(&[[1.0, 0.71], [0.0, 1.0]])?, &pool, 3)?;
            assert_eq!((keys(&chosen, 0), keys(&chosen, 1)), (vec!["best"], vec![]));
        }
        Ok(())
    }
}
