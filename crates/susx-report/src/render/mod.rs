//! The page as HTML.

mod cards;
mod matrix;
mod reliability;
mod summary;
mod text;
mod truth;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::sheets::Sheets;
use cards::{Why, sheet};
use text::{counted, key, name, number, percent, visible};

const STYLE: &str = include_str!("../style.css");
/// Characters of the title that are shown.
const TITLE: usize = 200;
/// Characters of the reason why an image could not be read.
const REASON: usize = 300;

/// All that the document says.
#[derive(Debug)]
pub struct Page<'a, I> {
    /// The document's title.
    pub title: &'a str,
    /// The classifier's name.
    pub classifier: &'a str,
    /// The model that made the embeddings, if that is known.
    pub model: Option<&'a str>,
    /// The model of the likeness vectors, if there is one.
    pub likeness_model: Option<&'a str>,
    /// The method that gave the labels.
    pub method: &'a str,
    /// Below it an image gets no label.
    pub reject: f32,
    /// The names of the categories.
    pub categories: &'a [String],
    /// How many support images each of them has.
    pub support: &'a [u64],
    /// Width and height of a thumbnail's place, in pixels.
    pub size: u32,
    /// The images, counted and laid out.
    pub sheets: &'a Sheets<I>,
}

impl<I> Page<'_, I> {
    /// The document: complete, and without a reference to anything outside of it. It is ASCII, so that it looks the
    /// same in every encoding in which a client may save it.
    pub fn html(&self) -> String {
        let style = format!(":root{{--size:{}px}}\n{STYLE}", self.size);
        let hash = BASE64_STANDARD.encode(Sha256::digest(style.as_bytes()));
        let policy = format!(
            "default-src 'none'; img-src data:; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'"
        );
        let title = cut(self.title, TITLE);
        let document = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy);
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(style)) }
                }
                body {
                    a.skip href="#main" { "Skip to the labels" }
                    (self.header(&title))
                    main #main tabindex="-1" {
                        (summary::section(self))
                        @if let Some(compared) = &self.sheets.truth { (truth::section(self, compared)) }
                        (self.category_sheets())
                        (self.rejected())
                        (self.unreadable())
                    }
                    (self.footer())
                }
            }
        };
        text::ascii(&document.into_string())
    }

    /// The name of a category.
    fn category(&self, category: usize) -> &str {
        self.categories.get(category).map_or("", String::as_str)
    }

    /// The name of a category, or that there is none.
    fn named(&self, category: Option<usize>) -> Markup {
        match category {
            Some(category) => name(self.category(category)),
            None => html! { em { "none of these" } },
        }
    }

    fn header(&self, title: &str) -> Markup {
        let sheets = self.sheets;
        html! {
            header {
                h1 { bdi { (title) } }
                p {
                    (counted(sheets.counts.rows, "row")) ", " (counted(self.categories.len() as u64, "category"))
                    ", labelled by the classifier " strong { (name(self.classifier)) } " with the method "
                    strong { (self.method) }
                    @if let Some(model) = self.model { " and the model " strong { (name(model)) } }
                    @if let Some(model) = self.likeness_model { ", likeness by " strong { (name(model)) } }
                    "."
                    @if self.reject > 0.0 {
                        " Images whose " em { "known" } " is below " (percent(f64::from(self.reject))) " get no label."
                    }
                }
                nav aria-label="Sections" {
                    ul {
                        li { a href="#summary" { "Summary" } }
                        @if sheets.truth.is_some() { li { a href="#truth" { "Compared with the truth" } } }
                        @if !sheets.categories.is_empty() { li { a href="#categories" { "Categories" } } }
                        @if sheets.counts.rejected > 0 { li { a href="#rejected" { "None of these" } } }
                        @if sheets.counts.unreadable > 0 { li { a href="#unreadable" { "Unreadable" } } }
                    }
                }
            }
        }
    }

    fn category_sheets(&self) -> Markup {
        let sheets = self.sheets;
        let occurring = sheets.tallies.iter().filter(|tally| tally.n > 0).count();
        html! {
            @if !sheets.categories.is_empty() {
                section #categories aria-labelledby="categories-title" {
                    h2 #categories-title { "Categories" }
                    @if occurring > sheets.categories.len() {
                        p {
                            "The " (number(sheets.categories.len() as u64)) " most frequent of "
                            (counted(occurring as u64, "category")) " that occur have a sheet."
                        }
                    }
                    @for (category, of) in &sheets.categories {
                        @let tally = sheets.tallies[*category];
                        @let title = name(self.category(*category));
                        section.category id={ "c-" (category) } aria-labelledby={ "c-" (category) "-title" } tabindex="-1" {
                            h3 id={ "c-" (category) "-title" } { (title) }
                            p.muted {
                                (counted(tally.n, "image")) ", mean probability "
                                (percent(tally.probability / tally.n.max(1) as f64)) ". "
                                a href="#summary" { "Back to the summary" }
                            }
                            (sheet(self, of, Why::Labelled, &title))
                        }
                    }
                }
            }
        }
    }

    fn rejected(&self) -> Markup {
        let sheets = self.sheets;
        html! {
            @if sheets.counts.rejected > 0 {
                section #rejected aria-labelledby="rejected-title" {
                    h2 #rejected-title { "None of these" }
                    p {
                        (counted(sheets.counts.rejected, "image")) " got no label: their " em { "known" }
                        " is below " (percent(f64::from(self.reject))) "."
                    }
                    h3.hidden { "Images without a label" }
                    (sheet(self, &sheets.rejected, Why::Rejected, &html! { "the images without a label" }))
                }
            }
        }
    }

    fn unreadable(&self) -> Markup {
        let sheets = self.sheets;
        let shown = sheets.unreadable.len() as u64;
        html! {
            @if sheets.counts.unreadable > 0 {
                section #unreadable aria-labelledby="unreadable-title" {
                    h2 #unreadable-title { "Unreadable" }
                    @if shown < sheets.counts.unreadable {
                        p { "The first " (number(shown)) " of " (counted(sheets.counts.unreadable, "image")) "." }
                    }
                    div.scroll role="region" aria-labelledby="reasons-title" tabindex="0" {
                        table.reasons {
                            caption #reasons-title { "Images that could not be classified" }
                            thead { tr { th scope="col" { "Key" } th scope="col" { "Reason" } } }
                            tbody {
                                @for (of, reason) in &sheets.unreadable {
                                    tr {
                                        th scope="row" { (key(of.as_deref())) }
                                        td { bdi { (cut(reason, REASON)) } }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn footer(&self) -> Markup {
        let (shown, left_out) = self.sheets.shown_and_left_out();
        html! {
            footer {
                p {
                    "This page shows " (counted(shown as u64, "image"))
                    @if left_out > 0 {
                        ". " (counted(left_out as u64, "image")) " that it could have shown are left out: at most "
                        (number(self.sheets.options.total as u64)) " fit on it, distributed evenly over the sheets"
                    }
                    ". Each sheet has the most certain labels, the least certain ones, and a sample that depends only \
                     on the keys. Of nearly identical images, one is shown, with \u{201c}+n alike\u{201d}."
                }
            }
        }
    }
}

/// The beginning of a text, with control characters made visible.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => visible(text),
        Some((end, _)) => format!("{}…", visible(&text[..end])),
    }
}

#[cfg(test)]
mod tests;
