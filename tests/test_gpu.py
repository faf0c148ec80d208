"""On a machine with an NVIDIA GPU, with SUSX_TEST_ONNXRUNTIME=/path/to/libonnxruntime.so of the build for it, and CUDA's
and cuDNN's libraries where the loader finds them (LD_LIBRARY_PATH). Elsewhere they skip."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from conftest import GENERATOR, MODEL_NAMES
from helpers.pictures import encode, picture
from helpers.processes import PROMPTLY, eventually, servers
from helpers.session import array, cosine
from helpers.settings import restarted

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
IMAGE = encode(picture(1, (64, 64)))
TEXTS = ["a photo of a cat.", "x", "a very long text about trains and boats " * 60]
CONFIGURATION = "F0000"

pytestmark = [
    pytest.mark.same_everywhere,
    pytest.mark.skipif(
        not os.environ.get("SUSX_TEST_ONNXRUNTIME") or not shutil.which("nvidia-smi"),
        reason="needs an NVIDIA GPU, and ONNX Runtime's build for it in SUSX_TEST_ONNXRUNTIME",
    ),
]


@pytest.fixture(scope="module")
def cluster(own_cluster):
    """A cluster of its own, because these tests change its settings and kill its processes."""
    return own_cluster


def used() -> int:
    """MiB of the GPU's memory that are taken, by anybody."""
    query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()[0])


def runs_on(sql, name):
    return sql.one("SELECT provider FROM susx.models() WHERE name = %s AND loaded", name)


def embeddings(sql, model):
    """Of images of several sizes and of texts, in batches and alone."""
    images = [encode(picture(seed, (40 + 31 * seed, 300 - 17 * seed))) for seed in range(11)]
    of_images = sql.rows("SELECT embedding::text FROM susx.embed_images(%s, %s) ORDER BY ord", images, model)
    of_texts = sql.rows("SELECT embedding::text FROM susx.embed_texts(%s, %s) ORDER BY ord", TEXTS, model)
    alone = sql.rows("SELECT susx.embed_image(%s, %s)::text, susx.embed_text(%s, %s)::text", images[3], model, TEXTS[0], model)
    return [array(text) for (text,) in of_images + of_texts] + [array(text) for text in alone[0]]


@pytest.mark.parametrize("model", MODEL_NAMES)
def test_auto_takes_it_and_gives_what_the_cpu_gives(sql, cluster, model):
    with restarted(cluster, require_gpu="on"):
        on_gpu = embeddings(sql, model)
        assert runs_on(sql, model) == CUDA
    with restarted(cluster, execution_provider="cpu"):
        on_cpu = embeddings(sql, model)
        assert runs_on(sql, model) == CPU
    similarities = [cosine(a, b) for a, b in zip(on_gpu, on_cpu)]
    assert min(similarities) >= 0.9999
    # In the batch as alone.
    assert cosine(on_gpu[3], on_gpu[-2]) >= 0.9999 and cosine(on_gpu[11], on_gpu[-1]) >= 0.9999


def test_a_gpu_that_is_not_there(sql, cluster):
    with restarted(cluster, gpu_device=7):
        sql.rows("SELECT susx.embed_image(%s, 'tiny_split')", IMAGE)
        ((provider, error),) = sql.rows("SELECT provider, error FROM susx.models() WHERE name = 'tiny_split'")
        # It was left to us, but this ONNX Runtime is here for the GPU.
        assert provider == CPU and error.startswith(f"{CUDA}: ") and "device ID: 7" in error
        with restarted(cluster, require_gpu="on"):
            refusal = sql.fails("SELECT susx.embed_image(%s, 'tiny_split')", IMAGE)
            assert refusal.sqlstate == CONFIGURATION and CUDA in refusal.message and "susx.require_gpu" in refusal.hint


def test_too_little_memory_is_an_error_of_that_call(sql, cluster):
    """No crash, and the process goes on."""
    with restarted(cluster, gpu_memory_limit="1MB", require_gpu="on"):
        refusal = sql.fails("SELECT susx.embed_image(%s, 'demo')", IMAGE)
        assert refusal.sqlstate == CONFIGURATION and "vision_model.onnx" in refusal.message and "memory" in refusal.message
        (before,) = servers(cluster.data_dir)
        sql.fails("SELECT susx.embed_image(%s, 'demo')", IMAGE)
        assert servers(cluster.data_dir) == [before]
    with restarted(cluster, gpu_memory_limit="2GB", require_gpu="on"):
        assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512


def test_its_memory_is_free_after_the_model_and_the_process(sql, cluster):
    with restarted(cluster, require_gpu="on"):
        sql.one("SELECT susx.embed_text('x', 'tiny_split')")
        bare = used()
        sql.rows("SELECT ord FROM susx.embed_images(%s, 'demo')", [IMAGE] * 64)
        with_demo = used()
        assert with_demo > bare
        (pid,) = servers(cluster.data_dir)
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: used() < bare)
        assert sql.one("SELECT vector_dims(susx.embed_image(%s, 'demo'))", IMAGE) == 512
        assert runs_on(sql, "demo") == CUDA


def test_an_idle_model_leaves_it(sql, cluster):
    with restarted(cluster, require_gpu="on", model_idle_timeout="2s"):
        for _ in range(3):
            sql.rows("SELECT ord FROM susx.embed_images(%s, 'demo')", [IMAGE] * 64)
            with_demo = used()
            assert eventually(lambda: not sql.rows("SELECT name FROM susx.models() WHERE loaded"))
            assert eventually(lambda: used() < with_demo)


def test_the_generator(sql, cluster):
    generate = "SELECT image FROM susx.generate_images('{a red bus,a kitten}', steps => 8) ORDER BY ord"
    pictures = []
    for settings in ({"require_gpu": "on"}, {"execution_provider": "cpu"}):
        with restarted(cluster, **settings):
            images = [np.asarray(Image.open(io.BytesIO(image)), float) for image in sql.column(generate)]
            pictures.append(images)
            assert runs_on(sql, GENERATOR) == (CUDA if "require_gpu" in settings else CPU)
    difference = max(np.abs(a - b).mean() for a, b in zip(*pictures))
    assert difference <= 1


def test_a_cancelled_call_leaves_nothing_in_the_queue(sql, cluster):
    with restarted(cluster, require_gpu="on"):
        sql.one("SELECT susx.embed_text('x', 'demo')")
        sql.run("SET statement_timeout = '300ms'")
        call = "SELECT count(*) FROM susx.embed_images(array_fill(%s::bytea, ARRAY[20000]), 'demo')"
        begin = time.monotonic()
        assert sql.fails(call, encode(picture(2, (300, 300)))).sqlstate == "57014"
        assert time.monotonic() - begin < PROMPTLY
        sql.run("RESET statement_timeout")
        assert eventually(lambda: sql.one("SELECT queue_inputs FROM susx.stat_server") == 0)
