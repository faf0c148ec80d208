//! HEIC and what else libheif decodes, with the system's libheif.
//!
//! The library is loaded when the first such image comes, and nothing is linked to it: HEVC is patented, and many
//! distributions ship its decoder separately or not at all. All but one of the functions are those that version 1.0 already
//! had, as declared in its `heif.h`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::{Mutex, PoisonError};

use image::RgbImage;
use image::metadata::Orientation;
use libloading::Library;

use super::Admission;
use super::flatten::over_white;
use super::heif::{Heif, broken};
use crate::clip::error::{ClipError, Result};

/// The file that the dynamic linker looks for.
const LIBRARY: &str = "libheif.so.1";

/// `heif_colorspace_RGB`.
const RGB: c_int = 1;
/// `heif_chroma_interleaved_RGBA`: four channels of 8 bits.
const INTERLEAVED_RGBA: c_int = 11;
/// `heif_channel_interleaved`.
const INTERLEAVED: c_int = 10;

/// `struct heif_error`. The text is libheif's own and constant, or belongs to the context.
#[repr(C)]
struct HeifError {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

/// The beginning of `struct heif_security_limits`. Later versions of it are longer.
#[repr(C)]
struct SecurityLimits {
    version: u8,
    max_image_size_pixels: u64,
}

/// The functions that are called. They stay valid because the library is never unloaded.
#[derive(Clone, Copy)]
struct LibHeif {
    context_alloc: unsafe extern "C" fn() -> *mut c_void,
    context_free: unsafe extern "C" fn(*mut c_void),
    read: unsafe extern "C" fn(*mut c_void, *const c_void, usize, *const c_void) -> HeifError,
    primary: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> HeifError,
    handle_release: unsafe extern "C" fn(*const c_void),
    width: unsafe extern "C" fn(*const c_void) -> c_int,
    height: unsafe extern "C" fn(*const c_void) -> c_int,
    decode: unsafe extern "C" fn(*const c_void, *mut *mut c_void, c_int, c_int, *const c_void) -> HeifError,
    plane: unsafe extern "C" fn(*const c_void, c_int, *mut c_int) -> *const u8,
    image_width: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    image_height: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    image_release: unsafe extern "C" fn(*const c_void),
    /// From version 1.19 on.
    security_limits: Option<unsafe extern "C" fn(*const c_void) -> *mut SecurityLimits>,
}

/// The library, once it has been loaded.
static LOADED: Mutex<Option<LibHeif>> = Mutex::new(None);

/// Loads the library, unless it is. After a failure the next call tries again: it may have been installed in the
/// meantime.
fn library() -> std::result::Result<LibHeif, libloading::Error> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = *loaded {
        return Ok(library);
    }
    // SAFETY: libheif's initialisers have no preconditions, and the signatures are those of its heif.h.
    let library = unsafe {
        let library = Library::new(LIBRARY)?;
        let functions = LibHeif {
            context_alloc: *library.get(b"heif_context_alloc\0")?,
            context_free: *library.get(b"heif_context_free\0")?,
            read: *library.get(b"heif_context_read_from_memory_without_copy\0")?,
            primary: *library.get(b"heif_context_get_primary_image_handle\0")?,
            handle_release: *library.get(b"heif_image_handle_release\0")?,
            width: *library.get(b"heif_image_handle_get_width\0")?,
            height: *library.get(b"heif_image_handle_get_height\0")?,
            decode: *library.get(b"heif_decode_image\0")?,
            plane: *library.get(b"heif_image_get_plane_readonly\0")?,
            image_width: *library.get(b"heif_image_get_width\0")?,
            image_height: *library.get(b"heif_image_get_height\0")?,
            image_release: *library.get(b"heif_image_release\0")?,
            security_limits: library.get(b"heif_context_get_security_limits\0").map(|it| *it).ok(),
        };
        // Threads of decoders may run in it until the process ends.
        std::mem::forget(library);
        functions
    };
    Ok(*loaded.insert(library))
}

/// A pointer of libheif, and the function that frees it.
struct Owned {
    pointer: *mut c_void,
    free: unsafe extern "C" fn(*const c_void),
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: `free` is for such a pointer, and nothing else frees it.
        unsafe { (self.free)(self.pointer) }
    }
}

/// A context, which must outlive what was read from it.
struct Context {
    pointer: *mut c_void,
    library: LibHeif,
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the pointer is from `context_alloc`, and nothing else frees it.
        unsafe { (self.library.context_free)(self.pointer) }
    }
}

/// Decodes the primary image, as libheif crops, turns and mirrors it.
pub(super) fn decode(bytes: &[u8], heif: &Heif, limits: &Admission) -> Result<(RgbImage, Orientation)> {
    let format = heif.format();
    heif.check_pixels(limits)?;
    let library = library().map_err(|error| ClipError::NoDecoder { format, reason: error.to_string() })?;
    let failed = |error: HeifError| {
        // SAFETY: the message is a C string, or null.
        let message = unsafe { error.message.as_ref().map(|message| CStr::from_ptr(message)) };
        let message = message.map_or_else(|| "no reason".into(), CStr::to_string_lossy);
        let reason = format!("libheif reports: {message}");
        // No decoder for the codec, or one that cannot be loaded.
        match (error.code, error.subcode) {
            (4, 3000) | (11, _) => ClipError::NoDecoder { format, reason },
            _ => broken(format, reason),
        }
    };
    let checked = |error: HeifError| if error.code == 0 { Ok(()) } else { Err(failed(error)) };
    let unusable = || broken(format, "libheif returned no image");

    // SAFETY: each call gets pointers that libheif returned and that are not freed yet: variables are dropped in the
    // reverse order of their declaration, so the context lives longest, and `bytes` outlives it. Out-parameters are
    // initialised with null and used only where the call succeeded.
    unsafe {
        let context = Context { pointer: (library.context_alloc)(), library };
        if context.pointer.is_null() {
            return Err(unusable());
        }
        // The codec may state another size than the container. An older libheif has its own limits.
        if let Some(own) = library.security_limits.and_then(|limits| limits(context.pointer).as_mut())
            && own.version > 0
        {
            // It counts the pixels that are cut off at the edges, too.
            own.max_image_size_pixels = limits.limits.max_pixels.saturating_mul(2).saturating_add(1 << 20);
        }
        checked((library.read)(context.pointer, bytes.as_ptr().cast(), bytes.len(), ptr::null()))?;
        let mut handle = ptr::null_mut();
        checked((library.primary)(context.pointer, &mut handle))?;
        let handle = Owned { pointer: handle, free: library.handle_release };
        let side = |length: c_int| u32::try_from(length).unwrap_or(0);
        let (width, height) = (side((library.width)(handle.pointer)), side((library.height)(handle.pointer)));
        // It may understand the file in another way than `Heif`.
        limits.limits.check_pixels(width, height)?;
        let mut image = ptr::null_mut();
        checked((library.decode)(handle.pointer, &mut image, RGB, INTERLEAVED_RGBA, ptr::null()))?;
        let image = Owned { pointer: image, free: library.image_release };
        let width = side((library.image_width)(image.pointer, INTERLEAVED));
        let height = side((library.image_height)(image.pointer, INTERLEAVED));
        limits.limits.check_pixels(width, height)?;
        let mut stride = 0;
        let plane = (library.plane)(image.pointer, INTERLEAVED, &mut stride);
        let (stride, row_bytes) = (usize::try_from(stride).unwrap_or(0), 4 * width as usize);
        if plane.is_null() || stride < row_bytes || width == 0 || height == 0 {
            return Err(unusable());
        }
        let mut rgb = RgbImage::new(width, height);
        for (y, row) in rgb.chunks_exact_mut(3 * width as usize).enumerate() {
            // libheif allocates `stride` bytes for each of the `height` rows.
            let from = std::slice::from_raw_parts(plane.add(y * stride), row_bytes);
            for (to, from) in row.chunks_exact_mut(3).zip(from.chunks_exact(4)) {
                for (to, &level) in to.iter_mut().zip(&from[..3]) {
                    *to = over_white(level, from[3]);
                }
            }
        }
        Ok((rgb, Orientation::NoTransforms))
    }
}
