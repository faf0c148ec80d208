"""open_clip's models, exported by torch as the makers of Immich's models do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import numpy as np
import open_clip
import torch

from . import clip_tokenizer, inputs
from .row import Expected, Row
from .weights import enliven, settle, sharpen

# Of torch's exporter that writes ONNX without torch.export.
OPSET = 17

# Attention in one operation of torch, which ONNX does not have.
torch.backends.mha.set_fastpath_enabled(False)


class Half(torch.nn.Module):
    """One encoder of an open_clip model."""

    def __init__(self, model: torch.nn.Module, encode: str):
        super().__init__()
        self.model, self.encode = model, encode

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return getattr(self.model, self.encode)(batch)


def export(half: Half, example: torch.Tensor, path: Path, given: str, made: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {given: {0: "batch"}, made: {0: "batch"}}
    with torch.no_grad():
        torch.onnx.export(
            half,
            (example,),
            path,
            input_names=[given],
            output_names=[made],
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )


def preprocessor(folder: Path, model: torch.nn.Module) -> None:
    """preprocessor_config.json with what open_clip's own preprocessing does."""
    settings = open_clip.get_model_preprocess_cfg(model)
    side = settings["size"][0] if isinstance(settings["size"], (tuple, list)) else settings["size"]
    exact = {"height": side, "width": side}
    is_squashed = settings["resize_mode"] == "squash"
    config = {
        "image_processor_type": "CLIPImageProcessor",
        "size": exact if is_squashed else {"shortest_edge": side},
        "crop_size": exact,
        "do_center_crop": not is_squashed,
        "resample": {"bicubic": 3, "bilinear": 2}[settings["interpolation"]],
        "image_mean": list(settings["mean"]),
        "image_std": list(settings["std"]),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(config))


def both(name: str, tokens: Callable[[Path], object] | None = None, **susx: object) -> Callable[[Path], Expected]:
    """Exports both encoders of the architecture `name`; `tokens` writes another tokenizer than OpenAI's."""

    def make(folder: Path) -> Expected:
        torch.manual_seed(0)
        model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained_text=False)
        enliven(model)
        architecture = open_clip.get_model_config(name)
        if architecture["text_cfg"].get("no_causal_mask"):
            sharpen(model.text)
        pixel_values = torch.stack([preprocess(image) for image in inputs.images()])
        settle(model.visual, pixel_values)
        tokenizer = open_clip.get_tokenizer(name)
        ids = tokenizer(inputs.TEXTS)
        with torch.no_grad():
            images = torch.cat([model.encode_image(one[None]) for one in pixel_values]).numpy()
            texts = model.encode_text(ids).numpy()
        preprocessor(folder, model)
        (tokens or clip_tokenizer.write)(folder)
        length = architecture["text_cfg"].get("context_length", 77)
        config = {"model_type": "clip", "text_config": {"max_position_embeddings": length}}
        (folder / "config.json").write_text(json.dumps(config))
        if susx:
            (folder / "susx.json").write_text(json.dumps(susx))
        export(
            Half(model, "encode_image"), pixel_values[:2], folder / "onnx/vision_model.onnx", "pixel_values", "image_embeds"
        )
        export(Half(model, "encode_text"), ids[:2], folder / "onnx/text_model.onnx", "input_ids", "text_embeds")
        return Expected(np.asarray(images), np.asarray(texts))

    return make


ROWS = [
    Row("openclip-b32", "open_clip ViT-B-32", "torch", both("ViT-B-32")),
    Row("openclip-rn50", "open_clip RN50", "torch", both("RN50")),
    Row("openclip-rn101", "open_clip RN101", "torch", both("RN101")),
    Row("openclip-l14-336", "open_clip ViT-L-14-336", "torch", both("ViT-L-14-336")),
    # MobileCLIP's text encoder was trained with token 0, and sees the padding.
    Row("mobileclip-s1", "MobileCLIP-S1", "open_clip, torch", both("MobileCLIP-S1", pad_token="!")),
]
