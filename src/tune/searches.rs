//! The searches for the parameters of every method that has some to tune.

use std::ops::Range;

use susx_core::classifier::{ClassifierParams, ValidParams};
use susx_core::method::Method;
use susx_core::method::gated_tip_x::GatedTipX;
use susx_core::method::gda::{GdaGrid, GdaGridSearch, GdaTuned};
use susx_core::method::likeness::{Likeness, LikenessGridSearch, LikenessTuned};
use susx_core::method::tip_x::{LeaveOneOut, TipXGrid, TipXGridSearch, TipXTuned};
use susx_core::queries::{OwnedQueries, Queries};
use susx_core::sus::SupportSet;

use crate::pg::error::{Error, Result};

/// Affinities that are in memory at the same time, four bytes each.
const BLOCK: usize = 1 << 20;

/// Results of the searches.
#[derive(Clone, Copy, Debug)]
pub struct Tuned {
    pub tip_x: TipXTuned,
    /// The same for gated TIP-X.
    pub gated: TipXTuned,
    pub gda: GdaTuned,
    /// `None` for a support set without likeness vectors.
    pub likeness: Option<LikenessTuned>,
}

/// The fits that are searched.
#[derive(Debug)]
pub struct Fits {
    pub gated: GatedTipX,
    pub likeness: Option<Likeness>,
}

/// The searches of all methods that have parameters to tune.
#[derive(Debug)]
pub struct Searches<'a> {
    pub tip_x: TipXGridSearch,
    pub gated: TipXGridSearch,
    pub gda: GdaGridSearch<'a>,
    pub likeness: Option<LikenessGridSearch<'a>>,
}

/// The grids to search.
#[derive(Debug)]
pub struct Grids {
    pub tip_x: TipXGrid,
    pub gda: GdaGrid,
    /// Lambdas of likeness.
    pub likeness: Vec<f32>,
}

/// Number of images that are processed together.
pub fn block_rows(support_set: &SupportSet) -> usize {
    (BLOCK / support_set.len().max(support_set.categories().len()).max(1)).clamp(1, 64)
}

impl Grids {
    pub fn full() -> Self {
        Grids {
            tip_x: TipXGrid::published(),
            gda: GdaGrid::standard(),
            likeness: LikenessGridSearch::standard(),
        }
    }

    /// The present parameters, and what [`Searches::present`] needs to count the methods without some terms.
    pub fn present(params: ClassifierParams) -> Self {
        let ClassifierParams { alpha, beta, gamma, lambda, ridge, .. } = params;
        Grids {
            tip_x: TipXGrid { alpha: vec![0.0, alpha], beta: vec![beta], gamma: vec![0.0, gamma] },
            gda: GdaGrid { lambda: vec![lambda], ridge: vec![ridge] },
            likeness: vec![lambda],
        }
    }
}

impl<'a> Searches<'a> {
    pub fn new(fits: &'a Fits, params: ValidParams, grids: Grids) -> Self {
        let likeness = fits.likeness.as_ref();
        Searches {
            tip_x: TipXGridSearch::new(grids.tip_x.clone()),
            gated: TipXGridSearch::new(grids.tip_x),
            gda: GdaGridSearch::new(fits.gated.tip_x().support_set(), params.logit_scale, grids.gda),
            likeness: likeness.map(|fit| LikenessGridSearch::new(fit, params, grids.likeness)),
        }
    }

    /// Tries images of these categories. Images of none have no right answer that a search could look for.
    pub fn add(&mut self, Fits { gated, .. }: &Fits, images: Queries, truth: &[Option<usize>]) {
        let (images, truth) = of_categories(images, truth);
        if truth.is_empty() {
            return;
        }
        let parts = gated.tip_x().parts(images.view());
        self.tip_x.add(&parts, &truth);
        self.gated.add(&gated.parts(images.view(), parts), &truth);
        self.gda.add(images.view(), &truth);
        if let Some(search) = &mut self.likeness {
            search.add(images.view(), &truth);
        }
    }

    /// Tries a block of support images, each as the classifier without it would label it.
    pub fn leave_out(&mut self, gated: &GatedTipX, tip_x: &LeaveOneOut, rows: Range<usize>, truth: &[usize]) {
        let numbers: Vec<usize> = rows.clone().collect();
        let parts = tip_x.parts(&numbers);
        self.tip_x.add(&parts, truth);
        self.gated.add(&gated.parts_without(&numbers, parts), truth);
        self.gda.leave_out(rows);
        if let Some(search) = &mut self.likeness {
            search.leave_out(&numbers);
        }
    }

    /// The best parameters; an error if no image was tried.
    pub fn best(&self) -> Result<Tuned> {
        let likeness = self.likeness.as_ref().and_then(LikenessGridSearch::best);
        match (self.tip_x.best(), self.gated.best(), self.gda.best()) {
            (Some(tip_x), Some(gated), Some(gda)) => Ok(Tuned { tip_x, gated, gda, likeness }),
            _ => Err(Error::argument("the query returned no image to tune on")),
        }
    }

    /// How the present parameters do, from a search of [`Grids::present`].
    pub fn present(&self) -> Result<Tuned> {
        let Tuned { tip_x: TipXTuned { rows, .. }, gda, likeness, .. } = self.best()?;
        Ok(Tuned { tip_x: present(&self.tip_x, rows)?, gated: present(&self.gated, rows)?, gda, likeness })
    }
}

/// The rows of images that are of some category, with their categories.
fn of_categories(images: Queries, truth: &[Option<usize>]) -> (OwnedQueries, Vec<usize>) {
    let (rows, truth): (Vec<usize>, Vec<usize>) =
        truth.iter().enumerate().filter_map(|(row, truth)| Some((row, (*truth)?))).unzip();
    (images.select(&rows), truth)
}

/// The counts of the present parameters, without and with each term.
fn present(search: &TipXGridSearch, rows: u32) -> Result<TipXTuned> {
    let triples: Vec<_> = search.counts().collect();
    let [(.., zero_shot), _, (.., tip_adapter), (alpha, beta, gamma, tip_x)] = triples[..] else {
        return Err(Error::internal("a grid of two by two has four counts"));
    };
    Ok(TipXTuned { alpha, beta, gamma, rows, zero_shot, tip_adapter, tip_x })
}

impl Tuned {
    /// Images that a method classifies correctly with the tuned parameters; `None` for a method that is not tuned.
    pub fn correct(&self, method: Method) -> Option<u32> {
        match method {
            Method::ZeroShot => Some(self.tip_x.zero_shot),
            Method::TipAdapter => Some(self.tip_x.tip_adapter),
            Method::TipX => Some(self.tip_x.tip_x),
            Method::GatedTipX => Some(self.gated.tip_x),
            Method::Gda => Some(self.gda.gda),
            Method::Likeness => self.likeness.map(|tuned| tuned.likeness),
        }
    }
}
