//! A fitted classifier as bytes, which several processes can use at the same time.
//!
//! The bytes are for processes of the same program on the same machine, and no format to keep. They begin with the length
//! of the first part, and each part begins at a multiple of 64 bytes:
//!
//! ```text
//! length, what was fitted and what support set it has | features | likeness vectors | ids
//! ```
//!
//! A restored classifier leaves all but the first part where it is. So a process that restores it from a mapped file needs
//! memory and time that hardly depend on the number of support images.

use std::io::{self, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Classifier, ClassifierParams, Known, ValidParams};
use crate::method::Method;
use crate::sus::{Outline, SharedBytes, padded, write_padded};

/// Length of the length.
const LENGTH: usize = size_of::<u64>();

/// All but the numbers of the support images.
#[derive(Debug, Serialize, Deserialize)]
struct Saved<'a> {
    params: ClassifierParams,
    #[serde(borrow)]
    outline: Outline<'a>,
    /// See [`Known::usual`].
    usual: Option<(f64, f64)>,
    /// What the fitted methods of queries like the support images save.
    methods: Vec<(Method, &'a [u8])>,
}

impl Classifier {
    /// Writes the classifier with the methods that have been fitted.
    pub fn save(&self, out: &mut impl Write) -> io::Result<()> {
        let methods = self.main_fits().saved();
        let saved = Saved {
            params: *self.params,
            outline: self.support_set.outline(),
            usual: self.known.usual(),
            methods: methods.iter().map(|(method, saved)| (*method, saved.as_slice())).collect(),
        };
        let mut first = vec![0; LENGTH];
        first = postcard::to_extend(&saved, first).map_err(io::Error::other)?;
        let length = (first.len() as u64).to_ne_bytes();
        first[..LENGTH].copy_from_slice(&length);
        write_padded(&first, out)?;
        self.support_set.write_numbers(out)
    }

    /// A classifier as it was [saved](Self::save), which gives the same answers to the last bit. `None` if the bytes are not one,
    /// or one with other parameters.
    pub fn restored(bytes: &SharedBytes, params: ValidParams) -> Option<Self> {
        let (length, _) = bytes.split_first_chunk::<LENGTH>()?;
        let length = usize::try_from(u64::from_ne_bytes(*length)).ok()?;
        let Saved { params: saved, outline, usual, methods } =
            postcard::from_bytes(bytes.get(LENGTH..length)?).ok()?;
        if saved != *params {
            return None;
        }
        let numbers = bytes.slice(padded(length)..bytes.len())?;
        let support_set = Arc::new(outline.with_numbers(&numbers)?);
        let known = Known::restored(Arc::clone(&support_set), params, usual);
        let classifier = Classifier::unfitted(support_set, params, known);
        classifier.main_fits().restore(&methods)?;
        Some(classifier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::Queries;
    use crate::sus::{SupportSet, SupportSetBuilder};

    /// A part of a circle in more dimensions, which depends on both numbers.
    fn vector(category: usize, image: usize, length: usize) -> Vec<f32> {
        (0..length).map(|i| ((category * 7 + i * (3 + category) + image * i) as f32).sin() + 0.1).collect()
    }

    /// With a category without images, one with a single image, and negatives.
    fn support_set(categories: usize, images: usize, likeness: Option<usize>) -> SupportSet {
        let mut builder = SupportSetBuilder::new(24);
        for c in 0..categories {
            let name = format!("category {c}");
            builder.push_prompt(&name, &vector(c, 0, 24)).unwrap();
            let of_category = match c {
                0 => 0,
                1 => 1,
                _ => images,
            };
            for i in 1..=of_category {
                let id = (c * 1000 + i) as i64;
                match i % 2 {
                    0 => builder.push_image(&name, id, &vector(c, i, 24)).unwrap(),
                    _ => builder.push_unlabelled_image(&name, id, &vector(c, i, 24)).unwrap(),
                }
                if let Some(length) = likeness {
                    builder.push_likeness(&vector(c + 1, i, length)).unwrap();
                }
            }
        }
        builder.push_negative(&vector(90, 0, 24)).unwrap();
        builder.finish().unwrap()
    }

    fn saved(classifier: &Classifier) -> SharedBytes {
        let mut bytes = Vec::new();
        classifier.save(&mut bytes).unwrap();
        // Aligned as a mapped file is.
        struct Aligned(Vec<u8>, usize);
        impl AsRef<[u8]> for Aligned {
            fn as_ref(&self) -> &[u8] {
                &self.0[self.1..]
            }
        }
        let mut place = vec![0; bytes.len() + 64];
        let start = place.as_ptr().align_offset(64);
        place.truncate(start);
        place.extend(bytes);
        SharedBytes::new(Aligned(place, start))
    }

    /// Everything that a classifier says of queries.
    fn says(classifier: &Classifier, queries: Queries) -> String {
        let of = |method: Method| {
            let explained: Vec<_> =
                queries.chunks(1).map(|one| classifier.explain(one, method, 3, 4)).collect();
            (classifier.answers(queries, method, 3), explained)
        };
        let methods: Vec<_> = Method::ALL.into_iter().map(of).collect();
        let set = classifier.support_set();
        let rows = (set.ids().to_vec(), set.labelled().to_vec(), set.offsets().to_vec());
        let tags = classifier.tags(queries, 0.1);
        format!("{methods:?} {rows:?} {tags:?} {:?}", classifier.digest())
    }

    #[test]
    fn a_restored_classifier_gives_the_same_answers() {
        let params = ClassifierParams::START.check().unwrap();
        // More categories than dimensions, and fewer; fewer images than dimensions; without images.
        for (categories, images, likeness) in
            [(4, 20, None), (40, 3, None), (4, 20, Some(9)), (3, 2, Some(30)), (5, 0, None)]
        {
            let fitted = Classifier::fit(support_set(categories, images, likeness), params);
            // The file has what was fitted when it was written; the rest is fitted when it is asked for.
            let restored = Classifier::restored(&saved(&fitted), params).unwrap();
            let other = support_set(6, 5, Some(likeness.unwrap_or(24)));
            let queries = match likeness {
                Some(_) => other.queries(),
                None => other.queries().without_likeness(),
            };
            let expected = says(&fitted, queries);
            assert_eq!(says(&restored, queries), expected);
            // With all methods, too.
            let all = Classifier::restored(&saved(&fitted), params).unwrap();
            assert_eq!(says(&all, queries), expected);
            assert!(all.size() < fitted.size() || images == 0);
        }
    }

    #[test]
    fn other_bytes_are_no_classifier() {
        let params = ClassifierParams::START.check().unwrap();
        let bytes = saved(&Classifier::fit(support_set(4, 20, Some(9)), params));
        assert!(Classifier::restored(&bytes, params).is_some());
        for length in [0, 7, 8, 300, bytes.len() / 2, bytes.len() - 64] {
            assert!(Classifier::restored(&bytes.slice(0..length).unwrap(), params).is_none(), "{length}");
        }
        let hotter = ClassifierParams { temperature: 0.7, ..*params }.check().unwrap();
        assert!(Classifier::restored(&bytes, hotter).is_none());
        let mut huge = bytes.to_vec();
        huge[..8].fill(255);
        assert!(Classifier::restored(&SharedBytes::new(huge), params).is_none());
    }
}
