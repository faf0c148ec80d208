"""An image that kills the inference process: it needs more memory than the process may have."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Iterator

from PIL import Image

from helpers.pictures import encode
from helpers.settings import reloaded
from tools.cluster import Cluster
from tools.paths import pg_bin

# Enough for the program and a tiny model, but not for the image: the process aborts when it gets no memory.
ADDRESS_SPACE_KB = 2_500_000


@contextlib.contextmanager
def poisonous(cluster: Cluster) -> Iterator[bytes]:
    """Inside the block, this image kills the cluster's inference process, since no limit on images prevents it."""
    # PostgreSQL's account must be able to read it.
    with tempfile.TemporaryDirectory(prefix="susx-program-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        program = Path(folder) / "susx-server"
        server = pg_bin(cluster.pg, "susx-server")
        program.write_text(f'#!/bin/sh\nulimit -v {ADDRESS_SPACE_KB}\nexec {server} "$@"\n')
        program.chmod(0o755)
        with reloaded(cluster, server_program=program, max_image_pixels=2_000_000_000, scaled_decoding="off"):
            # All of one grey, so that the file is small.
            yield encode(Image.new("L", (30_000, 30_000), 90), "JPEG")
