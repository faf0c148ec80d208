//! The classifiers that a session has fitted.
//!
//! A classifier is fitted when it is first used and kept until its table or its settings change; the
//! change arrives as an invalidation of the table ([`crate::pg::relcache`]). A fit shows the snapshot
//! that it was made with:
//!
//! * the statement that made it uses it to its end, so that all its rows see one state;
//! * later statements use it if nothing had committed between that snapshot and the fit, so that any
//!   later change is still to be announced, if their own snapshot is not older, and if nobody is just
//!   changing the classifier.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ndarray::Array2;
use pgrx::pg_sys;
use susx_core::classifier::{Classifier, Method};
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder, unit};

use crate::pg::catalog::classifier::{self as catalog, Role, Settings};
use crate::pg::client::{self, OwnModel};
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::regclass::RegClass;
use crate::pg::relcache;
use crate::pg::snapshot::SnapshotId;
use crate::pg::spi::Access;
use crate::pg::vector::Vector;

/// A classifier as a statement sees it.
#[derive(Debug)]
pub struct Fitted {
    pub name: String,
    pub settings: Settings,
    pub classifier: Classifier,
}

impl Fitted {
    /// The method that a call names, else the classifier's own, else the fit's default.
    pub fn method(&self, name: Option<&str>) -> Result<Method> {
        match name {
            Some(name) => Ok(name.parse()?),
            None => Ok(self.settings.method.unwrap_or_else(|| self.classifier.default_method())),
        }
    }

    /// An image's embedding by the model of the classifier's own vectors.
    pub fn embed(&self, image: &[u8]) -> Result<Vector> {
        client::only(self.model()?.embed_images(&[image])?)
    }

    /// The model of the classifier's own vectors; an error if there is none.
    pub fn model(&self) -> Result<OwnModel> {
        self.settings.own_model(&self.name)
    }

    /// An embedding as a query, 1 x d and of unit length.
    pub fn query(&self, embedding: &Vector) -> Result<Array2<f32>> {
        let (expected, found) = (self.classifier.dimensions(), embedding.0.len());
        if expected != found {
            return Err(Error::Dimensions { classifier: self.name.clone(), expected, found });
        }
        let query = unit(&embedding.0)
            .map_err(|source| Error::Vector { what: "cannot classify the vector".to_owned(), source })?;
        Array2::from_shape_vec((1, expected), query).map_err(Error::internal)
    }
}

#[derive(Debug)]
struct Entry {
    fitted: Rc<Fitted>,
    made_with: SnapshotId,
    /// Whether statements with other snapshots may use it.
    is_lasting: bool,
    /// The last snapshot that it was found good for.
    good_for: SnapshotId,
    last_use: u64,
}

/// Whose rights and row-level security a fit was read with is part of its key.
type Key = (RegClass, pg_sys::Oid);

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Key, Entry>,
    clock: u64,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Drops what was fitted of a classifier.
pub fn forget(classifier: RegClass) {
    CACHE.with_borrow_mut(|cache| cache.entries.retain(|(relation, _), _| *relation != classifier));
}

/// Drops everything.
pub fn forget_all() {
    CACHE.with_borrow_mut(|cache| cache.entries.clear());
}

/// The classifier as the running statement sees it.
pub fn get(classifier: RegClass) -> Result<Rc<Fitted>> {
    let snapshot = SnapshotId::active()
        .ok_or_else(|| Error::Internal("a classifier was used outside of a statement".to_owned()))?;
    // SAFETY: reads a variable of this process.
    let key = (classifier, unsafe { pg_sys::GetUserId() });
    if let Some(fitted) = CACHE.with_borrow_mut(|cache| cache.used_by(&key, snapshot)) {
        return Ok(fitted);
    }
    // First of all: the look takes a lock for a moment, which is not for everybody.
    classifier.open_for_reading()?;
    // In this order: what was being changed before the look has been announced after it, which may drop
    // the entry.
    let is_being_changed = relcache::is_being_changed(classifier);
    relcache::take_in();
    let lasting = || CACHE.with_borrow_mut(|cache| cache.lasting(&key, snapshot));
    if let Some(fitted) = (!is_being_changed).then(lasting).flatten() {
        return Ok(fitted);
    }
    let fitted = Rc::new(fit(classifier)?);
    let is_lasting = snapshot.is_latest();
    CACHE.with_borrow_mut(|cache| cache.insert(key, Rc::clone(&fitted), snapshot, is_lasting));
    Ok(fitted)
}

impl Cache {
    /// What this very snapshot has used before: the path of every row of a statement but the first.
    fn used_by(&mut self, key: &Key, snapshot: SnapshotId) -> Option<Rc<Fitted>> {
        let entry = self.entries.get(key).filter(|entry| entry.good_for == snapshot)?;
        Some(Rc::clone(&entry.fitted))
    }

    fn lasting(&mut self, key: &Key, snapshot: SnapshotId) -> Option<Rc<Fitted>> {
        self.clock += 1;
        let entry = self.entries.get_mut(key)?;
        if !entry.is_lasting || snapshot.is_older_than(entry.made_with) {
            return None;
        }
        entry.good_for = snapshot;
        entry.last_use = self.clock;
        Some(Rc::clone(&entry.fitted))
    }

    fn insert(&mut self, key: Key, fitted: Rc<Fitted>, snapshot: SnapshotId, is_lasting: bool) {
        self.clock += 1;
        let entry =
            Entry { fitted, made_with: snapshot, is_lasting, good_for: snapshot, last_use: self.clock };
        self.entries.insert(key, entry);
        let limit = guc::classifier_cache();
        while self.entries.len() > 1 && self.size() > limit {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.last_use).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            self.entries.remove(&oldest);
        }
    }

    /// In bytes.
    fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.fitted.classifier.size() as u64).sum()
    }
}

fn fit(classifier: RegClass) -> Result<Fitted> {
    let settings = catalog::settings(classifier)?;
    let support_set = support_set(classifier)?;
    let fitted = Classifier::fit(support_set, settings.params.check()?, settings.gda.check()?);
    Ok(Fitted { name: classifier.name()?, settings, classifier: fitted })
}

/// The prompts and the support images of a classifier's table.
pub fn support_set(classifier: RegClass) -> Result<SupportSet> {
    support_set_in(classifier, Access::Statement)
}

/// The same, with what this call has changed of it.
pub fn changed_support_set(classifier: RegClass) -> Result<SupportSet> {
    support_set_in(classifier, Access::Current)
}

fn support_set_in(classifier: RegClass, access: Access) -> Result<SupportSet> {
    let name = classifier.name()?;
    let bad = |source: SupportError| Error::Classifier { classifier: name.clone(), source };
    let mut builder: Option<SupportSetBuilder> = None;
    catalog::read_rows(classifier, access, |id, category, role, embedding| {
        let embedding = embedding.0;
        let builder = builder.get_or_insert_with(|| SupportSetBuilder::new(embedding.len()));
        match role {
            Role::Prompt => builder.push_prompt(category, &embedding),
            Role::LabelledImage => builder.push_image(category, id, &embedding),
            Role::UnlabelledImage => builder.push_unlabelled_image(category, id, &embedding),
        }
        .map_err(bad)
    })?;
    builder.unwrap_or_default().finish().map_err(bad)
}
