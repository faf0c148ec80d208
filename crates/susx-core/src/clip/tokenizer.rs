//! From text to the token ids of a CLIP text encoder.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::cut::Cuts;
use super::error::{ClipError, Result};
use super::pad::{Pad, PadRules};
use super::text_form::TextForm;
use crate::onnx::files::{self, MAX_TOKENIZER_BYTES};

/// Of a text that can be cut, the first attempt reads this many bytes per token, several times the average.
const BYTES_PER_TOKEN: usize = 16;
/// Each further attempt reads this many times more.
const ATTEMPT_GROWTH: usize = 4;
/// Fewer texts are tokenized on the calling thread, because switching threads would take longer.
const MIN_TEXTS_FOR_THREADS: usize = 8;
/// Limit of the threads of a tokenizer: these keep its one encoder busy.
const MAX_THREADS: usize = 4;

/// Some editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What every `tokenizer.json` has.
#[derive(Deserialize)]
struct Outline {
    #[serde(rename = "model")]
    _model: BTreeMap<String, IgnoredAny>,
}

/// Checks that the file at `path` looks like a tokenizer, much faster than it is read.
pub(super) fn check_file(path: &Path) -> Result<()> {
    let bytes = files::read(path, MAX_TOKENIZER_BYTES)?;
    let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let outline = serde_json::from_slice::<Outline>(json);
    outline.map(|_| ()).map_err(|error| ClipError::file(path, format!("not a tokenizer: {error}")))
}

/// The token ids of a text, special ones included.
pub type TokenIds = Vec<u32>;

/// A text that has been tokenized.
#[derive(Clone, Debug, PartialEq)]
pub struct Tokenized {
    /// The tokens that the model reads.
    pub ids: TokenIds,
    /// Whether the text has more of them.
    pub is_cut: bool,
}

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
    /// Tokenized texts, padded with `pad_id` to rows of `length` tokens.
    pub(super) fn padded(rows: &[TokenIds], length: usize, pad_id: i64) -> TokenBatch {
        let mut input_ids = Array2::from_elem((rows.len(), length), pad_id);
        let mut attention_mask = Array2::zeros((rows.len(), length));
        for (i, row) in rows.iter().enumerate() {
            for (j, &id) in row.iter().enumerate() {
                input_ids[[i, j]] = i64::from(id);
                attention_mask[[i, j]] = 1;
            }
        }
        TokenBatch { input_ids, attention_mask }
    }

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
    form: TextForm,
    pad: Pad,
    padding: Padding,
}

impl ClipTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// * `context_length`: the most tokens of a row, special ones included (CLIP: 77). Longer texts
    ///   are truncated, but keep the special tokens that the tokenizer appends.
    /// * `pad`: what the model's other files say about the token that pads shorter rows.
    pub fn from_file(
        path: &Path,
        context_length: usize,
        pad: &PadRules,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        let bytes = files::read(path, MAX_TOKENIZER_BYTES)?;
        let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let tokenizer = Tokenizer::from_bytes(json)
            .map_err(|error| ClipError::file(path, format!("not a tokenizer: {error}")))?;
        let pad = pad.choose(&tokenizer).map_err(|reason| ClipError::file(path, reason))?;
        Self::new(path, tokenizer, context_length, pad, padding)
    }

    /// Wraps a tokenizer that was read from `path`, which messages name. `pad` is the token that pads shorter rows;
    /// for the rest see [`from_file`](Self::from_file).
    pub fn new(
        path: &Path,
        mut tokenizer: Tokenizer,
        context_length: usize,
        pad: Pad,
        padding: Padding,
    ) -> Result<ClipTokenizer> {
        // We do the padding: the file's own may be to another length or on the left.
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: context_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|error| {
            ClipError::file(path, format!("cannot truncate to {context_length} tokens: {error}"))
        })?;
        let (cuts, threads) = (Cuts::of(&tokenizer), Arc::default());
        let (path, form) = (path.to_owned(), TextForm::AsIs);
        Ok(ClipTokenizer { path, tokenizer, cuts, threads, context_length, form, pad, padding })
    }

    /// The same, bringing texts into this form first.
    pub fn with_form(self, form: TextForm) -> ClipTokenizer {
        ClipTokenizer { form, ..self }
    }

    /// The same, with rows of other lengths.
    pub(super) fn with_padding(self, padding: Padding) -> ClipTokenizer {
        ClipTokenizer { padding, ..self }
    }

    /// Fails if it is not certain which token an encoder that sees its padding was trained with.
    pub(super) fn check_pad(&self) -> Result<()> {
        match self.pad.is_certain {
            true => Ok(()),
            false => Err(ClipError::file(&self.path, self.pad.uncertainty(&self.tokenizer))),
        }
    }

    /// The most tokens of a row.
    pub fn context_length(&self) -> usize {
        self.context_length
    }

    /// The token that pads shorter rows.
    pub fn pad_id(&self) -> i64 {
        i64::from(self.pad.id)
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
        let rows = rows.into_iter().flatten().map(|row| Ok(row?.ids));
        Ok(self.batch(&rows.collect::<Result<Vec<TokenIds>>>()?))
    }

    /// Tokenizes each of `texts`, if `wanted` still returns true for its index when its turn comes. The others are
    /// `None`.
    pub fn encode_each(
        &self,
        texts: &[&str],
        wanted: impl Fn(usize) -> bool + Sync,
    ) -> Vec<Option<Result<Tokenized>>> {
        let encode = |(index, text): (usize, &&str)| wanted(index).then(|| self.tokenized(text));
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
        TokenBatch::padded(rows, length, self.pad_id())
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
    fn tokenized(&self, text: &str) -> Result<Tokenized> {
        let text = &*self.form.apply(text);
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

    fn usable(&self, encoding: &Encoding) -> Result<Tokenized> {
        match encoding.is_empty() {
            true => Err(ClipError::Text { reason: "it has no tokens".into() }),
            false => Ok(Tokenized {
                ids: encoding.get_ids().to_vec(),
                is_cut: !encoding.get_overflowing().is_empty(),
            }),
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
