#!/usr/bin/env python3
"""Makes a small Stable Diffusion with random weights, in the files and names of a `diffusers` ONNX export.

    python tests/models/tiny_diffusion.py OUT_DIR --variant pndm|velocity|half|fixed|checked|ancestral|lcm|bench

It needs numpy, onnx and tokenizers. The pictures mean nothing, but the pipeline is whole: CLIP's text encoder and
tokenizer, a U-Net with timestep embedding, residual blocks, self- and cross-attention and a skip connection, a VAE
decoder that makes 8 x 8 pixels of a latent, and the configuration files. The same seed gives the same files.

`pndm` is laid out like Stable Diffusion 1.4. `velocity` is like 2.1: v prediction, weights beside the U-Net's graph, a
vocabulary in two files, another pad token. `half` is in half precision, `fixed` was exported for one shape, `checked`
has a safety checker. `ancestral` and `lcm` have schedulers that add noise after every step, and the U-Net of `lcm` takes the
guidance scale, as latent consistency models do. `bench` is large enough for its runs to take most of the time.
"""

import argparse
import json
import math
import pathlib

import numpy as np
from onnx import TensorProto, numpy_helper
from tiny_clip import WIDTH, Clip, Graph, make_tokenizer, rename, save, write_json

VARIANTS = ["pndm", "velocity", "half", "fixed", "checked", "ancestral", "lcm", "bench"]
CONTEXT, LATENT, TIMES, GROUPS, HEADS = 77, 4, 32, 4, 2
# Side of the latents that the U-Net is "trained" on: pictures of 64 x 64 pixels, for the benchmark 256 x 256.
SIDE, BENCH_SIDE = 8, 32
# Length of the embedded guidance scale.
GUIDANCE = 10
# Side of what the safety checker looks at.
CHECKED = 32

SCHEDULER = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
    "steps_offset": 1, "trained_betas": None, "clip_sample": False, "_diffusers_version": "0.31.0"}
PNDM = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}
SCHEDULERS = {
    "pndm": PNDM, "checked": PNDM, "bench": PNDM,
    "velocity": {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "set_alpha_to_one": False},
    "half": {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"},
    "fixed": {"_class_name": "DPMSolverMultistepScheduler", "timestep_spacing": "leading"},
    "ancestral": {"_class_name": "EulerAncestralDiscreteScheduler"},
    "lcm": {"_class_name": "LCMScheduler", "original_inference_steps": 50, "timestep_scaling": 10.0}}


class Layers(Graph):
    """The layers of a U-Net and a VAE, with weights drawn as they are asked for."""

    def __init__(self, seed, float_type=np.float32):
        super().__init__(float_type)
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape, scale):
        return self.constant(self.rng.normal(0, scale, shape))

    def single(self, array):
        """A constant of single precision in a graph of either."""
        name = f"single_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def cast(self, x):
        return self.op("Cast", x, to=TensorProto.FLOAT16 if self.float_type is np.float16 else TensorProto.FLOAT)

    def linear(self, x, inputs, outputs, bias=True):
        x = self.op("MatMul", x, self.normal(inputs, outputs, scale=1 / math.sqrt(inputs)))
        return self.op("Add", x, self.normal(outputs, scale=0.1)) if bias else x

    def conv(self, x, inputs, outputs, kernel=3, stride=1, scale=1.0):
        weight = self.normal(outputs, inputs, kernel, kernel, scale=scale / math.sqrt(inputs * kernel**2))
        bias = self.normal(outputs, scale=0.1 * scale)
        return self.op("Conv", x, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def silu(self, x):
        return self.op("Mul", x, self.op("Sigmoid", x))

    def group_norm(self, x, channels):
        """As PyTorch exports it."""
        flat = self.op("Reshape", x, self.ints(0, GROUPS, -1))
        ones, zeros = self.constant(np.ones(GROUPS)), self.constant(np.zeros(GROUPS))
        flat = self.op("InstanceNormalization", flat, ones, zeros, epsilon=1e-5)
        x = self.op("Reshape", flat, self.op("Shape", x))
        x = self.op("Mul", x, self.constant(self.rng.uniform(0.8, 1.2, (channels, 1, 1))))
        return self.op("Add", x, self.normal(channels, 1, 1, scale=0.1))

    def residual(self, x, inputs, outputs, time=None):
        y = self.conv(self.silu(self.group_norm(x, inputs)), inputs, outputs)
        if time is not None:
            shift = self.linear(self.silu(time), TIMES, outputs)
            y = self.op("Add", y, self.op("Unsqueeze", shift, self.ints(2, 3)))
        y = self.conv(self.silu(self.group_norm(y, outputs)), outputs, outputs)
        return self.op("Add", y, x if inputs == outputs else self.conv(x, inputs, outputs, kernel=1))

    def attention(self, x, context, width, context_width):
        def heads(values, perm):
            return self.op("Transpose", self.op("Reshape", values, self.ints(0, -1, HEADS, width // HEADS)), perm=perm)

        query = heads(self.linear(x, width, width, bias=False), [0, 2, 1, 3])
        key = heads(self.linear(context, context_width, width, bias=False), [0, 2, 3, 1])
        value = heads(self.linear(context, context_width, width, bias=False), [0, 2, 1, 3])
        scale = self.constant(np.array(1 / math.sqrt(width // HEADS)))
        weights = self.op("Softmax", self.op("Mul", self.op("MatMul", query, key), scale), axis=-1)
        joined = self.op("Transpose", self.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return self.linear(self.op("Reshape", joined, self.ints(0, -1, width)), width, width)

    def transformer(self, x, states, channels, context_width):
        """Self-attention, attention to the text, and a feed-forward layer, over the places of the picture."""
        shape = self.op("Shape", x)
        y = self.op("Reshape", self.group_norm(x, channels), self.ints(0, channels, -1))
        y = self.op("Transpose", y, perm=[0, 2, 1])

        def norm(values):
            return self.layer_norm(values, self.constant(np.ones(channels)), self.constant(np.zeros(channels)))

        z = norm(y)
        y = self.op("Add", y, self.attention(z, z, channels, channels))
        y = self.op("Add", y, self.attention(norm(y), states, channels, context_width))
        z = self.silu(self.linear(norm(y), channels, 2 * channels))
        y = self.op("Add", y, self.linear(z, 2 * channels, channels))
        y = self.op("Reshape", self.op("Transpose", y, perm=[0, 2, 1]), shape)
        return self.op("Add", self.conv(y, channels, channels, kernel=1), x)

    def up(self, x, channels):
        scales = self.single([1, 1, 2, 2])
        x = self.op("Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        return self.conv(x, channels, channels)

    def times(self, timestep, guidance=None):
        """The sinusoidal embedding, which is computed in single precision, and its two layers. `guidance` is added between."""
        time = self.op("Reshape", self.op("Cast", timestep, to=TensorProto.FLOAT), self.ints(-1, 1))
        rates = self.single(np.exp(-math.log(10000) * np.arange(TIMES // 2) / (TIMES // 2))[None])
        angles = self.op("Mul", time, rates)
        time = self.cast(self.op("Concat", self.op("Cos", angles), self.op("Sin", angles), axis=1))
        if guidance is not None:
            time = self.op("Add", time, self.linear(guidance, GUIDANCE, TIMES, bias=False))
        return self.linear(self.silu(self.linear(time, TIMES, TIMES)), TIMES, TIMES)


def unet(graph, channels, guidance):
    """Two levels; `out_sample` holds part of `sample`, so that a picture gets rid of its noise."""
    time = graph.times("timestep", guidance)
    x = graph.conv("sample", LATENT, channels)
    skip = x = graph.transformer(graph.residual(x, channels, channels, time), "encoder_hidden_states", channels, WIDTH)
    x = graph.conv(x, channels, channels, stride=2)
    x = graph.residual(x, channels, 2 * channels, time)
    x = graph.transformer(x, "encoder_hidden_states", 2 * channels, WIDTH)
    x = graph.residual(x, 2 * channels, 2 * channels, time)
    x = graph.op("Concat", graph.up(x, 2 * channels), skip, axis=1)
    x = graph.residual(x, 3 * channels, channels, time)
    x = graph.transformer(x, "encoder_hidden_states", channels, WIDTH)
    x = graph.conv(graph.silu(graph.group_norm(x, channels)), channels, LATENT, scale=0.7)
    sample = graph.op("Mul", "sample", graph.constant(np.array(0.7)))
    rename(graph, graph.op("Add", x, sample), "out_sample")


def vae_decoder(graph, channels):
    x = graph.conv("latent_sample", LATENT, channels)
    x = graph.residual(x, channels, channels)
    for _ in range(3):
        x = graph.up(x, channels)
    x = graph.residual(x, channels, channels)
    rename(graph, graph.conv(graph.silu(graph.group_norm(x, channels)), channels, 3, scale=0.8), "sample")


def safety_checker(graph):
    """Pictures darker than most are blocked, and blackened as by the real one."""
    mean = graph.op("ReduceMean", "clip_input", axes=[1, 2, 3], keepdims=0)
    blocked = graph.op("Less", mean, graph.constant(np.array(0.137)))
    rename(graph, blocked, "has_nsfw_concepts")
    blocked = graph.op("Unsqueeze", blocked, graph.ints(1, 2, 3))
    rename(graph, graph.op("Where", blocked, graph.constant(np.array(0.0)), "images"), "out_images")


def write_graphs(out, variant, seed, vocabulary):
    half, fixed, bench = variant == "half", variant == "fixed", variant == "bench"
    float_type, element = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    batch, side, pixels = (2, SIDE, 8 * SIDE) if fixed else ("batch", "side", "pixels")
    integer = TensorProto.INT32 if fixed else TensorProto.INT64

    graph = Graph(float_type)
    ids = graph.op("Cast", "input_ids", to=TensorProto.INT64)
    states, pooled = Clip(seed, vocabulary, CONTEXT, siglip=False).text(graph, ids, None)
    rename(graph, states, "last_hidden_state")
    rename(graph, pooled, "pooler_output")
    outputs = [("last_hidden_state", element, [batch, CONTEXT, WIDTH]), ("pooler_output", element, [batch, None])]
    save(out / "text_encoder/model.onnx", graph, [("input_ids", integer, [batch, CONTEXT if fixed else "length"])], outputs)

    graph = Layers(seed + 1, float_type)
    lcm = variant == "lcm"
    unet(graph, 96 if bench else 16, "timestep_cond" if lcm else None)
    # Exporters write the level as a whole number or not, for every row or once.
    timestep = {"velocity": (TensorProto.FLOAT, [1]), "half": (TensorProto.FLOAT16, ["steps"]), "fixed": (TensorProto.INT64, [])}
    sample = [batch, LATENT, side, side]
    inputs = [("sample", element, sample), ("timestep", *timestep.get(variant, (TensorProto.INT64, ["steps"]))),
              ("encoder_hidden_states", element, [batch, CONTEXT if fixed else "length", WIDTH])]
    if lcm:
        inputs.append(("timestep_cond", element, [batch, GUIDANCE]))
    save(out / "unet/model.onnx", graph, inputs, [("out_sample", element, sample)], external=variant == "velocity")

    graph = Layers(seed + 2, float_type)
    vae_decoder(graph, 32 if bench else 8)
    one = 1 if fixed else "batch"
    save(out / "vae_decoder/model.onnx", graph, [("latent_sample", element, [one, LATENT, side, side])],
         [("sample", element, [one, 3, pixels, pixels])])

    if variant == "checked":
        graph = Graph()
        safety_checker(graph)
        images = ["batch", "height", "width", 3]
        save(out / "safety_checker/model.onnx", graph,
             [("clip_input", element, ["batch", 3, CHECKED, CHECKED]), ("images", element, images)],
             [("out_images", element, images), ("has_nsfw_concepts", TensorProto.BOOL, ["batch"])])


def write_configuration(out, variant, tokenizer):
    scheduler = SCHEDULER | SCHEDULERS[variant]
    onnx = lambda name: ["diffusers", "OnnxRuntimeModel"] if name else [None, None]
    write_json(out / "model_index.json", {
        "_class_name": "LatentConsistencyModelPipeline" if variant == "lcm" else "OnnxStableDiffusionPipeline", "_diffusers_version": "0.31.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"] if variant == "checked" else [None, None],
        "requires_safety_checker": variant == "checked", "safety_checker": onnx(variant == "checked"),
        "scheduler": ["diffusers", scheduler["_class_name"]], "text_encoder": onnx(True),
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": onnx(True), "vae_decoder": onnx(True), "vae_encoder": [None, None]})
    for folder in ("scheduler", "tokenizer", "unet", "vae_decoder"):
        (out / folder).mkdir(exist_ok=True)
    write_json(out / "scheduler/scheduler_config.json", scheduler)
    channels = 96 if variant == "bench" else 16
    write_json(out / "unet/config.json", {
        "_class_name": "UNet2DConditionModel", "in_channels": LATENT, "out_channels": LATENT, "cross_attention_dim": WIDTH,
        "sample_size": BENCH_SIDE if variant == "bench" else SIDE, "time_cond_proj_dim": GUIDANCE if variant == "lcm" else None, "block_out_channels": [channels, 2 * channels]})
    write_json(out / "vae_decoder/config.json", {
        "_class_name": "AutoencoderKL", "latent_channels": LATENT, "scaling_factor": 0.18215,
        "block_out_channels": [32 if variant == "bench" else 8] * 4})
    if variant == "checked":
        (out / "feature_extractor").mkdir(exist_ok=True)
        write_json(out / "feature_extractor/preprocessor_config.json", {
            "feature_extractor_type": "CLIPFeatureExtractor", "size": CHECKED, "crop_size": CHECKED, "do_resize": True,
            "do_center_crop": True, "do_normalize": True, "resample": 3,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]})

    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "!" if variant == "velocity" else "<|endoftext|>"}
    write_json(out / "tokenizer/special_tokens_map.json", special)
    write_json(out / "tokenizer/tokenizer_config.json", special | {
        "pad_token": "<|endoftext|>", "model_max_length": CONTEXT, "do_lower_case": True, "tokenizer_class": "CLIPTokenizer"})
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    if variant != "velocity":
        tokenizer.save(str(out / "tokenizer/tokenizer.json"))
    # Both kinds, as in real exports, but where the one is to be seen to do.
    (out / "tokenizer/vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (out / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--variant", choices=VARIANTS, default="pndm")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out = arguments.out_dir
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = make_tokenizer(siglip=False)
    write_configuration(out, arguments.variant, tokenizer)
    write_graphs(out, arguments.variant, arguments.seed, tokenizer.get_vocab_size())
    print(f"{out}: {arguments.variant}, {sum(path.stat().st_size for path in out.rglob('*.onnx*')):,} bytes of graphs")


if __name__ == "__main__":
    main()
