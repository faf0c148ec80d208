"""Runs the models under construction with ONNX Runtime, the way susx will run them."""

import json

import numpy as np
import onnxruntime
import tokenizers

from minilm import CONTEXT

BATCH = 50


def session(model):
    """One thread: the class vectors become weights, and sums that threads split differently differ in the last bit."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def tokenizer_json(archive):
    """The package's tokenizer.json, parsed, and no longer padding every text to one length."""
    tokenizer = json.loads(archive.read("tokenizer.json"))
    tokenizer["padding"] = None
    tokenizer["truncation"] = {"max_length": CONTEXT, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    return tokenizer


def tokens(tokenizer, texts):
    """(input_ids, attention_mask), both int64 [texts, sequence], padded with 0 to the longest text."""
    encoder = tokenizers.Tokenizer.from_str(json.dumps(tokenizer))
    rows = [encoding.ids for encoding in encoder.encode_batch(texts)]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for place, row in zip(ids, rows):
        place[:len(row)] = row
    return ids, (np.arange(ids.shape[1]) < [[len(row)] for row in rows]).astype(np.int64)


def embed_texts(run, tokenizer, texts):
    """float32 [texts, dimensions]."""
    parts = []
    for start in range(0, len(texts), BATCH):
        ids, mask = tokens(tokenizer, texts[start:start + BATCH])
        parts.append(run.run(None, {"input_ids": ids, "attention_mask": mask})[0])
    return np.concatenate(parts)


def embed_pixels(run, pixels):
    """float32 [images, dimensions]."""
    return run.run(None, {"pixel_values": pixels})[0]
