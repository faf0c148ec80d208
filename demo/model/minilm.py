"""all-MiniLM-L6-v2 (Apache-2.0, a sentence-transformers model) as ONNX nodes: tokens -> one vector per sentence.

A BERT encoder (Devlin et al., 2018) of 6 layers, then the mean over the real tokens.
"""

import math

import numpy as np
from onnx import TensorProto

LAYERS, WIDTH, HEADS, INNER = 6, 384, 12, 1536
VOCABULARY, POSITIONS, TOKEN_TYPES = 30522, 512, 2
CONTEXT = 128  # tokens a text is cut to; the model was trained on shorter ones still
LAYER_NORM_EPSILON = 1e-12
MASKED = -10000.0  # added to the attention score of padding; e^-10000 is 0


class MiniLM:
    """Adds the encoder to a graph, taking its tensors from a checkpoint."""

    def __init__(self, graph, tensors):
        self.graph = graph
        self.tensors = tensors

    def sentence(self, ids, mask):
        """ids, mask int64 [batch, sequence] -> unit vectors [batch, 384]."""
        graph = self.graph
        mask = graph.op("Cast", mask, to=TensorProto.FLOAT)
        x = self.embeddings(ids)
        bias = self.attention_bias(mask)
        for index in range(LAYERS):
            x = self.layer(x, bias, f"encoder.layer.{index}.")
        self.tensors.leave_out("pooler.dense.weight")  # BERT's own sentence vector, which this model does not use
        self.tensors.leave_out("pooler.dense.bias")
        # The sum, not the mean: the vector is normalised at once.
        real = graph.op("Mul", x, graph.op("Unsqueeze", mask, graph.constant([2], np.int64)))
        return graph.normalise(graph.op("ReduceSum", real, graph.constant([1], np.int64), keepdims=0))

    def embeddings(self, ids):
        """[batch, sequence, 384]: the word's vector plus the place's, which has taken in that of token type 0."""
        graph, take = self.graph, self.tensors.take
        words = take("embeddings.word_embeddings.weight", (VOCABULARY, WIDTH))
        places = take("embeddings.position_embeddings.weight", (POSITIONS, WIDTH))[:CONTEXT]
        kinds = take("embeddings.token_type_embeddings.weight", (TOKEN_TYPES, WIDTH))
        self.tensors.leave_out("embeddings.position_ids")  # 0, 1, 2, ...
        length = graph.op("Shape", ids, start=1, end=2)
        zero = graph.constant([0], np.int64)
        place = graph.op("Slice", graph.weight(places + kinds[0]), zero, length, zero)
        return self.layer_norm(graph.op("Add", graph.op("Gather", graph.weight(words), ids), place),
                               "embeddings.LayerNorm")

    def attention_bias(self, mask):
        """[batch, 1, 1, sequence]: 0 for a real token, MASKED for padding."""
        graph = self.graph
        mask = graph.op("Unsqueeze", mask, graph.constant([1, 2], np.int64))
        return graph.op("Mul", graph.op("Sub", graph.constant(1.0), mask), graph.constant(MASKED))

    def layer(self, x, bias, prefix):
        """One encoder layer: attention and a two-layer perceptron, each added to its input and normalised."""
        graph = self.graph
        mixed = self.linear(self.attention(x, bias, prefix + "attention.self."), prefix + "attention.output.dense")
        x = self.layer_norm(graph.op("Add", mixed, x), prefix + "attention.output.LayerNorm")
        inner = self.gelu(self.linear(x, prefix + "intermediate.dense", INNER))
        outer = self.linear(inner, prefix + "output.dense", WIDTH, INNER)
        return self.layer_norm(graph.op("Add", outer, x), prefix + "output.LayerNorm")

    def attention(self, x, bias, prefix):
        """Softmax of the scaled products of queries and keys, times the values, in 12 heads of 32."""
        graph = self.graph
        query = self.heads(self.linear(x, prefix + "query"), [0, 2, 1, 3])
        key = self.heads(self.linear(x, prefix + "key"), [0, 2, 3, 1])
        value = self.heads(self.linear(x, prefix + "value"), [0, 2, 1, 3])
        scores = graph.op("Div", graph.op("MatMul", query, key), graph.constant(math.sqrt(WIDTH // HEADS)))
        weights = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 1, 3])
        return graph.op("Reshape", mixed, graph.constant([0, 0, WIDTH], np.int64))

    def heads(self, x, order):
        """[batch, sequence, 384] -> [batch, sequence, 12, 32], transposed to the order asked for."""
        split = self.graph.constant([0, 0, HEADS, WIDTH // HEADS], np.int64)
        return self.graph.op("Transpose", self.graph.op("Reshape", x, split), perm=order)

    def linear(self, x, name, after=WIDTH, before=WIDTH):
        """The dense layer of that name."""
        weight = self.tensors.take(name + ".weight", (after, before))
        return self.graph.linear(x, weight, self.tensors.take(name + ".bias", (after,)))

    def layer_norm(self, x, name):
        """The layer normalisation of that name."""
        scale, shift = (self.graph.constant(self.tensors.take(f"{name}.{part}", (WIDTH,)))
                        for part in ("weight", "bias"))
        return self.graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=LAYER_NORM_EPSILON)

    def gelu(self, x):
        """x Phi(x), with the error function itself, not its tanh approximation."""
        graph = self.graph
        erf = graph.op("Erf", graph.op("Div", x, graph.constant(math.sqrt(2))))
        return graph.op("Mul", graph.op("Mul", x, graph.op("Add", erf, graph.constant(1.0))), graph.constant(0.5))
