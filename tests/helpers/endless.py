"""Models that never finish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def make_endless(folder: Path, probe_ends: bool = False, encoder: str = "text") -> None:
    """Adds an endless loop before an encoder's output. With `probe_ends`, a single input does not enter it.

    The encoder is "text" or "vision".
    """
    path = folder / "onnx" / f"{encoder}_model.onnx"
    embeds = {"text": "text_embeds", "vision": "image_embeds"}[encoder]
    model = onnx.load(path)
    graph = model.graph
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == embeds:
                node.output[place] = "finite"
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["number", "one"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("number", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [numpy_helper.from_array(np.float32(1), "one")],
    )
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    if probe_ends:
        graph.initializer.append(numpy_helper.from_array(np.array(2 * 32, np.int64), "many"))
        condition = [
            helper.make_node("Size", ["finite"], ["size"]),
            helper.make_node("GreaterOrEqual", ["size", "many"], ["go_at_first"]),
        ]
    else:
        graph.initializer.append(numpy_helper.from_array(np.array(True), "go_at_first"))
        condition = []
    graph.node.extend(
        [
            # Depends on the encoder's output, so it cannot be computed in advance.
            helper.make_node("ReduceMax", ["finite"], ["largest"], keepdims=0),
            *condition,
            helper.make_node("Loop", ["", "go_at_first", "largest"], ["number_at_the_end"], body=body),
            helper.make_node("Mul", ["number_at_the_end", "zero"], ["nothing"]),
            helper.make_node("Add", ["finite", "nothing"], [embeds]),
        ]
    )
    onnx.save(model, path)
