//! libjpeg-turbo's decompressor, as `mozjpeg-sys` bundles it.
//!
//! libjpeg reports an error through a function that must not return. Ours unwinds to [`guarded`], which the crate
//! allows: it compiles libjpeg with unwind tables (its feature `unwinding`).

use std::any::Any;
use std::ffi::{c_int, c_ulong};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::{self, NonNull};
use std::{mem, slice};

use mozjpeg_sys::{
    J_COLOR_SPACE, JPEG_LIB_VERSION, jpeg_CreateDecompress, jpeg_calc_output_dimensions, jpeg_common_struct,
    jpeg_component_info, jpeg_decompress_struct, jpeg_destroy_decompress, jpeg_error_mgr,
    jpeg_finish_decompress, jpeg_has_multiple_scans, jpeg_mem_src, jpeg_progress_mgr, jpeg_read_header,
    jpeg_read_scanlines, jpeg_start_decompress, jpeg_std_error,
};

use super::problem::{Problem, problem};

/// Most scans of a picture. Encoders write about ten; each costs time for all pixels, regardless of its length.
pub(super) const MAX_SCANS: c_int = 100;

/// Rows that are read at a time. libjpeg makes at most 4 × 8 at once, and keeps those that find no room.
const ROWS: usize = 8;

/// One picture on its way from a file to pixels: [`new`](Self::new) reads the headers, [`start`](Self::start) prepares
/// the decoder, [`read`](Self::read) is called for all rows, and [`finish`](Self::finish) reads on to the end marker.
///
/// After an error it can only be dropped.
pub(in crate::clip::decode) struct Decompressor<'a> {
    state: NonNull<State>,
    file: PhantomData<&'a [u8]>,
}

/// Never moves, because libjpeg points into it. All zeros are valid.
#[repr(C)]
struct State {
    info: jpeg_decompress_struct,
    errors: jpeg_error_mgr,
    progress: jpeg_progress_mgr,
}

impl<'a> Decompressor<'a> {
    /// Reads the headers of `file`, up to the first scan.
    pub(in crate::clip::decode) fn new(file: &'a [u8]) -> Result<Self, Problem> {
        let state = NonNull::from(Box::leak(Box::new(MaybeUninit::<State>::zeroed()))).cast();
        let decompressor = Decompressor { state, file: PhantomData };
        let state = state.as_ptr();
        let length = c_ulong::try_from(file.len()).map_err(|_| Problem::new("it is too long"))?;
        // SAFETY: `state` is allocated and zeroed, which is a valid value of each of its fields. libjpeg reads the file
        // as long as `Self` lives, no longer than `'a`.
        guarded(|| unsafe {
            jpeg_std_error(&mut (*state).errors);
            (*state).errors.error_exit = Some(on_error);
            (*state).errors.emit_message = Some(on_message);
            (*state).progress.progress_monitor = Some(on_progress);
            let info = ptr::addr_of_mut!((*state).info);
            (*info).common.err = ptr::addr_of_mut!((*state).errors);
            jpeg_CreateDecompress(info, JPEG_LIB_VERSION, mem::size_of::<jpeg_decompress_struct>());
            // Creating clears all fields but the error manager.
            (*info).common.progress = ptr::addr_of_mut!((*state).progress);
            jpeg_mem_src(&mut *info, file.as_ptr(), length);
            jpeg_read_header(&mut *info, 1)
        })?;
        Ok(decompressor)
    }

    fn info(&self) -> &jpeg_decompress_struct {
        // SAFETY: allocated in `new`, and changed only through `&mut self`.
        unsafe { &self.state.as_ref().info }
    }

    fn info_mut(&mut self) -> &mut jpeg_decompress_struct {
        // SAFETY: as above.
        unsafe { &mut self.state.as_mut().info }
    }

    /// Width and height of the picture, in pixels.
    pub(in crate::clip::decode) fn size(&self) -> (u32, u32) {
        (self.info().image_width, self.info().image_height)
    }

    /// The colour space of the coded picture.
    pub(in crate::clip::decode) fn color_space(&self) -> J_COLOR_SPACE {
        self.info().jpeg_color_space
    }

    /// Memory for the coefficients of the whole picture in bytes, which all scans must fill before the first row comes
    /// out; 0 if one scan has everything.
    pub(in crate::clip::decode) fn coefficient_bytes(&self) -> u64 {
        // SAFETY: the headers have been read.
        if unsafe { jpeg_has_multiple_scans(self.info()) } == 0 {
            return 0;
        }
        let blocks =
            |count: u32, sampling: c_int| u64::from(count.next_multiple_of(sampling.unsigned_abs().max(1)));
        let block_bytes = 64 * mem::size_of::<i16>() as u64;
        let component = |it: &jpeg_component_info| {
            blocks(it.width_in_blocks, it.h_samp_factor) * blocks(it.height_in_blocks, it.v_samp_factor)
        };
        self.components().iter().map(component).sum::<u64>() * block_bytes
    }

    fn components(&self) -> &[jpeg_component_info] {
        // SAFETY: the headers have been read, which fills this array.
        unsafe {
            slice::from_raw_parts(self.info().comp_info, self.info().num_components.unsigned_abs() as usize)
        }
    }

    /// Chooses the colour space of the pixels and one of the sizes 1/1, 1/2, 1/4 and 1/8, and returns the width and
    /// height that results, in pixels.
    pub(in crate::clip::decode) fn choose(
        &mut self,
        colors: J_COLOR_SPACE,
        divisor: u32,
    ) -> Result<(u32, u32), Problem> {
        let info = self.info_mut();
        info.out_color_space = colors;
        info.scale_num = 1;
        info.scale_denom = divisor;
        // It guesses what a missing scan had. We reject such a file.
        info.do_block_smoothing = 0;
        // SAFETY: the headers have been read.
        guarded(|| unsafe { jpeg_calc_output_dimensions(info) })?;
        Ok((info.output_width, info.output_height))
    }

    /// Prepares the decoder. If the file has several scans, reads all of them.
    pub(in crate::clip::decode) fn start(&mut self) -> Result<(), Problem> {
        let info = self.info_mut();
        // SAFETY: the headers have been read.
        guarded(|| unsafe { jpeg_start_decompress(info) })?;
        match self.lacks_scans() {
            true => Err(Problem::new("one of its scans is missing")),
            false => Ok(()),
        }
    }

    /// Whether a component or one of its coefficients is in no scan, or not in its full precision.
    fn lacks_scans(&self) -> bool {
        let components = self.components();
        // Its first scan gives a component its quantization table.
        if components.iter().any(|it| it.quant_table.is_null()) {
            return true;
        }
        let coefficients = self.info().coef_bits.cast::<[c_int; 64]>();
        if coefficients.is_null() {
            return false;
        }
        // SAFETY: of a progressive file there is one row for each component.
        let coefficients = unsafe { slice::from_raw_parts(coefficients, components.len()) };
        coefficients.iter().flatten().any(|&bits| bits != 0)
    }

    /// Bytes of one row of pixels.
    pub(in crate::clip::decode) fn row_bytes(&self) -> usize {
        self.info().output_width as usize * self.info().output_components.unsigned_abs() as usize
    }

    /// Reads the next rows into `pixels`, which holds some number of whole rows.
    pub(in crate::clip::decode) fn read(&mut self, mut pixels: &mut [u8]) -> Result<(), Problem> {
        let row_bytes = self.row_bytes();
        let info = self.info_mut();
        while !pixels.is_empty() {
            let mut rows = [ptr::null_mut::<u8>(); ROWS];
            let mut count = 0;
            for (row, place) in pixels.chunks_exact_mut(row_bytes).zip(&mut rows) {
                *place = row.as_mut_ptr();
                count += 1;
            }
            // SAFETY: the decoder has been started. Each of the `count` rows has room for `row_bytes` bytes.
            let read = guarded(|| unsafe { jpeg_read_scanlines(info, rows.as_mut_ptr(), count) })?;
            if read == 0 {
                return Err(Problem::new("it has too few rows"));
            }
            pixels = &mut pixels[read as usize * row_bytes..];
        }
        Ok(())
    }

    /// Reads on to the end marker.
    pub(in crate::clip::decode) fn finish(&mut self) -> Result<(), Problem> {
        let info = self.info_mut();
        // SAFETY: all rows have been read.
        guarded(|| unsafe { jpeg_finish_decompress(info) }).map(drop)
    }
}

impl Drop for Decompressor<'_> {
    fn drop(&mut self) {
        // SAFETY: leaked from a box in `new`, with zeros, which libjpeg takes for already destroyed.
        unsafe {
            jpeg_destroy_decompress(&mut self.state.as_mut().info);
            drop(Box::from_raw(self.state.as_ptr().cast::<MaybeUninit<State>>()));
        }
    }
}

/// Calls libjpeg. Returns what one of the functions below has thrown.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|thrown: Box<dyn Any + Send>| match thrown.downcast() {
        Ok(problem) => *problem,
        Err(panic) => resume_unwind(panic),
    })
}

/// Ends the call of libjpeg, without a message in the log.
fn throw(problem: Problem) -> ! {
    resume_unwind(Box::new(problem))
}

/// An error.
unsafe extern "C-unwind" fn on_error(info: &mut jpeg_common_struct) {
    // SAFETY: libjpeg passes the structure that `Decompressor::new` made, with its error manager.
    let errors = unsafe { &mut *info.err };
    throw(problem(errors));
}

/// A warning (level -1), or a message that traces what libjpeg does.
unsafe extern "C-unwind" fn on_message(info: &mut jpeg_common_struct, level: c_int) {
    if level >= 0 {
        return;
    }
    // SAFETY: as above. This is the decompressor's structure, which begins with the common one.
    let (errors, is_in_picture) = unsafe {
        let decompressor = ptr::from_mut(info).cast::<jpeg_decompress_struct>();
        (&mut *(*decompressor).common.err, (*decompressor).input_scan_number > 0)
    };
    if super::problem::is_damage(errors.msg_code, is_in_picture) {
        throw(problem(errors));
    }
}

/// Called for each row of blocks.
unsafe extern "C-unwind" fn on_progress(info: &mut jpeg_common_struct) {
    // SAFETY: as above.
    let scans = unsafe { (*ptr::from_mut(info).cast::<jpeg_decompress_struct>()).input_scan_number };
    if scans > MAX_SCANS {
        throw(Problem::new(format!("it has more than {MAX_SCANS} scans")));
    }
}
