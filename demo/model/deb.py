"""One file out of a Debian package, with the standard library alone, so that dpkg is not needed.

A .deb is an `ar` archive (deb(5)): an 8-byte magic, then per member a 60-byte header (name 16 bytes, ..., size in
decimal at 48, ended by a back-tick and a line feed at 58) and the data, padded to an even length. The files are in
the member data.tar.*.
"""

import io
import tarfile

MAGIC = b"!<arch>\n"
HEADER = 60


def read_member(path, member):
    """The bytes of one file, named as in the package without the leading './'."""
    with open(path, "rb") as archive:
        name, tarball = data_archive(archive, path)
    try:
        with tarfile.open(fileobj=io.BytesIO(tarball)) as tree:
            return tree.extractfile(f"./{member}").read()
    except KeyError:
        raise ValueError(f"{path} holds no file {member}") from None
    except tarfile.ReadError:
        # Ubuntu compresses with zstd, which Python reads only since 3.14.
        raise ValueError(f"{path}: this Python cannot read {name}; unpack the package with "
                         "'dpkg-deb -x PACKAGE.deb INGREDIENTS' instead") from None


def data_archive(archive, path):
    """(name, bytes) of the member data.tar.* of an open .deb."""
    if archive.read(len(MAGIC)) != MAGIC:
        raise ValueError(f"{path} is not a Debian package: it does not begin with '!<arch>'")
    while True:
        header = archive.read(HEADER)
        if len(header) < HEADER:
            raise ValueError(f"{path} ends before its member data.tar")
        name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
        if name.startswith("data.tar"):
            data = archive.read(size)
            if len(data) < size:
                raise ValueError(f"{path} is cut off: its member {name} should have {size} bytes, it has {len(data)}")
            return name, data
        archive.seek(size + size % 2, io.SEEK_CUR)
