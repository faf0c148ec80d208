//! From prompts to the hidden states that the U-Net attends to.

use std::borrow::Cow;
use std::path::Path;

use ndarray::{Array2, Array3, Axis, Ix3, s};
use ort::value::TensorElementType;
use susx_core::clip::{ClipTokenizer, PadRules, Padding};
use susx_core::onnx::files::{self, MAX_TOKENIZER_BYTES};
use susx_core::onnx::{Concurrency, OnnxError, RowShape, integers, read_floats};
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::component::{Component, INTEGERS, LoadContext};
use super::config::{TokenizerFiles, Vocabulary};
use super::error::Result;

/// CLIP's special tokens, the last of its vocabulary.
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// The pieces that CLIP splits a text into before byte-pair encoding.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

pub(super) struct TextEncoder {
    pub component: Component,
    tokenizer: ClipTokenizer,
    shape: RowShape,
    ids: TensorElementType,
    mask: Option<TensorElementType>,
    output: String,
}

impl TextEncoder {
    pub fn load(context: &LoadContext) -> Result<TextEncoder> {
        let component = Component::load(context, "text_encoder", &context.config.graphs.text_encoder)?;
        component.refuse_other_inputs(&["input_ids", "attention_mask"], "the text encoder of SD 1 and 2")?;
        let ids = component.input("input_ids", &INTEGERS, &[2])?;
        let (rows, length) = (ids.exported_size(0), ids.exported_size(1));
        let ids = ids.element.unwrap_or(TensorElementType::Int64);
        let has_mask = component.graph.inputs.len() == 2;
        let mask = has_mask.then(|| component.input("attention_mask", &INTEGERS, &[2])).transpose()?;
        let mask = mask.and_then(|port| port.element);
        let output = component.output("last_hidden_state", 3)?;
        let files = &context.config.tokenizer;
        let tokenizer = tokenizer(files, length.unwrap_or(files.context_length))?;
        let shape = RowShape::new(context.candidate, rows, 0);
        Ok(TextEncoder { component, tokenizer, shape, ids, mask, output })
    }

    /// The hidden states of each text: texts × tokens × dimensions. Runs equal texts once.
    pub fn hidden_states(&self, texts: &[&str]) -> Result<Array3<f32>> {
        let mut unique: Vec<&str> = texts.to_vec();
        unique.sort_unstable();
        unique.dedup();
        let tokens = self.tokenizer.encode(&unique)?.input_ids;
        let mut parts = Vec::new();
        for piece in self.shape.pieces(unique.len()) {
            let states = self.run(tokens.select(Axis(0), &piece.batch_rows()))?;
            if states.len_of(Axis(0)) != piece.padded {
                let reason =
                    format!("the text encoder returned {} rows for {}", states.len_of(Axis(0)), piece.padded);
                return Err(OnnxError::inference(reason).into());
            }
            parts.push(states.slice_move(s![..piece.rows.len(), .., ..]));
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let states = ndarray::concatenate(Axis(0), &views).map_err(OnnxError::inference)?;
        // `unique` is sorted and has every text.
        let rows: Vec<usize> =
            texts.iter().map(|text| unique.partition_point(|other| other < text)).collect();
        Ok(states.select(Axis(0), &rows))
    }

    fn run(&self, ids: Array2<i64>) -> Result<Array3<f32>> {
        let mut values = Vec::new();
        if let Some(element) = self.mask {
            // The encoder was trained without a mask: it sees the padding.
            let mask = integers(element, Cow::Owned(Array2::ones(ids.dim())))?;
            values.push((Cow::Borrowed("attention_mask"), mask));
        }
        values.push((Cow::Borrowed("input_ids"), integers(self.ids, Cow::Owned(ids))?));
        let read = |value: &_| read_floats::<Ix3>(value, &self.output, "texts, tokens and dimensions");
        Ok(self.component.graph.run(Concurrency::Serial, values, &self.output, read)?)
    }
}

/// The generator's tokenizer. It pads every row to the context length, because CLIP's text encoder takes no mask.
fn tokenizer(files: &TokenizerFiles, context_length: usize) -> Result<ClipTokenizer> {
    let (path, tokenizer) = match &files.vocabulary {
        Vocabulary::Whole(path) => (path, Tokenizer::from_bytes(&files::read(path, MAX_TOKENIZER_BYTES)?)),
        Vocabulary::Clip { vocabulary, merges } => {
            // `tokenizers` opens the files by their names, so here we only check that they can be read.
            for path in [vocabulary, merges] {
                files::read(path, MAX_TOKENIZER_BYTES)?;
            }
            (vocabulary, clip_tokenizer(vocabulary, merges))
        }
    };
    let tokenizer = tokenizer.map_err(|error| OnnxError::file(path, format!("not a tokenizer: {error}")))?;
    let stated = files.pad_token.clone().unwrap_or_else(|| END.to_owned());
    let rules = PadRules { stated: Some(stated), ..PadRules::default() };
    let pad = rules.choose(&tokenizer).map_err(|reason| OnnxError::file(path, reason))?;
    Ok(ClipTokenizer::new(path, tokenizer, context_length, pad, Padding::ContextLength)?)
}

/// CLIP's tokenizer from its own two files, as `transformers` converts it.
fn clip_tokenizer(vocabulary: &Path, merges: &Path) -> tokenizers::Result<Tokenizer> {
    let model = BPE::from_file(&vocabulary.to_string_lossy(), &merges.to_string_lossy())
        .unk_token(END.into())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix("</w>".into())
        .build()?;
    let mut tokenizer = Tokenizer::new(model);
    let id = |token: &str| tokenizer.token_to_id(token).ok_or(format!("{token:?} is not in the vocabulary"));
    let (start, end) = (id(START)?, id(END)?);
    let spaces = Replace::new(tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".into()), " ")?;
    tokenizer.with_normalizer(Some(Normalizers::new(vec![NFC.into(), spaces.into(), Lowercase.into()])));
    let words = Split::new(SplitPattern::Regex(WORDS.into()), SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::default().add_prefix_space(false);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    let special = RobertaProcessing::new((END.into(), end), (START.into(), start));
    tokenizer.with_post_processor(Some(special.trim_offsets(false).add_prefix_space(false)));
    let tokens = [START, END].map(|token| AddedToken::from(token, true).normalized(false));
    tokenizer.add_special_tokens(&tokens);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Both kinds of vocabulary give the same tokenizer.
    #[test]
    #[cfg_attr(not(test_generators), ignore = "needs SUSX_TEST_GENERATORS: see `make -s env`")]
    fn both_vocabularies_give_the_same_tokens() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let generators = std::env::var_os("SUSX_TEST_GENERATORS")
            .map_or_else(|| root.join("build/test-generators"), PathBuf::from);
        let folder = generators.join("pndm/tokenizer");
        assert!(folder.exists(), "there is no {}: set SUSX_TEST_GENERATORS", folder.display());
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let read = |vocabulary| {
            let files = TokenizerFiles { vocabulary, pad_token: Some("!".into()), context_length: 77 };
            tokenizer(&files, 77).unwrap()
        };
        let one = read(Vocabulary::Whole(folder.join("tokenizer.json")));
        let two = read(Vocabulary::Clip { vocabulary, merges });
        let long = "a photo ".repeat(100);
        let texts = [
            "",
            "a photo of a cat.",
            "A  Photo\tof the\n HOUSE",
            "it's 10 apples; don't!",
            "naïve cafe\u{301} 東京 🦀",
            "<|endoftext|> and <|startoftext|>",
            &long,
        ];
        let (one, two) = (one.encode(&texts).unwrap(), two.encode(&texts).unwrap());
        assert_eq!(one, two);
        assert_eq!(one.input_ids.dim(), (texts.len(), 77));
        // A truncated text ends with the end token, and a short one is padded with the pad token.
        assert_eq!(one.input_ids[[6, 76]], one.input_ids[[0, 1]]);
        assert_ne!(one.input_ids[[0, 2]], one.input_ids[[0, 1]]);
    }
}
