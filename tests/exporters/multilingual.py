"""open_clip's multilingual CLIP, whose text encoder is XLM-R.

Its tokenizer is trained here, on a few sentences, because no package has XLM-R's. As in XLM-R, `<s>` is token 0 and `<pad>`
token 1, so a text that is padded with 0 has another vector.
"""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import sentencepiece
from transformers import XLMRobertaConfig, XLMRobertaTokenizerFast

from . import openclip
from .row import Expected, Row
from .siglip import SENTENCES

ARCHITECTURE = "xlm-roberta-base-ViT-B-32"


def tokenizer(folder: Path) -> None:
    # In XLM-R's tokenizer, too, this is a table of SentencePiece's: it makes one space of tabs, lines and several spaces.
    rule = "nmt_nfkc"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=120,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name=rule,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.vocab").unlink()
    vocabulary = folder / "sentencepiece.bpe.model"
    XLMRobertaTokenizerFast(vocab_file=str(vocabulary), model_max_length=512).save_pretrained(folder)


def base(folder: Path) -> Expected:
    text = folder.parent / f"{folder.name}-text"
    text.mkdir()
    try:
        # xlm-roberta-base.
        XLMRobertaConfig(
            vocab_size=250002, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
        ).save_pretrained(text)
        tokenizer(text)
        architecture = open_clip.get_model_config(ARCHITECTURE)
        architecture["text_cfg"].update(hf_model_name=str(text), hf_tokenizer_name=str(text), hf_model_pretrained=False)
        (text / "local-xlm-roberta.json").write_text(json.dumps(architecture))
        open_clip.add_model_config(text / "local-xlm-roberta.json")
        return openclip.both("local-xlm-roberta", tokenizer)(folder)
    finally:
        for path in text.iterdir():
            path.unlink()
        text.rmdir()


ROWS = [Row("openclip-xlm-r", "open_clip xlm-roberta-base-ViT-B-32", "torch", base)]
