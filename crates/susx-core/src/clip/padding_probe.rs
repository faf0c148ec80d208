//! Tries at load time whether a text encoder sees the tokens that pad short texts.
//!
//! No file says it. A causal encoder does not, as its text ends before them; nor does one that heeds its mask. All others
//! give every short text a wrong embedding if they are padded otherwise than in training, to another length or with
//! another token.

use ndarray::Array2;

use super::error::Result;
use super::tokenizer::{ClipTokenizer, Padding, TokenBatch, TokenIds};

/// Any short text.
const TEXT: &str = "a photo";
/// Tokens that are added to see whether they make a difference.
const MORE: usize = 8;
/// The least cosine of embeddings that count as the same: other lengths and half precision change the last digits.
const SAME: f32 = 0.999;

/// The tokenizer, padding as the encoder needs it. `embed` returns unit vectors for tokens that it takes as they are.
///
/// An encoder that is not indifferent to the length gets rows of the context length, as in training. Fails if it sees
/// the pad token, and it is not certain with which it was trained.
pub(super) fn fitting(
    tokenizer: ClipTokenizer,
    embed: impl Fn(&TokenBatch) -> Result<Array2<f32>>,
) -> Result<ClipTokenizer> {
    let rows = tokenizer.encode_each(&[TEXT], |_| true).into_iter().flatten().map(|row| Ok(row?.ids));
    let rows = rows.collect::<Result<Vec<TokenIds>>>()?;
    let is_same = |a: (usize, i64), b: (usize, i64)| -> Result<bool> {
        let of = |(length, pad)| embed(&TokenBatch::padded(&rows, length, pad));
        Ok((of(a)? * of(b)?).sum() >= SAME)
    };
    let pad = tokenizer.pad_id();
    let context_length = tokenizer.context_length();
    let tokens = rows.first().map_or(0, Vec::len);
    let (short, long) = (tokenizer.padded_length(tokens), tokenizer.padded_length(tokens + MORE));
    let tokenizer = match short < context_length && short < long {
        true if is_same((short, pad), (long.min(context_length), pad))? => return Ok(tokenizer),
        true => tokenizer.with_padding(Padding::ContextLength),
        false => tokenizer,
    };
    if !is_same((context_length, pad), (context_length, another(&rows, pad)))? {
        tokenizer.check_pad()?;
    }
    Ok(tokenizer)
}

/// A token of the text, which the vocabulary has in any case, other than the pad token.
fn another(rows: &[TokenIds], pad: i64) -> i64 {
    let inner = rows.iter().flatten().skip(1).map(|&id| i64::from(id));
    inner.chain([0, 1]).find(|&id| id != pad).unwrap_or_default()
}
