//! The classifiers that a session has fitted.
//!
//! A fit takes long, so it is kept; and whoever uses it must get what a fit of the rows that the statement
//! sees would give. What a statement has used it uses to its end. For the next one there are two ways to know
//! that a fit is still right:
//!
//! * Nobody has announced a change of the table or its settings ([`crate::pg::relcache`]), and nobody is just
//!   making one. That costs next to nothing, and what happens to other tables does not matter.
//! * The statement's snapshot shows the same versions of the rows ([`crate::pg::versions`]). That costs a look at
//!   every row's header, and shows whether the first way is open from then on.
//!
//! Where rows depend on more than a snapshot, as with row-level security or in a view, a fit is good for one
//! statement.

mod cache;

use std::cell::RefCell;
use std::rc::Rc;

use ndarray::Array2;
use pgrx::pg_sys;
use susx_core::classifier::Classifier;
use susx_core::method::Method;
use susx_core::sus::{SupportError, SupportSet, SupportSetBuilder, unit};

use crate::inference::client::{self, OwnModel};
use crate::pg::catalog::classifier::{self as catalog, Role, Settings};
use crate::pg::error::{Error, Result};
use crate::pg::guc;
use crate::pg::regclass::RegClass;
use crate::pg::relcache;
use crate::pg::spi::Access;
use crate::pg::statement::StatementId;
use crate::pg::vector::Vector;
use crate::pg::versions::{self, Kind, Versions};
use cache::{Cache, Key, Reader, Source};

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

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Takes note that a classifier has changed; without one, that any may have.
pub fn announce(changed: Option<RegClass>) {
    CACHE.with_borrow_mut(|cache| cache.announce(changed));
}

/// Drops what a statement has fitted for itself alone.
pub fn end_statement(statement: StatementId) {
    CACHE.with_borrow_mut(|cache| cache.end_statement(statement));
}

/// The classifier as the running statement sees it.
pub fn get(classifier: RegClass) -> Result<Rc<Fitted>> {
    let reader = Reader::running()
        .ok_or_else(|| Error::Internal("a classifier was used outside of a statement".to_owned()))?;
    // SAFETY: reads a variable of this process.
    let key = (classifier, unsafe { pg_sys::GetUserId() });
    if let Some(fitted) = CACHE.with_borrow(|cache| cache.used_by(&key, reader)) {
        return Ok(fitted);
    }
    // First of all: what follows locks the table, which is not for everybody.
    classifier.open_for_reading()?;
    match versions::kind(classifier)? {
        Kind::Table { announces } => of_table(key, reader, announces),
        Kind::Other => of_one_statement(key, reader),
    }
}

/// A fit of what the caller sees now, which is kept for the rest of the statement.
fn of_one_statement(key: Key, reader: Reader) -> Result<Rc<Fitted>> {
    let fitted = Rc::new(fit(key.0)?);
    if reader.statement.is_some() {
        insert(key, &fitted, Source::OneStatement, reader);
    }
    Ok(fitted)
}

/// A fit of a table in which everybody sees the same rows.
fn of_table(key: Key, reader: Reader, announces: bool) -> Result<Rc<Fitted>> {
    let classifier = key.0;
    // In this order: what was being changed before the look has been announced after it.
    let is_being_changed = !announces || relcache::is_being_changed(classifier);
    relcache::take_in();
    let current = || CACHE.with_borrow_mut(|cache| cache.current(&key, reader));
    if let Some(fitted) = (!is_being_changed).then(current).flatten() {
        return Ok(fitted);
    }
    let versions = Versions::active(classifier)?;
    let fitted = match CACHE.with_borrow_mut(|cache| cache.of_versions(&key, versions, reader)) {
        Some(fitted) => fitted,
        None => {
            let fitted = Rc::new(fit(classifier)?);
            insert(key, &fitted, Source::Versions(versions), reader);
            fitted
        }
    };
    follow_changes(key, versions)?;
    Ok(fitted)
}

/// From now on the announcements tell whether the fit is right, if it is right at present.
fn follow_changes(key: Key, versions: Versions) -> Result<()> {
    // In this order: what the latest snapshot does not show is announced after it was taken.
    let Some(changes) = CACHE.with_borrow(|cache| cache.changes(&key)) else { return Ok(()) };
    if let Some(latest) = versions.latest_that_shows(key.0)? {
        CACHE.with_borrow_mut(|cache| cache.set_current(&key, latest, changes));
    }
    Ok(())
}

fn insert(key: Key, fitted: &Rc<Fitted>, source: Source, reader: Reader) {
    // Nobody asks for a table again that was dropped.
    for relation in CACHE.with_borrow(Cache::unsure) {
        if !relation.exists() {
            CACHE.with_borrow_mut(|cache| cache.forget(relation));
        }
    }
    let limit = guc::classifier_cache();
    CACHE.with_borrow_mut(|cache| cache.insert(key, Rc::clone(fitted), source, reader, limit));
}

fn fit(classifier: RegClass) -> Result<Fitted> {
    let settings = catalog::settings(classifier)?;
    let support_set = support_set(classifier)?;
    let rows = support_set.len();
    let fitted = Classifier::fit(support_set, settings.params.check()?);
    let name = classifier.name()?;
    pgrx::debug1!("fitted classifier \"{name}\" with {rows} support images");
    Ok(Fitted { name, settings, classifier: fitted })
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
