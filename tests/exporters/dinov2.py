"""DINOv2 by `transformers`, exported by optimum."""

from __future__ import annotations

from pathlib import Path

import torch
from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import Dinov2OnnxConfig
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from . import inputs
from .row import Expected, Row
from .weights import enliven

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def base(folder: Path) -> Expected:
    torch.manual_seed(0)
    # facebook/dinov2-base.
    model = enliven(Dinov2Model(Dinov2Config(image_size=518, patch_size=14)))
    processor = BitImageProcessor(
        size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}, image_mean=MEAN, image_std=DEVIATION
    )
    processor.save_pretrained(folder)
    model.config.save_pretrained(folder)
    (folder / "susx.json").write_text('{"crop": "transformers"}')
    pixel_values = processor(inputs.images(), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        images = torch.cat([model(one[None]).pooler_output for one in pixel_values])
    # optimum takes the size of its example image from the preprocessor there.
    model.config._name_or_path = str(folder)
    (folder / "onnx").mkdir()
    export(model, Dinov2OnnxConfig(model.config, task="feature-extraction"), folder / "onnx/model.onnx", opset=17)
    return Expected(images=images.numpy())


ROWS = [Row("dinov2-base", "DINOv2 base", "optimum", base)]
