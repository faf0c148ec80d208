"""CLIP by `transformers`, exported by optimum and by torch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import (
    CLIPOnnxConfig,
    CLIPTextWithProjectionOnnxConfig,
    CLIPVisionModelOnnxConfig,
)
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from . import clip_tokenizer, inputs
from .row import Expected, Row
from .weights import enliven

# OpenAI's configurations. Their text encoder takes the token with the largest number for the end: 2 is no token here.
TEXT = {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}
LARGE_TEXT = TEXT | {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
LARGE_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}


def base() -> CLIPConfig:
    return CLIPConfig(text_config=TEXT)


def large() -> CLIPConfig:
    vision = LARGE_VISION | {"image_size": 336, "patch_size": 14, "projection_dim": 768}
    return CLIPConfig(text_config=LARGE_TEXT, vision_config=vision, projection_dim=768)


class VisionWithProjection(CLIPVisionModelOnnxConfig):
    """As in transformers.js' conversion: optimum's own names leave out the projection."""

    @property
    def outputs(self) -> dict[str, dict[int, str]]:
        return {"image_embeds": {0: "batch_size"}, "last_hidden_state": {0: "batch_size"}}


class Vision(torch.nn.Module):
    """The image half of a CLIP, as exports name it."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        self.model = model
        self.config = model.config.vision_config

    def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"image_embeds": self.model.get_image_features(pixel_values=pixel_values)}


def prepare(folder: Path, config: CLIPConfig) -> tuple[CLIPModel, dict[str, torch.Tensor], Expected]:
    """Writes the configuration; the model, its preprocessed inputs, and the embeddings of them by its own pipeline."""
    torch.manual_seed(0)
    model = enliven(CLIPModel(config))
    side = config.vision_config.image_size
    processor = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor.save_pretrained(folder)
    config.save_pretrained(folder)
    tokenizer = clip_tokenizer.write(folder)
    # The pipeline crops as transformers does.
    (folder / "susx.json").write_text(json.dumps({"crop": "transformers"}))
    tensors = {
        **processor(inputs.images(), return_tensors="pt"),
        **tokenizer(inputs.TEXTS, padding=True, truncation=True, return_tensors="pt"),
    }
    with torch.no_grad():
        images = torch.cat([model.get_image_features(pixel_values=one[None]) for one in tensors["pixel_values"]])
        texts = model.get_text_features(tensors["input_ids"], tensors["attention_mask"])
    return model, tensors, Expected(images.numpy(), texts.numpy())


def split(folder: Path, config: CLIPConfig) -> Expected:
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    model, _, expected = prepare(folder, config)
    vision, text = CLIPVisionModelWithProjection(config.vision_config), CLIPTextModelWithProjection(config.text_config)
    vision.load_state_dict(model.state_dict(), strict=False)
    text.load_state_dict(model.state_dict(), strict=False)
    del model
    (folder / "onnx").mkdir()
    for half, configure, name in (
        (vision, VisionWithProjection, "vision_model"),
        (text, CLIPTextWithProjectionOnnxConfig, "text_model"),
    ):
        export(half.eval(), configure(half.config), folder / "onnx" / f"{name}.onnx", opset=17)
    return expected


def fused(folder: Path) -> Expected:
    model, _, expected = prepare(folder, base())
    (folder / "onnx").mkdir()
    export(model, CLIPOnnxConfig(model.config), folder / "onnx" / "model.onnx", opset=17)
    return expected


def half(folder: Path) -> Expected:
    expected = split(folder, base())
    for path in (folder / "onnx").glob("*.onnx"):
        converted = convert_float_to_float16(onnx.load(path), keep_io_types=True, disable_shape_infer=True)
        onnx.save(converted, path.with_name(f"{path.stem}_fp16.onnx"))
        path.unlink()
    return expected


def quantized(folder: Path) -> Expected:
    """What onnxruntime itself makes of the 8-bit files, one input at a time."""
    config = base()
    model, tensors, _ = prepare(folder, config)
    del model
    for path in folder.glob("*"):
        if path.is_file():
            path.unlink()
    split(folder, base())
    sessions = {}
    for path in sorted((folder / "onnx").glob("*.onnx")):
        target = path.with_name(f"{path.stem}_quantized.onnx")
        quantize_dynamic(path, target, weight_type=QuantType.QUInt8)
        path.unlink()
        sessions[path.stem] = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    images = [
        sessions["vision_model"].run(["image_embeds"], {"pixel_values": one[None].numpy()})[0][0]
        for one in tensors["pixel_values"]
    ]
    texts = []
    # This graph has no mask, so susx pads to the length of the context, as the tokenizer has done for the longest text.
    assert tensors["input_ids"].shape[1] == config.text_config.max_position_embeddings
    for ids in tensors["input_ids"].numpy():
        texts.append(sessions["text_model"].run(["text_embeds"], {"input_ids": ids[None]})[0][0])
    return Expected(np.array(images), np.array(texts))


def dynamo(folder: Path) -> Expected:
    model, tensors, expected = prepare(folder, base())
    (folder / "onnx").mkdir()
    batch = torch.export.Dim("batch")
    torch.onnx.export(
        Vision(model).eval(),
        (tensors["pixel_values"][:2],),
        folder / "onnx" / "vision_model.onnx",
        input_names=["pixel_values"],
        output_names=["image_embeds"],
        dynamic_shapes={"pixel_values": {0: batch}},
        dynamo=True,
        external_data=True,
    )
    return Expected(images=expected.images)


ROWS = [
    Row("clip-split", "CLIP ViT-B/32", "optimum, two graphs", lambda folder: split(folder, base())),
    Row("clip-fused", "CLIP ViT-B/32", "optimum, one graph", fused),
    Row("clip-fp16", "CLIP ViT-B/32", "optimum, fp16 by onnxruntime", half, 0.999),
    Row("clip-int8", "CLIP ViT-B/32", "optimum, 8 bits by onnxruntime", quantized, 0.999),
    Row("clip-dynamo", "CLIP ViT-B/32, images", "torch, dynamo and external data", dynamo),
    Row("clip-large", "CLIP ViT-L/14 at 336 pixels", "optimum, two graphs", lambda folder: split(folder, large())),
]
