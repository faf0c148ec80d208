"""A folder that appears complete or not at all."""

import contextlib
import os
import shutil
from pathlib import Path

MARK = "LICENSES.txt"  # what tells a model made here from any other folder


@contextlib.contextmanager
def written_whole(target):
    """Gives a new folder beside the target, which takes the target's place if the block ends without an error.

    An earlier model is replaced; any other folder with something in it is not touched.
    """
    target = Path(os.path.abspath(target))
    if target.exists() and any(target.iterdir()) and not (target / MARK).is_file():
        raise FileExistsError(f"{target} exists and is not a model made by this program")
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.new")
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    draft.mkdir()
    try:
        yield draft
    except BaseException:  # an interrupt too must leave nothing behind
        shutil.rmtree(draft)
        raise
    if target.exists():
        target.rename(old)
    draft.rename(target)
    shutil.rmtree(old, ignore_errors=True)
