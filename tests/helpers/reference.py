"""A model as Python's onnxruntime, Pillow and tokenizers run it: what susx is compared with.

Written from the Hugging Face conventions, not from susx's code; it knows only the models that the tests use.
"""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers
from PIL import Image


def resized(image: Image.Image, size: tuple[int, int], resample: int) -> Image.Image:
    """Pillow's resize of the rows, and then of the columns. Pillow 13 begins with the columns of some tall images."""
    resample = Image.Resampling(resample)
    return image.resize((size[0], image.height), resample).resize(size, resample)


class ReferenceModel:
    def __init__(self, folder: Path):
        read = lambda name: json.loads((folder / name).read_text())  # noqa: E731
        self.preprocessor = read("preprocessor_config.json")
        config = read("config.json")
        self.context_length = config["text_config"]["max_position_embeddings"]
        self.tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.context_length)
        settings = read("tokenizer_config.json")
        self.pad_id = self.tokenizer.token_to_id(settings["pad_token"])
        self.is_siglip = settings["tokenizer_class"] == "SiglipTokenizer"
        graphs = sorted((folder / "onnx").glob("*.onnx"))
        options = onnxruntime.SessionOptions()
        # Spinning threads would occupy the processors that the tested process needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.sessions = [
            onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in graphs
        ]

    def pixel_values(self, image: Image.Image) -> np.ndarray:
        """CLIP's preprocessing of an RGB picture with Pillow: the tensor of one image, CHW."""
        settings = self.preprocessor
        size = settings["size"]
        if isinstance(size, dict) and "height" in size:
            image = resized(image, (size["width"], size["height"]), settings["resample"])
        else:
            side = size["shortest_edge"] if isinstance(size, dict) else size
            short, long = sorted(image.size)
            long = int(side * long / short)
            target = (side, long) if image.width <= image.height else (long, side)
            image = resized(image, target, settings["resample"])
            left, top = round((image.width - side) / 2), round((image.height - side) / 2)
            image = image.crop((left, top, left + side, top + side))
        levels = np.asarray(image, np.float32) * settings.get("rescale_factor", 1 / 255)
        normalised = (levels - np.array(settings["image_mean"])) / np.array(settings["image_std"])
        return normalised.transpose(2, 0, 1).astype(np.float32)

    def image(self, image: Image.Image) -> np.ndarray:
        return self.tensor(self.pixel_values(image))

    def tensor(self, pixel_values: np.ndarray) -> np.ndarray:
        """The embedding of a preprocessed image."""
        ids = np.full((1, 2), self.pad_id)
        feeds = {"pixel_values": pixel_values[None], "input_ids": ids, "attention_mask": np.ones_like(ids)}
        return self._run(feeds, ("pixel_values",), ("image_embeds", "pooler_output"))

    def text(self, text: str) -> np.ndarray:
        if self.is_siglip:
            text = text.lower().translate(str.maketrans("", "", string.punctuation))
            text = re.sub(r"\s+", " ", text).strip()
        ids = self.tokenizer.encode(text).ids
        if not any(put.name == "attention_mask" for session in self.sessions for put in session.get_inputs()):
            # Such a model has no attention mask: it was trained on rows of this length.
            ids = ids + [self.pad_id] * (self.context_length - len(ids))
        side = self.preprocessor.get("crop_size", 224)
        blank = np.zeros((1, 3, side, side), np.float32) if isinstance(side, int) else None
        feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), int), "pixel_values": blank}
        return self._run(feeds, ("input_ids",), ("text_embeds", "pooler_output"))

    def _run(self, feeds: dict, needed: tuple, outputs: tuple) -> np.ndarray:
        """Runs the graph that takes `needed`, with the inputs and element types that it asks for."""
        for session in self.sessions:
            inputs = {put.name: put.type for put in session.get_inputs()}
            if not all(name in inputs for name in needed):
                continue
            half = {name: type == "tensor(float16)" for name, type in inputs.items()}
            given = {name: feeds[name].astype(np.float16) if half[name] else feeds[name] for name in inputs}
            output = next(put.name for put in session.get_outputs() if put.name in outputs)
            (embedding,) = session.run([output], given)
            return embedding[0].astype(np.float64) / np.linalg.norm(embedding[0].astype(np.float64))
        raise AssertionError(f"no graph takes {needed}")
