#!/usr/bin/env python3
"""Makes a small image encoder with random weights and no text encoder, in the files and names of a Hugging Face export.

    python tests/models/tiny_vision.py OUT_DIR --variant dinov2|dinov3|vit|convnext|efficientnet|classifier|tokens

It needs numpy, onnx and Pillow. The variants are the layouts that the features of such models come in:

    dinov2        only the tokens, the first of which stands for the image
    dinov3        tokens, four registers after the first one, and the first one as pooler_output
    vit           tokens, and a pooler_output that is not trained
    convnext      a grid of features, and a pooler_output of 1 × 1 pixels
    efficientnet  only a grid of features
    classifier    only the scores of its categories
    tokens        only tokens, of a type of model that nobody knows

`expected.json` holds what the encoder must give for the tensor of `test_image` and for the pictures beside it. It is
computed by numpy and Pillow: the network from the description that the ONNX graph is built from, and the preprocessing
as `transformers` does it.
"""

import argparse
import math
import pathlib

import numpy as np
from onnx import TensorProto
from PIL import Image

from tiny_clip import IMAGE, PATCH, WIDTH, Clip, Eager, Graph, rename, save, test_image, write_json

SIDE = IMAGE // PATCH
REGISTERS = 4
CATEGORIES = 5
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}

# For each variant: model_type, the rest of config.json, preprocessor_config.json, and the pooling that is expected.
VARIANTS = {
    "dinov2": (
        "dinov2",
        # The positions are interpolated: this is no limit of the images' size.
        {"image_size": 518, "patch_size": PATCH, "hidden_size": WIDTH},
        {"image_processor_type": "BitImageProcessor", "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
         "do_rescale": True, "do_resize": True, "rescale_factor": 1 / 255, "resample": 3, "size": {"shortest_edge": 110},
         "crop_size": {"height": IMAGE, "width": IMAGE}, **IMAGENET},
        "cls",
    ),
    "dinov3": (
        "dinov3_vit",
        {"image_size": 224, "num_register_tokens": REGISTERS},
        {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": IMAGE, "width": IMAGE},
         "crop_size": None, "do_center_crop": None, "do_convert_rgb": None, "do_pad": None},
        "pooler_output",
    ),
    "vit": (
        "vit",
        {"image_size": IMAGE},
        {"image_processor_type": "ViTImageProcessor", "size": {"height": IMAGE, "width": IMAGE}},
        "cls",
    ),
    "convnext": (
        "convnextv2",
        {"image_size": IMAGE},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": IMAGE}, "resample": 3, **IMAGENET},
        "pooler_output",
    ),
    "efficientnet": (
        "efficientnet",
        {"image_size": IMAGE},
        {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": IMAGE, "width": IMAGE},
         "rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": [0.1, 0.0, -0.1],
         "image_std": [0.47853944, 0.4732864, 0.47434163]},
        "mean",
    ),
    "classifier": ("vit", {}, {"image_processor_type": "ViTImageProcessor", "size": {"height": IMAGE, "width": IMAGE}}, None),
    "tokens": ("mystery", {}, {"image_processor_type": "ViTImageProcessor", "size": {"height": IMAGE, "width": IMAGE}}, None),
}
GRIDS = ("convnext", "efficientnet")
# Wide, tall, small, and odd numbers everywhere.
SIZES = [(150, 120), (90, 200), (50, 40), (173, 131)]
# One that is not resized, but cropped where the variant crops: there is no rounding to grey levels.
AS_IT_IS = {"dinov2": (110, 137), "convnext": (140, 109)}


class Encoder(Clip):
    """Weights and forward pass. `run` is an `Eager` or a `Graph`."""

    def __init__(self, seed, variant):
        super().__init__(seed, 2, 2, siglip=False)
        self.variant = variant
        for register in range(REGISTERS):
            self.weight(f"register.{register}", WIDTH, scale=1.0)
        self.weight("pooler", WIDTH, WIDTH, scale=1 / math.sqrt(WIDTH))
        self.weight("pooler.bias", WIDTH, scale=0.1)
        self.weight("head", WIDTH, CATEGORIES, scale=1 / math.sqrt(WIDTH))
        self.weight("head.bias", CATEGORIES, scale=0.1)

    def tokens(self, run, pixel_values):
        """The tokens of a transformer: the class token, perhaps registers, and the patches."""
        x = run.conv(pixel_values, self.get(run, "patch"), PATCH)
        x = run.add(run.prepend(self.get(run, "class"), x), self.get(run, "vision.positions"))
        if self.variant == "dinov3":
            # Registers have no positions. They come after the class token.
            rest = run.rest(x)
            for register in reversed(range(REGISTERS)):
                rest = run.prepend(self.get(run, f"register.{register}"), rest)
            x = run.join(run.first(x), rest)
        return self.norm(run, self.layers(run, self.norm(run, x, "vision.pre"), "vision", None), "vision.norm")

    def patches(self, run, pixel_values):
        """The features of a convolutional network, as rows × places × channels."""
        y = self.linear(run, run.conv(pixel_values, self.get(run, "patch"), PATCH), "vision.0.q")
        return run.mul(y, run.sigmoid(run.mul(y, run.constant(np.array(1.702)))))

    def outputs(self, run, pixel_values):
        """Name, shape and value of each output of the export; `run` is a `Graph`."""
        if self.variant in GRIDS:
            places = self.patches(run, pixel_values)
            grid = run.op("Reshape", run.op("Transpose", places, perm=[0, 2, 1]), run.ints(0, WIDTH, SIDE, SIDE))
            yield "last_hidden_state", [WIDTH, SIDE, SIDE], grid
            if self.variant == "convnext":
                pooled = self.norm(run, run.mean(places), "vision.norm")
                yield "pooler_output", [WIDTH, 1, 1], run.op("Reshape", pooled, run.ints(0, WIDTH, 1, 1))
            return
        tokens = self.tokens(run, pixel_values)
        if self.variant == "classifier":
            yield "logits", [CATEGORIES], self.linear(run, run.token(tokens, 0), "head")
            return
        yield "last_hidden_state", ["tokens", WIDTH], tokens
        if self.variant == "dinov3":
            yield "pooler_output", [WIDTH], run.token(tokens, 0)
        if self.variant == "vit":
            yield "pooler_output", [WIDTH], run.op("Tanh", self.linear(run, run.token(tokens, 0), "pooler"))

    def embeddings(self, pixel_values):
        """The embedding of one image by each pooling, by numpy."""
        run, pixel_values = Eager(), pixel_values[None].astype(np.float64)
        if self.variant in GRIDS:
            places = self.patches(run, pixel_values)
            found = {"mean": places.mean(1), "pooler_output": self.norm(run, places.mean(1), "vision.norm")}
        else:
            run.first, run.rest = lambda x: x[:, :1], lambda x: x[:, 1:]
            run.join = lambda a, b: np.concatenate([a, b], axis=1)
            tokens = self.tokens(run, pixel_values)
            patches = tokens[:, -SIDE * SIDE:]
            found = {"cls": tokens[:, 0], "mean": tokens.mean(1), "patch_mean": patches.mean(1)}
            found["pooler_output"] = tokens[:, 0] if self.variant == "dinov3" else np.tanh(self.linear(run, tokens[:, 0], "pooler"))
        return {name: [round(value, 7) for value in run.normalise(rows)[0].tolist()] for name, rows in found.items()}


class VisionGraph(Graph):
    def first(self, x): return self.op("Slice", x, self.ints(0), self.ints(1), self.ints(1))
    def rest(self, x): return self.op("Slice", x, self.ints(1), self.ints(1000), self.ints(1))
    def join(self, a, b): return self.op("Concat", a, b, axis=1)


# ---------------------------------------------------------------------------------------------------------
# The preprocessing, as the classes of `transformers` do it.

def resized(image, size, resample):
    """The rows first. Pillow 13 begins with the columns of some tall images, older ones never do."""
    return image.resize((size[0], image.height), resample).resize(size, resample)


def shortest_edge(image, side, resample):
    short, long = sorted(image.size)
    long = int(side * long / short)
    return resized(image, (side, long) if image.width <= image.height else (long, side), resample)


def center_crop(image, side):
    """torchvision's, which rounds halves to the even number."""
    left, top = round((image.width - side) / 2), round((image.height - side) / 2)
    return image.crop((left, top, left + side, top + side))


def normalised(levels, mean, std):
    return ((levels - np.array(mean)) / np.array(std)).transpose(2, 0, 1)


def preprocess(variant, image):
    size = (IMAGE, IMAGE)
    if variant == "dinov2":
        image = center_crop(shortest_edge(image, 110, Image.Resampling.BICUBIC), IMAGE)
        return normalised(np.asarray(image) / 255, IMAGENET["image_mean"], IMAGENET["image_std"])
    if variant == "dinov3":
        # Rescaled first, so that the resize does not round to grey levels.
        levels = np.asarray(image, np.float32) / 255
        channels = [Image.fromarray(levels[..., c]).resize(size, Image.Resampling.BILINEAR) for c in range(3)]
        return normalised(np.stack(channels, -1), IMAGENET["image_mean"], IMAGENET["image_std"])
    if variant == "convnext":
        image = center_crop(shortest_edge(image, int(IMAGE / (224 / 256)), Image.Resampling.BICUBIC), IMAGE)
        return normalised(np.asarray(image) / 255, IMAGENET["image_mean"], IMAGENET["image_std"])
    if variant == "efficientnet":
        settings = VARIANTS[variant][2]
        levels = np.asarray(image.resize(size, Image.Resampling.NEAREST)) * settings["rescale_factor"] - 1
        once = normalised(levels, settings["image_mean"], settings["image_std"])
        return once / np.array(settings["image_std"])[:, None, None]
    levels = np.asarray(resized(image, size, Image.Resampling.BILINEAR))
    return normalised(levels / 255, [0.5] * 3, [0.5] * 3)


def picture(width, height):
    """Smooth colours with a hard-edged disc and stripes."""
    y, x = np.mgrid[:height, :width]
    levels = np.stack([128 + 120 * np.sin(c + y / 17 + x / 23) for c in range(3)], -1)
    levels[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2] = (230, 40, 90)
    levels[:, -width // 4:] += 40 * (y[:, -width // 4:, None] // 6 % 2)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--variant", choices=VARIANTS, default="dinov2")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    out, variant = arguments.out_dir, arguments.variant
    out.mkdir(parents=True, exist_ok=True)
    model_type, config, preprocessor, default = VARIANTS[variant]
    write_json(out / "config.json", {"model_type": model_type, **config})
    write_json(out / "preprocessor_config.json", preprocessor)

    encoder, graph = Encoder(arguments.seed, variant), VisionGraph()
    outputs = []
    for name, shape, value in encoder.outputs(graph, "pixel_values"):
        rename(graph, value, name)
        outputs.append((name, TensorProto.FLOAT, ["batch_size", *shape]))
    # Most are exported for images of any size.
    size = [IMAGE, IMAGE] if variant == "vit" else ["height", "width"]
    save(out / "onnx/model.onnx", graph, [("pixel_values", TensorProto.FLOAT, ["batch_size", 3, *size])], outputs)

    pictures = {}
    names = {f"{width}x{height}.png": (width, height) for width, height in SIZES}
    for name, size in {**names, "as_it_is.png": AS_IT_IS.get(variant, (IMAGE, IMAGE))}.items():
        picture(*size).save(out / name)
        pictures[name] = encoder.embeddings(preprocess(variant, picture(*size)))
    write_json(out / "expected.json", {
        "default": default, "tensor": encoder.embeddings(test_image()), "pictures": pictures})
    print(f"{out}: {variant}, {WIDTH} dimensions")


if __name__ == "__main__":
    main()
