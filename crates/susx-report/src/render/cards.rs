//! Sheets of images.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use maud::{Markup, html};

use super::Page;
use super::text::{key, name, percent, plain};
use crate::sheets::{Card, Sheet};
use crate::subject::{Picture, Subject};

/// What an image is shown for, which decides what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It got the label of its sheet.
    Labelled,
    /// It got no label.
    Rejected,
    /// Its label is not the true one.
    Mistake,
    /// It supports a category.
    Support,
}

/// The parts of a sheet, each with a heading of the fourth level.
pub(super) fn sheet<I>(page: &Page<I>, sheet: &Sheet<I>, why: Why, of: &Markup) -> Markup {
    html! {
        @for part in &sheet.parts {
            @let is_support = part.name == "Support images";
            @if part.cards.iter().any(|card| card.is_shown) {
                h4 { (part.name) span.hidden { " of " (of) } }
                (grid(page, &part.cards, if is_support { Why::Support } else { why }))
            }
        }
    }
}

/// Cards side by side.
pub(super) fn grid<I>(page: &Page<I>, cards: &[Card<I>], why: Why) -> Markup {
    html! {
        ul.grid.support[why == Why::Support] {
            @for card in cards.iter().filter(|card| card.is_shown) {
                li { (figure(page, card, why)) }
            }
        }
    }
}

fn figure<I>(page: &Page<I>, card: &Card<I>, why: Why) -> Markup {
    let subject = &*card.subject;
    html! {
        figure {
            (picture(&subject.picture.borrow(), &alternative(page, subject, why)))
            figcaption {
                span.key { (key(subject.key.as_deref())) }
                (caption(page, subject, why))
                @if card.alike > 0 { span.alike { "+" (card.alike) " alike" } }
            }
        }
    }
}

fn picture<I>(picture: &Picture<I>, alternative: &str) -> Markup {
    match picture {
        Picture::Thumbnail(file) => html! {
            img src={ "data:image/jpeg;base64," (BASE64_STANDARD.encode(file)) } alt=(alternative) decoding="async";
        },
        Picture::Failed(reason) => html! { p.broken { "Cannot be shown: " (plain(reason)) } },
        Picture::None | Picture::Original(_) => html! {},
    }
}

/// What a screen reader says in place of the image.
fn alternative<I>(page: &Page<I>, subject: &Subject<I>, why: Why) -> String {
    let who = subject
        .key
        .as_deref()
        .map_or("Image without a key".to_owned(), |key| format!("Image {}", plain(key)));
    let Some(&(best, probability)) = subject.ranked.first() else { return who };
    let (best, probability) = (plain(page.category(best)), percent(f64::from(probability)));
    match why {
        Why::Support => who,
        Why::Rejected => format!("{who}, without a label"),
        Why::Labelled | Why::Mistake => format!("{who}, labelled {best} with {probability}"),
    }
}

fn caption<I>(page: &Page<I>, subject: &Subject<I>, why: Why) -> Markup {
    let Some(&(best, probability)) = subject.ranked.first() else { return html! {} };
    let second = subject.ranked.get(1).filter(|second| second.1 >= 0.05);
    let guess = |&(category, probability): &(usize, f32)| {
        html! { (name(page.category(category))) " " (percent(f64::from(probability))) }
    };
    html! {
        @match why {
            Why::Labelled => {
                span.probability { (percent(f64::from(probability))) }
                @if let Some(second) = second { span.muted { "or " (guess(second)) } }
                @if let Some(truth) = subject.truth.filter(|truth| *truth != Some(best)) {
                    span.wrong { "really " (page.named(truth)) }
                }
            }
            Why::Rejected => {
                span.probability { "known " (percent(f64::from(subject.known))) }
                span.muted { "nearest: " (name(page.category(best))) }
            }
            Why::Mistake => {
                span.probability { (guess(&(best, probability))) }
                @if let Some(truth) = subject.truth { span.wrong { "really " (page.named(truth)) } }
            }
            Why::Support => {}
        }
    }
}
