//! The methods of a classifier, fitted on one support set.

use std::sync::{Arc, OnceLock};

use super::ValidParams;
use crate::method::{FittedMethod, Method};
use crate::sus::SupportSet;

/// A fit of a method; `None` where the support set does not allow one.
type Fit = Option<Box<dyn FittedMethod>>;

/// A support set and the methods fitted on it.
#[derive(Debug)]
pub(super) struct Fits {
    support_set: Arc<SupportSet>,
    params: ValidParams,
    /// One per method, in the order of [`Method::ALL`]. Each is fitted when it is first used.
    fits: [OnceLock<Fit>; Method::ALL.len()],
    zero_shot: Box<dyn FittedMethod>,
}

impl Fits {
    /// Fits nothing yet.
    pub fn new(support_set: Arc<SupportSet>, params: ValidParams) -> Self {
        let zero_shot = Method::zero_shot(&support_set, params);
        Fits { support_set, params, fits: std::array::from_fn(|_| OnceLock::new()), zero_shot }
    }

    /// The fit that answers for a method: zero-shot where the support set does not allow the method.
    pub fn of(&self, method: Method) -> &dyn FittedMethod {
        let fit = || method.fit(&self.support_set, self.params);
        let fit = self.fits[method as usize].get_or_init(fit);
        fit.as_deref().unwrap_or(self.zero_shot.as_ref())
    }

    /// What the methods that have been fitted [save](FittedMethod::saved).
    pub fn saved(&self) -> Vec<(Method, Vec<u8>)> {
        let of = |method: Method| Some((method, self.fits[method as usize].get()?.as_ref()?.saved()?));
        Method::ALL.into_iter().filter_map(of).collect()
    }

    /// Takes the methods from what they have saved, on the same support set with the same parameters. `None` if one of them is
    /// not that.
    pub fn restore(&self, saved: &[(Method, &[u8])]) -> Option<()> {
        for (method, saved) in saved {
            let fit = method.restored(&self.support_set, self.params, saved)?;
            self.fits[*method as usize].get_or_init(|| Some(fit));
        }
        Some(())
    }

    /// Size on the heap without the support set, in bytes.
    pub fn size(&self) -> usize {
        let fits = self.fits.iter().filter_map(|fit| fit.get()?.as_ref());
        fits.map(|fit| fit.size()).sum()
    }
}
