//! A cut text has the tokens of the whole one, by every kind of tokenizer that texts are cut for.

use std::path::Path;

use serde_json::{Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::{Cuts, EXPRESSIONS};
use crate::clip::{ClipTokenizer, PadRules, Padding};

const CONTEXT: usize = 8;

/// What texts are made of: whatever a step of a tokenizer may treat in a way of its own.
const FRAGMENTS: [&str; 48] = [
    "a",
    "b",
    "ab",
    "abba",
    "the",
    "The",
    "x",
    "Z",
    "é",
    "e\u{301}",
    "\u{301}",
    "\u{345}",
    "слово",
    "Σ",
    "ς",
    "ß",
    "İ",
    "ﬁ",
    "½",
    "ﷺ",
    "¨",
    "東京",
    "。",
    "🦀",
    "\u{200d}",
    "\u{200b}",
    " ",
    " ",
    " ",
    " ",
    "  ",
    "   ",
    "\n",
    "\t",
    "\u{a0}",
    "\u{3000}",
    "'s",
    "'",
    "1",
    "23",
    "!",
    "--",
    ",",
    "▁",
    "<end>",
    " <mask> ",
    "``",
    "\u{7f}",
];

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn text(&mut self) -> String {
        let fragments = self.below(600);
        // Some texts have few spaces, or few of anything else.
        let favourite = FRAGMENTS[self.below(FRAGMENTS.len())];
        let odds = 2 + self.below(6);
        (0..fragments)
            .map(|_| match self.below(odds) {
                0 => favourite,
                _ => FRAGMENTS[self.below(FRAGMENTS.len())],
            })
            .collect()
    }
}

fn bpe() -> Value {
    let mut characters: Vec<String> = ByteLevel::alphabet().into_iter().map(String::from).collect();
    characters.sort();
    characters.push("▁".to_owned());
    let merges =
        [["a", "b"], ["ab", "b"], ["abb", "a"], ["t", "h"], ["Ġ", "a"], ["b", "a"], ["th", "e"], ["▁", "a"]];
    let merged = merges.iter().map(|pair| pair.concat());
    let vocabulary: serde_json::Map<String, Value> =
        characters.into_iter().chain(merged).enumerate().map(|(id, token)| (token, json!(id))).collect();
    json!({"type": "BPE", "vocab": vocabulary, "merges": merges, "unk_token": "a", "fuse_unk": true})
}

fn word_piece() -> Value {
    let words =
        ["[UNK]", "a", "b", "##b", "##a", "the", "x", "##x", "!", ",", "1", "##3", "2", "слово", "'", "s"];
    let vocabulary: serde_json::Map<String, Value> =
        words.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
    json!({"type": "WordPiece", "vocab": vocabulary, "unk_token": "[UNK]", "continuing_subword_prefix": "##",
           "max_input_chars_per_word": 20})
}

fn unigram() -> Value {
    let words = ["<unk>", "▁", "a", "b", "ab", "▁a", "▁the", "the", "x", "s", "'", "▁слово", "1"];
    let vocabulary: Vec<Value> =
        words.iter().enumerate().map(|(rank, word)| json!([word, -1.0 - rank as f64 / 3.0])).collect();
    json!({"type": "Unigram", "vocab": vocabulary, "unk_id": 0, "byte_fallback": false})
}

fn added(content: &str, strip: (bool, bool), normalized: bool, single_word: bool) -> Value {
    json!({"id": 0, "content": content, "lstrip": strip.0, "rstrip": strip.1, "normalized": normalized,
           "single_word": single_word, "special": !normalized})
}

fn tokenizer(normalizer: &Value, pre_tokenizer: &Value, model: &Value, added: Vec<Value>) -> Tokenizer {
    let first = 1000;
    let numbered = |(place, mut token): (usize, Value)| {
        token["id"] = json!(first + place);
        token
    };
    let added: Vec<Value> = added.into_iter().enumerate().map(numbered).collect();
    let start = json!({"Sequence": {"id": "A", "type_id": 0}});
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": model, "decoder": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("S"), start, special("E")],
            "pair": [start, start],
            "special_tokens": {"S": {"id": "S", "ids": [7], "tokens": ["S"]}, "E": {"id": "E", "ids": [8], "tokens": ["E"]}},
        },
    });
    Tokenizer::from_bytes(file.to_string()).unwrap_or_else(|error| panic!("{error}: {file}"))
}

fn normalizers() -> Vec<Value> {
    let replace = |kind: &str, pattern: &str, content: &str| json!({"type": "Replace", "pattern": {kind: pattern}, "content": content});
    let spaces = replace("Regex", r"\s+", " ");
    let bert = json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                      "strip_accents": true, "lowercase": true});
    let punctuation = replace("Regex", r"[!#\$%\&'\(\)\*\+,\-\.:;=\?@\[\]\\_`\{\|\}\~]", "");
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    let lowercase = json!({"type": "Lowercase"});
    let sequence = |parts: &[&Value]| json!({"type": "Sequence", "normalizers": parts});
    vec![
        Value::Null,
        lowercase.clone(),
        json!({"type": "NFKD"}),
        bert,
        sequence(&[&json!({"type": "NFC"}), &spaces, &lowercase]),
        sequence(&[&lowercase, &punctuation, &spaces, &strip]),
        sequence(&[&json!({"type": "NFD"}), &json!({"type": "StripAccents"}), &json!({"type": "Nmt"})]),
        sequence(&[
            &replace("String", "``", "\""),
            &json!({"type": "NFKC"}),
            &replace("Regex", " {2,}", " "),
        ]),
        sequence(&[&json!({"type": "Prepend", "prepend": "▁"}), &replace("String", " ", "▁")]),
        sequence(&[&strip, &replace("Regex", " {2,}", "▁")]),
    ]
}

fn pre_tokenizers() -> Vec<Value> {
    let split = |expression: &str, behavior: &str, invert: bool| json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": behavior, "invert": invert});
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": use_regex, "trim_offsets": true, "use_regex": use_regex});
    let metaspace = |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true});
    let sequence = |parts: &[&Value]| json!({"type": "Sequence", "pretokenizers": parts});
    let words = json!({"type": "WhitespaceSplit"});
    vec![
        sequence(&[&split(EXPRESSIONS[0], "Removed", true), &bytes(true)]),
        sequence(&[&split(EXPRESSIONS[1], "Removed", true), &bytes(false)]),
        sequence(&[&split(EXPRESSIONS[3], "Isolated", false), &bytes(false)]),
        split(EXPRESSIONS[2], "Isolated", true),
        bytes(true),
        words.clone(),
        json!({"type": "Whitespace"}),
        json!({"type": "BertPreTokenizer"}),
        metaspace("always"),
        metaspace("first"),
        sequence(&[&words, &metaspace("always")]),
        sequence(&[&json!({"type": "Digits", "individual_digits": true}), &bytes(true)]),
        sequence(&[&json!({"type": "Punctuation", "behavior": "MergedWithNext"}), &words]),
    ]
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    encoding(tokenizer, text).get_ids().to_vec()
}

fn encoding(tokenizer: &Tokenizer, text: &str) -> Encoding {
    tokenizer.encode_fast(text, true).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn a_cut_text_has_the_tokens_of_the_whole() {
    let special = || {
        vec![
            added("<end>", (false, false), false, false),
            added("<mask>", (true, true), false, false),
            added("abba", (true, false), true, true),
            added(" ▁", (false, false), true, false),
        ]
    };
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let (mut kinds, mut cut, mut texts) = (0, 0, 0);
    for normalizer in normalizers() {
        for pre_tokenizer in pre_tokenizers() {
            for model in [bpe(), word_piece(), unigram()] {
                let mut whole = tokenizer(&normalizer, &pre_tokenizer, &model, special());
                let Some(cuts) = Cuts::of(&whole) else { continue };
                kinds += 1;
                let truncation = TruncationParams { max_length: CONTEXT, ..TruncationParams::default() };
                whole.with_truncation(Some(truncation)).unwrap_or_else(|error| panic!("{error}"));
                let path = Path::new("tokenizer.json");
                let pad = PadRules::default().choose(&whole).unwrap_or_else(|error| panic!("{error}"));
                let clip = ClipTokenizer::new(path, whole.clone(), CONTEXT, pad, Padding::Longest);
                let clip = clip.unwrap_or_else(|error| panic!("{error}"));
                for _ in 0..40 {
                    let text = numbers.text();
                    texts += 1;
                    cut += usize::from(
                        text.len() > 4 * 16 * CONTEXT && cuts.beginning(&text, 16 * CONTEXT).is_some(),
                    );
                    let found = clip.encode_each(&[&text], |_| true).pop().flatten();
                    assert_eq!(
                        found.and_then(Result::ok).map_or_else(Default::default, |it| (it.ids, it.is_cut)),
                        (ids(&whole, &text), !encoding(&whole, &text).get_overflowing().is_empty()),
                        "{normalizer} {pre_tokenizer} {text:?}"
                    );
                    // The same of every beginning there is: what has more tokens than fit has the right ones.
                    let most = numbers.below(text.len() + 1);
                    if let Some(beginning) = cuts.beginning(&text, most) {
                        assert!(text.starts_with(beginning) && beginning.len() < text.len());
                        let encoding =
                            whole.encode_fast(beginning, true).unwrap_or_else(|error| panic!("{error}"));
                        if !encoding.get_overflowing().is_empty() {
                            assert_eq!(
                                encoding.get_ids(),
                                ids(&whole, &text),
                                "{normalizer} {pre_tokenizer} {text:?}"
                            );
                        }
                    }
                }
            }
        }
    }
    // Most are of a kind that is cut, and most texts are.
    assert!(kinds >= 3 * 60, "{kinds}");
    assert!(2 * cut > texts, "{cut} of {texts}");
}

#[test]
fn what_is_not_known_to_be_cut_is_not() {
    let words = json!({"type": "WhitespaceSplit"});
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let replace = |kind: &str, pattern: &str, content: &str| json!({"type": "Replace", "pattern": {kind: pattern}, "content": content});
    let cases = [
        // One piece, or pieces that are not known.
        (Value::Null, Value::Null, vec![]),
        (Value::Null, bytes.clone(), vec![]),
        (Value::Null, json!({"type": "Sequence", "pretokenizers": [bytes, words]}), vec![]),
        (
            Value::Null,
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false}),
            vec![],
        ),
        (
            Value::Null,
            json!({"type": "Split", "pattern": {"Regex": "a.*b"}, "behavior": "Isolated", "invert": false}),
            vec![],
        ),
        (
            Value::Null,
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false}),
            vec![],
        ),
        (json!({"type": "Sequence", "normalizers": [replace("String", " ", "▁")]}), words.clone(), vec![]),
        // What joins words, or looks beyond one.
        (replace("Regex", r"\s+", ""), words.clone(), vec![]),
        (replace("String", "a b", "c"), words.clone(), vec![]),
        (replace("Regex", "(a+)+$", "c"), words.clone(), vec![]),
        (replace("Regex", "[^a]", ""), words.clone(), vec![]),
        (replace("Regex", "[a]+", ""), words.clone(), vec![]),
        (replace("Regex", "[ ,]", ""), words.clone(), vec![]),
        (Value::Null, words.clone(), vec![added("New York", (false, false), false, false)]),
    ];
    for (normalizer, pre_tokenizer, added) in cases {
        let tokenizer = tokenizer(&normalizer, &pre_tokenizer, &word_piece(), added);
        assert!(Cuts::of(&tokenizer).is_none(), "{normalizer} {pre_tokenizer}");
    }
    // A letter that the normalizer takes away is none to cut after.
    let tokenizer = tokenizer(&replace("Regex", "[xyz]", ""), &words, &word_piece(), vec![]);
    let cuts = Cuts::of(&tokenizer).unwrap_or_else(|| panic!("it can be cut"));
    assert_eq!(cuts.beginning("ax ay ab az", 11), Some("ax ay ab"));
    assert_eq!(cuts.beginning("ax ay", 5), None);
}

#[test]
fn a_beginning_ends_at_a_space_after_a_letter() {
    let tokenizer = tokenizer(&Value::Null, &json!({"type": "WhitespaceSplit"}), &word_piece(), vec![]);
    let cuts = Cuts::of(&tokenizer).unwrap_or_else(|| panic!("it can be cut"));
    let cut = |text, most| cuts.beginning(text, most);
    assert_eq!(cut("one two three", 9), Some("one two"));
    assert_eq!(cut("one two three", 6), Some("one"));
    assert_eq!(cut("one two three", 7), Some("one two"));
    // The next one, where there is none before.
    assert_eq!(cut("one two three", 1), Some("one"));
    assert_eq!(cut("one, two three", 4), Some("one, two"));
    assert_eq!(cut("слово два три", 15), Some("слово"));
    for text in ["", " ", "one", "one, - 東京 x", "one\u{a0}two", "one \u{301}two", " one"] {
        assert_eq!(cut(text, 3), None, "{text:?}");
    }
}
