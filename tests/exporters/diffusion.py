"""Stable Diffusion by `diffusers`, exported by optimum, with schedulers as `diffusers` saves them.

The architecture is that of Stable Diffusion 1, with a fifth of the channels in the U-Net and a quarter in the VAE, so that a
CPU makes an image in seconds. The text encoder has its full size.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path
from typing import Callable, Iterator
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm
from helpers.noise import normal
from optimum.exporters.onnx import main_export
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import clip_tokenizer
from .row import Expected, Generated, GeneratedImage, Row
from .weights import enliven

# Those that add noise after their steps.
NOISY = (scheduling_euler_ancestral_discrete, scheduling_lcm)
# That of Stable Diffusion 1. The others are made from its configuration, as the manual of `diffusers` says.
STABLE_DIFFUSION = diffusers.PNDMScheduler(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True
)
# Latents of half the usual side: images of 256 pixels.
SIDE = 32
CHANNELS = 4
PROMPTS = [
    "a photo of a cat.",
    "A  Photo of the  HOUSE, isn't it? naïve café in 東京",
    "a very long text about boats " * 40,
]
# Of the first prompt. The next has the next.
SEED = 7


def pipeline(folder: Path, scheduler: object, is_lcm: bool) -> diffusers.DiffusionPipeline:
    torch.manual_seed(0)
    clip_tokenizer.write(folder)
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)
    # CLIP ViT-L/14's.
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768}
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        block_out_channels=(64, 128, 256, 256),
        cross_attention_dim=768,
        attention_head_dim=8,
        time_cond_proj_dim=256 if is_lcm else None,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=CHANNELS,
        sample_size=8 * SIDE,
    )
    kind = diffusers.LatentConsistencyModelPipeline if is_lcm else diffusers.StableDiffusionPipeline
    return kind(
        vae=enliven(vae, 1),
        text_encoder=enliven(CLIPTextModel(CLIPTextConfig(**text)), 2),
        tokenizer=tokenizer,
        unet=enliven(unet, 3),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


@contextlib.contextmanager
def noise(seed: int) -> Iterator[None]:
    """Has the schedulers that add noise add that of docs/generated.md."""
    steps = itertools.count(1)

    def randn_tensor(shape: torch.Size, generator=None, device=None, dtype=None) -> torch.Tensor:
        return torch.from_numpy(normal(seed, shape.numel(), next(steps)).reshape(shape)).to(dtype)

    with contextlib.ExitStack() as stack:
        for module in NOISY:
            stack.enter_context(mock.patch.object(module, "randn_tensor", randn_tensor))
        yield


def stable_diffusion(
    scheduler: Callable[[], object],
    steps: int,
    guidance_scale: float,
    negative_prompt: str | None = None,
    is_lcm: bool = False,
) -> Callable[[Path], Expected]:
    def make(folder: Path) -> Expected:
        with tempfile.TemporaryDirectory() as saved:
            own = pipeline(Path(saved), scheduler(), is_lcm)
            own.set_progress_bar_config(disable=True)
            images = []
            for seed, prompt in enumerate(PROMPTS, SEED):
                shape = (1, CHANNELS, SIDE, SIDE)
                latents = torch.from_numpy(normal(seed, CHANNELS * SIDE**2).reshape(shape))
                more = {} if is_lcm else {"negative_prompt": negative_prompt}
                with noise(seed):
                    made = own(
                        prompt, num_inference_steps=steps, guidance_scale=guidance_scale, latents=latents, **more
                    )
                images.append(GeneratedImage(prompt, seed, np.asarray(made.images[0].convert("RGB"))))
            own.save_pretrained(saved)
            del own
            main_export(saved, folder, task="text-to-image", library_name="diffusers", do_validation=False, opset=17)
        return Expected(generated=Generated(images, steps, guidance_scale, negative_prompt))

    return make


def of(name: str, **changes: object) -> Callable[[], object]:
    """The scheduler of this class with the noise levels of Stable Diffusion."""
    return lambda: getattr(diffusers, name).from_config(STABLE_DIFFUSION.config, **changes)


DPM = of("DPMSolverMultistepScheduler")
KARRAS = of("DPMSolverMultistepScheduler", use_karras_sigmas=True)
ANCESTRAL = of("EulerAncestralDiscreteScheduler")
LCM = of("LCMScheduler")

ROWS = [
    Row("sd-pndm", "PNDM, 12 steps", "optimum", stable_diffusion(lambda: STABLE_DIFFUSION, 12, 7.5, "rain")),
    Row("sd-dpm", "DPM-Solver++, 10 steps", "optimum", stable_diffusion(DPM, 10, 7.5, "rain")),
    Row("sd-dpm-karras", "DPM-Solver++ with Karras sigmas, 10 steps", "optimum", stable_diffusion(KARRAS, 10, 7.5)),
    Row("sd-ancestral", "Euler ancestral, 10 steps", "optimum", stable_diffusion(ANCESTRAL, 10, 7.5, "rain")),
    # Its U-Net takes the guidance scale.
    Row("sd-lcm", "LCM, 4 steps", "optimum", stable_diffusion(LCM, 4, 8.5, is_lcm=True)),
]
