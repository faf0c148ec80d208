"""`embed_texts` of many short prompts against tokenizers and onnxruntime in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tools.harness import BATCH, MODEL, THREADS, cluster_with_models, session

from .python_loop import PythonLoop
from .report import Row, Section, duration, per_second, similar, times
from .timing import alternate, seconds

TEXT = """\
This embeds distinct prompts (templates filled with names, as in classifiers) with the text encoder of the default model.
The Python program uses Hugging Face's tokenizers library and onnxruntime. It tokenizes all prompts at once, sorts them by
length, and runs batches of 32, each padded to its longest prompt. Its vectors stay in memory, and those of
`count(embedding)` in the backend. The vectors of every tenth prompt are compared."""

# Some of the templates that CLIP's authors published for ImageNet.
TEMPLATES = """\
a photo of a {}. | a bad photo of a {}. | a photo of many {}s. | a sculpture of a {}. |
a photo of the hard to see {}. | a low resolution photo of the {}. | a rendering of a {}. | graffiti of a {}. |
a tattoo of a {}. | a drawing of a {}. | a cropped photo of the {}. | the embroidered {}. |
a photo of a hard to see {}. | a bright photo of a {}. | the toy {}. | a photo of a clean {}. |
a photo of a dirty {}. | a dark photo of the {}. | a photo of my {}. | the plastic {}. | {} |
a photo of the cool {}. | a close-up photo of a {}. | a black and white photo of the {}. | a painting of the {}. |
a pixelated photo of the {}. | a jpeg corrupted photo of a {}. | a blurry photo of the {}. | a good photo of the {}. |
a {} in a video game. | a doodle of a {}. | a close-up photo of the {}. | the origami {}. | a sketch of the {}. |
itap of a {}. | the cartoon {}. | art of the {}. | a plushie {}. | a photo of a small {}. | a photo of the weird {}."""
KINDS = """\
accordion, airplane, anchor, ant, barrel, bonsai, brain, butterfly, camera, cannon, car, chair, chandelier, cup, dollar
bill, dolphin, dragonfly, electric guitar, elephant, ewer, ferry, flamingo, grand piano, hawksbill turtle, hedgehog,
helicopter, ibis, kangaroo, ketch, lamp, laptop, leopard, lotus, mandolin, menorah, motorcycle, pair of scissors,
panda, pizza, revolver, rhinoceros, rooster, saxophone, schooner, scorpion, soccer ball, starfish, stop sign,
sunflower, wristwatch"""
ADJECTIVES = ("", "red ", "wooden ", "very old ", "brightly painted ")


def prompts(count: int) -> list[str]:
    kinds = [" ".join(kind.split()) for kind in KINDS.split(",")]
    templates = [template.strip() for template in TEMPLATES.split("|")]
    names = [adjective + kind for adjective in ADJECTIVES for kind in kinds]
    made = [template.format(name) for name in names for template in templates]
    assert len(set(made)) == len(made) >= count
    # A part still has every kind of prompt.
    return made[:: len(made) // count][:count]


def measure(folder: Path, quick: bool, pg: str) -> Section:
    texts = prompts(200 if quick else 10_000)
    python = PythonLoop(MODEL, THREADS, BATCH)
    with cluster_with_models(pg, folder) as cluster, session(cluster) as sql:
        sql.execute("CREATE TABLE prompts (id int PRIMARY KEY, prompt text)")
        with sql.cursor() as cursor, cursor.copy("COPY prompts FROM STDIN") as stream:
            for row in enumerate(texts):
                stream.write_row(row)
        sql.execute("VACUUM (FREEZE, ANALYZE) prompts")
        # Warms both sides up with a part of the prompts.
        part = texts[::10]
        found = sql.execute(
            "SELECT embedding::real[]::float8[] FROM susx.embed_texts("
            "(SELECT array_agg(prompt ORDER BY id) FROM prompts WHERE id % 10 = 0)) ORDER BY ord"
        )
        ours = np.array([row[0] for row in found])
        cosines = (ours * python.texts(part)).sum(1)
        agreement = similar("the prompts", cosines.min() if len(ours) == len(part) else float("nan"))
        query = "SELECT count(embedding) FROM susx.embed_texts((SELECT array_agg(prompt ORDER BY id) FROM prompts))"
        least = alternate(
            1 if quick else 2,
            warm_up=False,
            python=lambda: seconds(lambda: python.texts(texts)),
            susx=lambda: seconds(lambda: sql.execute(query).fetchone()),
        )
    ratio = least["python"] / least["susx"]
    words = sum(len(text.split()) for text in texts) / len(texts)

    def rate(spent: float) -> str:
        return f"{duration(spent)} ({per_second(len(texts), 'texts', spent)})"

    return Section(
        "Embedding texts",
        TEXT,
        [
            Row(
                "`embed_texts`: tokenizers and onnxruntime in Python",
                f"{len(texts):,} prompts of {words:.1f} words, {THREADS} threads",
                rate(least["python"]),
                rate(least["susx"]),
                times(ratio),
                "≥ 1 ×",
                ratio >= 1,
                agreement,
            )
        ],
    )
