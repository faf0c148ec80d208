"""EfficientNet-Lite2 (Apache-2.0, trained on ImageNet-1k) as ONNX nodes: pixels -> pooled features and class scores.

The architecture is EfficientNet's (Tan and Le, 2019) as the "lite" variants simplify it: no squeeze-and-excite, ReLU6
for swish, stem and head not widened, first and last stage not deepened.
"""

import math

import numpy as np

WIDTH, DEPTH = 1.1, 1.2  # Lite2's multipliers
STEM, HEAD, CLASSES = 32, 1280, 1000
IMAGE_SIZE = 224
# repeats, kernel, stride, expansion, channels in, channels out; before the multipliers.
STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


def rounded_channels(channels):
    """Widened, to the nearest multiple of 8, but never below 0.9 of the exact value."""
    exact = channels * WIDTH
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def blocks():
    """(kernel, stride, expansion, channels in, channels out) of every MBConv block, in order."""
    for index, (repeats, kernel, stride, expansion, before, after) in enumerate(STAGES):
        before = STEM if index == 0 else rounded_channels(before)
        after = rounded_channels(after)
        if index not in (0, len(STAGES) - 1):
            repeats = math.ceil(repeats * DEPTH)
        for repeat in range(repeats):
            yield kernel, (1 if repeat else stride), expansion, (after if repeat else before), after


class Lite2:
    """Adds the network to a graph, taking its tensors from a checkpoint."""

    BATCH_NORM_EPSILON = 1e-3

    def __init__(self, graph, tensors):
        self.graph = graph
        self.tensors = tensors
        self.size = IMAGE_SIZE

    def features(self, pixels):
        """pixels [batch, 3, 224, 224] -> [batch, 1280], the mean over the last feature map."""
        x = self.conv(pixels, "_conv_stem", "_bn0", 3, STEM, kernel=3, stride=2)
        for index, block in enumerate(blocks()):
            x = self.mbconv(x, f"_blocks.{index}.", *block)
        last = rounded_channels(STAGES[-1][-1])
        x = self.conv(x, "_conv_head", "_bn1", last, HEAD)
        return self.graph.op("Flatten", self.graph.op("GlobalAveragePool", x), axis=1)

    def classifier(self):
        """(weight [1000, 1280], bias [1000]) of the last layer."""
        return self.tensors.take("_fc.weight", (CLASSES, HEAD)), self.tensors.take("_fc.bias", (CLASSES,))

    def mbconv(self, x, prefix, kernel, stride, expansion, before, after):
        """Expand, filter each channel by itself, project back (no activation); with a residual where shapes agree."""
        wide, y = before * expansion, x
        if expansion != 1:
            y = self.conv(y, prefix + "_expand_conv", prefix + "_bn0", before, wide)
        y = self.conv(y, prefix + "_depthwise_conv", prefix + "_bn1", wide, wide, kernel, stride, groups=wide)
        y = self.conv(y, prefix + "_project_conv", prefix + "_bn2", wide, after, activation=False)
        return self.graph.op("Add", x, y) if stride == 1 and before == after else y

    def conv(self, x, conv, norm, before, after, kernel=1, stride=1, groups=1, activation=True):
        """A convolution with its batch normalisation folded in, then ReLU6."""
        shape = (after, before // groups, kernel, kernel)
        weight, bias = self.folded(self.tensors.take(conv + ".weight", shape), norm, after)
        y = self.graph.op("Conv", x, self.graph.weight(weight), self.graph.constant(bias), kernel_shape=[kernel] * 2,
                          strides=[stride] * 2, pads=self.same_padding(kernel, stride), group=groups)
        if not activation:
            return y
        return self.graph.op("Clip", y, self.graph.constant(0.0), self.graph.constant(6.0))

    def folded(self, weight, norm, channels):
        """(weight, bias) of the convolution that also does the batch normalisation after it."""
        scale, shift, mean, variance = (self.tensors.take(f"{norm}.{part}", (channels,))
                                        for part in ("weight", "bias", "running_mean", "running_var"))
        self.tensors.leave_out(norm + ".num_batches_tracked")  # only training needs it
        factor = scale / np.sqrt(variance + self.BATCH_NORM_EPSILON)
        return weight * factor[:, None, None, None], shift - mean * factor

    def same_padding(self, kernel, stride):
        """TensorFlow's "SAME" at the present map size, as ONNX pads: the smaller half first. Steps the map size on."""
        after = -(-self.size // stride)
        total = max((after - 1) * stride + kernel - self.size, 0)
        self.size = after
        return [total // 2, total // 2, total - total // 2, total - total // 2]
