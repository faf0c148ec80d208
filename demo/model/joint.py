"""How two encoders that never met share one space of 512 dimensions.

Dimensions 0-383 are MiniLM's: a text is its own vector, an image is the mean of the vectors of the classes that
EfficientNet sees in it, weighted by their probabilities (ConSE: Norouzi et al., 2014, arXiv 1312.5650).
Dimensions 384-511 are EfficientNet's alone, and zero for a text: what an image looks like beyond the class names. They
leave the order of text-image similarities as it is, and make image-image similarities, which support sets live on, far
better.
"""

import numpy as np

from efficientnet import CLASSES, HEAD
from minilm import WIDTH

VISUAL = 128
DIMENSIONS = WIDTH + VISUAL
SEMANTIC_SHARE = 0.4  # length of the first block of an image; the second has the rest of the unit length
TEMPERATURE = 1.5     # softens the class probabilities: an image of an unknown thing needs several classes
CANDIDATES = 30       # classes that may contribute; the tail of 970 is noise


def visual_basis(weight):
    """[1280, 128]: the directions of feature space along which the classes differ most.

    weight is the classifier's, [1000, 1280]. Its top right singular vectors are the top eigenvectors of the Gram
    matrix; their signs, which no theory fixes, are fixed here so that every build gives the same bytes.
    """
    centred = weight - weight.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)  # eigenvalues ascend
    basis = vectors[:, :-VISUAL - 1:-1]
    largest = basis[np.abs(basis).argmax(axis=0), np.arange(VISUAL)]
    return basis * np.sign(largest)


def image_embedding(graph, features, classifier, class_vectors):
    """features [batch, 1280] -> unit vectors [batch, 512].

    classifier: (weight [1000, 1280], bias [1000]); class_vectors: [1000, 384], their mean already taken off.
    """
    weight, bias = classifier
    assert weight.shape == (CLASSES, HEAD) and class_vectors.shape == (CLASSES, WIDTH)
    scores = graph.op("Div", graph.linear(features, weight, bias), graph.constant(TEMPERATURE))
    probabilities = graph.op("Softmax", largest_only(graph, scores), axis=-1)
    semantic = graph.normalise(graph.op("MatMul", probabilities, graph.weight(class_vectors)))
    visual = visual_embedding(graph, features, weight)
    return graph.op("Concat",
                    graph.op("Mul", semantic, graph.constant(SEMANTIC_SHARE)),
                    graph.op("Mul", visual, graph.constant((1 - SEMANTIC_SHARE ** 2) ** 0.5)), axis=-1)


def visual_embedding(graph, features, weight):
    """features [batch, 1280] -> unit vectors [batch, 128]; weight is the classifier's, [1000, 1280]."""
    return graph.normalise(graph.op("MatMul", features, graph.weight(visual_basis(weight))))


def largest_only(graph, scores):
    """The CANDIDATES largest scores of each row; minus infinity, so no probability, for the others."""
    top = graph.op("TopK", scores, graph.constant([CANDIDATES], np.int64), results=2)  # in falling order
    threshold = graph.op("Gather", top, graph.constant([CANDIDATES - 1], np.int64), axis=-1)
    return graph.op("Where", graph.op("GreaterOrEqual", scores, threshold), scores, graph.constant(-np.inf))


def text_embedding(graph, sentence, mean):
    """unit vectors [batch, 384] -> unit vectors [batch, 512].

    mean [384] is that of the class vectors. What all the class sentences share says nothing about any of them: without
    it "a photo of" no longer outweighs the thing in the photo.
    """
    centred = graph.normalise(graph.op("Sub", sentence, graph.constant(mean)))
    pads = graph.constant([0, 0, 0, VISUAL], np.int64)
    return graph.op("Pad", centred, pads)
