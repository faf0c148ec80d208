"""The JSON files beside the ONNX models, in the layout that Hugging Face gives an export."""

import math

import joint
from efficientnet import IMAGE_SIZE
from minilm import CONTEXT, HEADS, INNER, LAYERS, VOCABULARY, WIDTH

LOGIT_SCALE = 20.0

CONFIG = {
    "model_type": "clip",
    "projection_dim": joint.DIMENSIONS,
    "logit_scale_init_value": math.log(LOGIT_SCALE),
    "text_config": {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": CONTEXT,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "pad_token_id": 0,
    },
    "vision_config": {"image_size": IMAGE_SIZE, "num_channels": 3},
}

# The mean and the spread are those that EfficientNet-Lite was trained with. ImageNet's, which most models use, cost
# 11 points of accuracy.
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": IMAGE_SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [127 / 255] * 3,
    "image_std": [128 / 255] * 3,
}

# The likeness model sees the same pixels.
LIKENESS_CONFIG = {"model_type": "efficientnet", "image_size": IMAGE_SIZE, "num_channels": 3}

TOKENIZER = {
    "tokenizer_class": "BertTokenizer",
    "model_max_length": CONTEXT,
    "do_lower_case": True,
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}

# What a new classifier starts from; docs/defaults.md has the measurements. Chosen with support sets retrieved by names
# alone, to do well everywhere (photographs of 30 kinds, CIFAR-10, halves of the categories, 1 to 64 images in a
# category, categories of unequal size) rather than best anywhere: accuracy rises with alpha up to 10 or 20, depending
# on the size of the support set, and stays there, falls where beta exceeds about 3, and hardly notices gamma up to 1.
# lambda is the weight of a likeness model: these names know less than CLIP's, whose classifiers start from 2.
CLASSIFIER = {
    "logit_scale": LOGIT_SCALE,
    "alpha": 20.0,
    "beta": 2.0,
    "gamma": 0.3,
    "temperature": 0.5,
    "lambda": 10.0,
}
