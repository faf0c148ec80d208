"""What one would write instead of susx: good Python code with Pillow, tokenizers and onnxruntime."""

from __future__ import annotations

import io
import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import numpy as np
import onnxruntime
import tokenizers
from PIL import Image, ImageOps

Row = tuple[int, bytes]
Embedded = tuple[np.ndarray, np.ndarray]


class PythonLoop:
    """A model of split files with CLIP's preprocessing."""

    def __init__(self, model: Path, threads: int, batch: int):
        self.threads, self.batch = threads, batch
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads

        def load(name: str) -> onnxruntime.InferenceSession:
            path = str(model / "onnx" / f"{name}_model.onnx")
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        self.vision, self.text = load("vision"), load("text")
        settings = json.loads((model / "preprocessor_config.json").read_text())
        self.side, self.filter = settings["size"]["shortest_edge"], Image.Resampling(settings["resample"])
        mean = np.array(settings["image_mean"], np.float32)[:, None, None]
        deviation = np.array(settings["image_std"], np.float32)[:, None, None]
        # (level / 255 - mean) / deviation, in one multiplication and one addition.
        self.factor = np.float32(settings["rescale_factor"]) / deviation
        self.offset = -mean / deviation
        self.tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        self.tokenizer.no_padding()
        config = json.loads((model / "config.json").read_text())["text_config"]
        self.tokenizer.enable_truncation(config["max_position_embeddings"])
        self.pad = config["pad_token_id"]

    def images(self, rows: Iterable[Row]) -> Iterator[Embedded]:
        """Yields numbers and unit vectors, batch by batch."""
        for numbers, files in self._batches(rows):
            tensor = self._tensor(len(files))
            for file, out in zip(files, tensor):
                self.pixel_values(file, out)
            yield numbers, self._encode(tensor)

    def images_prefetched(self, rows: Iterable[Row]) -> Iterator[Embedded]:
        """The same, while a pool of threads decodes the next batch."""
        with ThreadPoolExecutor(self.threads) as pool:

            def started(batch: tuple[np.ndarray, list[bytes]]) -> tuple[np.ndarray, np.ndarray, list[Future]]:
                numbers, files = batch
                tensor = self._tensor(len(files))
                return numbers, tensor, [pool.submit(self.pixel_values, *one) for one in zip(files, tensor)]

            ahead = None
            for batch in self._batches(rows):
                current, ahead = ahead, started(batch)
                if current:
                    yield self._finish(*current)
            if ahead:
                yield self._finish(*ahead)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors in the order of the texts. A batch has texts of about the same length."""
        encodings = self.tokenizer.encode_batch(texts)
        order = sorted(range(len(texts)), key=lambda i: len(encodings[i]))
        vectors = None
        inputs = {put.name for put in self.text.get_inputs()}
        for start in range(0, len(order), self.batch):
            part = order[start : start + self.batch]
            longest = len(encodings[part[-1]])
            ids = np.full((len(part), longest), self.pad, np.int64)
            mask = np.zeros_like(ids)
            for row, place in enumerate(part):
                found = encodings[place].ids
                ids[row, : len(found)], mask[row, : len(found)] = found, 1
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            embeddings = self._run(self.text, {name: feeds[name] for name in inputs})
            if vectors is None:
                vectors = np.empty((len(texts), embeddings.shape[1]), np.float32)
            vectors[part] = embeddings
        return vectors

    def pixel_values(self, file: bytes, out: np.ndarray) -> None:
        """CLIP's preprocessing, into a tensor of 3 x H x W."""
        opened = Image.open(io.BytesIO(file))
        # Decodes a large JPEG at 1/2, 1/4 or 1/8 of its size, if that is still twice the size that is needed.
        opened.draft("RGB", (2 * self.side, 2 * self.side))
        image = ImageOps.exif_transpose(opened).convert("RGB")
        short, long = sorted(image.size)
        long = int(self.side * long / short)
        image = image.resize((self.side, long) if image.width <= image.height else (long, self.side), self.filter)
        left, top = round((image.width - self.side) / 2), round((image.height - self.side) / 2)
        levels = np.asarray(image.crop((left, top, left + self.side, top + self.side)))
        np.multiply(levels.transpose(2, 0, 1), self.factor, out=out)
        out += self.offset

    def _batches(self, rows: Iterable[Row]) -> Iterator[tuple[np.ndarray, list[bytes]]]:
        numbers, files = [], []
        for number, file in rows:
            numbers.append(number)
            files.append(file)
            if len(files) == self.batch:
                yield np.array(numbers), files
                numbers, files = [], []
        if files:
            yield np.array(numbers), files

    def _tensor(self, rows: int) -> np.ndarray:
        return np.empty((rows, 3, self.side, self.side), np.float32)

    def _finish(self, numbers: np.ndarray, tensor: np.ndarray, decoded: list[Future]) -> Embedded:
        for one in decoded:
            one.result()
        return numbers, self._encode(tensor)

    def _encode(self, tensor: np.ndarray) -> np.ndarray:
        return self._run(self.vision, {self.vision.get_inputs()[0].name: tensor})

    @staticmethod
    def _run(graph: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> np.ndarray:
        (embeddings,) = graph.run([graph.get_outputs()[0].name], feeds)
        return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
