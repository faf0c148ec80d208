"""The noise of generated images, by the description in crates/susx-diffusion/src/noise.rs."""

from __future__ import annotations

import math

import numpy as np


def chacha20(key: bytes, blocks: int, nonce: int = 0) -> bytes:
    """The key stream of a number of blocks. As in the original paper: 64-bit counter and nonce."""
    state = np.zeros((16, blocks), np.uint32)
    state[:4] = np.frombuffer(b"expand 32-byte k", "<u4")[:, None]
    state[4:12] = np.frombuffer(key, "<u4")[:, None]
    state[12] = np.arange(blocks)
    state[14:] = np.frombuffer(nonce.to_bytes(8, "little"), "<u4")[:, None]
    x = state.copy()

    def rotate(values: np.ndarray, bits: int) -> np.ndarray:
        return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))

    def quarter(a: int, b: int, c: int, d: int) -> None:
        x[a] += x[b]
        x[d] = rotate(x[d] ^ x[a], 16)
        x[c] += x[d]
        x[b] = rotate(x[b] ^ x[c], 12)
        x[a] += x[b]
        x[d] = rotate(x[d] ^ x[a], 8)
        x[c] += x[d]
        x[b] = rotate(x[b] ^ x[c], 7)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return (x + state).T.astype("<u4").tobytes()


def normal(seed: int, count: int, step: int = 0) -> np.ndarray:
    """The initial noise of an image for step 0, else what follows that step."""
    stream = np.frombuffer(chacha20(seed.to_bytes(8, "little") + bytes(24), count // 4 + 1, step), "<u8")
    numbers = []
    for n, m in stream.reshape(-1, 2).tolist():
        radius = math.sqrt(-2 * math.log(((n >> 11) + 1) / 2**53))
        angle = 2 * math.pi * ((m >> 11) / 2**53)
        numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(numbers[:count], np.float32)
