"""OpenAI's tokenizer, from the vocabulary that open_clip has."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import open_clip
from transformers import CLIPTokenizerFast
from transformers.models.clip.tokenization_clip import bytes_to_unicode

VOCABULARY = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
SIZE = 49408


def write(folder: Path) -> CLIPTokenizerFast:
    """Writes tokenizer.json and the files beside it."""
    letters = list(bytes_to_unicode().values())
    with gzip.open(VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    merges = lines[1 : SIZE - 2 * len(letters) - len(SPECIAL) + 1]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(line.replace(" ", "") for line in merges), *SPECIAL]
    assert len(tokens) == SIZE
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merged = folder / "vocab.json", folder / "merges.txt"
    vocab.write_text(json.dumps({token: place for place, token in enumerate(tokens)}))
    merged.write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = CLIPTokenizerFast(str(vocab), str(merged), model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer
