//! What is on the page, before it is HTML.

use std::rc::Rc;

use susx_core::calibration::Calibration;
use susx_core::evaluate::Evaluation;

use crate::collect::{Counts, Options, Tally};
use crate::subject::{Picture, Subject};

/// An image on a sheet.
#[derive(Debug)]
pub struct Card<I> {
    /// What it shows.
    pub subject: Rc<Subject<I>>,
    /// How many other images of the sheet look nearly the same and are not shown.
    pub alike: usize,
    /// In which round of the sharing its turn is, and whether it got a place.
    pub(crate) round: usize,
    pub(crate) is_shown: bool,
}

/// Images of a sheet that belong together.
#[derive(Debug)]
pub struct Part<I> {
    /// Such as `Most certain`.
    pub name: &'static str,
    /// Its images.
    pub cards: Vec<Card<I>>,
}

/// Images to look at together.
#[derive(Debug)]
pub struct Sheet<I> {
    /// Its parts, without empty ones.
    pub parts: Vec<Part<I>>,
}

/// Images of one category that were labelled as another one.
#[derive(Debug)]
pub struct Cell<I> {
    /// What they show; `None` for none of the categories.
    pub truth: Option<usize>,
    /// What they were labelled as; `None` if they got no label.
    pub predicted: Option<usize>,
    /// The images, those with the highest probability first.
    pub cards: Vec<Card<I>>,
}

/// The comparison with what the images really show.
#[derive(Debug)]
pub struct Compared<I> {
    /// Its figures.
    pub evaluation: Evaluation,
    /// Whether the probabilities are correct.
    pub calibration: Calibration,
    /// The mistakes with the highest probabilities.
    pub mistakes: Sheet<I>,
    /// Images behind the confusion matrix, the most frequent mistakes first.
    pub cells: Vec<Cell<I>>,
}

/// All that is counted and shown.
#[derive(Debug)]
pub struct Sheets<I> {
    pub(crate) options: Options,
    pub(crate) counts: Counts,
    /// Of every category.
    pub(crate) tallies: Vec<Tally>,
    /// The sheets of categories, the most frequent category first.
    pub(crate) categories: Vec<(usize, Sheet<I>)>,
    /// Images that got no label.
    pub(crate) rejected: Sheet<I>,
    /// Keys of images that could not be classified, and the reasons.
    pub(crate) unreadable: Vec<(Option<String>, String)>,
    pub(crate) truth: Option<Compared<I>>,
}

impl<I> Card<I> {
    pub(crate) fn new(subject: Rc<Subject<I>>, round: usize) -> Self {
        Card { subject, alike: 0, round, is_shown: true }
    }

    /// Bytes of the thumbnail on the page.
    fn bytes(&self) -> usize {
        match &*self.subject.picture.borrow() {
            Picture::Thumbnail(file) => file.len().div_ceil(3) * 4,
            _ => 0,
        }
    }
}

impl<I> Sheet<I> {
    pub(crate) fn cards(&self) -> impl Iterator<Item = &Card<I>> {
        self.parts.iter().flat_map(|part| &part.cards)
    }

    fn cards_mut(&mut self) -> impl Iterator<Item = &mut Card<I>> {
        self.parts.iter_mut().flat_map(|part| &mut part.cards)
    }
}

impl<I> Sheets<I> {
    /// The categories that have a sheet, by their indices.
    pub fn shown_categories(&self) -> impl Iterator<Item = usize> {
        self.categories.iter().map(|(category, _)| *category)
    }

    /// Adds support images to the sheet of a category.
    pub fn add_support(&mut self, category: usize, subjects: Vec<Subject<I>>) {
        let Some((_, sheet)) = self.categories.iter_mut().find(|(shown, _)| *shown == category) else {
            return;
        };
        // In the second round, the sixth, ...: most thumbnails are for the images that were labelled.
        let card = |(i, subject)| Card::new(Rc::new(subject), 1 + 4 * i);
        let cards: Vec<_> = subjects.into_iter().enumerate().map(card).collect();
        if !cards.is_empty() {
            sheet.parts.push(Part { name: "Support images", cards });
        }
    }

    /// Gives places to as many cards as there may be thumbnails. Every sheet gets one before any gets two, and so on.
    pub fn share(&mut self) {
        let total = self.options.total;
        for (place, card) in self.in_order_mut().into_iter().enumerate() {
            card.is_shown = place < total;
        }
    }

    /// The subjects that have a place, those that come first in the sharing first.
    pub fn wanted(&mut self) -> Vec<Rc<Subject<I>>> {
        let shown = self.in_order_mut().into_iter().filter(|card| card.is_shown);
        shown.map(|card| Rc::clone(&card.subject)).collect()
    }

    /// Bytes of the thumbnails on the page.
    pub fn thumbnail_bytes(&self) -> usize {
        self.all().filter(|card| card.is_shown).map(Card::bytes).sum()
    }

    /// Removes places, the last ones first, until the thumbnails on the page have at most this many bytes.
    pub fn fit(&mut self, bytes: usize) {
        let mut left = bytes;
        let mut is_full = false;
        for card in self.in_order_mut().into_iter().filter(|card| card.is_shown) {
            let needed = card.bytes();
            is_full |= needed > left;
            card.is_shown = !is_full;
            left = left.saturating_sub(needed);
        }
    }

    /// How many cards have a place, and how many have none.
    pub fn shown_and_left_out(&self) -> (usize, usize) {
        let (shown, left_out): (Vec<_>, Vec<_>) = self.all().partition(|card| card.is_shown);
        (shown.len(), left_out.len())
    }

    fn all(&self) -> impl Iterator<Item = &Card<I>> {
        let truth = self
            .truth
            .iter()
            .flat_map(|truth| truth.mistakes.cards().chain(truth.cells.iter().flat_map(|cell| &cell.cards)));
        let categories = self.categories.iter().flat_map(|(_, sheet)| sheet.cards());
        truth.chain(self.rejected.cards()).chain(categories)
    }

    /// All cards in the order of their turns: by rounds, and within a round sheet by sheet.
    fn in_order_mut(&mut self) -> Vec<&mut Card<I>> {
        let mut cards: Vec<&mut Card<I>> = Vec::new();
        let (mut mistakes, mut cells) = (Vec::new(), Vec::new());
        if let Some(truth) = &mut self.truth {
            mistakes.extend(truth.mistakes.cards_mut());
            cells.extend(truth.cells.iter_mut().flat_map(|cell| &mut cell.cards));
        }
        cards.extend(mistakes);
        cards.extend(self.rejected.cards_mut());
        cards.extend(self.categories.iter_mut().flat_map(|(_, sheet)| sheet.cards_mut()));
        cards.extend(cells);
        // Stable: sheets keep their order within a round.
        cards.sort_by_key(|card| card.round);
        cards
    }
}
