//! The token that pads short texts.
//!
//! Most text encoders never see it: a mask hides it, or no token of the text looks at what stands behind it. For the
//! others, a wrong one gives wrong embeddings of every text that is shorter than the context, and nothing else shows it.
//! So where an encoder sees its padding, the token must be certain: stated in `susx.json`, a SigLIP's, or made for that.

use serde_json::Value;
use tokenizers::Tokenizer;

/// Tokens that exist to pad, in the order in which they are looked for.
const MADE_TO_PAD: [&str; 5] = ["<pad>", "[PAD]", "<|pad|>", "<|padding|>", "<PAD>"];

/// The token that pads short texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pad {
    /// Its id.
    pub id: u32,
    /// What says that it is this one.
    source: PadSource,
    /// Whether an encoder that sees its padding may rely on it.
    pub is_certain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PadSource {
    Stated,
    Tokenizer,
    Configuration,
    Vocabulary,
    /// 0, as in OpenAI's CLIP.
    Nothing,
}

/// What the files other than `tokenizer.json` say about the pad token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PadRules {
    /// `pad_token` of `susx.json`.
    pub stated: Option<String>,
    /// `pad_token` of `tokenizer_config.json` or of `special_tokens_map.json`.
    pub configured: Option<String>,
    /// Whether the encoder was trained with the configured token, even if it also has another meaning: SigLIP.
    pub is_trained_with_it: bool,
}

impl PadRules {
    /// The pad token of a tokenizer. The error says which token is not in its vocabulary.
    pub fn choose(&self, tokenizer: &Tokenizer) -> Result<Pad, String> {
        let of = |token: &str, source| {
            let id = tokenizer.token_to_id(token);
            let id = id.ok_or_else(|| format!("the pad token {token:?} is not in the vocabulary"))?;
            let is_certain = source == PadSource::Stated || self.is_trained_with_it || is_made_to_pad(token);
            Ok(Pad { id, source, is_certain })
        };
        if let Some(token) = &self.stated {
            return of(token, PadSource::Stated);
        }
        if let Some(padding) = tokenizer.get_padding() {
            let is_certain = self.is_trained_with_it || is_made_to_pad(&padding.pad_token);
            return Ok(Pad { id: padding.pad_id, source: PadSource::Tokenizer, is_certain });
        }
        if let Some(token) = &self.configured {
            return of(token, PadSource::Configuration);
        }
        match MADE_TO_PAD.iter().find(|token| tokenizer.token_to_id(token).is_some()) {
            Some(token) => of(token, PadSource::Vocabulary),
            None => Ok(Pad { id: 0, source: PadSource::Nothing, is_certain: false }),
        }
    }
}

impl Pad {
    /// Why an encoder that sees its padding cannot be used with this token, and what to do.
    pub fn uncertainty(&self, tokenizer: &Tokenizer) -> String {
        let token = |id: u32| tokenizer.id_to_token(id).unwrap_or_else(|| format!("the token {id}"));
        let says = match self.source {
            PadSource::Stated => "susx.json says",
            PadSource::Tokenizer => "tokenizer.json says",
            PadSource::Configuration => "tokenizer_config.json or special_tokens_map.json says",
            PadSource::Vocabulary => "the vocabulary says",
            PadSource::Nothing => "no file says which, and OpenAI's CLIP has",
        };
        let (chosen, first) = (token(self.id), token(0));
        let other = match self.id {
            0 => String::new(),
            _ => {
                format!(", or \"pad_token\": {first:?} (the token 0, as in OpenAI's CLIP and in MobileCLIP)")
            }
        };
        format!(
            "its embeddings depend on the padding token, and it is not certain which one it was trained with: {says} \
             {chosen:?}, which also has another use. Set it in susx.json: \"pad_token\": {chosen:?}{other}"
        )
    }
}

fn is_made_to_pad(token: &str) -> bool {
    MADE_TO_PAD.iter().any(|known| token.eq_ignore_ascii_case(known))
}

/// The `pad_token` of a tokenizer's configuration: a string, or an object that has the string as `content`.
pub fn pad_token(config: &Value) -> Option<String> {
    let token = &config["pad_token"];
    token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
}
