//! A page to look at the labels of the rows of a query.

mod label;
mod shrink;

use std::cell::RefCell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use susx_core::method::Method;
use susx_report::{Collector, Options, Page, Picture, Sheets, Subject};

use crate::fitted::{self, Fitted};
use crate::limits;
use crate::pg::catalog::classifier::support_images;
use crate::pg::catalog::report_query;
use crate::pg::error::{Error, Result};
use crate::pg::image::StoredImage;
use crate::pg::progress::{Command, Phase, Progress};
use crate::pg::regclass::RegClass;
use crate::pg::version::SameVersion;
use crate::thumbnail::checked_size;
use label::Labelling;
use shrink::shrink;

/// Thumbnails on the sheet of a category, where a call gives no number.
const PER_CATEGORY: i32 = 24;
/// Support images on the sheet of a category.
const SUPPORT: i64 = 4;
/// Bytes of the whole document.
const PAGE_BYTES: usize = 10_000_000;
/// About how many bytes a pixel of a thumbnail takes in the document: a JPEG file in base64.
const BYTES_PER_PIXEL: f64 = 0.35;

/// A page of HTML to look at the labels of the rows of a query; NULL for NULL. The query's first column is a key; the
/// columns `image`, `embedding`, `likeness` and `truth` are known by their names. The document is complete: it refers to
/// nothing outside of it. Memory does not grow with the number of rows. Parallel unsafe, because the query may do anything.
#[pg_extern(stable, parallel_unsafe, cost = 1000000)]
fn report(
    _version: SameVersion,
    classifier: Option<RegClass>,
    query: Option<&str>,
    title: default!(Option<&str>, "NULL"),
    thumbnails_per_category: default!(Option<i32>, "24"),
    size: default!(Option<i32>, "160"),
    method: default!(Option<&str>, "NULL"),
) -> Result<Option<String>, ErrorReport> {
    let (Some(classifier), Some(query)) = (classifier, query) else { return Ok(None) };
    let per_category = thumbnails_per_category.unwrap_or(PER_CATEGORY);
    let per_category = limits::count(per_category, "thumbnails_per_category", limits::THUMBNAILS)?;
    let size = checked_size(size)?;
    limits::check_bytes("the title", limits::TEXT_BYTES, title.map_or(0, str::len))?;
    let mut progress = Progress::start(Command::Report, classifier);
    let fitted = fitted::get(classifier)?;
    let method = fitted.method(method)?;
    let options = Options { per_category, total: most_thumbnails(size) };
    let mut sheets = sheets(&fitted, query, method, options, size, &mut progress)?;
    add_support(classifier, &fitted, &mut sheets)?;
    sheets.share();
    let wanted = sheets.wanted();
    progress.phase(Phase::Shrinking, Some(wanted.len() as u64));
    shrink(wanted.into_iter(), size, |made| progress.advance(made, 0))?;
    Ok(Some(document(&fitted, method, title, size, &mut sheets)))
}

/// As many thumbnails as probably fit on a page.
fn most_thumbnails(size: u32) -> usize {
    let bytes = f64::from(size).powi(2) * BYTES_PER_PIXEL;
    ((PAGE_BYTES as f64 / bytes) as usize).clamp(1, limits::THUMBNAILS)
}

/// Labels the rows of the query, and lays out those to show.
fn sheets(
    fitted: &Fitted,
    query: &str,
    method: Method,
    options: Options,
    size: u32,
    progress: &mut Progress,
) -> Result<Sheets<StoredImage>> {
    let mut progress = Some(progress);
    let labelling: RefCell<Option<Labelling>> = RefCell::default();
    let missing = || Error::internal("a query has rows before it has columns");
    let begin = |columns: report_query::ReportColumns, expected| {
        if columns.embedding.is_none() {
            fitted.model()?;
        }
        let progress = progress.take().ok_or_else(missing)?;
        progress.phase(Phase::Classifying, expected);
        let categories = fitted.classifier.categories().len();
        let collector = Collector::new(categories, columns.truth.is_some(), options);
        labelling.replace(Some(Labelling::new(fitted, method, size, collector, progress)));
        Ok(())
    };
    report_query::read(query, begin, |row| labelling.borrow_mut().as_mut().ok_or_else(missing)?.push(row))?;
    let collector = labelling.into_inner().ok_or_else(missing)?.finish()?;
    Ok(collector.finish())
}

/// Puts support images next to the images of their categories, if the classifier's table keeps their files.
fn add_support(classifier: RegClass, fitted: &Fitted, sheets: &mut Sheets<StoredImage>) -> Result<()> {
    let categories = fitted.classifier.categories();
    let shown: Vec<usize> = sheets.shown_categories().collect();
    if shown.is_empty() || fitted.classifier.support_set().is_empty() {
        return Ok(());
    }
    let names = shown.iter().map(|&category| categories[category].clone()).collect();
    let images = support_images(classifier, names, SUPPORT)?;
    for category in shown {
        let of = images.iter().filter(|image| image.category == categories[category]);
        let subject = |(number, image): (u64, &crate::pg::catalog::classifier::SupportImage)| {
            let picture = Picture::Original(image.file.clone());
            Subject::new(number, Some(&format!("support {}", image.id)), picture, Vec::new())
        };
        sheets.add_support(category, (1..).zip(of).map(subject).collect());
    }
    Ok(())
}

/// The document, with as many of the thumbnails as fit into it.
fn document(
    fitted: &Fitted,
    method: Method,
    title: Option<&str>,
    size: u32,
    sheets: &mut Sheets<StoredImage>,
) -> String {
    let support_set = fitted.classifier.support_set();
    let categories = fitted.classifier.categories();
    let support: Vec<u64> = (0..categories.len()).map(|it| support_set.rows(it).len() as u64).collect();
    let default_title = format!("Labels of {}", fitted.name);
    let write = |sheets: &Sheets<StoredImage>| {
        Page {
            title: title.unwrap_or(&default_title),
            classifier: &fitted.name,
            model: fitted.settings.model.as_deref(),
            likeness_model: fitted.settings.likeness_model.as_deref(),
            method: method.name(),
            reject: fitted.settings.params.reject,
            categories,
            support: &support,
            size,
            sheets,
        }
        .html()
    };
    let html = write(sheets);
    if html.len() <= PAGE_BYTES {
        return html;
    }
    let texts = html.len().saturating_sub(sheets.thumbnail_bytes());
    drop(html);
    sheets.fit(PAGE_BYTES.saturating_sub(texts));
    write(sheets)
}
