#!/usr/bin/env python3
"""Makes a small CLIP with random weights, in the files and names of a Hugging Face ONNX export.

    python tests/models/tiny_clip.py OUT_DIR --variant split|fused|no_mask|siglip|fp16|external|fixed|sees_padding|own_pad|immich

It needs numpy, onnx and tokenizers. The models mean nothing, but they are whole: OpenAI's architecture
(class token, pre-layer-norm, quick-GELU, causal text encoder, pooling at the end-of-text token), a
byte-level BPE tokenizer, and the configuration files. The same seed gives the same files.

In two variants every token of a text sees the padding, which is as long as the context in training. `sees_padding` was
trained with token 0 but has OpenAI's files, as MobileCLIP's exports do. `own_pad` has a token `<pad>`, which no file but
the vocabulary mentions, and ignores its mask.

`immich` has the layout of Immich's models: a folder for each encoder, batches of one, and open_clip's configuration.

`expected.json` holds what the encoders must give for some inputs. It is computed by numpy, from the same
description of the network that the ONNX graphs are built from.
"""

import argparse
import collections
import json
import math
import pathlib
import re
import string

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper, numpy_helper

IMAGE, PATCH, WIDTH, HEADS, LAYERS, PROJECTION = 96, 32, 64, 4, 2, 32
SENTENCES = """a photo of a cat. a photo of a dog. a drawing of the house and the garden. an accordion and a piano
on the table. people walking along the street in the rain. a close-up photo of the small red flower. what is this?
it's a black and white picture of an old car, don't you see? 10 apples, 25 oranges and 7 lemons in the kitchen"""
VARIANTS = ["split", "fused", "no_mask", "siglip", "fp16", "external", "fixed", "sees_padding", "own_pad", "immich"]
# Those without a causal mask.
SEES_PADDING = ["siglip", "sees_padding", "own_pad"]
# Those of which no mask hides the padding.
UNMASKED = ["no_mask", "immich", *SEES_PADDING]
# The token that the encoders were trained with.
PADS = {"sees_padding": 0, "own_pad": "<pad>"}
TEXTS = ["a photo of a cat.", "A  Photo of the  HOUSE", "zebra crossing; naïve café 東京", "", "a very long text " * 40]


# ---------------------------------------------------------------------------------------------------------
# One description of the network, two ways to run it.

class Eager:
    """Runs the operations at once, in float64."""

    def constant(self, array, name=None):
        return array.astype(np.float64) if array.dtype.kind == "f" else array

    matmul = staticmethod(np.matmul)
    add = staticmethod(np.add)
    mul = staticmethod(np.multiply)
    div = staticmethod(np.divide)

    def conv(self, x, weight, stride):
        n, c, h, w = x.shape
        patches = x.reshape(n, c, h // stride, stride, w // stride, stride).transpose(0, 2, 4, 1, 3, 5)
        return (patches.reshape(n, -1, c * stride * stride) @ weight.reshape(len(weight), -1).T)

    def layer_norm(self, x, scale, bias):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred ** 2).mean(-1, keepdims=True) + 1e-5) * scale + bias

    def sigmoid(self, x):
        return 1 / (1 + np.exp(-x))

    def softmax(self, x):
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def split_heads(self, x):
        n, length, _ = x.shape
        return x.reshape(n, length, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)

    def join_heads(self, x):
        n, _, length, _ = x.shape
        return x.transpose(0, 2, 1, 3).reshape(n, length, WIDTH)

    def transpose_last(self, x):
        return x.swapaxes(-1, -2)

    def prepend(self, token, x):
        return np.concatenate([np.broadcast_to(token, (len(x), 1, WIDTH)), x], axis=1)

    def token(self, x, index):
        return x[:, index]

    def mean(self, x):
        return x.mean(1)

    def embed(self, table, ids):
        return table[ids]

    def positions(self, table, ids):
        return table[: ids.shape[1]]

    def causal(self, ids):
        length = ids.shape[1]
        return np.where(np.arange(length)[None, :] > np.arange(length)[:, None], -1e9, 0.0)

    def padding(self, mask):
        return (1.0 - mask[:, None, None, :]) * -1e9

    def at_largest_id(self, x, ids):
        return x[np.arange(len(ids)), ids.argmax(1)]

    def normalise(self, x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Graph:
    """Records the operations as ONNX nodes; a value is the name of a tensor."""

    def __init__(self, float_type=np.float32):
        self.nodes, self.initializers, self.float_type = [], [], float_type

    def op(self, kind, *inputs, **attributes):
        output = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, array, name=None):
        array = np.asarray(array)
        array = array.astype(self.float_type if array.dtype.kind == "f" else np.int64)
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def matmul(self, a, b): return self.op("MatMul", a, b)
    def add(self, a, b): return self.op("Add", a, b)
    def mul(self, a, b): return self.op("Mul", a, b)
    def div(self, a, b): return self.op("Div", a, b)
    def sigmoid(self, x): return self.op("Sigmoid", x)
    def softmax(self, x): return self.op("Softmax", x, axis=-1)
    def layer_norm(self, x, scale, bias): return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)
    def transpose_last(self, x): return self.op("Transpose", x, perm=[0, 1, 3, 2])
    def mean(self, x): return self.op("ReduceMean", x, axes=[1], keepdims=0)
    def embed(self, table, ids): return self.op("Gather", table, ids)

    def conv(self, x, weight, stride):
        x = self.op("Conv", x, weight, strides=[stride, stride], kernel_shape=[stride, stride])
        return self.op("Transpose", self.op("Reshape", x, self.ints(0, WIDTH, -1)), perm=[0, 2, 1])

    def split_heads(self, x):
        return self.op("Transpose", self.op("Reshape", x, self.ints(0, 0, HEADS, WIDTH // HEADS)), perm=[0, 2, 1, 3])

    def join_heads(self, x):
        return self.op("Reshape", self.op("Transpose", x, perm=[0, 2, 1, 3]), self.ints(0, 0, WIDTH))

    def size(self, x, axis):
        return self.op("Gather", self.op("Shape", x), self.ints(axis))

    def prepend(self, token, x):
        shape = self.op("Concat", self.size(x, 0), self.ints(1, WIDTH), axis=0)
        return self.op("Concat", self.op("Expand", token, shape), x, axis=1)

    def token(self, x, index):
        return self.op("Gather", x, self.constant(np.array(index, np.int64)), axis=1)

    def positions(self, table, ids):
        return self.op("Slice", table, self.ints(0), self.size(ids, 1), self.ints(0))

    def causal(self, ids):
        end = self.op("Squeeze", self.size(ids, 1))
        steps = self.op("Range", self.constant(np.array(0)), end, self.constant(np.array(1)))
        later = self.op("Greater", self.op("Unsqueeze", steps, self.ints(0)), self.op("Unsqueeze", steps, self.ints(1)))
        return self.op("Where", later, self.constant(np.array(-1e4)), self.constant(np.array(0.0)))

    def padding(self, mask):
        hidden = self.op("Equal", self.op("Unsqueeze", mask, self.ints(1, 2)), self.constant(np.array(0)))
        return self.op("Where", hidden, self.constant(np.array(-1e4)), self.constant(np.array(0.0)))

    def at_largest_id(self, x, ids):
        index = self.op("Unsqueeze", self.op("ArgMax", ids, axis=1, keepdims=1), self.ints(2))
        shape = self.op("Concat", self.size(ids, 0), self.ints(1, WIDTH), axis=0)
        return self.op("Squeeze", self.op("GatherElements", x, self.op("Expand", index, shape), axis=1), self.ints(1))

    def normalise(self, x):
        return self.op("LpNormalization", x, axis=-1, p=2)


class Clip:
    """Weights and forward pass. `run` is an `Eager` or a `Graph`."""

    def __init__(self, seed, vocabulary, context_length, siglip, causal=True):
        self.rng, self.weights, self.siglip, self.causal = np.random.default_rng(seed), {}, siglip, causal
        self.weight("class", WIDTH, scale=1.0)
        self.weight("patch", WIDTH, 3, PATCH, PATCH, scale=0.03)
        patches = (IMAGE // PATCH) ** 2
        self.weight("vision.positions", patches if siglip else patches + 1, WIDTH, scale=0.3)
        self.weight("text.positions", context_length, WIDTH, scale=0.3)
        self.weight("text.tokens", vocabulary, WIDTH, scale=1.0)
        for tower in ("vision", "text"):
            for layer in range(LAYERS):
                for name, rows, columns in (("q", 1, 1), ("k", 1, 1), ("v", 1, 1), ("out", 1, 1), ("up", 1, 4), ("down", 4, 1)):
                    self.weight(f"{tower}.{layer}.{name}", rows * WIDTH, columns * WIDTH, scale=1 / math.sqrt(rows * WIDTH))
                    self.weight(f"{tower}.{layer}.{name}.bias", columns * WIDTH, scale=0.1)
                for norm in ("norm1", "norm2"):
                    self.norm_weights(f"{tower}.{layer}.{norm}")
            self.norm_weights(f"{tower}.norm")
            self.weight(f"{tower}.projection", WIDTH, PROJECTION, scale=1 / math.sqrt(WIDTH))
        self.norm_weights("vision.pre")

    def weight(self, name, *shape, scale):
        self.weights[name] = self.rng.normal(0, scale, shape).astype(np.float32)

    def norm_weights(self, name):
        self.weights[name] = self.rng.uniform(0.8, 1.2, WIDTH).astype(np.float32)
        self.weights[name + ".bias"] = self.rng.normal(0, 0.1, WIDTH).astype(np.float32)

    def get(self, run, name):
        return run.constant(self.weights[name], name)

    def linear(self, run, x, name):
        return run.add(run.matmul(x, self.get(run, name)), self.get(run, name + ".bias"))

    def norm(self, run, x, name):
        return run.layer_norm(x, self.get(run, name), self.get(run, name + ".bias"))

    def layers(self, run, x, tower, mask):
        for layer in range(LAYERS):
            name = f"{tower}.{layer}"
            y = self.norm(run, x, name + ".norm1")
            q, k, v = (run.split_heads(self.linear(run, y, f"{name}.{part}")) for part in "qkv")
            scores = run.mul(run.matmul(q, run.transpose_last(k)), run.constant(np.array(1 / math.sqrt(WIDTH // HEADS))))
            scores = scores if mask is None else run.add(scores, mask)
            x = run.add(x, self.linear(run, run.join_heads(run.matmul(run.softmax(scores), v)), name + ".out"))
            y = self.linear(run, self.norm(run, x, name + ".norm2"), name + ".up")
            y = run.mul(y, run.sigmoid(run.mul(y, run.constant(np.array(1.702)))))
            x = run.add(x, self.linear(run, y, name + ".down"))
        return x

    def image(self, run, pixel_values):
        """The last hidden state and the embedding, not normalised."""
        x = run.conv(pixel_values, self.get(run, "patch"), PATCH)
        if not self.siglip:
            x = run.prepend(self.get(run, "class"), x)
        x = run.add(x, self.get(run, "vision.positions"))
        x = self.layers(run, self.norm(run, x, "vision.pre"), "vision", None)
        pooled = run.mean(x) if self.siglip else run.token(x, 0)
        return x, run.matmul(self.norm(run, pooled, "vision.norm"), self.get(run, "vision.projection"))

    def text(self, run, ids, attention_mask):
        """The last hidden state and the embedding, not normalised."""
        x = run.add(run.embed(self.get(run, "text.tokens"), ids), run.positions(self.get(run, "text.positions"), ids))
        mask = run.causal(ids) if self.causal else None
        mask = mask if attention_mask is None else run.add(mask, run.padding(attention_mask))
        x = self.norm(run, self.layers(run, x, "text", mask), "text.norm")
        pooled = run.token(x, -1) if self.siglip else run.at_largest_id(x, ids)
        return x, run.matmul(pooled, self.get(run, "text.projection"))


# ---------------------------------------------------------------------------------------------------------
# The tokenizer: CLIP's byte-level BPE, trained on a few sentences.

def bytes_to_unicode():
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return table


PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def train(merges):
    """The most frequent pair first; ties go to the pair that sorts first."""
    table = bytes_to_unicode()
    words = re.findall(r"'s|'t|[a-z]+|[0-9]|[^\sa-z0-9]+", SENTENCES.lower())
    counts = collections.Counter(words)
    parts = {word: [*(table[byte] for byte in word.encode())] for word in counts}
    parts = {word: part[:-1] + [part[-1] + "</w>"] for word, part in parts.items()}
    learnt = []
    for _ in range(merges):
        pairs = collections.Counter()
        for word, part in parts.items():
            for pair in zip(part, part[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learnt.append(best)
        for word, part in parts.items():
            i = 0
            while i < len(part) - 1:
                if (part[i], part[i + 1]) == best:
                    part[i:i + 2] = [part[i] + part[i + 1]]
                i += 1
    alphabet = [table[byte] for byte in range(256)]
    tokens = alphabet + [letter + "</w>" for letter in alphabet] + ["".join(pair) for pair in learnt]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, learnt


def make_tokenizer(siglip, pad=None):
    start, end = "<|startoftext|>", "<|endoftext|>"
    vocabulary, merges = train(120)
    if pad:
        vocabulary[pad] = len(vocabulary)
    vocabulary[start], vocabulary[end] = len(vocabulary), len(vocabulary) + 1
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocabulary, merges, unk_token=end, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = tokenizers.normalizers.Sequence([
        tokenizers.normalizers.NFC(),
        tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " "),
        tokenizers.normalizers.Lowercase()])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERN), "removed", invert=True),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    for token in (start, end, *([pad] if pad else [])):
        tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False)])
    if siglip:
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=f"$A {end}", special_tokens=[(end, vocabulary[end])])
    else:
        tokenizer.post_processor = tokenizers.processors.RobertaProcessing(
            (end, vocabulary[end]), (start, vocabulary[start]), trim_offsets=False, add_prefix_space=False)
    return tokenizer


# ---------------------------------------------------------------------------------------------------------
# The files.

def save(path, graph, inputs, outputs, external=False):
    """Writes a graph, its weights beside it if `external`. `inputs` and `outputs` are (name, element type, shape)."""
    values = [[helper.make_tensor_value_info(name, element, shape) for name, element, shape in part] for part in (inputs, outputs)]
    # A weight that both encoders or two layers ask for is stored once.
    initializers = list({tensor.name: tensor for tensor in graph.initializers}.values())
    model = helper.make_model(
        helper.make_graph(graph.nodes, "tiny_clip", *values, initializers),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="tiny_clip")
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        (path.parent / f"{path.name}_data").unlink(missing_ok=True)  # `onnx` would append to it.
        onnx.save(model, path, save_as_external_data=True, location=f"{path.name}_data")
    else:
        onnx.save(model, path)


def rename(graph, value, name):
    graph.nodes.append(helper.make_node("Identity", [value], [name]))


def write_graphs(out, clip, variant):
    float_type, element = (np.float16, TensorProto.FLOAT16) if variant == "fp16" else (np.float32, TensorProto.FLOAT)
    # As exported for a compiler that wants to know every extent, and with the smaller integers.
    batch, length, integer = ("batch_size", "sequence_length", TensorProto.INT64) if variant != "fixed" else (2, 77, TensorProto.INT32)
    pixels = ("pixel_values", element, [batch, 3, IMAGE, IMAGE])
    ids, mask = ("input_ids", integer, [batch, length]), ("attention_mask", integer, [batch, length])
    has_mask = variant not in ("no_mask", "siglip", "sees_padding")
    suffix = "_fp16" if variant == "fp16" else ""
    if variant == "fused":
        graph = Graph()
        image = graph.normalise(clip.image(graph, "pixel_values")[1])
        text = graph.normalise(clip.text(graph, "input_ids", "attention_mask")[1])
        logits = graph.mul(graph.matmul(image, graph.op("Transpose", text, perm=[1, 0])), graph.constant(np.array(100.0)))
        rename(graph, logits, "logits_per_image")
        rename(graph, graph.op("Transpose", logits, perm=[1, 0]), "logits_per_text")
        rename(graph, text, "text_embeds")
        rename(graph, image, "image_embeds")
        own_batch = lambda kind, value: (value[0], value[1], [f"{kind}_batch_size", *value[2][1:]])
        outputs = [("logits_per_image", element, ["image_batch_size", "text_batch_size"]),
                   ("logits_per_text", element, ["text_batch_size", "image_batch_size"]),
                   ("text_embeds", element, ["text_batch_size", PROJECTION]),
                   ("image_embeds", element, ["image_batch_size", PROJECTION])]
        save(out / "onnx/model.onnx", graph, [own_batch("text", ids), own_batch("image", pixels), own_batch("text", mask)], outputs)
        return
    for tower, run in (("vision", clip.image), ("text", clip.text)):
        graph = Graph(float_type)
        if tower == "vision":
            inputs, (hidden, embedding), name = [pixels], run(graph, "pixel_values"), "image_embeds"
        else:
            inputs, name = [ids, mask] if has_mask else [ids], "text_embeds"
            values = (graph.op("Cast", value[0], to=TensorProto.INT64) for value in inputs)
            ids, own_mask = next(values), next(values, None)
            hidden, embedding = run(graph, ids, None if variant == "own_pad" else own_mask)
        name = "pooler_output" if variant == "siglip" else name
        rename(graph, hidden, "last_hidden_state")
        rename(graph, embedding, name)
        # Hugging Face's CLIP lists the embedding first, its SigLIP last.
        outputs = [(name, element, [batch, PROJECTION]), ("last_hidden_state", element, [batch, None, WIDTH])]
        outputs = outputs[::-1] if variant == "siglip" else outputs
        save(out / f"onnx/{tower}_model{suffix}.onnx", graph, inputs, outputs, variant == "external")


def write_immich_graphs(out, clip):
    """In a folder for each encoder, for batches of one, with unit vectors as the only output."""
    for folder, name, value, run in (
        ("visual", "image", (TensorProto.FLOAT, [1, 3, IMAGE, IMAGE]), clip.image),
        ("textual", "text", (TensorProto.INT32, [1, 77]), lambda graph, ids: clip.text(graph, ids, None)),
    ):
        graph = Graph()
        given = graph.op("Cast", name, to=TensorProto.INT64) if name == "text" else name
        rename(graph, graph.normalise(run(graph, given)[1]), "embedding")
        outputs = [("embedding", TensorProto.FLOAT, [1, PROJECTION])]
        save(out / folder / "model.onnx", graph, [(name, *value)], outputs)


def write_immich_configuration(out, vocabulary, context_length):
    write_json(out / "config.json", {
        "embed_dim": PROJECTION,
        "vision_cfg": {"image_size": IMAGE, "layers": LAYERS, "width": WIDTH, "patch_size": PATCH},
        "text_cfg": {"context_length": context_length, "vocab_size": vocabulary, "width": WIDTH, "layers": LAYERS}})
    write_json(out / "visual/preprocess_cfg.json", {
        "size": [IMAGE, IMAGE], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0})
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    write_json(out / "textual/special_tokens_map.json", special)
    write_json(out / "textual/tokenizer_config.json", special | {
        "model_max_length": context_length, "tokenizer_class": "CLIPTokenizer"})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_configuration(out, vocabulary, context_length, siglip, names_pad=True):
    model_type = "siglip" if siglip else "clip"
    config = {
        "architectures": ["SiglipModel" if siglip else "CLIPModel"],
        "model_type": model_type,
        "text_config": {"max_position_embeddings": context_length, "vocab_size": vocabulary, "hidden_size": WIDTH},
        "vision_config": {"image_size": IMAGE, "patch_size": PATCH, "hidden_size": WIDTH},
    }
    if not siglip:
        config |= {"projection_dim": PROJECTION, "logit_scale_init_value": 2.6592}
    write_json(out / "config.json", config)
    preprocessor = {"do_normalize": True, "do_resize": True, "resample": 3}
    if siglip:
        preprocessor |= {"image_processor_type": "SiglipImageProcessor", "size": {"height": IMAGE, "width": IMAGE},
                         "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
    else:
        preprocessor |= {"feature_extractor_type": "CLIPFeatureExtractor", "size": IMAGE, "crop_size": IMAGE, "do_center_crop": True,
                         "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    write_json(out / "preprocessor_config.json", preprocessor)
    if names_pad:
        write_json(out / "tokenizer_config.json", {
            "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
            "model_max_length": context_length, "tokenizer_class": "SiglipTokenizer" if siglip else "CLIPTokenizer"})


def test_image():
    """A picture that other languages can make too: value = sin(c + y/7 + x/11), in CHW."""
    c, y, x = np.meshgrid(np.arange(3), np.arange(IMAGE), np.arange(IMAGE), indexing="ij")
    return np.sin(c + y / 7 + x / 11).astype(np.float32)


def canonicalize(text):
    """What SiglipTokenizer of transformers does to a text."""
    text = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\s+", " ", text).strip()


def write_expected(out, clip, tokenizer, context_length, variant):
    run, rows, embeddings = Eager(), [], []
    tokenizer.enable_truncation(context_length)
    for text in TEXTS:
        ids = tokenizer.encode(canonicalize(text) if clip.siglip else text).ids
        rows.append(ids)
        pad = PADS.get(variant, "<|endoftext|>")
        pad = tokenizer.token_to_id(pad) if isinstance(pad, str) else pad
        padded = ids + [pad] * (context_length - len(ids)) if variant in UNMASKED else ids
        embeddings.append(run.normalise(clip.text(run, np.array([padded]), None)[1])[0])
    image = run.normalise(clip.image(run, test_image()[None].astype(np.float64))[1])[0]
    write_json(out / "expected.json", {
        "image_embeds": [round(value, 7) for value in image.tolist()],
        "texts": TEXTS, "input_ids": rows,
        "text_embeds": [[round(value, 7) for value in row.tolist()] for row in embeddings]})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--variant", choices=VARIANTS, default="split")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    siglip = arguments.variant == "siglip"
    context_length = 64 if siglip else 77
    out = arguments.out_dir
    out.mkdir(parents=True, exist_ok=True)
    variant, own_pad = arguments.variant, arguments.variant == "own_pad"
    tokenizer = make_tokenizer(siglip, "<pad>" if own_pad else None)
    is_immich = variant == "immich"
    for folder in ("visual", "textual") if is_immich else ():
        (out / folder).mkdir(exist_ok=True)
    tokenizer.save(str(out / ("textual/tokenizer.json" if is_immich else "tokenizer.json")))
    vocabulary = tokenizer.get_vocab_size()
    clip = Clip(arguments.seed, vocabulary, context_length, siglip, causal=variant not in SEES_PADDING)
    if is_immich:
        write_immich_configuration(out, vocabulary, context_length)
        write_immich_graphs(out, clip)
    else:
        write_configuration(out, vocabulary, context_length, siglip, names_pad=not own_pad)
        write_graphs(out, clip, variant)
    write_expected(out, clip, tokenizer, context_length, variant)
    print(f"{out}: {variant}, {vocabulary} tokens, {PROJECTION} dimensions")


if __name__ == "__main__":
    main()
