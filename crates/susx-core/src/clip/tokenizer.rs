//! From text to the token ids of a CLIP text encoder.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::cut::Cuts;
use super::error::{ClipError, Result};
use crate::onnx::files::{self, MAX_TOKENIZER_BYTES};

/// Of a text that can be cut, the first attempt reads this many bytes per token, several times the average.
const BYTES_PER_TOKEN: usize = 16;
/// Each further attempt reads this many times more.
const ATTEMPT_GROWTH: usize = 4;
/// Fewer texts are tokenized on the calling thread, because switching threads would take longer.
const MIN_TEXTS_FOR_THREADS: usize = 8;
/// Limit of the threads of a tokenizer: these keep its one encoder busy.
const MAX_THREADS: usize = 4;

/// The token ids of a text, special ones included.
pub type TokenIds = Vec<u32>;

/// The token ids of several texts, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenBatch {
    /// Texts × sequence length. Shorter rows are padded with the pad token.
    pub input_ids: Array2<i64>,
    /// 1 where `input_ids` holds a token of the text, 0 where it is padding.
    pub attention_mask: Array2<i64>,
}

/// How long the rows of a [`TokenBatch`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// Always the context length, for models that take no mask or have a fixed length.
    ContextLength,
    /// The length of the longest row, for models that ignore masked tokens.
    Longest,
    /// The length of the longest row, rounded up to a multiple of this. That gives few different lengths, for
    /// providers that prepare themselves for each.
    MultipleOf(usize),
}

impl TokenBatch {
    /// The number of tokens of each text.
    pub fn lengths(&self) -> Vec<usize> {
        self.attention_mask.rows().into_iter().map(|row| row.sum() as usize).collect()
    }

    /// The rows with these numbers, cut to the first `length` columns.
    pub(super) fn select(&self, rows: &[usize], length: usize) -> TokenBatch {
        let part = |all: &Array2<i64>| all.slice(s![.., ..length]).select(Axis(0), rows);
        TokenBatch { input_ids: part(&self.input_ids), attention_mask: part(&self.attention_mask) }
    }
}

/// A model's `tokenizer.json`, truncating to its context length.
///
/// Tokenizing takes time in proportion to the length of the text, which the caller should limit. If the tokenizer
/// allows it (see `cut.rs`), only the beginning of a long text is read, as far as it can affect the tokens.
#[derive(Clone, Debug)]
pub struct ClipTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    cuts: Option<Cuts>,
    /// Its own threads, so that a slow regular expression does not delay other models.
    threads: Arc<OnceLock<ThreadPool>>,
    context_length: usize,
    pad_id: i64,
    padding: Padding,
}

impl ClipTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// * `context_length`: the most tokens of a row, special ones included (CLIP: 77). Longer texts
    ///   are truncated, but keep the special tokens that the tokenizer appends.
    /// * `pad_token`: the pad token according to the model's other files, used if `tokenizer.json` names none.
    ///   Without either, rows are padded with 0, as OpenAI's CLIP does.
    pub fn from_file(
        path: &Path,
        context_length: usize,
        pad_token: Option<&str>,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        let bytes = files::read(path, MAX_TOKENIZER_BYTES)?;
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

    /// Wraps a tokenizer that was read from `path`, which messages name. `pad_id` is the token that pads shorter rows;
    /// for the rest see [`from_file`](Self::from_file).
    pub fn new(
        path: &Path,
        mut tokenizer: Tokenizer,
        context_length: usize,
        pad_id: i64,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        // We do the padding: the file's own may be to another length or on the left.
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: context_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| {
            ClipError::file(path, format!("cannot truncate to {context_length} tokens: {error}"))
        })?;
        let (cuts, threads) = (Cuts::of(&tokenizer), Arc::default());
        Ok(ClipTokenizer { path: path.to_owned(), tokenizer, cuts, threads, context_length, pad_id, padding })
    }

    /// The most tokens of a row.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The token that pads shorter rows.
    pub fn pad_id(&self) -> i64 {
        self.pad_id
    }

    /// The length of all rows if the longest has `longest` tokens.
    pub(super) fn padded_length(&self, longest: usize) -> usize {
        match self.padding {
            Padding::ContextLength => self.context_length,
            Padding::Longest => longest,
            Padding::MultipleOf(step) => longest.next_multiple_of(step.max(1)).min(self.context_length),
        }
    }

    /// Tokenizes all of `texts`. Fails if one of them fails.
    pub fn encode(&self, texts: &[&str]) -> Result<TokenBatch> {
        let rows = self.encode_each(texts, |_| true);
        let rows = rows.into_iter().flatten().collect::<Result<Vec<TokenIds>>>()?;
        Ok(self.batch(&rows))
    }

    /// Tokenizes each of `texts`, if `wanted` still returns true for its index when its turn comes. The others are
    /// `None`.
    pub fn encode_each(
        &self,
        texts: &[&str],
        wanted: impl Fn(usize) -> bool + Sync,
    ) -> Vec<Option<Result<TokenIds>>> {
        let encode = |(index, text): (usize, &&str)| wanted(index).then(|| self.ids(text));
        match self.threads() {
            Some(threads) if texts.len() >= MIN_TEXTS_FOR_THREADS => {
                threads.install(|| texts.par_iter().enumerate().map(encode).collect())
            }
            _ => texts.iter().enumerate().map(encode).collect(),
        }
    }

    /// Pads tokenized texts to rows of one length.
    pub fn batch(&self, rows: &[TokenIds]) -> TokenBatch {
        let length = self.padded_length(rows.iter().map(Vec::len).max().unwrap_or(0));
        let mut input_ids = Array2::from_elem((rows.len(), length), self.pad_id);
        let mut attention_mask = Array2::zeros((rows.len(), length));
        for (i, row) in rows.iter().enumerate() {
            for (j, &id) in row.iter().enumerate() {
                input_ids[[i, j]] = i64::from(id);
                attention_mask[[i, j]] = 1;
            }
        }
        TokenBatch { input_ids, attention_mask }
    }

    fn threads(&self) -> Option<&ThreadPool> {
        if let Some(threads) = self.threads.get() {
            return Some(threads);
        }
        let count = rayon::current_num_threads().min(MAX_THREADS);
        let threads = ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|_| "tokenize".to_owned())
            .build()
            .ok()?;
        Some(self.threads.get_or_init(|| threads))
    }

    /// The tokens of one text.
    fn ids(&self, text: &str) -> Result<TokenIds> {
        if let Some(cuts) = &self.cuts {
            let mut most = self.context_length.saturating_mul(BYTES_PER_TOKEN);
            // If most of the text has to be read, read it all at once.
            while most < text.len() / 2
                && let Some(beginning) = cuts.beginning(text, most)
            {
                let encoding = self.encoding(beginning)?;
                if !encoding.get_overflowing().is_empty() {
                    return self.usable(&encoding);
                }
                most = beginning.len().max(most).saturating_mul(ATTEMPT_GROWTH);
            }
        }
        self.usable(&self.encoding(text)?)
    }

    fn usable(&self, encoding: &Encoding) -> Result<TokenIds> {
        match encoding.is_empty() {
            true => Err(ClipError::Text { reason: "it has no tokens".into() }),
            false => Ok(encoding.get_ids().to_vec()),
        }
    }

    /// The regular expressions of a `tokenizer.json` may take exponential time. Oniguruma, which runs them, gives up
    /// after ten million backtracking steps in one match, and its wrapper then panics.
    fn encoding(&self, text: &str) -> Result<Encoding> {
        let failed = |reason: String| ClipError::Text { reason };
        match catch_unwind(AssertUnwindSafe(|| self.tokenizer.encode_fast(text, true))) {
            Ok(encoding) => encoding.map_err(|error| failed(error.to_string())),
            Err(panic) => {
                let message = panic.downcast_ref::<String>().map(String::as_str);
                let message = message
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("for no stated reason");
                Err(failed(format!("{} fails on it: {message}", self.path.display())))
            }
        }
    }
}
