"""A thin layer over onnx.helper: nodes are added in order, every result gets a name, weights are stored as fp16."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8  # the version that belongs to opset 17
PRODUCER = "susx"


class Graph:
    """An ONNX graph under construction. Values are passed around by name, as in ONNX itself."""

    def __init__(self, name):
        self.name = name
        self.nodes = []
        self.initializers = []
        self.count = 0

    def op(self, kind, *inputs, results=1, **attributes):
        """Add a node; returns the name of its first result, as later results are seldom of use."""
        self.count += 1
        names = [f"{kind.lower()}_{self.count}" + ("" if i == 0 else f"_{i}") for i in range(results)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
        return names[0]

    def constant(self, array, dtype=np.float32):
        """A small constant - a bias, a scale, a shape - at full precision."""
        self.count += 1
        name = f"constant_{self.count}"
        value = np.ascontiguousarray(array, dtype)
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, array):
        """A matrix or a kernel: kept as fp16, which halves the file, and cast back, so that all arithmetic is float32.

        Runtimes fold the cast when they load the model: it costs nothing per image.
        """
        half = np.asarray(array, np.float16)
        if not np.isfinite(half).all():
            raise ValueError("a weight does not fit fp16")
        return self.op("Cast", self.constant(half, np.float16), to=TensorProto.FLOAT)

    def linear(self, x, weight, bias):
        """x [..., in] -> [..., out], for a weight [out, in] and a bias [out] as torch keeps them."""
        return self.op("Add", self.op("MatMul", x, self.weight(weight.T)), self.constant(bias))

    def normalise(self, x):
        """x over its length along the last axis. The floor keeps a zero vector zero instead of NaN."""
        length = self.op("ReduceL2", x, axes=[-1], keepdims=1)
        return self.op("Div", x, self.op("Max", length, self.constant(1e-12)))

    def model(self, inputs, result, output):
        """The finished, checked model.

        inputs: [(name, element type, shape)]; result: the value to give out; output: (name, shape), always float32.
        """
        name, shape = output
        nodes = self.nodes + [helper.make_node("Identity", [result], [name], name=name)]
        graph = helper.make_graph(nodes, self.name, [helper.make_tensor_value_info(*i) for i in inputs],
                                  [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)], self.initializers)
        model = helper.make_model(graph, producer_name=PRODUCER, ir_version=IR_VERSION,
                                  opset_imports=[helper.make_opsetid("", OPSET)])
        onnx.checker.check_model(model, full_check=True)
        return model
