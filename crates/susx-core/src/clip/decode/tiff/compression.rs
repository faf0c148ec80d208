//! From the bytes of a strip or tile to its samples.

use std::borrow::Cow;

use flate2::{Decompress, FlushDecompress, Status};
use weezl::{BitOrder, LzwStatus};

use super::page::Page;
use super::{broken, ends_early, fax, jpeg, predictor};
use crate::clip::error::Result;

pub(super) const NONE: u16 = 1;
const FAX_RLE: u16 = 2;
const FAX_GROUP_3: u16 = 3;
const FAX_GROUP_4: u16 = 4;
const LZW: u16 = 5;
pub(super) const JPEG: u16 = 7;
const DEFLATE: u16 = 8;
const FAX_RLE_WORDS: u16 = 32771;
const PACK_BITS: u16 = 32773;
const OLD_DEFLATE: u16 = 32946;

/// Fails if the compression is one that is not read.
pub(super) fn check(compression: u16) -> Result<()> {
    let name = match compression {
        NONE | FAX_RLE | FAX_GROUP_3 | FAX_GROUP_4 | LZW | JPEG | DEFLATE | FAX_RLE_WORDS | PACK_BITS
        | OLD_DEFLATE => return Ok(()),
        6 => "old-style JPEG (compression 6)",
        9 | 10 => "JBIG",
        32766 => "NeXT",
        32809 => "ThunderScan",
        32895..=32898 => "IT8 (prepress)",
        33003 | 33005 | 34712 => "JPEG 2000",
        34676 | 34677 => "SGI's LogLuv",
        34887 => "LERC",
        34892 => "lossy DNG",
        34925 => "LZMA",
        50000 => "Zstandard",
        50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        other => return Err(broken(format!("compression {other} is unknown"))),
    };
    Err(broken(format!("its compression is not supported: {name}")))
}

/// The `length` bytes of samples of a chunk of `rows` rows, and perhaps more.
pub(super) fn decode<'a>(page: &Page, data: &'a [u8], rows: usize, length: usize) -> Result<Cow<'a, [u8]>> {
    // libtiff's rule: the bits of the compressed bytes are reversed, except in a JPEG.
    let data = match page.has_reversed_bits && page.compression != JPEG {
        true => Cow::Owned(data.iter().map(|byte| byte.reverse_bits()).collect()),
        false => Cow::Borrowed(data),
    };
    let mut chunk = match page.compression {
        NONE if data.len() < length => return Err(ends_early()),
        NONE => return Ok(data),
        FAX_RLE | FAX_GROUP_3 | FAX_GROUP_4 | FAX_RLE_WORDS => {
            if page.depth.bits() != 1 || page.chunk_samples() != 1 {
                return Err(broken("fax compression is only supported for black-and-white images"));
            }
            let code = match page.compression {
                FAX_GROUP_4 => fax::Code::Group4,
                FAX_GROUP_3 => fax::Code::Group3 { options: page.fax_options },
                FAX_RLE => fax::Code::Rle { align: 8 },
                _ => fax::Code::Rle { align: 16 },
            };
            return fax::decode(&data, code, page.grid.width, rows).map(Cow::Owned);
        }
        JPEG => return jpeg::decode(page, &data, rows).map(Cow::Owned),
        PACK_BITS => return pack_bits(&data, length).map(Cow::Owned),
        LZW => lzw(&data, length)?,
        _ => deflate(&data, length)?,
    };
    predictor::undo(page, &mut chunk)?;
    Ok(Cow::Owned(chunk))
}

/// A decoder may fail after the last sample: what follows does not matter.
fn lzw(data: &[u8], length: usize) -> Result<Vec<u8>> {
    // Files from before TIFF 5.0 begin with a clear code in the other bit order, and switch the code's size later.
    let mut decoder = match data {
        [0, second, ..] if second & 1 == 1 => weezl::decode::Decoder::new(BitOrder::Lsb, 8),
        _ => weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8),
    };
    let mut chunk = vec![0; length];
    let (mut from, mut to) = (0, 0);
    while to < length {
        let result = decoder.decode_bytes(&data[from..], &mut chunk[to..]);
        from += result.consumed_in;
        to += result.consumed_out;
        match result.status {
            _ if to == length => {}
            Ok(LzwStatus::Ok) if result.consumed_in + result.consumed_out > 0 => {}
            Ok(_) => return Err(ends_early()),
            Err(_) => return Err(broken("its LZW data are damaged")),
        }
    }
    Ok(chunk)
}

fn deflate(data: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut decoder = Decompress::new(true);
    let mut chunk = vec![0; length];
    while (decoder.total_out() as usize) < length {
        let (from, to) = (decoder.total_in() as usize, decoder.total_out() as usize);
        let status = decoder.decompress(&data[from..], &mut chunk[to..], FlushDecompress::None);
        let moved = (decoder.total_in() as usize, decoder.total_out() as usize) != (from, to);
        match status {
            _ if decoder.total_out() as usize == length => {}
            Ok(Status::Ok) if moved => {}
            Ok(_) => return Err(ends_early()),
            Err(_) => return Err(broken("its Deflate data are damaged")),
        }
    }
    Ok(chunk)
}

fn pack_bits(mut data: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(length);
    while chunk.len() < length {
        let [count, rest @ ..] = data else { return Err(ends_early()) };
        let room = length - chunk.len();
        data = match (*count, rest) {
            (128, _) => rest,
            (0..128, _) => {
                let (run, rest) = rest.split_at_checked(usize::from(*count) + 1).ok_or_else(ends_early)?;
                chunk.extend(&run[..run.len().min(room)]);
                rest
            }
            (_, [byte, rest @ ..]) => {
                chunk.resize(chunk.len() + (257 - usize::from(*count)).min(room), *byte);
                rest
            }
            (_, []) => return Err(ends_early()),
        };
    }
    Ok(chunk)
}
