//! What a model's own tokenizer does to a text before `tokenizer.json` sees it.

use std::borrow::Cow;

use serde_json::Value;

/// What happens to a text before it is tokenized. Most tokenizers do it all themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TextForm {
    /// Nothing.
    #[default]
    AsIs,
    /// Lower case, for SigLIP 2.
    Lower,
    /// Lower case, without ASCII punctuation, and with single spaces: the `canonicalize_text` of SigLIP's tokenizer.
    Canonical,
    /// The same, but an underscore becomes a space: `clean: "canonicalize"` of open_clip.
    OpenClipCanonical,
}

impl TextForm {
    /// The form that the files ask for: by the tokenizer's class in `transformers`, open_clip's `tokenizer_kwargs`, or
    /// the type of the model.
    pub fn of(config: &Value, tokenizer_config: &Value) -> TextForm {
        let clean = &config["text_cfg"]["tokenizer_kwargs"]["clean"];
        if clean.as_str() == Some("canonicalize") {
            return TextForm::OpenClipCanonical;
        }
        let keeps_case = tokenizer_config["do_lower_case"].as_bool() == Some(false);
        let class = tokenizer_config["tokenizer_class"].as_str().unwrap_or_default();
        let class = class.strip_suffix("Fast").unwrap_or(class);
        match (class, config["model_type"].as_str()) {
            ("SiglipTokenizer", _) if keeps_case => TextForm::AsIs,
            ("SiglipTokenizer", _) => TextForm::Canonical,
            // SigLIP 2 has Gemma's tokenizer; most of its configurations have SigLIP's model_type.
            ("Siglip2Tokenizer", _) | ("GemmaTokenizer", Some("siglip" | "siglip2" | "siglip_model")) => {
                TextForm::Lower
            }
            ("", Some("siglip" | "siglip_model")) => TextForm::Canonical,
            ("", Some("siglip2")) => TextForm::Lower,
            _ => TextForm::AsIs,
        }
    }

    /// The text in this form.
    pub fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            TextForm::AsIs => Cow::Borrowed(text),
            TextForm::Lower => Cow::Owned(text.to_lowercase()),
            TextForm::Canonical => Cow::Owned(canonical(text)),
            TextForm::OpenClipCanonical => Cow::Owned(canonical(&text.replace('_', " "))),
        }
    }
}

fn canonical(text: &str) -> String {
    let without: String = text.chars().filter(|char| !char.is_ascii_punctuation()).collect();
    let lower = without.to_lowercase();
    lower.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What Python's `\s` matches: white space, and the four separators of ASCII.
fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The results of `SiglipTokenizer.canonicalize_text` of transformers 4.57, after `str.lower`.
    #[test]
    fn the_form_of_siglip() {
        for (text, expected) in [
            ("A Photo of a CAT.", "a photo of a cat"),
            ("  two\t spaces\n", "two spaces"),
            ("it's snow-white, isn't it?", "its snowwhite isnt it"),
            ("snake_case", "snakecase"),
            ("“Größe” … 東京。", "“größe” … 東京。"),
            ("...", ""),
            ("ΣΑΣ", "σας"),
            ("a\u{1c}b\u{a0}c", "a b c"),
        ] {
            assert_eq!(TextForm::Canonical.apply(text), expected, "{text:?}");
        }
        assert_eq!(TextForm::OpenClipCanonical.apply("snake_case"), "snake case");
        assert_eq!(TextForm::Lower.apply("A Photo, of."), "a photo, of.");
        assert_eq!(TextForm::AsIs.apply("A Photo, of."), "A Photo, of.");
    }

    #[test]
    fn the_files_say_which() {
        let siglip = json!({"model_type": "siglip"});
        let of = |class: &str| TextForm::of(&siglip, &json!({"tokenizer_class": class}));
        assert_eq!(of("SiglipTokenizer"), TextForm::Canonical);
        assert_eq!(of("GemmaTokenizerFast"), TextForm::Lower);
        assert_eq!(TextForm::of(&siglip, &Value::Null), TextForm::Canonical);
        assert_eq!(TextForm::of(&json!({"model_type": "siglip2"}), &Value::Null), TextForm::Lower);
        assert_eq!(TextForm::of(&json!({"model_type": "clip"}), &Value::Null), TextForm::AsIs);
        let keeps = json!({"tokenizer_class": "SiglipTokenizer", "do_lower_case": false});
        assert_eq!(TextForm::of(&siglip, &keeps), TextForm::AsIs);
        let open_clip = json!({"text_cfg": {"tokenizer_kwargs": {"clean": "canonicalize"}}});
        assert_eq!(TextForm::of(&open_clip, &Value::Null), TextForm::OpenClipCanonical);
    }
}
