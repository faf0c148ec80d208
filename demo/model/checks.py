"""What must hold of the finished model. A model that fails is not written."""

import numpy as np

import joint
from efficientnet import IMAGE_SIZE
from runner import embed_pixels, embed_texts

EXAMPLE = "This is an example sentence"
EXAMPLE_BEGINS = (0.0677, 0.0635, 0.0487)  # from the model card of all-MiniLM-L6-v2
# How the two blocks of the gradient's vector begin, noted from a build that was measured on photographs: a kernel read
# with the wrong strides or padded on the wrong side would pass every other check.
GRADIENT_SEMANTIC = (-0.0214, -0.0121, 0.0060)
GRADIENT_VISUAL = (-0.1570, -0.0211, 0.0269)
TEXTS = ["a photo of a cat.", "a photo of a grand piano, which is a sizeable musical instrument.", "", "dog " * 500]


def require(condition, message):
    """An assertion that python -O does not remove."""
    if not condition:
        raise ValueError(f"the model is not right: {message}")


def check_sentence_encoder(run, tokenizer):
    """The published vector of the published example comes out."""
    found = embed_texts(run, tokenizer, [EXAMPLE])[0, :len(EXAMPLE_BEGINS)]
    require(np.abs(found - EXAMPLE_BEGINS).max() < 5e-4, f"'{EXAMPLE}' begins {found}, expected {EXAMPLE_BEGINS}")


def check_vectors(vectors, count, what, dimensions=joint.DIMENSIONS):
    """One finite unit vector each."""
    require(vectors.shape == (count, dimensions), f"{count} {what} gave shape {vectors.shape}")
    require(vectors.dtype == np.float32, f"{what} give {vectors.dtype}")
    require(np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5, f"{what} are not of unit length")


def check_texts(run, tokenizer):
    """Long, short and empty texts embed, each to the same vector alone as beside longer ones."""
    together = embed_texts(run, tokenizer, TEXTS)
    check_vectors(together, len(TEXTS), "texts")
    alone = np.concatenate([embed_texts(run, tokenizer, [text]) for text in TEXTS])
    require(np.abs(alone - together).max() < 1e-4, "padding changes a text's vector")
    require(not together[:, -joint.VISUAL:].any(), "a text has a visual part")


def synthetic_images():
    """[3, 3, 224, 224]: a smooth gradient, its mirror image, and black."""
    ramp = np.linspace(-1, 1, IMAGE_SIZE, dtype=np.float32)
    across, down = np.broadcast_to(ramp, (IMAGE_SIZE,) * 2), np.broadcast_to(ramp[:, None], (IMAGE_SIZE,) * 2)
    gradient = np.stack([across, down, across * down])
    return np.stack([gradient, gradient[:, :, ::-1], np.full_like(gradient, -1)])


def embed_synthetic_images(run, dimensions):
    """The images' vectors, each of which is the same alone as in a batch."""
    images = synthetic_images()
    together = embed_pixels(run, images)
    check_vectors(together, len(images), "images", dimensions)
    alone = np.concatenate([embed_pixels(run, images[i:i + 1]) for i in range(len(images))])
    require(np.abs(alone - together).max() < 1e-4, "the batch changes an image's vector")
    return together


def check_images(run):
    """Images embed, the gradient to the vector it always had."""
    vectors = embed_synthetic_images(run, joint.DIMENSIONS)
    share = np.linalg.norm(vectors[:, :-joint.VISUAL], axis=1)
    require(np.abs(share - joint.SEMANTIC_SHARE).max() < 1e-5, "the semantic block has the wrong length")
    check_begins(vectors[0], GRADIENT_SEMANTIC)
    check_begins(vectors[0, -joint.VISUAL:], GRADIENT_VISUAL)


def check_likeness(run):
    """The likeness model's vectors are the visual block of the demo model's."""
    begins = np.array(GRADIENT_VISUAL) / (1 - joint.SEMANTIC_SHARE ** 2) ** 0.5
    check_begins(embed_synthetic_images(run, joint.VISUAL)[0], begins)


def check_begins(vector, begins):
    """A vector, or a block of one, of the gradient begins as it always did."""
    found = vector[:len(begins)]
    require(np.abs(found - begins).max() < 1e-3, f"a block of the gradient begins {found}, expected {begins}")
