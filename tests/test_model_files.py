"""Which files of a model are used, what models() says about them before they are loaded, and half-broken models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tokenizers
from onnxruntime.quantization import QuantType, quantize_dynamic
from PIL import Image

from conftest import copy_model
from helpers.models import new_model_dir, remove_all_but
from helpers.pictures import encode, picture
from helpers.processes import eventually, servers
from helpers.reference import ReferenceModel
from helpers.session import array
from tools.paths import TEST_MODELS

pytestmark = pytest.mark.same_everywhere

CONFIGURATION = "F0000"
SIDE = 96
PICTURES = [picture(seed, (SIDE, SIDE)) for seed in range(1, 10)]
TEXTS = ["a cat", "a drawing of the house and the garden", "people walking along the street in the rain", "?", "piano"]
EMBED_IMAGE, EMBED_TEXT = "SELECT susx.embed_image(%s, %s)::text", "SELECT susx.embed_text(%s, %s)::text"
PNG = encode(PICTURES[0])


@pytest.fixture(scope="module")
def own_cluster(new_cluster):
    folder = new_model_dir()
    copy_model(TEST_MODELS / "split", folder / "whole")
    with new_cluster(**{"susx.model_dir": folder, "susx.model": "whole"}) as cluster:
        cluster.models = folder
        yield cluster
    shutil.rmtree(folder)


@pytest.fixture
def cluster(own_cluster):
    yield own_cluster
    remove_all_but("whole", own_cluster.models)


@pytest.fixture
def add(cluster):
    """Adds a test model under a name, and returns its folder."""

    def copy(name: str, variant: str = "split") -> Path:
        copy_model(TEST_MODELS / variant, cluster.models / name)
        return cluster.models / name

    return copy


def described(sql, name: str, columns: str = "kind, loaded, error") -> tuple:
    ((*row,),) = sql.rows(f"SELECT {columns} FROM susx.models() WHERE name = %s", name)
    return tuple(row)


def changed(path: Path, change) -> None:
    graph = onnx.load(path)
    change(graph)
    path.write_bytes(graph.SerializeToString())


def ask_for_a_library(model: onnx.ModelProto) -> None:
    """An operator that only a library beside the model could have, which nothing but loading shows."""
    model.graph.node[0].domain = "susx.custom"
    model.graph.node[0].op_type = "RunWhatYouLike"
    model.opset_import.append(onnx.helper.make_opsetid("susx.custom", 1))


FILES = "vision_file, vision_precision, vision_opset, text_file, text_precision, text_opset, note"


def test_the_files_are_shown(sql, add):
    add("half", "fp16")
    add("fused", "fused")
    add("immich", "immich")
    both = ("onnx/vision_model.onnx", "fp32", 17, "onnx/text_model.onnx", "fp32", 17, None)
    assert described(sql, "whole", FILES) == both
    assert described(sql, "half", FILES) == (
        "onnx/vision_model_fp16.onnx", "fp16", 17, "onnx/text_model_fp16.onnx", "fp16", 17, None
    )  # fmt: skip
    assert described(sql, "fused", FILES) == ("onnx/model.onnx", "fp32", 17, "onnx/model.onnx", "fp32", 17, None)
    assert described(sql, "immich", FILES)[::3] == ("visual/model.onnx", "textual/model.onnx", None)
    # Loading does not change what is shown.
    sql.run(EMBED_TEXT, "a cat", "whole")
    assert described(sql, "whole", FILES) == both


def test_susx_json_chooses_the_files(sql, add):
    """The other precision is used, and two precisions are named."""
    folder = add("chosen")
    shutil.copy(TEST_MODELS / "fp16" / "onnx" / "vision_model_fp16.onnx", folder / "onnx")
    assert described(sql, "chosen", FILES)[:2] == ("onnx/vision_model.onnx", "fp32")
    (folder / "susx.json").write_text(json.dumps({"vision_model": "onnx/vision_model_fp16.onnx"}))
    *_, note = row = described(sql, "chosen", FILES)
    assert row[:2] == ("onnx/vision_model_fp16.onnx", "fp16") and row[3:5] == ("onnx/text_model.onnx", "fp32")
    assert "fp16 for images and fp32 for texts" in note
    found, exact = (sql.one(EMBED_IMAGE, PNG, model) for model in ("chosen", "whole"))
    assert found != exact and float(array(found) @ array(exact)) > 0.9999
    (add("mistaken") / "susx.json").write_text(json.dumps({"vision_model": "onnx/vision_model_q4.onnx"}))
    assert "vision_model_q4.onnx" in described(sql, "mistaken")[2]


# What the files show before the model is loaded: how the text encoder breaks, and what the error names.
def cut(folder: Path) -> None:
    graph = folder / "onnx" / "text_model.onnx"
    graph.write_bytes(graph.read_bytes()[:1000])


def unlink_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def break_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')


def link_to_nothing(folder: Path) -> None:
    graph = folder / "onnx" / "text_model.onnx"
    graph.unlink()
    graph.symlink_to("../blobs/absent")


def swap(folder: Path) -> None:
    """The image encoder under the name of the text encoder."""
    shutil.copy(folder / "onnx" / "vision_model.onnx", folder / "onnx" / "text_model.onnx")


def shorten_weights(folder: Path) -> None:
    """A download that ended early."""
    graph = folder / "onnx" / "text_model.onnx"
    onnx.save(onnx.load(graph), graph, save_as_external_data=True, location="weights", size_threshold=0)
    weights = folder / "onnx" / "weights"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1])


BROKEN = {
    cut: "text_model.onnx",
    unlink_tokenizer: "tokenizer.json",
    break_tokenizer: "tokenizer.json",
    link_to_nothing: "link to nothing",
    swap: "InputIds",
    shorten_weights: "weights",
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_broken_text_encoder_leaves_the_images(sql, add, breaks):
    # The process keeps what it has loaded, so each has a name of its own.
    name = breaks.__name__
    folder = add(name)
    before = sql.one(EMBED_IMAGE, PNG, "whole")
    breaks(folder)
    kind, loaded, error = described(sql, name)
    assert (kind, loaded) == ("vision", False)
    assert error.startswith("it embeds no texts: ") and BROKEN[breaks] in error
    for _ in range(2):
        assert sql.one(EMBED_IMAGE, PNG, name) == before
        refusal = sql.fails(EMBED_TEXT, "a cat", name)
        assert refusal.sqlstate == CONFIGURATION and BROKEN[breaks] in refusal.message and refusal.hint
    assert described(sql, name)[:2] == ("vision", True) and BROKEN[breaks] in described(sql, name)[2]
    # A classifier is made with the digest of all files.
    refusal = sql.fails("SELECT susx.create_classifier('c', '{a,b}', model => %s)", name)
    assert refusal.sqlstate == CONFIGURATION and BROKEN[breaks] in refusal.message


def test_a_broken_image_encoder_leaves_the_texts(sql, add):
    folder = add("no_images")
    (folder / "preprocessor_config.json").write_text(json.dumps({"resample": 77}))
    assert described(sql, "no_images")[0] == "text" and "resample" in described(sql, "no_images")[2]
    assert sql.one(EMBED_TEXT, "a cat", "no_images") == sql.one(EMBED_TEXT, "a cat", "whole")
    refusal = sql.fails(EMBED_IMAGE, PNG, "no_images")
    assert refusal.sqlstate == CONFIGURATION and "resample" in refusal.message


def test_what_only_loading_shows_is_remembered(sql, cluster, add):
    """Until the files change; then all of the model works, without a restart."""
    folder = add("repaired")
    graph = folder / "onnx" / "text_model.onnx"
    whole = graph.read_bytes()
    changed(graph, ask_for_a_library)
    assert described(sql, "repaired") == ("clip", False, None)
    assert "RunWhatYouLike" in sql.fails(EMBED_TEXT, "a cat", "repaired").message
    kind, loaded, error = described(sql, "repaired")
    assert (kind, loaded) == ("vision", True) and "RunWhatYouLike" in error
    assert sql.one(EMBED_IMAGE, PNG, "repaired") == sql.one(EMBED_IMAGE, PNG, "whole")
    (server,) = servers(cluster.data_dir)
    graph.write_bytes(whole)
    assert described(sql, "repaired") == ("clip", False, None)
    assert sql.one(EMBED_TEXT, "a cat", "repaired") == sql.one(EMBED_TEXT, "a cat", "whole")
    assert described(sql, "repaired") == ("clip", True, None) and servers(cluster.data_dir) == [server]


def test_a_model_that_cannot_be_loaded_at_all(sql, add):
    folder = add("none", "fused")
    graph = folder / "onnx" / "model.onnx"
    whole = graph.read_bytes()
    changed(graph, ask_for_a_library)
    for call, argument in ((EMBED_TEXT, "a cat"), (EMBED_IMAGE, PNG)):
        assert "RunWhatYouLike" in sql.fails(call, argument, "none").message
        assert described(sql, "none")[1] is False and "RunWhatYouLike" in described(sql, "none")[2]
    graph.write_bytes(whole)
    assert eventually(lambda: described(sql, "none")[2] is None)


def test_encoders_that_contradict_each_other(sql, add):
    folder = add("other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"projection_dim": 33}))
    assert "32 dimensions" in described(sql, "other")[2] and "33" in described(sql, "other")[2]
    assert sql.fails(EMBED_TEXT, "a cat", "other").sqlstate == CONFIGURATION


def quantise(folder: Path) -> None:
    """Leaves only 8-bit weights, quantised as the exports on the hub are."""
    for tower in ("vision", "text"):
        exact = folder / "onnx" / f"{tower}_model.onnx"
        quantised = folder / "onnx" / f"{tower}_model_quantized.onnx"
        quantize_dynamic(exact, quantised, op_types_to_quantize=["MatMul"], weight_type=QuantType.QUInt8)
        quantised.chmod(0o644)
        exact.unlink()


def pixel_values(image: Image.Image, mean, std) -> np.ndarray:
    """Of one image, CHW, without a resize."""
    levels = np.asarray(image, np.float64) / 255
    return ((levels - np.array(mean)) / np.array(std)).transpose(2, 0, 1).astype(np.float32)


def test_a_vector_of_8_bits_does_not_depend_on_its_batch(sql, add):
    """Bit for bit, and it is what onnxruntime gives for the input alone."""
    folder = add("quantised")
    quantise(folder)
    *_, note = row = described(sql, "quantised", FILES)
    assert row[0] == "onnx/vision_model_quantized.onnx" and row[1] == row[4] == "uint8"
    assert "images and texts one by one" in note
    model = ReferenceModel(folder)
    settings = model.preprocessor
    pixels = [pixel_values(image, settings["image_mean"], settings["image_std"]) for image in PICTURES]
    # Without care it would depend: that is what onnxruntime gives for the whole batch.
    (vision,) = [session for session in model.sessions if session.get_inputs()[0].name == "pixel_values"]
    (batch,) = vision.run(["image_embeds"], {"pixel_values": np.stack(pixels)})
    (single,) = vision.run(["image_embeds"], {"pixel_values": pixels[1][None]})
    assert np.abs(batch[1] - single[0]).max() > 1e-5
    many = "SELECT embedding::text FROM susx.embed_images(%s, 'quantised') ORDER BY ord"
    together = sql.column(many, [encode(image) for image in PICTURES])
    alone = [sql.one(EMBED_IMAGE, encode(image), "quantised") for image in PICTURES]
    assert together == alone
    for found, values in zip(together, pixels, strict=True):
        assert np.abs(array(found) - model.tensor(values)).max() < 1e-6
    many = "SELECT embedding::text FROM susx.embed_texts(%s, 'quantised') ORDER BY ord"
    together = sql.column(many, TEXTS)
    assert together == [sql.one(EMBED_TEXT, text, "quantised") for text in TEXTS]
    for found, text in zip(together, TEXTS, strict=True):
        assert np.abs(array(found) - model.text(text)).max() < 1e-6
    # Whatever else is there comes first.
    better = Path(shutil.copytree(folder, folder.with_name("better")))
    shutil.copy(TEST_MODELS / "fp16" / "onnx" / "vision_model_fp16.onnx", better / "onnx")
    assert described(sql, "better", FILES)[:2] == ("onnx/vision_model_fp16.onnx", "fp16")
    assert "embeds texts one by one" in described(sql, "better", FILES)[-1]


# Width and height. The last ones show whose rule begins the crop, and whose rounds the long side.
SIZES = [(96, 96), (97, 96), (96, 99), (103, 96), (300, 200), (200, 301), (64, 500), (15 * 14, 14 * 14), (58, 49)]


def of_torchvision(image: Image.Image, side: int) -> Image.Image:
    """Resize and CenterCrop: int(size * long / short), and int(round((side - crop) / 2.0))."""
    short, long = sorted(image.size)
    long = int(side * long / short)
    image = image.resize((side, long) if image.width <= image.height else (long, side), Image.Resampling.BICUBIC)
    left, top = int(round((image.width - side) / 2.0)), int(round((image.height - side) / 2.0))
    return image.crop((left, top, left + side, top + side))


def of_transformers(image: Image.Image, side: int) -> Image.Image:
    """CLIPImageProcessor: the same size, and (side - crop) // 2."""
    short, long = sorted(image.size)
    long = int(side * long / short)
    image = image.resize((side, long) if image.width <= image.height else (long, side), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def of_immich(image: Image.Image, side: int) -> Image.Image:
    """The long side is divided first, and the crop begins at half of each side."""
    width, height = image.size
    size = (side, int((height / width) * side)) if width < height else (int((width / height) * side), side)
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = int(image.width / 2 - side / 2), int(image.height / 2 - side / 2)
    return image.crop((left, top, left + side, top + side))


def test_the_crop_follows_whom_susx_json_names(sql, add, cluster):
    (add("transformers") / "susx.json").write_text('{"crop": "transformers"}')
    (add("torchvision") / "susx.json").write_text('{"crop": "torchvision"}')
    model = ReferenceModel(cluster.models / "whole")
    settings = model.preprocessor
    differing = 0
    for size in SIZES:
        image = picture(7, size)
        tensors = {
            rule: pixel_values(crop(image, SIDE), settings["image_mean"], settings["image_std"])
            for rule, crop in (("torchvision", of_torchvision), ("transformers", of_transformers))
        }
        expected = {rule: model.tensor(values) for rule, values in tensors.items()}
        for name, rule in (("whole", "torchvision"), ("torchvision", "torchvision"), ("transformers", "transformers")):
            found = array(sql.one(EMBED_IMAGE, encode(image), name))
            assert float(found @ expected[rule]) > 0.9999, (size, name)
            other = "transformers" if rule == "torchvision" else "torchvision"
            if np.abs(tensors[rule] - tensors[other]).max() > 0.1:
                assert float(found @ expected[rule]) > float(found @ expected[other]), (size, name)
                differing += 1
    assert differing >= 6
    (add("mistaken_crop") / "susx.json").write_text('{"crop": "pillow"}')
    assert "`pillow`" in described(sql, "mistaken_crop")[2]


def test_a_model_of_immich(sql, add):
    """Images and texts as Immich prepares them, run by onnxruntime."""
    folder = add("ViT-B-32__openai", "immich")
    name = folder.name
    settings = json.loads((folder / "visual" / "preprocess_cfg.json").read_text())
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    vision, text = (
        onnxruntime.InferenceSession(folder / tower / "model.onnx", options, providers=["CPUExecutionProvider"])
        for tower in ("visual", "textual")
    )
    assert described(sql, name) == ("clip", False, None)
    together = sql.column(
        "SELECT embedding::text FROM susx.embed_images(%s, %s) ORDER BY ord",
        [encode(picture(7, size)) for size in SIZES],
        name,
    )
    for size, found in zip(SIZES, together, strict=True):
        values = pixel_values(of_immich(picture(7, size), SIDE), settings["mean"], settings["std"])
        (expected,) = vision.run(None, {"image": values[None]})[0]
        assert float(array(found) @ expected) > 0.9999, size
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "textual" / "tokenizer.json"))
    pad = json.loads((folder / "textual" / "tokenizer_config.json").read_text())["pad_token"]
    tokenizer.enable_padding(length=77, pad_token=pad, pad_id=tokenizer.token_to_id(pad))
    tokenizer.enable_truncation(max_length=77)
    for sentence in TEXTS:
        (expected,) = text.run(None, {"text": np.array([tokenizer.encode(sentence).ids], np.int32)})[0]
        assert float(array(sql.one(EMBED_TEXT, sentence, name)) @ expected) > 0.99999, sentence
    # Other ways to fit an image.
    for mode, prepare in (
        ("squash", lambda image: image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)),
        ("longest", letterboxed),
    ):
        other = folder.with_name(mode)
        shutil.copytree(folder, other)
        changes = {"resize_mode": mode, "fill_color": [255, 0, 10]}
        (other / "visual" / "preprocess_cfg.json").write_text(json.dumps(settings | changes))
        for size in SIZES:
            values = pixel_values(prepare(picture(7, size)), settings["mean"], settings["std"])
            (expected,) = vision.run(None, {"image": values[None]})[0]
            found = array(sql.one(EMBED_IMAGE, encode(picture(7, size)), mode))
            assert float(found @ expected) > 0.9999, (mode, size)


def letterboxed(image: Image.Image) -> Image.Image:
    """ResizeKeepRatio and CenterCropOrPad of open_clip."""
    ratio = max(image.height / SIDE, image.width / SIDE)
    image = image.resize((round(image.width / ratio), round(image.height / ratio)), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (SIDE, SIDE), (255, 0, 10))
    canvas.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return canvas
