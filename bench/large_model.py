"""A model of images with the size of a ViT-B/32 and random weights: what it costs to run is that of a real one."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from tests.models import tiny_clip

NAME = "vit-b-32"
PROJECTION = 512


def make(folder: Path, quick: bool) -> None:
    """Writes the model below `folder`: 350 MB, or with one layer if `quick`."""
    tiny_clip.IMAGE, tiny_clip.PATCH, tiny_clip.WIDTH, tiny_clip.HEADS = 224, 32, 768, 12
    tiny_clip.LAYERS, tiny_clip.PROJECTION = 1 if quick else 12, PROJECTION
    clip = tiny_clip.Clip(seed=0, vocabulary=1, context_length=1, siglip=False)
    graph = tiny_clip.Graph()
    _, embedding = clip.image(graph, "pixel_values")
    tiny_clip.rename(graph, embedding, "image_embeds")
    inputs = [("pixel_values", TensorProto.FLOAT, ["batch_size", 3, 224, 224])]
    outputs = [("image_embeds", TensorProto.FLOAT, ["batch_size", PROJECTION])]
    tiny_clip.save(folder / NAME / "onnx" / "vision_model.onnx", graph, inputs, outputs)
    tiny_clip.write_json(folder / NAME / "config.json", {"model_type": "clip_vision_model", "projection_dim": PROJECTION})
    tiny_clip.write_json(
        folder / NAME / "preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", "size": 224, "crop_size": 224}
    )
