//! The fitted classifiers that a session keeps for its statements.
//!
//! [`susx_core::fit_cache`] describes the states of a kept fit and decides when it may be used. This file supplies the
//! facts from PostgreSQL, in the order that those decisions rely on:
//!
//! 1. Which statement is running, and with which snapshot ([`crate::pg::statement`], [`crate::pg::snapshot`]).
//! 2. Whether another session is changing the classifier, and which changes were announced ([`crate::pg::relcache`]).
//! 3. Which row versions the snapshot shows ([`crate::pg::row_versions`]).

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use ndarray::Array2;
use pgrx::pg_sys;
use susx_core::classifier::{Answer, Classifier};
use susx_core::digest::Digest;
use susx_core::fit_cache::{Fit, FitCache, Snapshot, Validity};
use susx_core::method::Method;
use susx_core::queries::OwnedQueries;
use susx_core::sus::unit;

use crate::image_stream::ImageStream;
use crate::image_vectors::ImageVectors;
use crate::pg::catalog::citus;
use crate::pg::catalog::classifier::{self as catalog, Settings};
use crate::pg::embedding_model::EmbeddingModel;
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::regclass::RegClass;
use crate::pg::relcache;
use crate::pg::roles;
use crate::pg::row_versions::{self, RelationKind, RowVersions};
use crate::pg::snapshot::SnapshotId;
use crate::pg::spi::Access;
use crate::pg::statement::{self, StatementId};
use crate::pg::vector::Vector;
use crate::recent_embeddings::recent_or;
use crate::shared_fit::SharedFit;
use crate::support_set::{self, StoredSet};

/// A classifier as a statement sees it.
#[derive(Debug)]
pub struct Fitted {
    pub name: String,
    pub settings: Settings,
    pub classifier: Classifier,
    /// The digest of the classifier, once it was asked for.
    digest: OnceCell<[u8; 32]>,
}

impl Fitted {
    /// The named method, else the classifier's own, else the default for its support set.
    pub fn method(&self, name: Option<&str>) -> Result<Method> {
        match name {
            Some(name) => Ok(name.parse()?),
            None => Ok(self.settings.method.unwrap_or_else(|| self.classifier.default_method())),
        }
    }

    /// A digest of everything that decides the labels by a method. Classifiers with the same digest give the same
    /// labels, even in another database.
    pub fn state(&self, method: Method) -> [u8; 32] {
        let digest = self.digest.get_or_init(|| self.classifier.digest());
        let Settings { model: model_name, model_sha256, likeness_model, likeness_sha256, .. } =
            &self.settings;
        let model = |name: &Option<String>, sha256: &Option<Vec<u8>>| {
            sha256.clone().or_else(|| name.clone().map(String::into_bytes))
        };
        Digest::of("susx labels")
            .bytes(env!("CARGO_PKG_VERSION"))
            .bytes(digest)
            .option(model(model_name, model_sha256))
            .option(model(likeness_model, likeness_sha256))
            .bytes(method.name())
            .finish()
    }

    /// A digest of everything that decides the tags.
    pub fn state_of_tags(&self) -> [u8; 32] {
        // Tags depend on no method, but on everything that decides the labels of the default one.
        let state = self.state(self.classifier.default_method());
        Digest::of("susx tags").bytes(state).numbers(&[self.classifier.tag_threshold()]).finish()
    }

    /// Embeds an image file with the classifier's models.
    pub fn embed(&self, image: &[u8]) -> Result<ImageVectors> {
        let (model, likeness) = (self.model()?, self.likeness_model());
        let key = || {
            let digest = Digest::of("susx image").bytes(&model.name).option(model.sha256.as_deref());
            let likeness = likeness.as_ref();
            digest
                .option(likeness.map(|likeness| &likeness.name))
                .option(likeness.and_then(|likeness| likeness.sha256.as_deref()))
                .bytes(image)
                .finish()
        };
        recent_or(key, || match ImageStream::of(&model, likeness.as_ref()).run(vec![image])?.pop() {
            Some(vectors) => Ok(vectors?),
            None => Err(Error::internal("the inference process gave no answer")),
        })
    }

    /// The model of the likeness vectors that queries need; `None` if the support images have none, or none of a model.
    pub fn likeness_model(&self) -> Option<EmbeddingModel> {
        self.classifier.likeness_dimensions()?;
        self.settings.likeness_model(&self.name)
    }

    /// The classifier's model; an error if it has none.
    pub fn model(&self) -> Result<EmbeddingModel> {
        self.settings.embedding_model(&self.name)
    }

    /// The image as a query: one row of unit length for each of its vectors. An error if they have other dimensions
    /// than the classifier. A likeness vector is left out if the classifier does not use it.
    pub fn query(&self, image: &ImageVectors) -> Result<OwnedQueries> {
        self.check(image)?;
        let row = |vector: &Vector, what: &str| {
            let unit = unit(&vector.0)
                .map_err(|error| Error::from(error).within(format_args!("cannot classify the {what}")))?;
            Array2::from_shape_vec((1, unit.len()), unit).map_err(Error::internal)
        };
        let has_use = self.classifier.likeness_dimensions().is_some();
        let likeness = image.likeness.as_ref().filter(|_| has_use);
        let likeness = likeness.map(|likeness| row(likeness, "likeness vector"));
        Ok(OwnedQueries { features: row(&image.embedding, "vector")?, likeness: likeness.transpose()? })
    }

    /// An error if the vectors have other dimensions than those of the classifier.
    pub fn check(&self, image: &ImageVectors) -> Result<()> {
        let classifier = &self.classifier;
        Ok(image.check(&self.name, Some(classifier.dimensions()), classifier.likeness_dimensions())?)
    }

    /// The `k` best categories of an image, and the probability that it is of any.
    pub fn answer(&self, image: &ImageVectors, method: Method, k: usize) -> Result<Answer> {
        let mut answers = self.classifier.answers(self.query(image)?.view(), method, k);
        answers.pop().ok_or_else(|| Error::internal("a query has no answer"))
    }
}

impl Fit for Fitted {
    fn size(&self) -> u64 {
        self.classifier.size() as u64
    }
}

impl Snapshot for SnapshotId {
    fn is_older_than(self, other: Self) -> bool {
        SnapshotId::is_older_than(self, other)
    }
}

/// A classifier, and the user with whose privileges its rows were read.
type Key = (RegClass, pg_sys::Oid);
type Reader = susx_core::fit_cache::Reader<SnapshotId, StatementId>;
type Cache = FitCache<RegClass, pg_sys::Oid, SnapshotId, StatementId, RowVersions, Fitted>;

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    /// Classifiers by the shards that hold their rows, for which Citus announces changes.
    static BY_SHARD: RefCell<HashMap<RegClass, RegClass>> = RefCell::default();
}

/// Connects the cache to announced changes. Called once per process.
pub fn register() {
    relcache::on_change(|changed| {
        CACHE.with_borrow_mut(|cache| cache.announce(changed));
        let by_shard = |shard| BY_SHARD.with_borrow(|by_shard| by_shard.get(&shard).copied());
        if let Some(classifier) = changed.and_then(by_shard) {
            CACHE.with_borrow_mut(|cache| cache.announce(Some(classifier)));
        }
    });
}

/// Forgets what was kept for a statement.
pub fn end_statement(statement: StatementId) {
    CACHE.with_borrow_mut(|cache| cache.end_statement(statement));
}

/// The classifier as the running statement sees it.
pub fn get(classifier: RegClass) -> Result<Rc<Fitted>> {
    let reader =
        running_reader().ok_or_else(|| Error::internal("a classifier was used outside of a statement"))?;
    let key = (classifier, roles::current_user());
    if let Some(fitted) = CACHE.with_borrow(|cache| cache.used_by(key, reader)) {
        return Ok(fitted);
    }
    // Check the caller's privileges before anything locks the table.
    classifier.open_for_reading()?;
    let rows = rows_of(classifier)?;
    match row_versions::kind(rows)? {
        RelationKind::PlainTable { announces } => fit_of_table(key, rows, reader, announces),
        RelationKind::Other => fit_for_one_statement(key, reader),
    }
}

/// The table that holds the rows of a classifier, locked for reading.
fn rows_of(classifier: RegClass) -> Result<RegClass> {
    let rows = citus::readable(classifier)?;
    if rows != classifier {
        BY_SHARD.with_borrow_mut(|by_shard| by_shard.insert(rows, classifier));
    }
    Ok(rows)
}

/// The running statement; `None` outside of one.
fn running_reader() -> Option<Reader> {
    let snapshot = SnapshotId::active()?;
    Some(Reader { snapshot, statement: statement::current(), within: statement::innermost() })
}

/// A fit of a relation whose rows depend on more than the snapshot.
fn fit_for_one_statement(key: Key, reader: Reader) -> Result<Rc<Fitted>> {
    let fitted = Rc::new(fit(key.0)?);
    if reader.statement.is_some() {
        keep(key, &fitted, Validity::OneStatement, reader);
    }
    Ok(fitted)
}

/// A fit of a table whose rows are the same for all users. `rows` is that table, and `announces` tells whether it has the
/// trigger that announces changes.
fn fit_of_table(key: Key, rows: RegClass, reader: Reader, announces: bool) -> Result<Rc<Fitted>> {
    let classifier = key.0;
    // The order matters: a writer that has released its lock by the first call has announced its change by the second.
    let is_being_changed = !announces || relcache::is_being_changed(rows);
    relcache::accept_announcements();
    let followed = || CACHE.with_borrow_mut(|cache| cache.followed(key, reader));
    if let Some(fitted) = (!is_being_changed).then(followed).flatten() {
        return Ok(fitted);
    }
    let versions = RowVersions::active(classifier, rows)?;
    let fitted = match CACHE.with_borrow_mut(|cache| cache.of_versions(key, versions, reader)) {
        Some(fitted) => fitted,
        None => {
            let fitted = Rc::new(fit_or_shared(classifier, rows, versions)?);
            keep(key, &fitted, Validity::Versions(versions), reader);
            fitted
        }
    };
    follow(key, rows, versions)?;
    Ok(fitted)
}

/// Follows the announced changes of a kept fit from now on, if the latest snapshot still shows its versions.
fn follow(key: Key, rows: RegClass, versions: RowVersions) -> Result<()> {
    // The order matters: a change that the latest snapshot does not show is announced only after this count.
    let Some(announcements) = CACHE.with_borrow(|cache| cache.announcements(key)) else { return Ok(()) };
    if let Some(latest) = versions.latest_that_shows(key.0, rows)? {
        CACHE.with_borrow_mut(|cache| cache.follow(key, latest, announcements));
    }
    Ok(())
}

fn keep(key: Key, fitted: &Rc<Fitted>, validity: Validity<SnapshotId, RowVersions>, reader: Reader) {
    // Dropped tables will not be asked for again.
    for relation in CACHE.with_borrow(Cache::unfollowed) {
        if !relation.exists() {
            CACHE.with_borrow_mut(|cache| cache.forget(relation));
        }
    }
    let limit = guc::classifier_cache();
    CACHE.with_borrow_mut(|cache| {
        cache.insert(key, Rc::clone(fitted), validity, reader, limit, statement::is_running)
    });
}

fn fit(classifier: RegClass) -> Result<Fitted> {
    let settings = catalog::settings(classifier)?;
    let fitted = Classifier::fit(support_set::of(classifier)?, settings.params.check()?);
    fitted_as(classifier, settings, fitted, "fitted")
}

/// A fit of these versions: one that another session has shared, or a new one, which is shared if others may see the same
/// versions.
fn fit_or_shared(classifier: RegClass, rows: RegClass, versions: RowVersions) -> Result<Fitted> {
    let Some(shared) = SharedFit::of(classifier, versions) else { return fit(classifier) };
    let settings = catalog::settings(classifier)?;
    let params = settings.params.check()?;
    if let Some(found) = shared.load(params) {
        return fitted_as(classifier, settings, found, "mapped the fit of");
    }
    if !versions.are_of_others() || versions.latest_that_shows(classifier, rows)?.is_none() {
        return fit(classifier);
    }
    let lock = match shared.load_or_lock(params) {
        Ok(found) => return fitted_as(classifier, settings, found, "mapped the fit of"),
        Err(lock) => lock,
    };
    let StoredSet { support_set, is_uneven } = support_set::stored(classifier, Access::Statement)?;
    let mut fitted = Classifier::fit(support_set, params);
    if let Some(method) = settings.method {
        fitted.prepare(method);
    }
    // Every session warns of images without likeness vectors among others that have some.
    if !is_uneven && shared.save(&fitted) {
        // From now on, this session needs no memory of its own either.
        fitted = shared.load(params).unwrap_or(fitted);
    }
    drop(lock);
    fitted_as(classifier, settings, fitted, "fitted")
}

fn fitted_as(classifier: RegClass, settings: Settings, fitted: Classifier, how: &str) -> Result<Fitted> {
    let name = classifier.name()?;
    let rows = fitted.support_set().len();
    pgrx::debug1!("{how} classifier \"{name}\" with {rows} support images");
    Ok(Fitted { name, settings, classifier: fitted, digest: OnceCell::new() })
}
