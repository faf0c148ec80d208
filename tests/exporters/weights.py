"""Random weights with which different inputs have different embeddings."""

from __future__ import annotations

import torch


def enliven(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Gives a model random weights as large as those of a trained one.

    The usual initial weights are so small that all images have almost the same vector, and a comparison of vectors would
    see nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                # A sum of as many values as a weight matrix has columns keeps their size.
                spread = parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
            elif name.endswith("bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model.eval()


def sharpen(model: torch.nn.Module) -> None:
    """Makes every attention choose more among the tokens.

    Where tokens see the padding, the padding outweighs a short text otherwise, and all of them have almost the same vector.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            with torch.no_grad():
                # Queries and keys.
                module.in_proj_weight[: 2 * module.embed_dim] *= 2


def settle(model: torch.nn.Module, pixel_values: torch.Tensor) -> None:
    """Gives every batch normalisation the mean and the variance of what it sees of these images."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            # The mean of all batches, here of one.
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(pixel_values)
    model.eval()
