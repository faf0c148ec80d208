"""A checkpoint from which every tensor must be taken exactly once.

A tower that forgets a layer still runs and still gives unit vectors; a left-over tensor is the only sign of it.
"""


class Tensors:
    """Named arrays, each to be taken or left out on purpose."""

    def __init__(self, source, arrays):
        self.source = source
        self.arrays = dict(arrays)

    def take(self, name, shape):
        """The tensor as float64 (folding happens in float64), checked to have the shape its place needs."""
        array = self.arrays.pop(name)
        if array.shape != tuple(shape):
            raise ValueError(f"{self.source}: {name} has shape {array.shape}, expected {tuple(shape)}")
        return array.astype("float64")

    def leave_out(self, name):
        """Drop a tensor that this use of the checkpoint has no place for."""
        del self.arrays[name]

    def finish(self):
        """Fail if any tensor is left."""
        if self.arrays:
            raise ValueError(f"{self.source}: not used: {', '.join(sorted(self.arrays))}")
