//! Which output of an image encoder holds the features, and how the vectors of its tokens become one.

use std::fmt;

use ndarray::{Array2, Array3, Array4, Axis, s};
use ort::value::DynValue;
use serde::Deserialize;
use serde_json::Value;

use crate::onnx::{OnnxError, Port, read_floats};

/// `pooling` of `susx.json`: how the tokens of `last_hidden_state` become one vector. Each word means the same for every
/// model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The first token, which some models train to stand for the image.
    Cls,
    /// The mean of all tokens, or of all places of a grid of features.
    Mean,
    /// The mean of the tokens of patches: without the class token and the register tokens before them.
    PatchMean,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pooling::Cls => "cls",
            Pooling::Mean => "mean",
            Pooling::PatchMean => "patch_mean",
        })
    }
}

/// Types of models whose tokens begin with a class token.
const BEGIN_WITH_CLS: [&str; 10] = [
    "beit",
    "data2vec-vision",
    "deit",
    "dinov2",
    "dinov2_with_registers",
    "dinov3_vit",
    "vit",
    "vit_hybrid",
    "vit_mae",
    "vit_msn",
];

/// Types of models whose `pooler_output` is a layer on top of the first token that most checkpoints lack: the self-
/// supervised ones never had it, and a classifier's was thrown away with its head. `transformers` then fills it with
/// random numbers, and its export looks like any other. Where it is trained, the class token is as good.
const UNTRAINED_POOLERS: [&str; 4] = ["deit", "ijepa", "vit", "vit_hybrid"];

/// Names of the outputs with the features, in a projected space; the best first.
const PROJECTED: [&str; 2] = ["image_embeds", "image_features"];
const POOLED: &str = "pooler_output";
const TOKENS: &str = "last_hidden_state";

/// What the model's files say about the features of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureRules {
    /// `pooling` of `susx.json`.
    stated: Option<Pooling>,
    /// `model_type` of `config.json`.
    model_type: Option<String>,
    /// `num_register_tokens` of `config.json`, else the type's default.
    registers: usize,
}

/// How the values of an output become one row for each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Features {
    /// They are: rows × dimensions.
    Rows,
    /// The mean over height and width of rows × dimensions × height × width.
    Grid,
    /// The first token of rows × tokens × dimensions.
    First,
    /// The mean of the tokens from this one on.
    MeanFrom(usize),
}

impl FeatureRules {
    pub(super) fn new(config: &Value, stated: Option<Pooling>) -> FeatureRules {
        let model_type = config["model_type"].as_str().map(str::to_owned);
        let default = match model_type.as_deref() {
            Some("dinov2_with_registers" | "dinov3_vit") => 4,
            _ => 0,
        };
        let registers = config["num_register_tokens"].as_u64().and_then(|count| usize::try_from(count).ok());
        FeatureRules { stated, model_type, registers: registers.unwrap_or(default) }
    }

    /// What `susx.json` states, or what is used in place of `pooler_output`. It identifies the model together with its
    /// files: it decides what the embeddings are, and the files that the digest reads do not contain it, or have not
    /// always contained it.
    pub(super) fn chosen(&self) -> Option<Pooling> {
        self.stated
            .or_else(|| (self.has_untrained_pooler() && self.begins_with_cls()).then_some(Pooling::Cls))
    }

    /// Fails if `susx.json` says something about images, of which the model has no encoder.
    pub(super) fn check_without_images(&self) -> Result<(), String> {
        match self.stated {
            Some(_) => {
                Err("\"pooling\" of susx.json is for images, but there is no image encoder".to_owned())
            }
            None => Ok(()),
        }
    }

    fn is_one_of(&self, types: &[&str]) -> bool {
        self.model_type.as_deref().is_some_and(|found| types.contains(&found))
    }

    fn has_untrained_pooler(&self) -> bool {
        self.is_one_of(&UNTRAINED_POOLERS)
    }

    fn begins_with_cls(&self) -> bool {
        self.is_one_of(&BEGIN_WITH_CLS)
    }

    /// The output of an image encoder that holds the features: what `susx.json` states, else the embeddings in a space
    /// shared with text, else `pooler_output`, else the only matrix, else `last_hidden_state`. The error is a sentence.
    pub(super) fn choose(&self, outputs: &[Port]) -> Result<(String, Features), String> {
        let find = |name: &str| outputs.iter().find(|output| output.name == name && output.is_float());
        if let Some(output) = PROJECTED.iter().find_map(|name| find(name)) {
            return match self.stated {
                None => Ok((output.name.clone(), Features::Rows)),
                Some(_) => Err(format!(
                    "\"pooling\" of susx.json is for models without an output {:?}, which this graph has",
                    output.name
                )),
            };
        }
        let tokens = find(TOKENS);
        let named = |output: &Port, features| Ok((output.name.clone(), features));
        match (self.stated, tokens, find(POOLED)) {
            (Some(pooling), Some(tokens), _) => named(tokens, self.pool(pooling, tokens)?),
            (Some(_), None, _) => Err(format!(
                "\"pooling\" of susx.json needs an output \"{TOKENS}\", but the graph has {}",
                names(outputs)
            )),
            (None, Some(tokens), Some(_)) if self.has_untrained_pooler() => {
                named(tokens, self.guess(tokens)?)
            }
            (None, _, Some(pooled)) => named(pooled, as_rows(pooled)),
            (None, tokens, None) => match (only_matrix(outputs, &PROJECTED), tokens) {
                (Err(_), Some(tokens)) => named(tokens, self.guess(tokens)?),
                (matrix, _) => Ok((matrix?, Features::Rows)),
            },
        }
    }

    /// How `pooling` applies to this output.
    fn pool(&self, pooling: Pooling, tokens: &Port) -> Result<Features, String> {
        match (pooling, tokens.shape.len()) {
            (Pooling::Cls, 3) => Ok(Features::First),
            (Pooling::Mean, 3) => Ok(Features::MeanFrom(0)),
            (Pooling::Mean, 4) => Ok(Features::Grid),
            (Pooling::PatchMean, 3) => match self.begins_with_cls() {
                // DeiT has a second one, which learns from a teacher.
                true if self.is_one_of(&["deit"]) => Ok(Features::MeanFrom(self.registers.saturating_add(2))),
                true => Ok(Features::MeanFrom(self.registers.saturating_add(1))),
                false => Err(format!(
                    "\"pooling\" of susx.json is \"patch_mean\", but it is not known which tokens of a model of {} are \
                     not patches: write \"cls\" or \"mean\"",
                    self.type_in_words()
                )),
            },
            (_, axes) => Err(format!(
                "\"pooling\" of susx.json is \"{pooling}\", but \"{TOKENS}\" has {axes} axes: expected \
                 {}",
                match pooling {
                    Pooling::Mean => "3 (rows, tokens, dimensions) or 4 (rows, dimensions, height, width)",
                    Pooling::Cls | Pooling::PatchMean => "3 (rows, tokens, dimensions)",
                }
            )),
        }
    }

    /// How this output is pooled where nothing is stated.
    fn guess(&self, tokens: &Port) -> Result<Features, String> {
        match tokens.shape.len() {
            3 if self.begins_with_cls() => Ok(Features::First),
            4 => Ok(Features::Grid),
            3 => Err(format!(
                "\"{TOKENS}\" has a vector for each token, and it is not known how a model of {} makes one of them: \
                 write \"pooling\": \"cls\" (the first token) or \"mean\" (the mean of all) in susx.json",
                self.type_in_words()
            )),
            axes => Err(format!("\"{TOKENS}\" has {axes} axes: expected 3 or 4")),
        }
    }

    fn type_in_words(&self) -> String {
        match &self.model_type {
            Some(model_type) => format!("model_type {model_type:?}"),
            None => "unknown model_type".to_owned(),
        }
    }
}

/// A pooled output is a matrix. Convolutional networks leave its height and width of 1 × 1.
fn as_rows(output: &Port) -> Features {
    match output.shape.len() {
        4 => Features::Grid,
        _ => Features::Rows,
    }
}

/// The only floating-point output of two axes, except for the scores of a classifier's categories. `known` are the
/// names that were looked for before.
pub(super) fn only_matrix(outputs: &[Port], known: &[&str]) -> Result<String, String> {
    let are_scores = |output: &Port| output.name.contains("logits");
    let mut matrices =
        outputs.iter().filter(|output| output.is_float() && output.shape.len() == 2 && !are_scores(output));
    match (matrices.next(), matrices.next()) {
        (Some(output), None) => Ok(output.name.clone()),
        (None, _) if outputs.iter().any(are_scores) => Err(format!(
            "the graph is a classifier with {}, which are scores of its own categories, not features: export it with \
             --task feature-extraction",
            names(outputs)
        )),
        _ => Err(format!(
            "no output is known to hold embeddings: expected one of {known:?}, found {}",
            names(outputs)
        )),
    }
}

fn names(outputs: &[Port]) -> String {
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    format!("{names:?}")
}

impl Features {
    /// One row for each image, from the value of the output.
    pub(super) fn read(self, value: &DynValue, output: &str) -> Result<Array2<f32>, OnnxError> {
        match self {
            Features::Rows => read_floats(value, output, "rows and dimensions"),
            Features::Grid => mean_of_grid(read_floats(value, output, "rows, dimensions, height and width")?),
            Features::First => from_tokens(read_floats(value, output, TOKEN_AXES)?, 0, true),
            Features::MeanFrom(first) => from_tokens(read_floats(value, output, TOKEN_AXES)?, first, false),
        }
    }
}

const TOKEN_AXES: &str = "rows, tokens and dimensions";

fn mean_of_grid(values: Array4<f32>) -> Result<Array2<f32>, OnnxError> {
    let (rows, dimensions, height, width) = values.dim();
    let places = values.into_shape_with_order((rows, dimensions, height * width));
    let mean = places.map_err(OnnxError::inference)?.mean_axis(Axis(2));
    mean.ok_or_else(|| OnnxError::inference(format!("the model returned {height} × {width} features")))
}

/// The token `first`, or the mean of the tokens from there on.
fn from_tokens(values: Array3<f32>, first: usize, is_alone: bool) -> Result<Array2<f32>, OnnxError> {
    let tokens = values.len_of(Axis(1));
    if tokens <= first {
        let reason = format!("the model returned {tokens} tokens, expected more than {first}");
        return Err(OnnxError::inference(reason));
    }
    if is_alone {
        return Ok(values.index_axis_move(Axis(1), first));
    }
    let mean = values.slice(s![.., first.., ..]).mean_axis(Axis(1));
    mean.ok_or_else(|| OnnxError::inference("the model returned no tokens"))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, array};
    use ort::value::TensorElementType;
    use serde_json::json;

    use super::*;

    fn port(name: &str, axes: usize) -> Port {
        Port {
            name: name.to_owned(),
            element: Some(TensorElementType::Float32),
            shape: vec![-1; axes],
            dtype: String::new(),
        }
    }

    /// The choice among outputs of the given names and numbers of axes.
    fn choice(
        config: Value,
        stated: Option<Pooling>,
        outputs: &[(&str, usize)],
    ) -> Result<(String, Features), String> {
        let outputs: Vec<Port> = outputs.iter().map(|&(name, axes)| port(name, axes)).collect();
        FeatureRules::new(&config, stated).choose(&outputs)
    }

    #[test]
    fn the_output_with_the_features_is_found() {
        let tokens = ("last_hidden_state", 3);
        let grid = ("last_hidden_state", 4);
        let pooled = ("pooler_output", 2);
        for (model_type, outputs, name, features) in [
            ("clip", &[tokens, ("image_embeds", 2)][..], "image_embeds", Features::Rows),
            ("siglip", &[tokens, pooled], "pooler_output", Features::Rows),
            ("mystery", &[tokens, pooled], "pooler_output", Features::Rows),
            ("mystery", &[("features", 2)], "features", Features::Rows),
            // As before there was a pooling.
            ("mystery", &[tokens, ("features", 2)], "features", Features::Rows),
            ("dinov2", &[tokens], "last_hidden_state", Features::First),
            ("dinov2", &[tokens, pooled], "pooler_output", Features::Rows),
            ("dinov2", &[("logits", 2), tokens], "last_hidden_state", Features::First),
            ("vit", &[tokens, pooled], "last_hidden_state", Features::First),
            ("vit", &[pooled], "pooler_output", Features::Rows),
            ("resnet", &[grid, ("pooler_output", 4)], "pooler_output", Features::Grid),
            ("convnext", &[grid, pooled], "pooler_output", Features::Rows),
            ("mystery", &[grid], "last_hidden_state", Features::Grid),
        ] {
            let found = choice(json!({"model_type": model_type}), None, outputs);
            assert_eq!(found, Ok((name.to_owned(), features)), "{model_type} {outputs:?}");
        }
    }

    #[test]
    fn what_cannot_be_known_is_refused() {
        let tokens = ("last_hidden_state", 3);
        for (model_type, outputs, reason) in [
            ("vit", &[("logits", 2)][..], "--task feature-extraction"),
            ("deit", &[("logits", 2), ("cls_logits", 2)], "--task feature-extraction"),
            ("mystery", &[tokens], "\"mystery\""),
            // Its pooler takes the first token, but its tokens are all of patches.
            ("ijepa", &[tokens, ("pooler_output", 2)], "\"ijepa\""),
            ("mystery", &[("last_hidden_state", 5)], "5 axes"),
            ("mystery", &[("a", 2), ("b", 2)], "found [\"a\", \"b\"]"),
            ("mystery", &[], "found []"),
        ] {
            let reason_found = choice(json!({"model_type": model_type}), None, outputs).unwrap_err();
            assert!(reason_found.contains(reason), "{model_type} {outputs:?}: {reason_found}");
        }
        let found = choice(json!({}), None, &[tokens]).unwrap_err();
        assert!(found.contains("unknown model_type"), "{found}");
        let found = choice(json!({}), Some(Pooling::Mean), &[tokens, ("image_embeds", 2)]).unwrap_err();
        assert!(found.contains("image_embeds"), "{found}");
    }

    #[test]
    fn the_tokens_of_no_patch_are_counted() {
        for (config, first) in [
            (json!({"model_type": "vit"}), 1),
            (json!({"model_type": "deit"}), 2),
            (json!({"model_type": "dinov2_with_registers", "num_register_tokens": 7}), 8),
            // The default of `transformers`.
            (json!({"model_type": "dinov3_vit"}), 5),
            (json!({"model_type": "dinov3_vit", "num_register_tokens": 0}), 1),
        ] {
            let found = choice(config.clone(), Some(Pooling::PatchMean), &[("last_hidden_state", 3)]);
            let expected = ("last_hidden_state".to_owned(), Features::MeanFrom(first));
            assert_eq!(found, Ok(expected), "{config}");
        }
    }

    #[test]
    fn poolings_are_computed() {
        // 1 row, 3 tokens, 2 dimensions.
        let tokens = || array![[[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]]];
        assert_eq!(from_tokens(tokens(), 0, true), Ok(array![[1.0, 2.0]]));
        assert_eq!(from_tokens(tokens(), 0, false), Ok(array![[3.0, 6.0]]));
        assert_eq!(from_tokens(tokens(), 1, false), Ok(array![[4.0, 8.0]]));
        assert!(from_tokens(tokens(), 3, false).unwrap_err().to_string().contains("3 tokens"));
        let grid =
            Array::from_shape_fn((2, 2, 1, 3), |(row, channel, _, x)| (10 * row + channel + 2 * x) as f32);
        assert_eq!(mean_of_grid(grid), Ok(array![[2.0, 3.0], [12.0, 13.0]]));
        assert!(mean_of_grid(Array::zeros((1, 2, 0, 3))).is_err());
    }
}
