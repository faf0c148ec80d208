//! From the images that were kept to sheets.

use std::collections::HashSet;
use std::rc::Rc;

use susx_core::calibration::Calibration;
use susx_core::evaluate::Evaluation;

use crate::alike::are_alike;
use crate::collect::{Counts, Options};
use crate::sheets::{Card, Cell, Compared, Part, Sheet, Sheets};
use crate::subject::Subject;

/// Thumbnails that a category's sheet has at least: of more categories than that allows, the rarest have no sheet.
const LEAST_PER_SHEET: usize = 3;

/// The surest images, the least sure ones, and a sample.
type Kept<I> = [Vec<Rc<Subject<I>>>; 3];

impl<I> Sheets<I> {
    pub(crate) fn new(options: Options) -> Self {
        Sheets {
            options,
            counts: Counts::default(),
            tallies: Vec::new(),
            categories: Vec::new(),
            rejected: Sheet { parts: Vec::new() },
            unreadable: Vec::new(),
            truth: None,
        }
    }

    /// Makes the sheets of categories and of rejected images.
    pub(crate) fn lay_out(&mut self, mut kept: Vec<(usize, Kept<I>)>, rejected: Kept<I>) {
        kept.sort_by_key(|(category, _)| (std::cmp::Reverse(self.tallies[*category].n), *category));
        kept.truncate((self.options.total / LEAST_PER_SHEET).max(1));
        let names = ["Most certain", "Least certain", "A sample"];
        let most = self.options.per_category;
        self.categories =
            kept.into_iter().map(|(category, kept)| (category, sheet(names, kept, most))).collect();
        self.rejected = sheet(["Nearly accepted", "Clearly none", "A sample"], rejected, most);
    }

    /// Makes the sheets that compare labels with the truth.
    pub(crate) fn lay_out_truth(
        &mut self,
        evaluation: Evaluation,
        calibration: Calibration,
        mistakes: Vec<Rc<Subject<I>>>,
        cells: impl Iterator<Item = Cell<I>>,
    ) {
        let mistakes = Sheet { parts: vec![Part { name: "Mistakes", cards: Self::cards(mistakes) }] };
        let mut cells: Vec<Cell<I>> = cells.collect();
        let confusion: std::collections::BTreeMap<_, u64> =
            evaluation.confusion().map(|(truth, predicted, n)| ((truth, predicted), n)).collect();
        let count = |cell: &Cell<I>| confusion.get(&(cell.truth, cell.predicted)).copied().unwrap_or(0);
        cells.sort_by_key(|cell| std::cmp::Reverse(count(cell)));
        for card in cells.iter_mut().flat_map(|cell| &mut cell.cards) {
            // There may be many cells: their first images come after the second ones of sheets.
            card.round = 2 + 3 * card.round;
        }
        self.truth = Some(Compared { evaluation, calibration, mistakes, cells });
    }

    /// Cards of subjects that are alike collapse into one.
    pub(crate) fn cards(subjects: Vec<Rc<Subject<I>>>) -> Vec<Card<I>> {
        let most = subjects.len();
        let sheet = sheet([""], [subjects], most);
        sheet.parts.into_iter().flat_map(|part| part.cards).collect()
    }
}

/// A sheet of several parts, which take turns until it has this many cards. Each subject is in only one of them, and
/// only the first of several similar subjects is included.
fn sheet<I, const N: usize>(
    names: [&'static str; N],
    lists: [Vec<Rc<Subject<I>>>; N],
    most: usize,
) -> Sheet<I> {
    let mut parts: Vec<Part<I>> = names.map(|name| Part { name, cards: Vec::new() }).into();
    let mut seen = HashSet::new();
    let longest = lists.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest)
        .flat_map(|i| lists.iter().enumerate().filter_map(move |(p, list)| Some((p, list.get(i)?))));
    let mut round = 0;
    for (part, subject) in turns {
        if !seen.insert(subject.row) {
            continue;
        }
        let same = |card: &&mut Card<I>| are_alike(&card.subject.embedding, &subject.embedding);
        match parts.iter_mut().flat_map(|part| &mut part.cards).find(same) {
            Some(card) => card.alike += 1,
            None if round >= most => {}
            None => {
                parts[part].cards.push(Card::new(Rc::clone(subject), round));
                round += 1;
            }
        }
    }
    parts.retain(|part| !part.cards.is_empty());
    Sheet { parts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::{Answer, Collector};
    use crate::subject::Picture;

    fn subject(row: u64, degrees: f32) -> Rc<Subject<()>> {
        let angle = degrees.to_radians();
        Rc::new(Subject::new(row, Some(&row.to_string()), Picture::None, vec![angle.cos(), angle.sin()]))
    }

    fn rows(part: &Part<()>) -> Vec<(u64, usize)> {
        part.cards.iter().map(|card| (card.subject.row, card.alike)).collect()
    }

    #[test]
    fn images_that_are_alike_collapse() {
        let subjects = vec![subject(1, 0.0), subject(2, 5.0), subject(3, 40.0), subject(4, 2.0)];
        let found = sheet([""], [subjects], 9);
        assert_eq!(rows(&found.parts[0]), [(1, 2), (3, 0)]);
    }

    #[test]
    fn an_image_is_in_one_part_only() {
        let all = [subject(1, 0.0), subject(2, 90.0)];
        let turned = vec![Rc::clone(&all[1]), Rc::clone(&all[0])];
        let found = sheet(["a", "b"], [all.to_vec(), turned], 9);
        assert_eq!(found.parts.iter().map(rows).collect::<Vec<_>>(), [vec![(1, 0)], vec![(2, 0)]]);
    }

    #[test]
    fn every_sheet_gets_a_place_before_any_gets_two() {
        let mut collector = Collector::<()>::new(4, false, Options { per_category: 9, total: 14 });
        for row in 0..100u64 {
            // Category 3 is rare.
            let category = if row < 2 { 3 } else { row as usize % 3 };
            let vector = (0..100).map(|i| if i == row { 1.0 } else { 0.0 }).collect();
            let subject = Subject::new(row, Some(&row.to_string()), Picture::None, vector);
            let ranked = [(category, 0.5 + row as f32 / 1_000.0)];
            collector
                .classified(subject, Answer { ranked: &ranked, known: 1.0, is_rejected: false, truth: None });
        }
        let mut sheets = collector.finish();
        sheets.share();
        let shown = |sheet: &Sheet<()>| sheet.cards().filter(|card| card.is_shown).count();
        let shown: Vec<_> =
            sheets.categories.iter().map(|(category, sheet)| (*category, shown(sheet))).collect();
        assert_eq!(shown, [(0, 4), (2, 4), (1, 4), (3, 2)]);
        assert_eq!(sheets.shown_and_left_out().0, 14);
    }

    #[test]
    fn bytes_are_shared_as_places_are() {
        let mut collector = Collector::<()>::new(2, false, Options { per_category: 3, total: 100 });
        for row in 0..6u64 {
            let vector = (0..6).map(|i| if i == row { 1.0 } else { 0.0 }).collect();
            let subject = Subject::new(row, None, Picture::Thumbnail(vec![0; 30]), vector);
            let ranked = [(row as usize % 2, 0.5 + row as f32 / 100.0)];
            collector
                .classified(subject, Answer { ranked: &ranked, known: 1.0, is_rejected: false, truth: None });
        }
        let mut sheets = collector.finish();
        sheets.share();
        // 30 bytes are 40 in base64.
        sheets.fit(170);
        assert_eq!(sheets.shown_and_left_out(), (4, 2));
        for (_, sheet) in &sheets.categories {
            assert_eq!(sheet.cards().filter(|card| card.is_shown).count(), 2);
        }
    }
}
