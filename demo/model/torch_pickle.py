"""Reads a pre-1.6 torch state dict without torch, and without letting the pickle run anything.

The file is a row of pickles - magic number, protocol version, machine facts, the state dict, the list of storage keys -
and then, per key, an int64 count and that many raw little-endian elements. In the state dict a tensor is a call of
torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...) and a storage is a persistent id
('storage', type, key, location, count): tensors can only be filled once the whole file has been read.
"""

import collections
import io
import pickle

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}

Tensor = collections.namedtuple("Tensor", "key dtype count offset shape strides")


def rebuild_tensor(storage, offset, shape, strides, *_):
    """Stands for torch._utils._rebuild_tensor_v2: notes what the tensor is, without its data."""
    kind, dtype, key, _, count = storage[:5]
    if kind != "storage":
        raise pickle.UnpicklingError(f"unknown persistent id {kind!r}")
    return Tensor(key, dtype, count, offset, shape, strides)


class Restricted(pickle.Unpickler):
    """An unpickler that knows four names and refuses every other."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        raise pickle.UnpicklingError(f"the pickle asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, pid):
        return pid


def load(data):
    """{name: array} of the state dict in these bytes. Arrays keep the strides they were saved with."""
    file = io.BytesIO(data)
    magic, protocol, machine, tensors, keys = (Restricted(file).load() for _ in range(5))
    if magic != MAGIC or protocol != PROTOCOL or not machine["little_endian"]:
        raise pickle.UnpicklingError("not a little-endian torch file of the format before 1.6")
    by_key = {tensor.key: tensor for tensor in tensors.values()}
    storages = {key: read_storage(file, by_key[key]) for key in keys}
    if file.read(1):
        raise pickle.UnpicklingError("the file goes on after its last storage")
    return {name: view(storages[tensor.key], tensor) for name, tensor in tensors.items()}


def read_storage(file, tensor):
    """The next storage of the file, as a flat array."""
    count = int.from_bytes(file.read(8), "little")
    raw = file.read(count * tensor.dtype.itemsize)
    if count != tensor.count or len(raw) != count * tensor.dtype.itemsize:
        raise pickle.UnpicklingError(f"storage {tensor.key} should hold {tensor.count} elements, not {count}")
    return np.frombuffer(raw, tensor.dtype)


def view(storage, tensor):
    """The tensor over its storage. The strides matter: weights that came from TensorFlow are saved transposed."""
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
    if last >= len(storage):
        raise pickle.UnpicklingError(f"a tensor of shape {tensor.shape} reaches past its storage")
    strides = [s * storage.itemsize for s in tensor.strides]
    return np.lib.stride_tricks.as_strided(storage[tensor.offset:], tensor.shape, strides, writeable=False)
