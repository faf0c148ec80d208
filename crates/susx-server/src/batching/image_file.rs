//! From an image file to the values that a model takes, for one model or two.
//!
//! Two models that embed the same image decode it once. Whichever comes first prepares the image for both, and keeps
//! the values of the other one: these are small, regardless of the size of the image. If there is no room for them, the
//! other model decodes the file again.
//!
//! A thread that prepares an image for two models may wait for pixels of the budget. Threads that hold them only
//! decode, and never wait.

use std::cell::{Cell, RefCell};
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use bytes::Bytes;
use susx_core::clip::{
    self, ImageLimits, Picture, PreprocessScratch, Preprocessor, decode_picture, image_format,
};

use crate::batching::pixel_budget::{KeptPixels, PixelBudget};
use crate::protocol::{Failure, FailureKind};

thread_local! {
    /// Buffers of each decoding thread.
    static SCRATCH: RefCell<PreprocessScratch> = RefCell::default();
}

/// Limits of decoding.
#[derive(Clone, Debug)]
pub struct Decoding {
    pub limits: ImageLimits,
    /// Whether a large JPEG is decoded at a part of its size (susx.scaled_decoding).
    pub is_scaled: bool,
    /// Limits the pixels that are decoded at the same time.
    pub pixel_budget: Arc<PixelBudget>,
}

/// An image file, as a slice of the message that it arrived in.
#[derive(Debug)]
pub struct ImageFile {
    file: Bytes,
    /// What another model that embeds the image shares with this one.
    shared: Option<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Arc<Mutex<State>>,
    /// Preprocessor of the other model.
    other: Arc<Preprocessor>,
}

/// What one of two models has left for the other. Locked while one of them decodes the image.
#[derive(Debug)]
enum State {
    /// None of them has arrived yet.
    New,
    Kept(KeptValues),
    Failed(Failure),
    Nothing,
}

/// The values of an image, for the other model.
#[derive(Debug)]
struct KeptValues {
    values: Vec<f32>,
    _pixels: KeptPixels,
}

impl From<Bytes> for ImageFile {
    fn from(file: Bytes) -> Self {
        ImageFile { file, shared: None }
    }
}

/// Each image file for two models, given their preprocessors. Nothing is shared with a model that takes no images.
pub fn pairs(
    files: impl Iterator<Item = Bytes>,
    preprocessors: [Option<&Preprocessor>; 2],
) -> Vec<[ImageFile; 2]> {
    let preprocessors = match preprocessors {
        [Some(first), Some(second)] => Some([Arc::new(first.clone()), Arc::new(second.clone())]),
        _ => None,
    };
    let pair = |file: Bytes| {
        let shared = preprocessors.as_ref().map(|[first, second]| {
            let state = Arc::new(Mutex::new(State::New));
            [second, first].map(|other| Shared { state: Arc::clone(&state), other: Arc::clone(other) })
        });
        let [first, second] = shared.map_or([None, None], |shared| shared.map(Some));
        [ImageFile { file: file.clone(), shared: first }, ImageFile { file, shared: second }]
    };
    files.map(pair).collect()
}

impl ImageFile {
    /// Writes the image's values for a model to `out`. Waits if another model is decoding the image.
    pub fn prepare(
        &self,
        preprocessor: &Preprocessor,
        decoding: &Decoding,
        out: &mut [f32],
    ) -> Result<(), Failure> {
        let Some(Shared { state, other }) = &self.shared else {
            return self.decode(preprocessor, decoding, out);
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare_shared(&mut state, other, preprocessor, decoding, out)
    }

    /// Like [`prepare`](Self::prepare), but returns `None` at once if another model is decoding the image.
    pub fn try_prepare(
        &self,
        preprocessor: &Preprocessor,
        decoding: &Decoding,
        out: &mut [f32],
    ) -> Option<Result<(), Failure>> {
        let Some(Shared { state, other }) = &self.shared else {
            return Some(self.decode(preprocessor, decoding, out));
        };
        let mut state = match state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(self.prepare_shared(&mut state, other, preprocessor, decoding, out))
    }

    fn prepare_shared(
        &self,
        state: &mut State,
        other: &Preprocessor,
        preprocessor: &Preprocessor,
        decoding: &Decoding,
        out: &mut [f32],
    ) -> Result<(), Failure> {
        match mem::replace(state, State::Nothing) {
            State::New => match self.decode_for_both(other, preprocessor, decoding, out) {
                Ok(kept) => *state = kept.map_or(State::Nothing, State::Kept),
                Err(failure) => {
                    *state = State::Failed(failure.clone());
                    return Err(failure);
                }
            },
            State::Kept(KeptValues { values, .. }) if values.len() == out.len() => {
                out.copy_from_slice(&values)
            }
            State::Failed(failure) => return Err(failure),
            State::Kept(_) | State::Nothing => return self.decode(preprocessor, decoding, out),
        }
        Ok(())
    }

    fn decode(
        &self,
        preprocessor: &Preprocessor,
        decoding: &Decoding,
        out: &mut [f32],
    ) -> Result<(), Failure> {
        let reduction = |width, height| preprocessor.reduction(width, height);
        decode(&self.file, decoding, reduction, |picture, scratch| {
            preprocessor.picture_values_into(picture, scratch, out)
        })
    }

    /// Writes the values for one model to `out`, and returns those for the other if there is room for them.
    fn decode_for_both(
        &self,
        other: &Preprocessor,
        preprocessor: &Preprocessor,
        decoding: &Decoding,
        out: &mut [f32],
    ) -> Result<Option<KeptValues>, Failure> {
        let reduction =
            |width, height| preprocessor.reduction(width, height).min(other.reduction(width, height));
        decode(&self.file, decoding, reduction, |picture, scratch| {
            preprocessor.picture_values_into(picture, scratch, out)?;
            let (_, height, width) = other.shape();
            let Some(pixels) = decoding.pixel_budget.keep(height as u64 * width as u64) else {
                return Ok(None);
            };
            let mut values = vec![0.0; other.len()];
            other.picture_values_into(picture, scratch, &mut values)?;
            Ok(Some(KeptValues { values, _pixels: pixels }))
        })
    }
}

/// Decodes a file, and returns the result of `prepare` for the picture.
///
/// `reduction` gets the picture's width and height, and returns the number by which both may be divided, if that is
/// allowed.
pub fn decode<T>(
    file: &[u8],
    decoding: &Decoding,
    reduction: impl Fn(u32, u32) -> u32,
    prepare: impl FnOnce(&Picture, &mut PreprocessScratch) -> clip::Result<T>,
) -> Result<T, Failure> {
    let decode = || {
        // Holds the permit until the image has been preprocessed.
        let permit = Cell::new(None);
        let reduction = |width, height| if decoding.is_scaled { reduction(width, height) } else { 1 };
        let picture = decode_picture(file, &decoding.limits, &reduction, &|count| {
            permit.set(Some(decoding.pixel_budget.take(count)));
        })?;
        SCRATCH.with_borrow_mut(|scratch| prepare(&picture, scratch))
    };
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(FailureKind::Input, panicked(file))),
    }
}

/// What a report of the error needs to say.
fn panicked(file: &[u8]) -> String {
    let decoder = match image_format(file) {
        Some(format) => format!("the {format} decoder"),
        None => "the decoder".to_owned(),
    };
    let first: Vec<String> = file.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{decoder} panicked on this image, which begins with the bytes {}", first.join(" "))
}

#[cfg(test)]
mod tests;
