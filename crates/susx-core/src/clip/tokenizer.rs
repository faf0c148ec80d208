//! From text to the token ids that a CLIP text encoder takes.

use std::path::Path;

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;
use tokenizers::{Tokenizer, TruncationParams};

use super::error::{ClipError, Result};

/// The token ids of some texts, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// Texts × sequence length. Shorter rows are filled with the pad token.
    pub input_ids: Array2<i64>,
    /// 1 where `input_ids` holds a token of the text, 0 where it is padding.
    pub attention_mask: Array2<i64>,
}

/// How long the rows of a [`TokenBatch`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Always the context length, for models that see no mask or have a fixed length.
    ContextLength,
    /// As long as the longest row, for models that ignore what the mask hides.
    Longest,
    /// As long as the longest row, rounded up to a multiple of this: few lengths, for providers that
    /// prepare themselves for each.
    MultipleOf(usize),
}

impl TokenBatch {
    /// How many tokens each text has.
    pub fn lengths(&self) -> Vec<usize> {
        self.attention_mask.rows().into_iter().map(|row| row.sum() as usize).collect()
    }

    /// Some of its rows, by their numbers, of which the first `length` columns.
    pub(crate) fn select(&self, rows: &[usize], length: usize) -> TokenBatch {
        let part = |all: &Array2<i64>| all.slice(s![.., ..length]).select(Axis(0), rows);
        TokenBatch { input_ids: part(&self.input_ids), attention_mask: part(&self.attention_mask) }
    }
}

/// A model's `tokenizer.json`, truncating to its context length.
#[derive(Clone, Debug)]
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    context_length: usize,
    pad_id: i64,
    padding: Padding,
}

impl ClipTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// * `context_length`: the most tokens of a row, special ones included (CLIP: 77). Longer texts
    ///   lose their end, but never the special tokens that the tokenizer adds after it.
    /// * `pad_token`: the pad token by the model's other files, used if `tokenizer.json` names none.
    ///   Without any of them rows are filled with 0, as OpenAI's CLIP does.
    pub fn from_file(
        path: &Path,
        context_length: usize,
        pad_token: Option<&str>,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        let bytes = std::fs::read(path).map_err(|error| ClipError::file(path, error))?;
        let tokenizer = Tokenizer::from_bytes(&bytes)
            .map_err(|error| ClipError::file(path, format!("not a tokenizer: {error}")))?;
        let pad_id = match (tokenizer.get_padding(), pad_token) {
            (Some(padding), _) => padding.pad_id,
            (None, Some(token)) => tokenizer.token_to_id(token).ok_or_else(|| {
                ClipError::file(path, format!("the pad token {token:?} is not in the vocabulary"))
            })?,
            (None, None) => 0,
        };
        Self::new(path, tokenizer, context_length, i64::from(pad_id), padding)
    }

    /// A tokenizer that was read from `path` or beside it.
    pub(crate) fn new(
        path: &Path,
        mut tokenizer: Tokenizer,
        context_length: usize,
        pad_id: i64,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        // We pad ourselves: the file's own padding may be to another length or on the left.
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: context_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| {
            ClipError::file(path, format!("cannot truncate to {context_length} tokens: {error}"))
        })?;
        Ok(ClipTokenizer { tokenizer, context_length, pad_id, padding })
    }

    /// The most tokens of a row.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The token that fills shorter rows.
    pub fn pad_id(&self) -> i64 {
        self.pad_id
    }

    /// How long rows are whose longest has so many tokens.
    pub(crate) fn padded(&self, longest: usize) -> usize {
        match self.padding {
            Padding::ContextLength => self.context_length,
            Padding::Longest => longest,
            Padding::MultipleOf(step) => longest.next_multiple_of(step.max(1)).min(self.context_length),
        }
    }

    /// Tokenizes each of `texts`, on rayon's pool.
    pub fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let encode = |text: &&str| {
            let encoding = self
                .tokenizer
                .encode_fast(*text, true)
                .map_err(|error| ClipError::Text { reason: error.to_string() })?;
            match encoding.is_empty() {
                true => Err(ClipError::Text { reason: "it has no tokens".into() }),
                false => Ok(encoding),
            }
        };
        let rows = match texts {
            // Not worth a change of threads.
            [text] => vec![encode(text)?],
            _ => texts.par_iter().map(encode).collect::<Result<Vec<_>>>()?,
        };
        let length = self.padded(rows.iter().map(|row| row.len()).max().unwrap_or(0));
        let mut input_ids = Array2::from_elem((texts.len(), length), self.pad_id);
        let mut attention_mask = Array2::zeros((texts.len(), length));
        for (i, row) in rows.iter().enumerate() {
            for (j, &id) in row.get_ids().iter().enumerate() {
                input_ids[[i, j]] = i64::from(id);
                attention_mask[[i, j]] = 1;
            }
        }
        Ok(TokenBatch { input_ids, attention_mask })
    }
}
