"""SigLIP by `transformers`, exported by optimum.

Its tokenizer is trained here, on a few sentences, because no package has Google's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sentencepiece
import torch
from optimum.exporters.onnx import export
from optimum.exporters.onnx.model_configs import SiglipOnnxConfig
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer
from transformers.convert_slow_tokenizer import T5Converter

from . import inputs
from .row import Expected, Row
from .weights import enliven

SENTENCES = [
    "a photo of a cat and a dog in the house",
    "people walking along the street in the rain",
    "two small red flowers on the table of the garden",
    "a very long text about trains and boats",
    "what is this? it is an old car, 1990 & 1991",
    "naïve café in 東京",
]
LENGTH = 64


def train(folder: Path) -> Path:
    """A vocabulary of the form of SigLIP's spiece.model: padding is </s>, and there is no <s>."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_prefix=str(folder / "spiece"),
        vocab_size=120,
        hard_vocab_limit=False,
        character_coverage=1.0,
        bos_id=-1,
        pad_id=-1,
        eos_id=1,
        unk_id=2,
        pad_piece="<pad>",
        user_defined_symbols=["<pad>"],
        minloglevel=2,
    )
    (folder / "spiece.vocab").unlink()
    return folder / "spiece.model"


def base(folder: Path) -> Expected:
    torch.manual_seed(0)
    spiece = train(folder)
    tokenizer = SiglipTokenizer(str(spiece), model_max_length=LENGTH)
    tokenizer.save_pretrained(folder)
    # As susx's error says, since optimum writes no tokenizer.json.
    tokenizer._extra_ids = 0
    T5Converter(tokenizer).converted().save(str(folder / "tokenizer.json"))
    # google/siglip-base-patch16-224, with its pad token, and a vocabulary of ours.
    pad = tokenizer.pad_token_id
    config = SiglipConfig(text_config={"vocab_size": len(tokenizer), "pad_token_id": pad})
    model = enliven(SiglipModel(config))
    config.save_pretrained(folder)
    processor = SiglipImageProcessor(size={"height": 224, "width": 224})
    processor.save_pretrained(folder)
    pixel_values = processor(inputs.images(), return_tensors="pt")["pixel_values"]
    ids = tokenizer(inputs.TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        images = torch.cat([model.get_image_features(pixel_values=one[None]) for one in pixel_values])
        texts = model.get_text_features(ids["input_ids"])
    (folder / "onnx").mkdir()
    export(model, SiglipOnnxConfig(config), folder / "onnx/model.onnx", opset=17)
    return Expected(np.asarray(images), np.asarray(texts))


ROWS = [Row("siglip-base", "SigLIP base, 16 at 224 pixels", "optimum, one graph", base)]
